"""Image locks between our own users; tests with QEMU's tools are in test_locking_qemu.py."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

from devmodels.blockbackend import BlockNode, BlockOptionError, open_node
from devmodels.blockbackend.drivers import locking
from devmodels.iocontext import IoContext

NOT_SHARED = 'no "write" lock, another user does not share it'
WRITER = 'another user has the "write" lock, which is not to be shared here'


@pytest.fixture
def context() -> Iterator[IoContext]:
    context = IoContext.virtual()
    yield context
    context.close()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(4096))
    return path


def open_image(image: Path, context: IoContext, **options: object) -> BlockNode:
    names = {name.replace("_", "-"): value for name, value in options.items()}
    return open_node({"driver": "file", "filename": str(image), **names}, context)


def locked_bytes(image: Path) -> list[int]:
    """The bytes of `image` that somebody has locked, as a writer would see it."""
    with image.open("r+b") as file:
        return [at for at in range(90, 220) if locking._held_by_another(file.fileno(), at)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [100, 101, 201]),
        ({"read_only": True}, [100, 201]),
        ({"read_only": True, "force_share": True}, [100]),
        ({"locking": "on"}, [100, 101, 201]),
        ({"locking": "off"}, []),
    ],
)
def test_an_open_image_is_locked_as_qemu_locks_a_guests_disk(
    image: Path, context: IoContext, options: dict[str, object], expected: list[int]
) -> None:
    node = open_image(image, context, **options)
    assert locked_bytes(image) == expected
    node.close()
    assert locked_bytes(image) == []


@pytest.mark.parametrize(
    ("first", "second", "conflict"),
    [
        ({}, {}, NOT_SHARED),
        ({}, {"read_only": True}, WRITER),
        ({"read_only": True}, {}, NOT_SHARED),
        ({"read_only": True}, {"read_only": True}, None),
        ({}, {"read_only": True, "force_share": True}, None),
        ({"read_only": True, "force_share": True}, {}, None),
        ({}, {"locking": "off"}, None),
    ],
)
def test_who_may_open_an_image_that_is_open(
    image: Path, context: IoContext, first: dict[str, object], second: dict[str, object], conflict: str | None
) -> None:
    node = open_image(image, context, **first)
    if conflict is None:
        open_image(image, context, **second).close()
    else:
        with pytest.raises(BlockOptionError) as caught:
            open_image(image, context, **second)
        where = f"$.filename: cannot lock {str(image)!r}: the image is in use elsewhere: "
        assert str(caught.value) == where + conflict
    node.close()
    open_image(image, context, **second).close()


def test_a_refused_user_leaves_no_lock_behind(image: Path, context: IoContext) -> None:
    node = open_image(image, context, read_only=True)
    with pytest.raises(BlockOptionError):
        open_image(image, context)
    assert locked_bytes(image) == [100, 201]
    node.close()


def test_without_such_locks_auto_goes_on_and_on_refuses(
    image: Path, context: IoContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(fd: int, command: int, argument: bytes) -> bytes:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(fcntl, "fcntl", unsupported)
    open_image(image, context).close()
    with pytest.raises(BlockOptionError, match=r'\$\.locking: "on" is given; no such locks'):
        open_image(image, context, locking="on")


def test_a_file_system_that_fails_to_lock_says_so(
    image: Path, context: IoContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.fcntl

    def out_of_locks(fd: int, command: int, argument: bytes) -> bytes:
        if command == fcntl.F_OFD_SETLK:
            raise OSError(errno.ENOLCK, "No locks available")
        return real(fd, command, argument)

    monkeypatch.setattr(fcntl, "fcntl", out_of_locks)
    with pytest.raises(BlockOptionError, match=r"cannot lock .*: No locks available"):
        open_image(image, context)
