"""Persistent reservations of several initiators, over a restart of the target (SPC-4 §5.13, APTPL)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .initiator import INITIATOR, LOGIN_KEYS, Initiator, Pdu, World, read_10, write_10
from .remote import Remote
from .served import serving

Make = Callable[..., World]

REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT = range(5)
READ_KEYS, READ_RESERVATION, _, READ_FULL_STATUS = range(4)
WRITE_EXCLUSIVE, EXCLUSIVE_ACCESS = 1, 3
GOOD, CONFLICT = 0x00, 0x18
ISIDS = {"a": b"\x80\xaa\0\0\0\1", "b": b"\x80\xbb\0\0\0\1"}
KEYS = {"a": 0xA1A2A3A4A5A6A7A8, "b": 0xB1B2B3B4B5B6B7B8}


def enter(initiator: Initiator, name: str) -> Initiator:
    """Log in as one of the two."""
    initiator.isid = ISIDS[name]
    initiator.login(instead=LOGIN_KEYS | {"InitiatorName": f"{INITIATOR}-{name}"})
    initiator.ready()
    return initiator


def reserve(
    initiator: Initiator, action: int, key: int, new: int = 0, *, kind: int = 0, aptpl: bool = False
) -> int:
    """PERSISTENT RESERVE OUT; the status."""
    cdb = bytes([0x5F, action, kind, 0, 0]) + struct.pack(">IB", 24, 0)
    initiator.command(cdb, struct.pack(">QQ4xB3x", key, new, aptpl))
    return int(initiator.receive()["status"])


def told(initiator: Initiator, action: int) -> bytes:
    """PERSISTENT RESERVE IN; its data."""
    initiator.command(bytes([0x5E, action, 0, 0, 0, 0, 0, 0x10, 0, 0]), reads=0x1000)
    return initiator.receive().data


def keys(initiator: Initiator) -> list[int]:
    data = told(initiator, READ_KEYS)
    return list(struct.unpack(f">{(len(data) - 8) // 8}Q", data[8:]))


def holder(initiator: Initiator) -> tuple[int, int] | None:
    """Key and type of the reservation."""
    data = told(initiator, READ_RESERVATION)
    return (int.from_bytes(data[8:16], "big"), data[21] & 0xF) if len(data) > 8 else None


def write(initiator: Initiator) -> Pdu:
    initiator.command(write_10(0, 1), b"w" * 512)
    return initiator.receive()


def take_hold(first: Initiator, second: Initiator, *, aptpl: bool) -> None:
    """Both register, the first one reserves."""
    assert reserve(first, REGISTER, 0, KEYS["a"], aptpl=aptpl) == GOOD
    assert reserve(second, REGISTER, 0, KEYS["b"], aptpl=aptpl) == GOOD
    assert reserve(first, RESERVE, KEYS["a"], kind=WRITE_EXCLUSIVE) == GOOD
    assert write(second)["status"] == CONFLICT
    assert write(first)["status"] == GOOD


def still_hold(first: Initiator, second: Initiator) -> None:
    """Both are known as before, the reservation is there, and can be taken over."""
    assert sorted(keys(first)) == sorted(KEYS.values())
    assert holder(second) == (KEYS["a"], WRITE_EXCLUSIVE)
    assert write(second)["status"] == CONFLICT
    assert write(first)["status"] == GOOD
    second.command(read_10(0, 1), reads=512)
    assert second.receive().data == b"w" * 512
    # The standard's fencing: who is registered takes over, and the other one is out.
    assert reserve(second, PREEMPT, KEYS["b"], KEYS["a"], kind=EXCLUSIVE_ACCESS) == GOOD
    assert holder(second) == (KEYS["b"], EXCLUSIVE_ACCESS)
    assert keys(second) == [KEYS["b"]]
    assert write(second)["status"] == GOOD


@contextmanager
def life(**options: object) -> Iterator[World]:
    """A target from its beginning to its end."""
    world = World(**options)  # type: ignore[arg-type]
    try:
        yield world
    finally:
        world.close()


def test_a_reservation_survives_the_target(make: Make, tmp_path: Path) -> None:
    state = str(tmp_path / "state.json")
    with life(state=state) as world:
        take_hold(enter(world.connect(), "a"), enter(world.connect(), "b"), aptpl=True)
    world = make(state=state)
    write(enter(world.connect(), "a"))  # Memory does not survive it.
    still_hold(enter(world.connect(), "a"), enter(world.connect(), "b"))


def test_it_is_the_initiator_port_that_is_known_again(make: Make, tmp_path: Path) -> None:
    """Another session of the same initiator is another port: it has not registered."""
    state = str(tmp_path / "state.json")
    with life(state=state) as world:
        take_hold(enter(world.connect(), "a"), enter(world.connect(), "b"), aptpl=True)
    world = make(state=state)
    stranger = world.connect()
    stranger.isid = b"\x80\xaa\0\0\0\2"
    stranger.login(instead=LOGIN_KEYS | {"InitiatorName": f"{INITIATOR}-a"})
    stranger.ready()
    assert write(stranger)["status"] == CONFLICT
    assert reserve(stranger, RELEASE, KEYS["a"], kind=WRITE_EXCLUSIVE) == CONFLICT


@pytest.mark.parametrize("kept", [False, True], ids=["no file", "not asked for"])
def test_without_aptpl_nothing_is_left(make: Make, tmp_path: Path, kept: bool) -> None:
    options = {"state": str(tmp_path / "state.json")} if kept else {}
    with life(**options) as world:
        take_hold(enter(world.connect(), "a"), enter(world.connect(), "b"), aptpl=False)
    world = make(**options)
    first, second = enter(world.connect(), "a"), enter(world.connect(), "b")
    assert keys(first) == []
    assert holder(first) is None
    assert write(second)["status"] == GOOD


@pytest.mark.qemu
def test_a_reservation_survives_a_daemon_that_is_killed(tmp_path: Path) -> None:
    state = f"state={tmp_path / 'state.json'}"
    with serving(tmp_path, state) as served:
        first, second = enter(Remote(served.port), "a"), enter(Remote(served.port), "b")
        take_hold(first, second, aptpl=True)
        served.kill()
        assert first.gone
        first.close()
        second.close()
    with serving(tmp_path, state, keep=True) as served:
        first, second = enter(Remote(served.port), "a"), enter(Remote(served.port), "b")
        still_hold(first, second)
        first.close()
        second.close()
