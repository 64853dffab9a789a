"""The front end's conversation: what a back end does wrong is one line, in time, and leaves nothing behind."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guestsim.drivers.virtio_blk import VirtioBlk
from guestsim.errors import DisconnectedError, GuestError
from guestsim.guest import Guest
from guestsim.targets import TargetError
from guestsim.targets.vhost_connection import RefusedError, VhostConnection
from guestsim.targets.vhost_device import VhostTransport
from guestsim.targets.vhost_messages import Protocol, Request
from guestsim.targets.vhost_user import VhostUserTarget

from .backends import CONFIG, GET_FEATURES, HEADER, REPLY_ACK, BackEnd, serving


def connect(path: Path, *, timeout: float = 5) -> VhostConnection:
    return VhostConnection(str(path), "disk", timeout=timeout)


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"^disk: cannot connect: No such file or directory$"):
        connect(tmp_path / "none")


def close(_: BackEnd) -> None:
    pass


def close_after_request(back: BackEnd) -> None:
    back.take()


def half_a_header(back: BackEnd) -> None:
    back.take()
    back.socket.sendall(b"\1\0\0\0\5")


def half_a_payload(back: BackEnd) -> None:
    back.take()
    back.say(GET_FEATURES, b"\0\0\0", size=8)


def no_reply_bit(back: BackEnd) -> None:
    back.take()
    back.say(GET_FEATURES, bytes(8), flags=1)


def another_version(back: BackEnd) -> None:
    back.take()
    back.say(GET_FEATURES, bytes(8), flags=6)


def another_request(back: BackEnd) -> None:
    back.take()
    back.say(39, bytes(8))


def too_short(back: BackEnd) -> None:
    back.take()
    back.say(GET_FEATURES, bytes(4))


def endless(back: BackEnd) -> None:
    back.take()
    back.say(GET_FEATURES, b"", size=0xFFFF_FFFF)


@pytest.mark.parametrize(
    ("behave", "message"),
    [
        (close, "closed the connection"),
        (close_after_request, "closed the connection instead of answering GET_FEATURES"),
        (half_a_header, "closed the connection instead of answering GET_FEATURES"),
        (half_a_payload, "closed the connection instead of answering GET_FEATURES"),
        (no_reply_bit, "answered GET_FEATURES with flags 0x1, expected version 1 and the reply bit"),
        (another_version, "answered GET_FEATURES with flags 0x6, expected version 1 and the reply bit"),
        (another_request, "answered GET_FEATURES with a reply to SET_STATUS"),
        (too_short, "answered GET_FEATURES with 4 bytes, expected 8"),
        (endless, "answered GET_FEATURES with 4294967295 bytes, expected 8"),
    ],
)
def test_a_reply_that_is_none(tmp_path: Path, behave: Callable[[BackEnd], None], message: str) -> None:
    with serving(tmp_path / "s", behave):
        connection = connect(tmp_path / "s")
        with pytest.raises(DisconnectedError) as raised:
            connection.introduce(Protocol(0))
        assert str(raised.value).startswith(f"disk: the back end {message}")
        with pytest.raises(DisconnectedError):
            connection.number(Request.GET_FEATURES)
        connection.close()


def test_silence_ends_in_time(tmp_path: Path) -> None:
    def behave(back: BackEnd) -> None:
        back.take()
        back.take()

    with serving(tmp_path / "s", behave):
        connection = connect(tmp_path / "s", timeout=0.05)
        begun = time.monotonic()
        with pytest.raises(DisconnectedError, match=r"gave no answer to GET_FEATURES within 0\.05 s"):
            connection.introduce(Protocol(0))
        assert time.monotonic() - begun < 5
        connection.close()


def test_drops_do_not_make_the_time_longer(tmp_path: Path) -> None:
    def behave(back: BackEnd) -> None:
        back.take()
        for byte in HEADER.pack(GET_FEATURES, 5, 8)[:-1]:
            back.socket.sendall(bytes([byte]))
        back.take()

    with serving(tmp_path / "s", behave):
        connection = connect(tmp_path / "s", timeout=0.05)
        with pytest.raises(DisconnectedError, match="gave no answer"):
            connection.introduce(Protocol(0))
        connection.close()


def test_a_refusal_is_no_end(tmp_path: Path) -> None:
    def behave(back: BackEnd) -> None:
        back.introduce(REPLY_ACK | CONFIG)
        request, _, _ = back.take()
        back.number(request, 22)
        request, _, _ = back.take()
        back.number(request, 0)

    with serving(tmp_path / "s", behave):
        connection = connect(tmp_path / "s")
        connection.introduce(Protocol.REPLY_ACK | Protocol.CONFIG)
        with pytest.raises(RefusedError, match="the back end refused SET_VRING_NUM"):
            connection.send(Request.SET_VRING_NUM, bytes(8))
        connection.send(Request.SET_VRING_NUM, bytes(8))
        connection.close()


def test_the_back_end_asks_while_it_is_asked(tmp_path: Path) -> None:
    """Its own request comes, wanting an answer, before the reply that the front end waits for."""
    answers = []

    def behave(back: BackEnd) -> None:
        back.introduce()
        with socket.socket(fileno=back.fds[0]) as channel:
            back.take()
            channel.sendall(HEADER.pack(2, 1 | 8, 0))
            answers.append(channel.recv(100))
            channel.sendall(HEADER.pack(77, 1 | 8, 0))
            answers.append(channel.recv(100))
            back.number(GET_FEATURES, 1 << 32)

    changes = []
    with serving(tmp_path / "s", behave):
        connection = connect(tmp_path / "s")
        connection.introduce(Protocol.REPLY_ACK | Protocol.BACKEND_REQ | Protocol.CONFIG)
        connection.on_config_change = lambda: changes.append(1)
        assert connection.number(Request.GET_FEATURES) == 1 << 32
        connection.close()
    assert changes == [1]
    assert answers == [
        HEADER.pack(2, 5, 8) + struct.pack("<Q", 0),
        HEADER.pack(77, 5, 8) + struct.pack("<Q", 1),
    ]


def test_a_channel_of_nonsense_is_left_alone(tmp_path: Path) -> None:
    def behave(back: BackEnd) -> None:
        back.introduce()
        with socket.socket(fileno=back.fds[0]) as channel:
            back.take()
            channel.sendall(HEADER.pack(2, 1, 0xFFFF_FFF0))
            back.number(GET_FEATURES, 7)
            back.take()

    with serving(tmp_path / "s", behave):
        connection = connect(tmp_path / "s")
        connection.introduce(Protocol.REPLY_ACK | Protocol.BACKEND_REQ)
        assert connection.number(Request.GET_FEATURES) == 7
        deadline = time.monotonic() + 5
        while len(connection.descriptors) == 2 and time.monotonic() < deadline:
            connection.look()
        assert len(connection.descriptors) == 1
        assert connection.lost is None
        connection.close()


def test_what_nobody_asked_for_is_an_end(tmp_path: Path) -> None:
    def behave(back: BackEnd) -> None:
        back.introduce(0)
        back.number(GET_FEATURES, 0)
        back.take()

    with serving(tmp_path / "s", behave):
        connection = connect(tmp_path / "s")
        connection.introduce(Protocol(0))
        deadline = time.monotonic() + 5
        while connection.lost is None and time.monotonic() < deadline:
            connection.look()
        assert connection.lost == "disk: the back end sent a message that nobody had asked for"
        connection.close()


def test_descriptors_that_come_along_are_closed(tmp_path: Path) -> None:
    def behave(back: BackEnd) -> None:
        back.take()
        with open(os.devnull) as null:
            data = HEADER.pack(GET_FEATURES, 5, 8) + bytes(8)
            socket.send_fds(back.socket, [data], [null.fileno()] * 3)
        back.take()

    before = len(os.listdir("/proc/self/fd"))
    with serving(tmp_path / "s", behave):
        connection = connect(tmp_path / "s")
        assert connection.number(Request.GET_FEATURES) == 0
        connection.close()
    assert len(os.listdir("/proc/self/fd")) == before


replies = st.one_of(
    st.binary(max_size=40),
    st.builds(
        lambda request, flags, size, rest: HEADER.pack(request, flags, size) + rest,
        st.sampled_from([GET_FEATURES, 15, 16, 3, 21, 17, 24, 40]),
        st.sampled_from([1, 5, 5, 5, 13]),
        st.sampled_from([0, 8, 8, 8, 20, 70, 1 << 31]),
        st.binary(max_size=80),
    ),
)


@pytest.mark.long
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.lists(replies, max_size=8))
def test_whatever_a_back_end_says_a_probe_ends(tmp_path: Path, said: list[bytes]) -> None:
    """It succeeds or fails as a guest's own error does: no traceback, no wait without end."""

    def behave(back: BackEnd) -> None:
        for data in said:
            back.take()
            back.socket.sendall(data)

    path = tmp_path / "s"
    path.unlink(missing_ok=True)
    with serving(path, behave), VhostUserTarget({"vd0": str(path)}) as target:
        guest = Guest(target)
        with suppress(GuestError, TargetError):
            transport = VhostTransport(guest, target, "vd0", timeout=0.02)
            guest.run(VirtioBlk(guest, transport).probe())
        guest.close()
