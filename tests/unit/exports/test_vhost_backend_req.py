"""The channel back: a front end hears that the configuration space is another one, when it may."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import frontend as fe
from .frontend import World
from .test_vhost_user_blk import CONFIG_WCE, FLUSH, SIZE, Disk, disk

CHANGED = struct.pack("<III", 2, 1, 0)
PROTOCOL = fe.MQ | fe.REPLY_ACK | fe.CONFIG | fe.BACKEND_REQ | fe.RESET | fe.STATUS


@pytest.fixture
def back() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Our end and theirs."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


def heard(ours: socket.socket) -> bytes:
    try:
        return ours.recv(1000)
    except BlockingIOError:
        return b""


def listen(found: Disk, theirs: socket.socket) -> None:
    """As QEMU does when it has connected: the channel, and then the configuration space."""
    found.front_end.introduce(PROTOCOL)
    assert found.front_end.acknowledged(fe.SET_BACKEND_REQ_FD, b"", [theirs.fileno()]) == 0
    assert found.config(0, "<Q") == SIZE // 512


def resize(found: Disk, size: int) -> None:
    device = found.server.device
    device.context.start(device.backend.resize(size))  # type: ignore[attr-defined]
    found.front_end.run()


def test_resize_is_told(tmp_path: Path, back: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = back
    with disk(tmp_path, writable=True) as found:
        listen(found, theirs)
        found.start()
        assert heard(ours) == b""
        resize(found, 2 * SIZE)
        assert heard(ours) == CHANGED
        assert found.config(0, "<Q") == 2 * SIZE // 512


def test_resize_while_rings_rest_is_told_when_they_run(
    tmp_path: Path, back: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = back
    with disk(tmp_path, writable=True) as found:
        listen(found, theirs)
        resize(found, 2 * SIZE)
        assert heard(ours) == b""
        found.start()
        assert heard(ours) == CHANGED


def test_write_cache_mode_that_the_driver_sets_is_no_news(
    tmp_path: Path, back: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = back
    with disk(tmp_path, writable=True) as found:
        listen(found, theirs)
        front_end = found.front_end
        front_end.set_features(fe.F_PROTOCOL | fe.F_VERSION_1 | FLUSH | CONFIG_WCE)
        front_end.share()
        front_end.start(0, fe.Ring(front_end.memory))
        front_end.send(fe.SET_CONFIG, struct.pack("<III", 32, 1, 0) + b"\0")
        front_end.stop(0)
        front_end.set_kick(0)
        assert heard(ours) == b""


@pytest.mark.long
def test_changes_that_nobody_reads_are_told_once_more_at_the_end(
    tmp_path: Path, back: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = back
    with disk(tmp_path, writable=True) as found:
        listen(found, theirs)
        found.start()
        for number in range(2000):
            resize(found, SIZE + 512 * (number + 1))
        data = b""
        while piece := heard(ours):
            data += piece
            found.front_end.run()
        assert data == CHANGED * (len(data) // 12)
        assert len(data) // 12 < 2000


def test_channel_that_was_closed_harms_nobody(
    tmp_path: Path, back: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = back
    with disk(tmp_path, writable=True) as found:
        listen(found, theirs)
        found.start()
        ours.close()
        theirs.close()
        resize(found, 2 * SIZE)
        assert found.config(0, "<Q") == 2 * SIZE // 512


def test_second_channel_replaces_the_first(tidy: World) -> None:
    with tidy.front_end() as front_end:
        front_end.introduce(PROTOCOL)
        for _ in range(3):
            ours, theirs = socket.socketpair()
            assert front_end.acknowledged(fe.SET_BACKEND_REQ_FD, b"", [theirs.fileno()]) == 0
            ours.close()
            theirs.close()


@pytest.mark.parametrize("kind", ["memory", "event", "datagram", "tcp"])
def test_channel_that_is_no_unix_stream_is_refused(tidy: World, kind: str) -> None:
    with tidy.front_end() as front_end:
        front_end.introduce(PROTOCOL)
        if kind == "memory":
            made = os.dup(front_end.memory.fd)
        elif kind == "event":
            made = fe.eventfd()
        elif kind == "datagram":
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).detach()
        else:
            made = socket.socket(socket.AF_INET).detach()
        assert front_end.acknowledged(fe.SET_BACKEND_REQ_FD, b"", [made]) == 1
        os.close(made)
