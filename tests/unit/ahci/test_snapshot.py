"""A machine with an HBA saved in the middle of its work: disks know what they knew, what is held is done once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from devmodels.snapshot import SnapshotError, restore_snapshot, save_snapshot
from guestsim.drivers import ata
from guestsim.drivers.ahci_layouts import Cmd, Ghc, Hba, PortIs, PortReg
from guestsim.drivers.transport import Interrupts
from guestsim.targets.inprocess import InProcessTarget
from tests.unit.ahci.moving import HBA, World, machine
from tests.unit.ahci.packet_stories import awake
from tests.unit.ahci.stories import boot

PASSWORD = bytes(2) + b"secret".ljust(32, b"\0") + bytes(478)


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    paths = [tmp_path / name for name in ("a.img", "b.img")]
    for path in paths:
        path.write_bytes(bytes(1 << 20))
    return [str(path) for path in paths]


@pytest.fixture
def world(images: list[str]) -> Iterator[World]:
    made = World(lambda: machine(images[:1]))
    yield made
    made.close()


def security(opcode: int, data: bytes = PASSWORD) -> ata.AtaCommand:
    return ata.AtaCommand(opcode, count=1, device=0x40, out=data)


def smart(feature: int, lba: int = 0, room: int = 0) -> ata.AtaCommand:
    return ata.AtaCommand(
        0xB0, features=feature, count=room // 512, lba=0xC24F << 8 | lba, device=0x40, room=room
    )


@pytest.mark.parametrize(
    ("interrupts", "shared"),
    [(Interrupts.MSIX, True), (Interrupts.INTX, False), (Interrupts.POLLING, True)],
)
def test_a_guest_goes_on_in_another_machine(images: list[str], interrupts: Interrupts, shared: bool) -> None:
    world = World(lambda: machine(images[:1], shared=shared), interrupts)
    assert world.do(ata.write_queued(8, b"before" * 256)).ok
    world.move()
    assert world.do(ata.read_queued(8, 3)).data == b"before" * 256
    assert world.do(ata.write_dma_ext(0, b"x" * 512)).ok
    assert world.do(ata.read_dma_ext(0, 1, pio=True)).data == b"x" * 512
    world.close()


def test_registers_are_what_they_were(world: World) -> None:
    world.hba.function.bars[4].write(0x10, 4, 0x118)
    world.port.write(PortReg.SCTL, 0x300)

    def look() -> list[int]:
        hba = [world.hba.read(offset) for offset in range(0, 0x2C, 4)]
        ports = [world.hba.read(offset) for offset in range(0x100, 0x200, 4)]
        return [*hba, *ports, world.hba.function.bars[4].read(0x14, 4)]

    before = look()
    world.move()
    assert look() == before


def test_what_hosts_have_set_moves_along(world: World) -> None:
    """Everything that IDENTIFY DEVICE, CHECK POWER MODE and logs tell of."""
    commands = [
        *(ata.set_features(feature, count) for feature, count in ((0x03, 0x22), (0x05, 0x80), (0x82, 0))),
        ata.set_features(0x55),
        ata.AtaCommand(0xC6, count=8),
        ata.AtaCommand(0x91, count=32, device=7),
        ata.AtaCommand(0x78, features=1, lba=999, device=0x40),
        ata.AtaCommand(0x3F, count=1, lba=0x85, out=b"log".ljust(512, b"\0")),
        ata.AtaCommand(0xE8, out=b"buffer".ljust(512, b"\0")),
        ata.AtaCommand(0x45, features=0x55, lba=77, count=2, device=0x40),
        smart(0xD4, 1),
        smart(0xD9),
        security(0xF1),
        ata.AtaCommand(0xE1),
    ]
    for command in commands:
        assert world.do(command).ok, command
    looks = [
        ata.AtaCommand(0xE5),
        ata.identify(),
        ata.read_log(0x85),
        ata.AtaCommand(0xE4, room=512),
        smart(0xD8),
        smart(0xD0, room=512),
        smart(0xD5, 6, room=512),
    ]
    before = [world.do(command) for command in looks]
    assert before[0].count & 0xFF == 0x80
    world.do(smart(0xD9))
    world.do(ata.AtaCommand(0xE1))
    world.move()
    assert not world.do(smart(0xD0, room=512)).ok
    world.guest.run(world.port.clear_errors())
    assert [world.do(command) for command in looks] == before
    assert world.do(ata.read_dma_ext(77, 1)).error == 0x40


@pytest.mark.parametrize("opcode", [0xF6, 0xF4])
def test_a_disk_stays_locked_until_it_is_unlocked(world: World, opcode: int) -> None:
    assert world.do(security(0xF1)).ok
    world.disk.security.power_on()
    assert not world.do(security(0xF2, bytes(512))).ok
    world.guest.run(world.port.clear_errors())
    world.move()
    assert world.disk.security.attempts == 4
    assert not world.do(ata.read_dma_ext(0, 1)).ok
    world.guest.run(world.port.clear_errors())
    assert world.do(security(0xF2)).ok
    if opcode == 0xF4:
        assert world.do(ata.AtaCommand(0xF3)).ok
        world.move()
    assert world.do(security(opcode)).ok
    assert world.disk.security.user is None


def test_a_queue_that_an_error_has_stopped_waits_for_its_log(world: World) -> None:
    assert world.do(ata.AtaCommand(0x45, features=0x55, lba=77, count=1, device=0x40)).ok
    assert not world.do(ata.read_queued(76, 4)).ok
    world.move()
    assert world.port.read(PortReg.IS) == 0
    assert world.port.read(PortReg.CI) | world.port.read(PortReg.SACT) == 1
    world.guest.run(world.port.clear_errors())
    assert world.disk.halted
    page = world.do(ata.read_log(0x10)).data
    assert (page[0], page[3], page[4]) == (0, 0x40, 77)
    assert world.do(ata.read_queued(0, 1)).ok


@pytest.mark.long
def test_what_is_held_is_done_once_in_the_other_machine(world: World) -> None:
    """NCQ commands, and one of every other protocol."""
    for commands in (
        [ata.write_queued(8 * n, bytes([n + 1]) * 4096) for n in range(32)],
        [ata.write_dma_ext(0, b"p" * 512, pio=True)],
        [
            ata.AtaCommand(
                0x06, features=1, count=1, device=0x40, out=(8 << 48).to_bytes(8, "little") + bytes(504)
            )
        ],
        [ata.flush()],
        [ata.AtaCommand(0x42, lba=5, count=9, device=0x40)],
    ):
        world.assembly.run_state.stop("paused")
        pending = world.start(*commands)
        world.move()
        world.settle()
        assert not any(each.done for each in pending)
        world.move()
        world.assembly.run_state.cont()
        assert all(world.wait(each).ok for each in pending), commands
    assert world.do(ata.read_dma_ext(8, 248)).data == b"".join(bytes([n + 1]) * 4096 for n in range(1, 32))


def test_an_erase_that_is_held_is_done(world: World) -> None:
    assert world.do(ata.write_dma_ext(0, b"x" * 512)).ok
    assert world.do(security(0xF1)).ok
    assert world.do(ata.AtaCommand(0xF3)).ok
    world.assembly.run_state.stop("paused")
    (pending,) = world.start(security(0xF4))
    world.move()
    world.assembly.run_state.cont()
    assert world.wait(pending).ok
    assert not world.disk.security.prepared
    assert world.do(ata.read_dma_ext(0, 1)).data == bytes(512)


def test_a_self_test_goes_on_in_the_other_machine(world: World) -> None:
    """SMART EXECUTE OFF-LINE IMMEDIATE, of which nobody waits for the end (ACS-3 §7.48)."""

    def smart(features: int, lba: int, count: int = 0) -> bytes:
        return world.do(
            ata.AtaCommand(0xB0, features=features, lba=0xC24F00 | lba, count=count, room=512)
        ).data

    world.assembly.run_state.stop("paused")
    assert world.do(ata.AtaCommand(0xB0, features=0xD4, lba=0xC24F02)).ok
    assert smart(0xD0, 0)[363] == 0xF9
    world.move()
    assert smart(0xD0, 0)[363] == 0xF9
    world.assembly.run_state.cont()
    world.settle()
    assert smart(0xD0, 0)[363] == 0
    log = smart(0xD5, 6, 1)
    assert (log[2], log[3], log[508]) == (2, 0, 1), "the one test has passed"


def test_a_machine_that_is_rolled_back_ends_the_self_test_that_it_has_begun(world: World) -> None:
    data = world.save()
    world.assembly.run_state.stop("paused")
    assert world.do(ata.AtaCommand(0xB0, features=0xD4, lba=0xC24F02)).ok
    restore_snapshot(world.assembly, data)
    world.settle()
    assert (world.disk.smart.running, world.disk.smart.results) == (None, [])


@pytest.mark.parametrize("what", ["stop", "comreset", "hba"])
def test_a_reset_that_waits_is_over_in_the_other_machine(images: list[str], what: str) -> None:
    """A clock that stands: what is in the delay node cannot be taken back."""
    delay: dict[str, object] = {"driver": "delay", "node-name": "slow", "file": "d0", "latency-ns": 1_000_000}

    def make() -> Any:
        target = machine([], clock="stepped")
        target.assembly.add_node(
            {"driver": "file", "filename": images[0], "node-name": "d0", "locking": "off"}
        )
        target.assembly.add_node(delay)
        target.plug({"driver": "ide-hd", "id": "hd0", "bus": "sata0.0", "drive": "slow"})
        return target

    world = World(make, Interrupts.POLLING)
    world.start(ata.read_queued(0, 1))
    port = world.port
    if what == "hba":
        world.hba.write(Hba.GHC, Ghc.AE | Ghc.HR)
    else:
        port.write(PortReg.CMD, port.read(PortReg.CMD) & ~Cmd.ST)
        if what == "comreset":
            port.write(PortReg.SCTL, 1)
            port.write(PortReg.SCTL, 0)
    world.settle()
    assert port.read(PortReg.CMD) & Cmd.CR or world.hba.read(Hba.GHC) & Ghc.HR
    world.move()
    world.settle()
    assert not port.read(PortReg.CMD) & Cmd.CR
    assert not world.hba.read(Hba.GHC) & Ghc.HR
    assert port.read(PortReg.TFD) & 0xFF == 0x50, "it shows before PxCMD.FRE (AHCI 1.3.1 §3.3.7)"
    world.close()


def test_a_machine_that_is_rolled_back_forgets_what_it_did(world: World) -> None:
    data = world.save()
    world.assembly.run_state.stop("paused")
    pending = world.start(*(ata.write_queued(8 * n, b"n" * 4096) for n in range(4)))
    restore_snapshot(world.assembly, data)
    world.settle()
    assert not any(each.done for each in pending)
    assert world.port.read(PortReg.SACT) == 0
    for each in pending:
        world.port.pending.pop(each.slot)
    assert world.do(ata.read_dma_ext(0, 32)).data == bytes(32 * 512)


def test_machines_with_other_disks_are_other_machines(world: World, images: list[str]) -> None:
    data = world.save()
    for target, text in (
        (machine(images), r"port 1: the state is of another port; this one has a device"),
        (machine([]), r"port 0: the state is of another port; this one has no device"),
    ):
        with target, pytest.raises(SnapshotError, match=text):
            restore_snapshot(target.assembly, data)


def read_disc(blocks: int, *, dma: bool) -> ata.AtaCommand:
    cdb = bytes((0x28, 0, 0, 0, 0, 3, 0, 0, blocks, 0, 0, 0))
    return ata.AtaCommand(0xA0, features=dma, lba=2048 << 8, room=2048 * blocks, packet=cdb)


def everything(world: World) -> list[object]:
    """Commands of every protocol; what the guest sees."""
    seen: list[object] = [world.port.identity.words if world.port.identity else None]
    for commands in (
        [ata.write_queued(8 * n, bytes([n + 1]) * 4096) for n in range(8)],
        [ata.read_queued(8 * n, 8) for n in range(8)],
        [ata.write_dma(200, b"x" * 512)],
        [ata.read_dma_ext(200, 3, pio=True)],
        [ata.flush()],
    ):
        pending = world.port.submit(*commands)
        seen += [world.wait(each) for each in pending]
    seen.append(world.do(ata.AtaCommand(0xA0, packet=bytes(12)), 1).error)
    world.guest.run(world.hba.ports[1].clear_errors())
    seen += [world.do(read_disc(2, dma=dma), 1) for dma in (False, True)]
    seen.append(world.do(ata.AtaCommand(0xFF)).status)
    world.guest.run(world.port.clear_errors())
    world.guest.run(world.port.software_reset())
    seen.append(world.port.read(PortReg.SIG))
    return seen


@pytest.mark.long
@pytest.mark.parametrize(("interrupts", "start"), [(Interrupts.MSIX, 0), (Interrupts.INTX, 9)])
def test_a_machine_may_be_another_one_at_any_moment(
    images: list[str], interrupts: Interrupts, start: int
) -> None:
    def make() -> Any:
        return machine(images, disc=True)

    still, moved = World(make, interrupts), World(make, interrupts, period=20, start=100 + start)
    assert everything(moved) == everything(still)
    assert moved.moving.moves > 4
    moved.close()
    still.close()


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, 12, 2))
def test_a_machine_may_be_another_one_at_really_any_moment(images: list[str], start: int) -> None:
    def make() -> Any:
        return machine(images, disc=True)

    still, moved = World(make), World(make, period=12, start=start)
    assert everything(moved) == everything(still)
    moved.close()
    still.close()


def state_of(data: bytes) -> Any:
    return msgspec.msgpack.decode(msgspec.msgpack.decode(data)["ata"]["sata0"])


def with_state(data: bytes, state: Any) -> bytes:
    snapshot = msgspec.msgpack.decode(data)
    snapshot["ata"]["sata0"] = state if isinstance(state, bytes) else msgspec.msgpack.encode(state)
    return msgspec.msgpack.encode(snapshot)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("slot", 32, "Expected `int` <= 31"),
        ("flags", 1 << 16, "Expected `int` <= 65535"),
        ("packet", b"", "length >= 16"),
        ("address", -1, "Expected `int` >= 0"),
    ],
)
def test_a_damaged_command_changes_nothing(world: World, field: str, value: object, message: str) -> None:
    world.assembly.run_state.stop("paused")
    (pending,) = world.start(ata.write_queued(0, b"w" * 512))
    data = world.save()
    state = state_of(data)
    state["ports"][0]["commands"][0][field] = value
    with pytest.raises(SnapshotError, match=message):
        restore_snapshot(world.assembly, with_state(data, state))
    world.assembly.run_state.cont()
    assert world.wait(pending).ok


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("geometry", [1, 17, 63], "17 heads"),
        ("power_mode", 7, "power mode 7"),
        ("host_logs", {1: bytes(8192)}, "logs"),
        ("host_logs", {0x80: b""}, "length >= 8192"),
        ("sector_buffer", b"", "length >= 512"),
        ("powered_for_ns", -1, "Expected `int` >= 0"),
        ("apm", 0xFF, "Expected `int` <= 254"),
    ],
)
def test_a_damaged_disk_changes_nothing(world: World, field: str, value: object, message: str) -> None:
    data = world.save()
    state = state_of(data)
    disk = msgspec.msgpack.decode(state["ports"][0]["device"], strict=False)
    disk[field] = value
    state["ports"][0]["device"] = msgspec.msgpack.encode(disk)
    with pytest.raises(SnapshotError, match=message):
        restore_snapshot(world.assembly, with_state(data, state))
    assert world.do(ata.read_dma_ext(0, 1)).ok


def test_no_state_at_all(world: World) -> None:
    data = world.save()
    with pytest.raises(SnapshotError, match="not the state of an HBA"):
        restore_snapshot(world.assembly, with_state(data, b"\xc1"))
    assert HBA["id"] == "sata0"
    assert not PortIs(world.port.read(PortReg.IS)) & PortIs.TFES


@pytest.mark.parametrize("profile", ["strict", "qemu"])
def test_a_packet_that_is_under_way_moves_along(images: list[str], profile: str) -> None:
    def make() -> InProcessTarget:
        node = {"driver": "file", "filename": images[0], "node-name": "c0", "read-only": True}
        drive = {"driver": "ide-cd", "bus": "sata0.0", "drive": "c0", "id": "cd0"}
        return InProcessTarget(blockdevs=[node], devices=[HBA, drive], profile=profile)

    with make() as target, make() as other:
        guest, _, port = boot(target)
        guest.run(awake(port))
        target.stop()
        port.submit(read_disc(2, dma=True))
        target.assembly.machine.run_until_idle()
        saved = save_snapshot(target.assembly)
        restore_snapshot(other.assembly, saved)
        assert state_of(save_snapshot(other.assembly)) == state_of(saved)
