"""An image belongs to an export while its rings run: two daemons can hand it over, and nobody else gets between."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.blockbackend.test_locking import locked_bytes

from . import frontend as fe
from .test_vhost_user_blk import OUT, SIZE, Disk, disk

READER, WRITER = [100, 201], [100, 101, 201]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(SIZE))
    return path


def inactive(image: Path) -> dict[str, object]:
    return {"driver": "file", "filename": str(image), "active": False, "aio": "sync"}


def test_image_is_locked_while_rings_run(tmp_path: Path, image: Path) -> None:
    with disk(tmp_path, node_options=inactive(image), writable=True) as found:
        assert locked_bytes(image) == []
        found.start()
        assert locked_bytes(image) == WRITER
        found.front_end.stop(0)
        assert locked_bytes(image) == []


def test_image_stays_locked_until_the_last_ring_stops(tmp_path: Path, image: Path) -> None:
    with disk(tmp_path, node_options=inactive(image), writable=True, num_queues=2) as found:
        ring = found.start()
        found.front_end.start(1, fe.Ring(found.front_end.memory, 0x2000))
        found.front_end.stop(1)
        assert locked_bytes(image) == WRITER
        assert found.request(ring, OUT, 0, bytes(512))[0] == 0
        found.front_end.stop(0)
        assert locked_bytes(image) == []


def test_read_only_export_of_a_writable_node_takes_no_write_lock(tmp_path: Path, image: Path) -> None:
    with disk(tmp_path, node_options=inactive(image)) as found:
        found.start()
        assert locked_bytes(image) == READER


@pytest.mark.parametrize("message", [fe.RESET_DEVICE, None])
def test_image_is_free_after_a_reset_and_after_the_front_end(
    tmp_path: Path, image: Path, message: int | None
) -> None:
    with disk(tmp_path, node_options=inactive(image), writable=True) as found:
        found.start()
        if message is None:
            found.front_end.socket.close()
            found.front_end.run()
        else:
            found.front_end.send(message)
        assert locked_bytes(image) == []


def start(found: Disk) -> int:
    """Start ring 0; returns what the back end answers, 0 where it could."""
    found.front_end.introduce()
    found.front_end.set_features()
    found.front_end.share()
    found.front_end.set_ring(0, fe.Ring(found.front_end.memory))
    found.front_end.set_kick(0)
    return found.front_end.acknowledged(fe.SET_VRING_ENABLE, fe.state(0, 1))


def test_image_goes_from_one_daemon_to_the_other(
    tmp_path: Path, image: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node = inactive(image)
    with (
        disk(tmp_path, node_options=node, writable=True) as source,
        disk(tmp_path, node_options=node, name="e1", writable=True) as destination,
    ):
        source.start()
        assert start(destination) == 1
        assert f"cannot lock {str(image)!r}: the image is in use elsewhere" in caplog.text
        source.front_end.stop(0)
        assert destination.front_end.acknowledged(fe.SET_VRING_ENABLE, fe.state(0, 1)) == 0
        source.front_end.set_kick(0)
        assert not source.front_end.connected


def test_what_was_written_is_flushed_before_the_image_is_given_up(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(os, "fdatasync", lambda _fd: seen.append(locked_bytes(image)))
    with disk(tmp_path, node_options=inactive(image), writable=True) as found:
        found.request(found.start(), OUT, 0, b"x" * 512)
        found.front_end.stop(0)
    assert seen == [WRITER]


def test_image_that_grew_meanwhile_has_its_new_size(tmp_path: Path, image: Path) -> None:
    with disk(tmp_path, node_options=inactive(image)) as found:
        os.truncate(image, 2 * SIZE)
        assert found.config(0, "<Q") == SIZE // 512
        found.start()
        assert found.config(0, "<Q") == 2 * SIZE // 512


def test_active_node_is_locked_from_the_beginning(tmp_path: Path, image: Path) -> None:
    with disk(tmp_path, node_options=inactive(image) | {"active": True}, writable=True) as found:
        assert locked_bytes(image) == WRITER
        found.start()
        found.front_end.stop(0)
        assert locked_bytes(image) == WRITER
