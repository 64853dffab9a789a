"""The device's own state goes with a guest: what its driver chose holds on the other side."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from . import frontend as fe
from .frontend import FrontEnd, World
from .test_vhost_user_blk import CONFIG_WCE, FLUSH, Disk, disk

PROTOCOL = fe.MQ | fe.REPLY_ACK | fe.CONFIG | fe.RESET | fe.DEVICE_STATE
SAVE, LOAD = 0, 1
USED_OURS = 0x100
"""No other descriptor came back."""


def transfer(front_end: FrontEnd, direction: int, fd: int, phase: int = 0) -> int:
    answer = front_end.ask(fe.SET_DEVICE_STATE_FD, struct.pack("<II", direction, phase), [fd])
    return int(struct.unpack("<Q", answer)[0])


def save(front_end: FrontEnd) -> bytes:
    out, into = os.pipe()
    assert transfer(front_end, SAVE, into) == USED_OURS
    os.close(into)
    assert front_end.number(fe.CHECK_DEVICE_STATE) == 0
    data = os.read(out, 10_000)
    assert os.read(out, 1) == b"", "the back end closes its end"
    os.close(out)
    return data


def load(front_end: FrontEnd, data: bytes) -> int:
    """Returns what CHECK_DEVICE_STATE says, 0 where all is well."""
    out, into = os.pipe()
    assert transfer(front_end, LOAD, out) == USED_OURS
    os.close(out)
    os.write(into, data)
    front_end.send(fe.CHECK_DEVICE_STATE)
    os.close(into)
    front_end.run()
    answer = front_end.reply()
    assert answer is not None
    return int(struct.unpack("<Q", answer[1])[0])


def start(found: Disk) -> None:
    front_end = found.front_end
    front_end.set_features(fe.F_PROTOCOL | fe.F_VERSION_1 | FLUSH | CONFIG_WCE)
    front_end.share()
    front_end.start(0, fe.Ring(front_end.memory))


@pytest.mark.parametrize("chosen", [0, 1])
def test_write_cache_mode_goes_with_the_guest(tmp_path: Path, chosen: int) -> None:
    with (
        disk(tmp_path, writable=True, writethrough=chosen == 1) as source,
        disk(tmp_path, name="e1", writable=True, writethrough=chosen == 1) as destination,
    ):
        source.front_end.introduce(PROTOCOL)
        start(source)
        source.front_end.send(fe.SET_CONFIG, struct.pack("<III", 32, 1, 0) + bytes([chosen]))
        source.front_end.stop(0)
        destination.front_end.introduce(PROTOCOL)
        assert destination.config(32, "<B") != chosen
        assert load(destination.front_end, save(source.front_end)) == 0
        start(destination)
        assert destination.config(32, "<B") == chosen


def test_answer_to_the_check_waits_for_the_end_of_the_state(tmp_path: Path) -> None:
    with disk(tmp_path, writable=True) as found:
        found.front_end.introduce(PROTOCOL)
        data = save(found.front_end)
        out, into = os.pipe()
        assert transfer(found.front_end, LOAD, out) == USED_OURS
        os.close(out)
        found.front_end.send(fe.CHECK_DEVICE_STATE)
        for at in range(len(data)):
            os.write(into, data[at : at + 1])
            found.front_end.run()
            assert found.front_end.reply() is None
        os.close(into)
        found.front_end.run()
        assert found.front_end.reply() == (fe.CHECK_DEVICE_STATE, fe.u64(0))


def test_state_may_come_in_a_file(tmp_path: Path) -> None:
    with disk(tmp_path, writable=True) as found, (tmp_path / "state").open("w+b") as file:
        found.front_end.introduce(PROTOCOL)
        assert transfer(found.front_end, SAVE, file.fileno()) == USED_OURS
        assert found.front_end.number(fe.CHECK_DEVICE_STATE) == 0
        assert file.seek(0, os.SEEK_END)
        file.seek(0)
        assert transfer(found.front_end, LOAD, file.fileno()) == USED_OURS
        assert found.front_end.number(fe.CHECK_DEVICE_STATE) == 0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        b"[]",
        b'{"version":2,"device":2,"own":{"write_cache":0}}',
        b'{"version":1,"device":8,"own":{"write_cache":0}}',
        b'{"version":1,"device":2,"own":{}}',
        b'{"version":1,"device":2,"own":{"write_cache":7}}',
        b'{"version":1,"device":2,"own":{"write_cache":0,"more":1}}',
        b'{"version":1,"device":2,"own":{"write_cache":"0"}}',
        b'{"version":1,"device":2,"own":{"write_cache":0}}' + b" " * 5000,
        b'{"more":' + b"[" * 2000 + b"]" * 2000 + b"}",
    ],
)
def test_state_that_does_not_fit_is_told_and_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    with disk(tmp_path, writable=True) as found:
        found.front_end.introduce(PROTOCOL)
        assert load(found.front_end, data) == 1
        assert found.config(32, "<B") == 1
        assert found.front_end.connected
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "state" in line


def test_transfer_while_rings_run_is_refused(tidy: World) -> None:
    with tidy.front_end() as front_end:
        front_end.up()
        assert transfer(front_end, SAVE, front_end.memory.fd) == USED_OURS | 1


@pytest.mark.parametrize(("direction", "phase"), [(2, 0), (0, 1), (1, 7)])
def test_unknown_direction_or_phase_is_refused(tidy: World, direction: int, phase: int) -> None:
    with tidy.front_end() as front_end:
        front_end.introduce(PROTOCOL)
        assert transfer(front_end, direction, front_end.memory.fd, phase) == USED_OURS | 1


def test_check_without_a_transfer_is_an_error(tidy: World) -> None:
    with tidy.front_end() as front_end:
        front_end.introduce(PROTOCOL)
        assert front_end.number(fe.CHECK_DEVICE_STATE) == 1


@pytest.mark.parametrize("direction", [SAVE, LOAD])
def test_front_end_that_leaves_in_the_middle(tidy: World, direction: int) -> None:
    out, into = os.pipe()
    if direction == SAVE:
        os.set_blocking(into, False)
        while True:
            try:
                os.write(into, bytes(4096))
            except BlockingIOError:
                break
    with tidy.front_end() as front_end:
        front_end.introduce(PROTOCOL)
        assert transfer(front_end, direction, (into, out)[direction]) == USED_OURS
        front_end.send(fe.CHECK_DEVICE_STATE)
        assert front_end.reply() is None
    os.close(out)
    os.close(into)
