"""SCSI hosts are recorded with all their units: whatever these do by themselves, and whatever they ask of others."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from devmodels.blockbackend.node import BlockNode
from devmodels.blockbackend.passthrough import PassthroughRequest
from devmodels.blockbackend.request import Request
from devmodels.blockbackend.vectors import scatter
from devmodels.scsi.asc import Asc
from devmodels.trace import EventKind, TraceEvent
from devmodels.tracefile import DeviceFacts
from guestsim.drivers import cdb
from guestsim.drivers.cdb import Cdb
from guestsim.drivers.scsi_layouts import Tmf, lun_bytes
from guestsim.replay import replay
from guestsim.replay.snapshot import SnapshotError
from tests.unit.recording.scsistory import MIB, SIZE, US, ScsiStory, does_it_again

BLOCK = 512
IN_SHORT, SANITIZE_OVERWRITE = 1, 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scsi.trace"


@contextmanager
def story(path: Path, **options: object) -> Iterator[ScsiStory]:
    """A guest that has heard of the power on; it is all  again."""
    told = ScsiStory(path, **options)  # type: ignore[arg-type]
    try:
        told.probe()
        told.attend()
        yield told
    finally:
        told.close()


def of(events: list[TraceEvent], kind: EventKind) -> list[TraceEvent]:
    return [event for event in events if event.kind is kind]


def log_sense(page: int) -> bytes:
    return struct.pack(">BBB4xHx", 0x4D, 0, 0x40 | page, 512)


def test_each_unit_is_a_device_of_its_host(path: Path) -> None:
    with story(path):
        pass
    facts = [
        msgspec.json.decode(str(event.detail[0]), type=DeviceFacts)
        for event in of(does_it_again(path), EventKind.DEVICE)
    ]
    assert [(each.name, each.host) for each in facts] == [("s0", ""), ("u0", "s0"), ("u1", "s0")]
    assert facts[0].disk is None
    assert [None if each.disk is None else each.disk.size for each in facts[1:]] == [SIZE, SIZE]
    assert facts[2].options["lun"] == 1


@pytest.mark.parametrize("latency_ns", [0, 20 * US])
@pytest.mark.parametrize("shared", [True, False])
def test_commands_that_look_at_the_disk_before_they_write(path: Path, latency_ns: int, shared: bool) -> None:
    """What is found there is in no request of their own."""
    old, new = b"\x11" * BLOCK, b"\x5a" * BLOCK

    def send(made: Cdb, out: bytes = b"") -> int:
        return guest.do(made.data, out, made.room).status

    with story(path, latency_ns=latency_ns, shared=shared) as guest:
        assert send(cdb.write_10(lba=3, blocks=1), old) == 0
        compare = cdb.compare_and_write(lba=3, blocks=1)
        assert send(compare, old + new) == 0
        assert send(compare, old + new) == 2, "MISCOMPARE"
        orwrite = Cdb(struct.pack(">BBQIxx", 0x8B, 0, 2, 4), out=4 * BLOCK)
        assert send(orwrite, bytes(range(256)) * 8) == 0
        assert send(cdb.verify_10(lba=3, blocks=1, bytchk=1), new) == 2
        assert send(cdb.write_same_10(lba=8, blocks=16), b"\7" * BLOCK) == 0
        assert send(cdb.write_16(lba=9, blocks=1, flags=8), new) == 0
        assert guest.good(cdb.read_10(lba=9, blocks=1, flags=8).data, room=BLOCK) == new
    updates = of(does_it_again(path), EventKind.UPDATE)
    assert [event.detail[-1] for event in updates[:2]] == [old, new]
    assert updates[1].detail[2] == -1, "nothing to be written"


def test_what_is_allocated_is_asked_of_the_disk(path: Path) -> None:
    with story(path, latency_ns=20 * US, units=({"thin": True},)) as guest:
        guest.good(cdb.write_10(lba=64, blocks=8).data, b"\x11" * 8 * BLOCK)
        status = struct.pack(">BBQIxx", 0x9E, 0x12, 0, 512)
        before = guest.good(status, room=512)
        unmap = struct.pack(">HHxxxxQIxxxx", 22, 16, 0, 128)
        guest.good(cdb.unmap(length=len(unmap)).data, unmap)
        assert guest.good(status, room=512) != before
        guest.good(log_sense(0x0C), room=512)
    events = does_it_again(path)
    assert {event.detail[1] for event in of(events, EventKind.DISPATCH)} >= {"BLOCK_STATUS"}


def test_times_that_a_guest_can_read_are_those_of_the_trace(path: Path) -> None:
    """The general statistics page counts microseconds."""
    with story(path, latency_ns=333 * US) as guest:
        guest.submit([guest.command(cdb.read_10(lba=n, blocks=1).data, room=BLOCK) for n in range(4)])
        guest.guest.run(guest.guest.settle())
        spent = struct.unpack_from(">8Q", guest.good(log_sense(0x19), room=512), 8)
        assert spent[4] == 4 * 333
    does_it_again(path)


def test_a_clock_that_nobody_steps(path: Path) -> None:
    """The same with the host's clock, which no two runs share."""
    with story(path) as guest:
        guest.assembly.backends["d0"]._now = iter(range(10, 10**9, 12345)).__next__
        guest.good(cdb.read_10(lba=0, blocks=1).data, room=BLOCK)
        guest.good(log_sense(0x19), room=512)
    does_it_again(path)


@pytest.mark.parametrize("latency_ns", [0, 20 * US])
def test_what_a_unit_keeps(path: Path, tmp_path: Path, latency_ns: int) -> None:
    """Reservations and mode pages are in a file: a replay has none."""
    state = tmp_path / "state.json"
    for _ in range(2):
        with story(path, latency_ns=latency_ns, units=({"state": str(state)},)) as guest:
            register = struct.pack(">QQ4xB3x", 0 if not state.exists() else 7, 7, 1)
            guest.good(cdb.persistent_reserve_out(action=0).data, register)
            guest.good(cdb.persistent_reserve_in(action=0).data, room=512)
            mode = bytes(4) + bytes.fromhex("080a0400" + "00" * 8)
            guest.do(cdb.mode_select_6(length=len(mode), save=1).data, mode)
        kept = state.read_bytes()
        state.unlink()
        events = does_it_again(path)
        assert not state.exists()
        assert [event.detail for event in of(events, EventKind.SAVED)] == [(0,)] * len(
            of(events, EventKind.SAVED)
        )
        assert of(events, EventKind.SAVED)
        state.write_bytes(kept)


def test_a_file_that_cannot_be_written(path: Path, tmp_path: Path) -> None:
    state = tmp_path / "gone" / "state.json"
    state.parent.mkdir()
    with story(path, units=({"state": str(state)},)) as guest:
        state.parent.rmdir()
        register = struct.pack(">QQ4xB3x", 0, 7, 1)
        assert guest.do(cdb.persistent_reserve_out(action=0).data, register).status == 2
    (saved,) = of(does_it_again(path), EventKind.SAVED)
    assert saved.detail == (errno.ENOENT,)


@pytest.mark.parametrize("immed", [False, True])
def test_a_unit_that_works_by_itself(path: Path, immed: bool) -> None:
    """Sanitizing goes on in turns of its own, and is in the way of what comes meanwhile."""
    with story(path, latency_ns=20 * US) as guest:
        overwrite = bytes((1, 0, 0, 4)) + b"abcd"
        sanitize = struct.pack(">BBxxxxxHx", 0x48, immed << 7 | SANITIZE_OVERWRITE, len(overwrite))
        pending = guest.submit([guest.command(sanitize, overwrite)])
        busy = [guest.do(bytes(6)).status for _ in range(3)]
        assert 2 in busy
        guest.guest.run(guest.guest.settle())
        assert all(each.done for each in pending)
        guest.assembly.context.run_until_idle()
        assert guest.do(bytes(6)).status == 0
    does_it_again(path)


def test_one_unit_copies_from_another(path: Path) -> None:
    with story(path, latency_ns=20 * US) as guest:
        guest.good(cdb.write_10(lba=0, blocks=2).data, b"\x11" * 2 * BLOCK)
        names = [guest.disk(number).identity.naa.to_bytes(8, "big") for number in range(2)]
        targets = b"".join(
            struct.pack(">BBHBBxB8s12xBBH", 0xE4, 0, 0, 1, 3, 8, name, 0, 0, BLOCK) for name in names
        )
        segment = struct.pack(">BBHHHxxHQQ", 2, 0, 24, 0, 1, 2, 0, 4)
        data = struct.pack(">BBH4xII", 1, 0, len(targets), len(segment), 0) + targets + segment
        guest.good(struct.pack(">BB8xIxx", 0x83, 0, len(data)), data)
        assert guest.good(cdb.read_10(lba=4, blocks=2).data, room=2 * BLOCK, lun=1) == b"\x11" * 2 * BLOCK
    does_it_again(path)


def test_units_come_and_go_and_grow(path: Path) -> None:
    with story(path, latency_ns=20 * US) as guest:
        assembly = guest.assembly
        guest.submit([guest.command(cdb.read_10(lba=0, blocks=8).data, room=8 * BLOCK, lun=1)])
        assembly.context.run(assembly.remove_device("u1"))
        assembly.context.run(assembly.backends["d0"].resize(2 * MIB))
        assembly.add_device({**guest.units[1], "lun": 9})
        assert guest.driver is not None
        guest.guest.run(guest.guest.settle())
        assert [event.lun for event in guest.driver.events] == [1, 0, 9]
        guest.attend()
        guest.good(cdb.read_capacity_10().data, room=8)
        assembly.context.run(assembly.remove_device("s0"))
        assembly.add_device(guest.host)
        assembly.add_device(guest.units[0])
        guest.probe()
        assert guest.do(bytes(6)).status == 2
    events = does_it_again(path)
    assert [event.source for event in of(events, EventKind.REMOVED)] == ["u1", "s0"]


def test_the_host_takes_a_medium_out(path: Path) -> None:
    with story(path, units=({"removable": True},)) as guest:
        guest.disk().eject()
        assert guest.do(bytes(6)).status == 2
        guest.disk().load()
        guest.attend()
        guest.good(cdb.start_stop_unit(start=0, loej=1).data)
        assert guest.do(bytes(6)).status == 2
    assert [event.detail for event in of(does_it_again(path), EventKind.MEDIUM)] == [(0,), (1,)]


@pytest.mark.parametrize("function", [Tmf.ABORT_TASK_SET, Tmf.LOGICAL_UNIT_RESET, Tmf.I_T_NEXUS_RESET])
def test_commands_that_are_ended(path: Path, function: Tmf) -> None:
    with story(path, latency_ns=20 * US) as guest:
        commands = [guest.command(cdb.read_10(lba=n, blocks=1).data, room=BLOCK) for n in range(3)]
        commands += [guest.command(cdb.write_same_10(lba=n, blocks=64).data, bytes(BLOCK)) for n in range(3)]
        guest.submit(commands)
        assert guest.driver is not None
        guest.guest.run(guest.driver.manage(function, lun_bytes(0, 0)))
        guest.guest.run(guest.guest.settle())
    does_it_again(path)


@pytest.mark.parametrize("policy", ["stop", "report"])
def test_a_stop_holds_commands_back(path: Path, policy: str) -> None:
    with story(path, latency_ns=20 * US, units=({"rerror": policy, "werror": policy},)) as guest:
        guest.machine.stop()
        guest.submit([guest.command(cdb.read_10(lba=0, blocks=1).data, room=BLOCK)])
        guest.machine.cont()
        guest.guest.run(guest.guest.settle())
    does_it_again(path)


Break = Callable[[pytest.MonkeyPatch], None]


def test_other_data_is_found(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with story(path) as guest:
        guest.good(cdb.write_10(lba=0, blocks=1).data, b"\x11" * BLOCK)
        guest.good(cdb.compare_and_write(lba=0, blocks=1).data, b"\x11" * BLOCK + b"\x22" * BLOCK)
    does_it_again(path)
    with monkeypatch.context() as patch:
        patch.setattr(
            "devmodels.scsi.disk.transfer.given",
            lambda _disk, _task, wanted: ([memoryview(bytes(wanted))], wanted),
        )
        difference = replay(path).difference
    assert difference is not None
    assert difference.words().got == (
        "u0 dispatch  dispatch 0: other data than the recorded device gave its disk"
    )
    with monkeypatch.context() as patch:
        patch.setattr("devmodels.blockbackend.request.UpdateRequest.answer", _nothing)
        difference = replay(path).difference
    assert difference is not None
    assert difference.expected.kind is EventKind.UPDATE


def _nothing(_update: object, _at: int, _old: bytearray) -> None:
    pass


@pytest.mark.parametrize("latency_ns", [0, 20 * US])
def test_reservations_that_are_handed_on(
    path: Path, monkeypatch: pytest.MonkeyPatch, latency_ns: int
) -> None:
    """They are another target's, and so are the answers."""

    async def passthrough(node: BlockNode, request: Request) -> None:
        assert isinstance(request, PassthroughRequest)
        await node.context.sleep(latency_ns)
        command = request.command
        if command.cdb[0] == 0x5E:
            scatter(command.vectors, bytes(n % 256 for n in range(len(command.vectors[0]))))
            command.residual = len(command.vectors[0]) - 8
        elif command.cdb[1] == 0:
            command.status = 0x18
        else:
            command.status, command.sense = 2, bytes.fromhex("720526000000000000")

    monkeypatch.setattr(BlockNode, "passthrough", passthrough)
    with story(path, units=({"reservations": "passthrough"},)) as guest:
        assert guest.good(cdb.persistent_reserve_in(action=0).data, room=512) == bytes(range(8))
        out = struct.pack(">QQ4xB3x", 0, 7, 1)
        assert guest.do(cdb.persistent_reserve_out(action=0).data, out).status == 0x18
        assert guest.do(cdb.persistent_reserve_out(action=1).data, out).status == 2
        guest.disk().backend.node.attention(Asc.RESERVATIONS_PREEMPTED)
        assert guest.do(bytes(6)).status == 2
    events = does_it_again(path)
    assert [event.detail for event in of(events, EventKind.ATTENTION)] == [(Asc.RESERVATIONS_PREEMPTED,)]
    assert [event.detail[1] for event in of(events, EventKind.DISPATCH)] == ["PASSTHROUGH"] * 3


def test_there_are_no_snapshots_of_units(path: Path, tmp_path: Path) -> None:
    with story(path):
        pass
    with pytest.raises(SnapshotError, match="event 20: s0: what SCSI units are in the middle of cannot be"):
        replay(path, stop_at=20, save=tmp_path / "snapshot")
    assert replay(path, stop_at=20).stopped == 20
