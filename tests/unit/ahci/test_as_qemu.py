"""An HBA and a disk under profile `qemu`: what QEMU 7.2's do, where they depart from their specifications."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devmodels.ahci.pci import AhciPci
from guestsim.drivers import ata, cdb
from guestsim.drivers.ahci_layouts import (
    HEADER,
    PIO_SETUP,
    PORTS_OFFSET,
    SDB,
    Cmd,
    Ghc,
    Hba,
    PortIs,
    PortReg,
    h2d_fis,
)
from guestsim.drivers.transport import Interrupts
from guestsim.targets.inprocess import InProcessTarget

from .stories import SIZE, boot
from .test_fises import D2H
from .test_hostile import World, world
from .test_stories import DISK, DRIVE, HBA

WITHOUT_DSC = 0x41
ABRT = 0x04


@pytest.fixture
def w() -> Iterator[World]:
    with world(profile="qemu") as made:
        yield made


def put(w: World, slot: int, command: ata.AtaCommand) -> None:
    """A command without data into a slot, with a table of its own."""
    table = w.guest.memory.allocate_zeroed(256, 128)
    w.guest.memory.write(table, h2d_fis(command))
    w.guest.memory.write(w.port.list + slot * HEADER.size, HEADER.pack(5, 0, 0, table, 0))


def fis(w: World, offset: int) -> bytes:
    """The FIS that was received last, of a kind."""
    return w.guest.memory.read(w.port.received + offset, 20)


def test_a_command_is_read_once_when_it_is_issued(w: World) -> None:
    put(w, 0, ata.flush())
    w.port.write(PortReg.CI, 1)
    table = int.from_bytes(w.guest.memory.read(w.port.list + 8, 4), "little")
    w.guest.memory.write(table, h2d_fis(ata.AtaCommand(0xFF)))
    w.issue(slots=0)
    assert w.status == PortIs.DHRS
    assert w.port.read(PortReg.CI) == 0


@pytest.mark.parametrize("opcode", [0xE0, 0xE6, 0xFF])
def test_what_needs_no_medium_is_over_in_the_access_that_issues_it(w: World, opcode: int) -> None:
    put(w, 0, ata.AtaCommand(opcode))
    w.port.write(PortReg.CI, 1)
    assert w.port.read(PortReg.IS) & PortIs.DHRS


def test_an_error_is_told_by_its_fis_too_and_without_dsc(w: World) -> None:
    w.command(ata.AtaCommand(0xFF))
    assert w.status == PortIs.TFES | PortIs.DHRS
    assert fis(w, D2H)[:4] == bytes((0x34, 0x40, WITHOUT_DSC, ABRT))
    assert w.port.read(PortReg.TFD) == ABRT << 8 | WITHOUT_DSC
    assert w.port.read(PortReg.CI) == 1


def test_what_has_failed_is_done_again_with_the_next_command(w: World) -> None:
    put(w, 0, ata.AtaCommand(0xFF))
    w.issue()
    w.port.write(PortReg.IS, 0xFFFF_FFFF)
    put(w, 1, ata.flush())
    w.issue(slots=2)
    assert w.port.read(PortReg.CI) == 1
    assert w.status == PortIs.TFES | PortIs.DHRS
    put(w, 0, ata.flush())
    w.issue(slots=2)
    assert w.port.read(PortReg.CI) == 0


def test_the_slot_of_the_current_command_is_not_told(w: World) -> None:
    put(w, 3, ata.flush())
    w.issue(slots=8)
    assert w.port.read(PortReg.CMD) & 0x1F00 == 0


def test_a_pio_setup_fis_has_neither_direction_nor_another_status_and_a_register_fis_follows(
    w: World,
) -> None:
    buffer = w.guest.memory.allocate(512)
    w.command(ata.read_dma_ext(0, 1, pio=True), (buffer, 512))
    setup = fis(w, PIO_SETUP)
    assert (setup[1], setup[15]) == (0x40, 0x58)
    assert w.status == PortIs.PSS | PortIs.DHRS


def test_an_address_beyond_the_medium_is_aborted(w: World) -> None:
    buffer = w.guest.memory.allocate(512)
    w.command(ata.read_dma_ext(SIZE // 512, 1), (buffer, 512))
    assert w.port.read(PortReg.TFD) >> 8 == ABRT


@pytest.mark.parametrize(
    ("out", "there"), [(False, 2), (True, 2), (True, 0)], ids=["read", "write", "beyond"]
)
def test_sectors_before_the_end_of_the_medium_go_by_pio(w: World, out: bool, there: int) -> None:
    last, data = SIZE // 512, b"\x09" * 2048
    buffer = w.guest.memory.allocate(2048)
    w.guest.memory.write(buffer, data)
    at = last - there
    w.command(
        ata.write_dma_ext(at, data, pio=True) if out else ata.read_dma_ext(at, 4, pio=True), (buffer, 2048)
    )
    assert w.status == PortIs.TFES | PortIs.DHRS | (PortIs.PSS if there else 0)
    counted = int.from_bytes(w.guest.memory.read(w.port.list + 4, 4), "little")
    assert counted == 512 * (there + out)
    for offset in (PIO_SETUP, D2H):
        assert (fis(w, offset)[4:7], fis(w, offset)[12]) == (last.to_bytes(3, "little"), 4 - there)
    assert fis(w, D2H)[2:4] == bytes((WITHOUT_DSC, ABRT))
    assert fis(w, PIO_SETUP)[2:4] == bytes((0x58, 0))
    if not out:
        assert w.guest.memory.read(buffer, 2048) == bytes(1024) + data[1024:]
    elif there:
        w.port.write(PortReg.IS, 0xFFFF_FFFF)
        w.guest.memory.write(buffer, bytes(1024))
        w.command(ata.read_dma_ext(at, 2), (buffer, 1024))
        assert w.guest.memory.read(buffer, 1024) == data[:1024]


def test_no_dma_setup_fis_comes_before_the_data_of_a_queued_command(w: World) -> None:
    buffer = w.guest.memory.allocate(512)
    w.command(ata.read_queued(0, 1), (buffer, 512))
    assert w.status & PortIs.SDBS
    assert fis(w, 0) == bytes(20)


def test_count_and_address_in_fises_go_with_the_sectors(w: World) -> None:
    buffer = w.guest.memory.allocate(3 * 512)
    w.command(ata.write_dma_ext(0xFF, bytes(3 * 512), pio=True), (buffer, 3 * 512))
    assert (fis(w, PIO_SETUP)[4:6], fis(w, PIO_SETUP)[12]) == (b"\x01\x01", 1)
    assert (fis(w, D2H)[4:6], fis(w, D2H)[12]) == (b"\x02\x01", 0)


# --- in both profiles


@pytest.fixture(params=["strict", "qemu"])
def profile(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def of_profile(profile: str) -> Iterator[World]:
    with world(profile=profile) as made:
        yield made


def by(profile: str, *, strict: object, qemu: object) -> object:
    return strict if profile == "strict" else qemu


def test_what_the_first_fis_says(of_profile: World, profile: str) -> None:
    w = of_profile
    w.port.write(PortReg.SCTL, 0x301)
    w.port.write(PortReg.SCTL, 0x300)
    w.settle()
    assert w.port.read(PortReg.TFD) == by(profile, strict=0x150, qemu=0x130)
    assert fis(w, D2H)[2:8] == by(
        profile, strict=b"\x50\x01\x01\x00\x00\x00", qemu=b"\x30\x01\x01\x00\x00\xa0"
    )


def test_the_link_while_a_comreset_stands(of_profile: World, profile: str) -> None:
    w = of_profile
    w.port.write(PortReg.SCTL, 0x301)
    assert w.port.read(PortReg.SSTS) & 0xF == by(profile, strict=0, qemu=3)
    w.port.write(PortReg.SCTL, 0x300)
    assert w.port.read(PortReg.SSTS) & 0xF == 3


def test_what_is_issued_at_a_comreset(of_profile: World, profile: str) -> None:
    w = of_profile
    w.port.write(PortReg.SACT, 8)
    w.port.write(PortReg.SCTL, 0x301)
    w.port.write(PortReg.SCTL, 0x300)
    assert w.port.read(PortReg.SACT) == by(profile, strict=8, qemu=0)


def test_diagnostics(of_profile: World, profile: str) -> None:
    w = of_profile
    put(w, 0, ata.AtaCommand(0x90))
    w.issue()
    assert w.port.read(PortReg.CI) == by(profile, strict=0, qemu=1)
    assert w.status == by(profile, strict=PortIs.DHRS, qemu=0)


def test_a_queued_command_is_accepted(of_profile: World, profile: str) -> None:
    w = of_profile
    buffer = w.guest.memory.allocate(512)
    w.command(ata.read_dma_ext(0x10, 1), (buffer, 512))
    w.command(ata.read_queued(0x20, 1), (buffer, 512))
    assert fis(w, D2H)[4] == by(profile, strict=0x20, qemu=0x11)


def test_tags_that_were_no_commands_are_not_told_of_after_a_reset(w: World) -> None:
    w.port.write(PortReg.CMD, 0)
    w.port.write(PortReg.SACT, 0xF0)
    w.port.write(PortReg.SCTL, 0x301)
    w.port.write(PortReg.SCTL, 0x300)
    w.port.write(PortReg.CMD, Cmd.FRE | Cmd.ST)
    w.settle()
    buffer = w.guest.memory.allocate(512)
    w.command(ata.read_queued(0x20, 1), (buffer, 512))
    assert fis(w, SDB)[4:8] == bytes((1, 0, 0, 0))


def test_the_count_of_bytes_moved_begins_with_what_the_header_holds(of_profile: World) -> None:
    w = of_profile
    buffer = w.guest.memory.allocate(512)
    w.command(ata.read_dma_ext(0, 1), (buffer, 512))
    assert w.guest.memory.read(w.port.list + 4, 4) == (512).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("lba", "counts"), [(0, (512, 512)), (SIZE // 512, (512, 0))], ids=["well", "beyond"]
)
def test_the_count_of_bytes_moved_by_a_trim(profile: str, lba: int, counts: tuple[int, int]) -> None:
    disk = {**DISK, "discard_granularity": 512}
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA, disk], profile=profile) as target:
        w = World(target, Interrupts.POLLING)
        buffer = w.guest.memory.allocate_zeroed(512, 512)
        w.guest.memory.write(buffer, (lba | 1 << 48).to_bytes(8, "little"))
        w.command(ata.AtaCommand(0x06, features=1, count=1, device=ata.LBA_MODE), (buffer, 512))
        assert bool(w.status & PortIs.TFES) is bool(lba)
        counted = int.from_bytes(w.guest.memory.read(w.port.list + 4, 4), "little")
        assert counted == by(profile, strict=counts[0], qemu=counts[1])


def test_more_data_than_regions(of_profile: World, profile: str) -> None:
    w = of_profile
    buffer = w.guest.memory.allocate(512)
    w.guest.memory.write(buffer, b"\xee" * 512)
    w.command(ata.read_dma_ext(0, 2), (buffer, 512))
    moved = w.guest.memory.read(buffer, 512) != b"\xee" * 512
    assert (bool(w.status & PortIs.OFS), moved) == by(profile, strict=(True, True), qemu=(False, False))


def test_the_power_mode(of_profile: World, profile: str) -> None:
    w = of_profile
    for command in (ata.AtaCommand(0xE0), ata.AtaCommand(0xE5)):
        put(w, 0, command)
        w.issue()
    assert fis(w, D2H)[12] == by(profile, strict=0, qemu=0xFF)


# --- registers


def identify(w: World, *, length: int = 5) -> int:
    """IDENTIFY DEVICE in slot 0; where its data are to go."""
    buffer = w.guest.memory.allocate_zeroed(512, 512)
    w.put(ata.AtaCommand(0xEC), (buffer, 512), flags=length)
    return buffer


def test_a_command_without_reception(profile: str) -> None:
    with world(profile=profile) as w:
        w.hba.write(Hba.GHC, Ghc.AE | Ghc.HR)
        w.settle()
        buffer = identify(w)
        w.port.write(PortReg.CMD, Cmd.ST)
        w.port.write(PortReg.CI, 1)
        w.settle()
        told = w.status & (PortIs.PSS | PortIs.DHRS)
        assert (w.port.read(PortReg.CI), told, w.guest.memory.read(buffer, 2) != bytes(2)) == (
            0,
            PortIs.PSS,
            True,
        )
        assert w.port.read(PortReg.TFD) & 0xFF == by(profile, strict=0x50, qemu=0x7F)
        said = [text for _, text in w.target.violations() or ()]
        waits = any("before the first FIS of its device was received" in each for each in said)
        assert waits is by(profile, strict=False, qemu=True)


def test_bits_of_what_is_issued_while_stopped(of_profile: World, profile: str) -> None:
    w = of_profile
    w.port.write(PortReg.CMD, Cmd.FRE)
    w.settle()
    w.port.write(PortReg.SACT, 5)
    w.port.write(PortReg.CI, 3)
    assert (w.port.read(PortReg.SACT), w.port.read(PortReg.CI)) == by(profile, strict=(0, 0), qemu=(5, 3))


def test_what_the_command_register_holds(of_profile: World, profile: str) -> None:
    w = of_profile
    w.port.write(PortReg.CMD, 0xFFFF_FFFE)
    w.settle()
    assert w.port.read(PortReg.CMD) & ~0xC000 == by(profile, strict=0x0300_0016, qemu=0x0F82_001E)
    w.port.write(PortReg.CMD, 0)
    w.settle()
    assert w.port.read(PortReg.CMD) & ~0x1F00 == by(profile, strict=6, qemu=0)


def test_reception_that_is_switched_off_while_the_list_is_worked_on(of_profile: World, profile: str) -> None:
    w = of_profile
    w.port.write(PortReg.CMD, Cmd.FRE | Cmd.ST)
    w.settle()
    w.port.write(PortReg.CMD, Cmd.ST)
    w.settle()
    held = w.port.read(PortReg.CMD) & (Cmd.FR | Cmd.CR)
    assert held == by(profile, strict=Cmd.FR | Cmd.CR, qemu=Cmd.CR)


def test_what_other_registers_of_a_port_hold(of_profile: World, profile: str) -> None:
    w = of_profile
    w.port.write(PortReg.CMD, 0)
    w.settle()
    for register, strict in ((PortReg.SCTL, 0xFF2), (PortReg.CLB, 0xFFFF_FC00), (PortReg.FB, 0xFFFF_FF00)):
        w.port.write(register, 0xFFFF_FFF2)
        assert w.port.read(register) == by(profile, strict=strict, qemu=0xFFFF_FFF2)


def test_a_narrow_write(of_profile: World, profile: str) -> None:
    w = of_profile
    at = PORTS_OFFSET + PortReg.IE
    w.port.write(PortReg.IE, 0x7000_00FF)
    w.hba._bar.write(at, 1, 0x0F)
    assert w.port.read(PortReg.IE) == by(profile, strict=0x7000_000F, qemu=0x0F)
    w.hba._bar.write(at + 3, 1, 0x40)
    assert w.port.read(PortReg.IE) == by(profile, strict=0x4000_000F, qemu=0x0F)


def test_a_command_fis_whose_length_is_none(of_profile: World, profile: str) -> None:
    w = of_profile
    identify(w, length=0)
    w.issue()
    assert bool(w.status & PortIs.HBFS) is by(profile, strict=True, qemu=False)


def test_a_fis_that_no_host_sends(of_profile: World, profile: str) -> None:
    w = of_profile
    w.guest.memory.write(w.port.list, HEADER.pack(5, 0, 0, w.guest.memory.allocate_zeroed(256, 128), 0))
    w.issue()
    assert (w.status, w.port.read(PortReg.CI)) == by(profile, strict=(PortIs.IFS, 1), qemu=(0, 1))


def test_what_has_failed_is_done_again_when_something_else_has_ended_well(w: World) -> None:
    put(w, 0, ata.AtaCommand(0xFF))
    put(w, 1, ata.flush())
    w.issue(slots=1)
    assert (w.port.read(PortReg.CI), w.port.read(PortReg.TFD)) == (1, ABRT << 8 | WITHOUT_DSC)
    w.issue(slots=2)
    assert (w.port.read(PortReg.CI), w.port.read(PortReg.TFD)) == (1, ABRT << 8 | WITHOUT_DSC)
    assert fis(w, D2H)[2:4] == bytes((WITHOUT_DSC, ABRT))


def test_commands_are_done_from_the_lowest_slot_on_wherever_the_last_one_was(w: World) -> None:
    put(w, 2, ata.flush())
    w.issue(slots=4)
    for slot, opcode in ((1, 0xFE), (3, 0xE5)):
        put(w, slot, ata.AtaCommand(opcode, count=opcode))
    w.issue(slots=0b1010)
    assert w.port.read(PortReg.CI) == 2
    assert fis(w, D2H)[12] == 0xFE


def _awake_drive() -> InProcessTarget:
    node = {"driver": "memory", "size": 1 << 20, "node-name": "c0", "read-only": True}
    drive = {"driver": "ide-cd", "bus": "sata0.0", "drive": "c0", "id": "cd0"}
    return InProcessTarget(blockdevs=[node], devices=[HBA, drive], profile="qemu")


def test_an_attention_that_was_told_leaves_packets_issued_until_it_is_asked_for() -> None:
    with _awake_drive() as target:
        guest, _, port = boot(target)
        ready, fetch = ata.packet(cdb.test_unit_ready().data), cdb.request_sense()
        tray = target.assembly.drives["cd0"].tray
        assert tray is not None
        tray.user_opens()
        tray.user_closes()
        for key in (2, 6):
            assert guest.run(port.do(ready)).error >> 4 == key
        port.write(PortReg.IS, -1)
        port.submit(ready)
        target.assembly.machine.run_until_idle()
        assert port.read(PortReg.CI)
        assert (port.read(PortReg.IS), port.read(PortReg.TFD)) == (0, 0x58)
        for bits in (0, Cmd.ST):
            port.write(PortReg.CMD, port.read(PortReg.CMD) & ~Cmd.ST | bits)
        for command in (ata.packet(fetch.data, room=fetch.room), ready):
            port.submit(command)
            target.assembly.machine.run_until_idle()
            assert (port.read(PortReg.CI), port.read(PortReg.TFD)) == (0, 0x50)


def test_the_room_for_a_packet_goes_into_the_buffer_as_a_whole() -> None:
    with _awake_drive() as target:
        guest, _, port = boot(target)
        inquiry = bytes((0x12, 0, 0, 0, 0x24)).ljust(12, b"\0")
        mode_sense = bytes((0x5A, 0, 0x0E, 0, 0, 0, 0, 0, 0x18)).ljust(12, b"\0")
        assert guest.run(port.do(ata.packet(inquiry, room=0x24))).data[12:17] == b"    Q"
        assert guest.run(port.do(ata.packet(mode_sense, room=0x18))).data[12:17] == b"\0\0\0\0Q"


@pytest.mark.parametrize(
    ("cdb", "room", "moved", "status", "issued"),
    [
        ("28 00 00 00 00 01 00 00 05", 0x2000, 0x2800, 0x50, 0),
        ("be 00 00 00 00 01 00 00 05 f8", 0x2000, 4 * 2352, 0xD8, 1),
        ("be 00 00 00 00 01 00 00 05 f8", 0x2400, 4 * 2352, 0xD8, 1),
        ("12 00 00 00 24", 0x10, 0x24, 0x50, 0),
    ],
)
def test_of_a_packet_with_more_data_than_regions_what_has_a_place_is_given(
    cdb: str, room: int, moved: int, status: int, issued: int
) -> None:
    """What goes at a time counts as a whole; where nothing of it has a place the packet never ends."""
    with _awake_drive() as target:
        _, _, port = boot(target)
        packet = bytes.fromhex(cdb).ljust(12, b"\0")
        port.submit(ata.packet(packet, room=0x3000, dma=True), pieces=[room])
        target.assembly.machine.run_until_idle()
        header = port.guest.memory.read(port.list, HEADER.size)
        assert int.from_bytes(header[4:8], "little") == moved
        assert (port.read(PortReg.TFD), bool(port.read(PortReg.CI))) == (status, bool(issued))


@pytest.mark.parametrize(("profile", "told"), [("qemu", 3), ("strict", 1)])
def test_each_cause_of_an_interrupt_has_a_message_whatever_was_not_cleared(
    monkeypatch: pytest.MonkeyPatch, profile: str, told: int
) -> None:
    messages: list[int | None] = []

    def note(_: AhciPci, port: int | None, level: bool) -> None:
        if level:
            messages.append(port)

    monkeypatch.setattr(AhciPci, "_interrupt", note)
    with world(profile=profile) as w:
        w.port.write(PortReg.IE, 0xFFFF_FFFF)
        w.hba.write(Hba.GHC, Ghc.AE | Ghc.IE)
        messages.clear()
        for slot in range(3):
            put(w, slot, ata.flush())
            w.issue(slots=1 << slot)
        assert messages == [0] * told
