"""The HBA as a function: its identity, its messages, disks that come and go, options that are wrong."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from devmodels.ahci.engine import TRANSITIONS, Event, State
from devmodels.assembly import assemble
from devmodels.memoryregions import SharedRegion
from devmodels.options import OptionError
from guestsim.drivers import ahci, ata
from guestsim.drivers.ahci_layouts import ENABLED, Cmd, Ghc, Hba, PortIs, PortReg
from guestsim.drivers.ahci_port import AhciPort
from guestsim.drivers.pci import CAP_MSI, CAP_POWER, CAP_SATA, COMMAND_MASTER, scan
from guestsim.drivers.transport import Interrupts
from guestsim.guest import Guest
from guestsim.targets.inprocess import InProcessTarget

from .stories import boot
from .test_stories import DISK, DRIVE, HBA

SECOND_DRIVE = {"driver": "memory", "size": 1 << 20, "node-name": "d1"}


def test_it_is_found_as_an_ich9s() -> None:
    with InProcessTarget(devices=[HBA]) as target:
        (function,) = scan(Guest(target))
        assert (function.vendor, function.device) == (0x8086, 0x2922)
        assert function.read(8, 4) == 0x0106_0102
        assert [(each.id, each.offset) for each in function.capabilities()] == [
            (CAP_POWER, 0x70),
            (CAP_MSI, 0x80),
            (CAP_SATA, 0xA8),
        ]
        assert function.read(6, 2) == 0x02B0
        assert function.read(0xA8, 4) >> 16 == 0x0010
        function.write(0x92, 2, 0x1234)
        assert [function.read(at, size) for at, size in ((0x90, 4), (0x91, 2), (0x92, 2), (0x93, 1))] == [
            0x1234_0040,
            0x3400,
            0x1234,
            0x12,
        ]


def test_a_generic_one_is_nobodys_in_particular() -> None:
    hba = {**HBA, "x-pci-vendor-id": 0x1B21, "x-pci-device-id": 0x0612}
    with InProcessTarget(blockdevs=[DRIVE], devices=[hba, DISK]) as target:
        (function,) = scan(Guest(target))
        assert (function.vendor, function.device, function.read(8, 4)) == (0x1B21, 0x0612, 0x0106_0100)
        assert [each.id for each in function.capabilities()] == [CAP_POWER, CAP_MSI]
        assert function.read(0x90, 4) == 0
        _, driver, port = boot(target)
        assert list(driver.function.bars) == [5]
        assert port.identity is not None
        assert port.identity.serial == "SN1"


def test_asleep_it_does_nothing() -> None:
    """PCI PM 1.2 §5.4: in D3hot no register of the HBA is there, and no interrupt comes; all is as before in D0."""
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA, DISK]) as target:
        guest, hba, port = boot(target)
        hba.function.write(0x74, 2, 3)
        assert hba.read(Hba.VS) == 0xFFFF_FFFF
        hba.function.write(0x74, 2, 0)
        assert guest.run(port.do(ata.read_dma_ext(0, 1))).ok


def test_index_and_data_reach_every_register() -> None:
    with InProcessTarget(devices=[HBA]) as target:
        guest = Guest(target)
        (function,) = ahci.find(guest)
        hba = ahci.Ahci(guest, function)
        pair = function.bars[4]
        for offset in range(0, 0x100 + 6 * 0x80, 4):
            pair.write(0x10, 4, offset)
            assert pair.read(0x14, 4) == hba.read(offset), hex(offset)
        pair.write(0x10, 4, 0x114 + 5 * 0x80)
        pair.write(0x14, 4, 1)
        assert [hba.read(0x114 + 0x80 * port) for port in range(6)] == [0] * 5 + [1]
        pair.write(0x10, 4, Hba.GHC)
        pair.write(0x14, 4, Ghc.AE | Ghc.IE)
        assert hba.read(Hba.GHC) & Ghc.IE


def test_ports_that_are_not_there_read_0() -> None:
    with InProcessTarget(devices=[{**HBA, "ports": 2}]) as target:
        guest = Guest(target)
        hba = ahci.Ahci(guest, ahci.find(guest)[0])
        assert hba.read(Hba.PI) == 3
        assert hba.read(Hba.CAP) & 0x1F == 1
        assert {hba.read(0x200 + at) for at in range(0, 0x80, 4)} == {0}


def test_each_port_has_a_message_of_its_own_where_there_are_enough() -> None:
    devices: list[Mapping[str, object]] = [
        {**HBA, "ports": 2, "vectors": 2},
        DISK,
        {"driver": "ide-hd", "bus": "sata0.1", "drive": "d1"},
    ]
    with InProcessTarget(blockdevs=[DRIVE, SECOND_DRIVE], devices=devices) as target:
        guest, hba, _ = boot(target, Interrupts.POLLING)
        msi = hba.function.msi()
        assert msi is not None
        assert msi.vectors == 2
        address, _ = target.message(0)
        msi.enable(address, 6, vectors=2)
        for port in hba.ports.values():
            port.write(PortReg.IE, ENABLED)
        hba.write(Hba.GHC, Ghc.AE | Ghc.IE)
        target.take_messages()
        for number, port in hba.ports.items():
            guest.run(port.identify())
            assert target.take_messages() == {6 + number: 1}
            hba.write(Hba.IS, 1 << number)


def test_the_line_takes_over_where_messages_are_switched_off() -> None:
    """PCI 3.0 §6.8.1: with MSI no INTx#; what is pending when it is switched off asks by the line."""
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA, DISK]) as target:
        _, hba, port = boot(target, Interrupts.POLLING)
        function = hba.function
        port.write(PortReg.IE, ENABLED)
        hba.write(Hba.GHC, Ghc.AE | Ghc.IE)
        hba.write(Hba.IS, 1)
        msi = function.msi()
        assert msi is not None
        msi.enable(target.message(0)[0], 8)
        port.submit(ata.flush())
        while not port.read(PortReg.IS):
            target.advance()
        assert not target.intx_level(function.slot, function.interrupt_pin)
        assert not function.read(6, 2) & 8
        msi.disable()
        assert target.intx_level(function.slot, function.interrupt_pin)
        assert function.read(6, 2) & 8
        msi.enable(target.message(0)[0], 8)
        assert not target.intx_level(function.slot, function.interrupt_pin)
        port.write(PortReg.IS, 0xFFFF_FFFF)
        hba.write(Hba.IS, 1)
        msi.disable()
        assert not target.intx_level(function.slot, function.interrupt_pin)


@pytest.mark.parametrize("shared", [True, False])
def test_nothing_is_written_once_bus_mastering_is_off(shared: bool) -> None:
    """PCI 3.0 §6.2.2: a command that ends then finds no memory, as behind a master abort (AHCI 1.3.1 §6.1.1)."""
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA, DISK], shared=shared) as target:
        guest, hba, port = boot(target, Interrupts.POLLING)
        target.stop()
        port.submit(ata.read_dma_ext(0, 8))
        target.advance()
        guest.memory.write(port.received, bytes([0xEE]) * 256)
        hba.function.set_command(off=COMMAND_MASTER)
        target.cont()
        while target.advance():
            pass
        assert guest.memory.read(port.received, 256) == bytes([0xEE]) * 256
        assert port.read(PortReg.IS) & PortIs.HBFS
        assert {clause for clause, _ in target.violations() or ()} == {"PCI 3.0 §6.2.2"}
        hba.function.set_command(on=COMMAND_MASTER)
        guest.run(port.clear_errors())
        assert guest.run(port.do(ata.read_dma_ext(0, 8))).ok


@pytest.mark.parametrize("busy", [(0,), (1,), (0, 1)])
def test_it_has_settled_when_the_last_command_is_over(busy: tuple[int, ...]) -> None:
    """An embedder waits for it, and is told once, whichever disks work."""
    disks = [{"driver": "ide-hd", "bus": f"sata0.{number}", "drive": f"d{number}"} for number in range(2)]
    with InProcessTarget(blockdevs=[DRIVE, SECOND_DRIVE], devices=[HBA, *disks]) as target:
        guest, hba, _ = boot(target, Interrupts.POLLING)
        host = target.assembly.ata_hosts["sata0"]
        told: list[str] = []
        host.when_settled(lambda: told.append("at rest"))
        assert told == ["at rest"]
        target.stop()
        pending = [
            (hba.ports[number], hba.ports[number].submit(ata.read_dma_ext(0, 1))[0]) for number in busy
        ]
        while target.advance():
            pass
        host.when_settled(lambda: told.append("again"))
        assert told == ["at rest"]
        target.cont()
        for port, each in pending:
            assert guest.run(port.wait(each)).ok
        assert told == ["at rest", "again"]


def test_what_is_received_goes_where_the_port_says_from_the_beginning_on() -> None:
    """AHCI 1.3.1 §3.3.3: PxFB is 0 at first, and PxCMD.FRE may be set with it."""
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA, DISK]) as target:
        guest = Guest(target)
        hba = ahci.Ahci(guest, ahci.find(guest)[0])
        hba.function.set_command(on=COMMAND_MASTER)
        target.ram_write(0, bytes(0x100))
        hba.write(0x118, Cmd.FRE)
        while target.advance():
            pass
        assert target.ram_read(0x40, 1) == b"\x34"
        hba.write(0x118, 0)
        assert not hba.read(0x118) & Cmd.FR
        assert target.violations() == [], "nothing ran"


def test_fises_are_received_above_4_gib() -> None:
    """§3.3.4: PxFBU is the upper half."""
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA, DISK]) as target:
        guest = Guest(target)
        hba = ahci.Ahci(guest, ahci.find(guest)[0])
        hba.function.set_command(on=COMMAND_MASTER)
        area = bytearray(4096)
        target.assembly.memory.add(SharedRegion(0x123_4567_8000, area))
        hba.write(0x108, 0x4567_8000)
        hba.write(0x10C, 0x123)
        hba.write(0x118, Cmd.FRE)
        while target.advance():
            pass
        assert area[0x40] == 0x34
        assert target.violations() == []


def test_a_command_that_waits_for_bus_mastering_goes_on_when_it_is_on() -> None:
    """PCI 3.0 §6.2.2: nothing is fetched without it, and nothing is lost."""
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA, DISK]) as target:
        guest, hba, port = boot(target, Interrupts.POLLING)
        hba.function.set_command(off=COMMAND_MASTER)
        (pending,) = port.submit(ata.read_dma_ext(0, 8))
        while target.advance():
            pass
        assert port.read(PortReg.CI) == 1
        assert not port.read(PortReg.TFD) & 0x88
        hba.function.set_command(on=COMMAND_MASTER)
        assert guest.run(port.wait(pending)).ok
        assert target.violations() == []


@pytest.mark.parametrize(
    ("asked", "granted", "reverted", "messages"),
    [
        (2, 2, False, [0, 1, 1]),
        (4, 4, False, [0, 1, 2]),
        (8, 4, False, [0, 1, 2]),
        (8, 2, True, [0, 0, 0]),
        (8, 1, False, [0, 0, 0]),
    ],
)
def test_ports_share_messages_where_there_are_too_few(
    asked: int, granted: int, reverted: bool, messages: list[int]
) -> None:
    """AHCI 1.3.1 §3.1.2, §10.6.2: the last one where it has got all it asked for, one for all where it has not."""
    drives = [{**DRIVE, "node-name": f"d{number}"} for number in range(3)]
    disks = [{"driver": "ide-hd", "bus": f"sata0.{number}", "drive": f"d{number}"} for number in range(3)]
    with InProcessTarget(blockdevs=drives, devices=[{**HBA, "ports": 3, "vectors": asked}, *disks]) as target:
        guest, hba, _ = boot(target, Interrupts.POLLING)
        msi = hba.function.msi()
        assert msi is not None
        address, _ = target.message(0)
        msi.enable(address, 8, vectors=granted)
        assert bool(hba.read(Hba.GHC) & Ghc.MRSM) is reverted
        for port in hba.ports.values():
            port.write(PortReg.IE, ENABLED)
        hba.write(Hba.GHC, Ghc.AE | Ghc.IE)
        hba.write(Hba.IS, 7)
        target.take_messages()
        for number, port in hba.ports.items():
            assert guest.run(port.do(ata.flush())).ok
            assert set(target.take_messages()) == {8 + messages[number]}
            hba.write(Hba.IS, 1 << number)
        guest.run(hba.reset())
        assert bool(hba.read(Hba.GHC) & Ghc.MRSM) is reverted


def test_each_port_has_a_vector_of_msix() -> None:
    """A driver then looks at its port alone: IS is not cleared, and holds no message back."""
    devices: list[Mapping[str, object]] = [{**HBA, "ports": 2, "msix": True}, DISK]
    with InProcessTarget(blockdevs=[DRIVE], devices=devices) as target:
        guest, hba, port = boot(target, Interrupts.POLLING)
        msix = hba.function.msix()
        assert msix is not None
        for entry in range(2):
            msix.program(entry, *target.message(entry))
        msix.enable()
        port.write(PortReg.IE, ENABLED)
        hba.write(Hba.GHC, Ghc.AE | Ghc.IE)
        assert not hba.read(Hba.GHC) & Ghc.MRSM
        target.take_messages()
        for _ in range(3):
            guest.run(port.identify())
            assert target.take_messages() == {0: 1}
        assert hba.read(Hba.IS) == 1


def test_what_is_left_when_a_port_is_served_has_a_message_again() -> None:
    devices: list[Mapping[str, object]] = [{**HBA, "ports": 2, "msix": True}, DISK]
    with InProcessTarget(blockdevs=[DRIVE], devices=devices) as target:
        _, hba, port = boot(target, Interrupts.POLLING)
        msix = hba.function.msix()
        assert msix is not None
        msix.program(0, *target.message(0))
        msix.enable()
        port.write(PortReg.IE, ENABLED)
        hba.write(Hba.GHC, Ghc.AE | Ghc.IE)
        target.take_messages()
        target.unplug("hd0")
        assert port.read(PortReg.IS)
        assert target.take_messages() == {0: 1}
        port.write(PortReg.IS, 0xFFFF_FFFF)  # follows PxSERR, and stays
        assert target.take_messages() == {0: 1}
        port.write(PortReg.SERR, 0xFFFF_FFFF)
        port.write(PortReg.IS, 0xFFFF_FFFF)
        assert target.take_messages() == {}


def test_a_driver_hears_of_a_disk_that_comes_and_of_one_that_goes() -> None:
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA]) as target:
        guest = Guest(target)
        hba = ahci.Ahci(guest, ahci.find(guest)[0])
        guest.run(hba.probe(interrupts=Interrupts.POLLING))
        assert not hba.ports
        port = AhciPort(hba, 0)
        port.place()
        target.plug(DISK)
        assert port.present
        assert port.read(PortReg.SERR) == 0x0401_0000
        assert port.read(PortReg.IS) == 0x0040_0040
        port.write(PortReg.SERR, 0xFFFF_FFFF)
        assert port.read(PortReg.IS) == 0
        guest.run(port.start())
        assert guest.run(port.identify()).serial == "SN1"
        target.unplug("hd0")
        assert not port.present
        assert port.read(PortReg.IS) & 0x0040_0000
        target.plug(DISK)
        assert port.present


def test_only_what_is_enabled_interrupts() -> None:
    """PxIE, cause by cause, and GHC.IE over all (AHCI 1.3.1 §3.3.6, §3.1.2)."""
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA, DISK]) as target:
        guest, hba, port = boot(target, Interrupts.POLLING)
        slot, pin = hba.function.slot, hba.function.interrupt_pin
        for ghc, enabled, expected in (
            (Ghc.IE, PortIs.DHRS, True),
            (Ghc.IE, 0x7DC0_00FF & ~PortIs.DHRS, False),
            (0, PortIs.DHRS, False),
        ):
            port.write(PortReg.IE, 0)
            port.write(PortReg.IS, 0xFFFF_FFFF)
            hba.write(Hba.IS, 0xFFFF_FFFF)
            hba.write(Hba.GHC, Ghc.AE | ghc)
            port.write(PortReg.IE, enabled)
            assert guest.run(port.do(ata.flush())).ok
            assert bool(target.intx_level(slot, pin)) is expected, (ghc, enabled)


def test_a_reset_leaves_every_port_as_at_first() -> None:
    """AHCI 1.3.1 §10.4.3: all registers but PxCLB and PxFB, and links come up again."""
    disks = [{"driver": "ide-hd", "bus": f"sata0.{number}", "drive": f"d{number}"} for number in range(2)]
    with InProcessTarget(blockdevs=[DRIVE, SECOND_DRIVE], devices=[{**HBA, "ports": 3}, *disks]) as target:
        guest = Guest(target)
        hba = ahci.Ahci(guest, ahci.find(guest)[0])
        kept = {0x00, 0x04, 0x08, 0x0C}
        places = [0x100 + 0x80 * port + at for port in range(3) for at in range(0, 0x80, 4) if at not in kept]
        target.assembly.machine.run_until_idle()
        first = [hba.read(at) for at in places]
        guest.run(hba.probe(interrupts=Interrupts.POLLING))
        for number in range(3):
            for register, value in ((PortReg.IE, 0x7F), (PortReg.SERR, 0xFFFF_FFFF), (PortReg.SCTL, 0x310)):
                hba.write(0x100 + 0x80 * number + register, value)
        for port in hba.ports.values():
            guest.run(port.identify())
        assert [hba.read(at) for at in places] != first
        hba.write(Hba.GHC, Ghc.AE | Ghc.HR)
        target.assembly.machine.run_until_idle()
        assert [hba.read(at) for at in places] == first


def test_a_disk_whose_host_leaves_it_no_sector_still_answers() -> None:
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA, DISK]) as target:
        guest, _, port = boot(target, Interrupts.POLLING)
        target.resize("d0", 0)
        for opcode in (0x27, 0xF8, 0x78):
            answer = guest.run(port.do(ata.AtaCommand(opcode, device=ata.LBA_MODE)))
            assert (answer.status, answer.lba) == (0x50, 0)
        answer = guest.run(port.do(ata.read_dma_ext(0, 1)))
        assert (answer.status, answer.error) == (0x51, ata.AtaErrorBits.IDNF)


def test_a_drive_that_is_less_than_a_sector_is_no_disk() -> None:
    drives = [{"driver": "memory", "size": 1024, "node-name": "d0"}]
    options = {"drive": "d0", "logical_block_size": 2048, "physical_block_size": 2048}
    with pytest.raises(OptionError, match="has 1024 bytes, expected none, or a sector of 2048 at least"):
        assemble(blockdevs=drives, devices=[HBA, {"driver": "ide-hd", **options}])


def test_an_empty_drive_is_a_disk_of_which_nothing_can_be_read() -> None:
    drive = {**DRIVE, "size": 0}
    with InProcessTarget(blockdevs=[drive], devices=[HBA, DISK]) as target:
        guest, _, port = boot(target, Interrupts.POLLING)
        assert port.identity is not None
        assert port.identity.sectors == 0
        answer = guest.run(port.do(ata.read_dma_ext(0, 1)))
        assert (answer.status, answer.error) == (0x51, ata.AtaErrorBits.IDNF)


@pytest.mark.parametrize(
    "options", [{"ports": 0}, {"ports": 33}, {"slots": 33}, {"vectors": 3}, {"x-pci-vendor-id": -1}]
)
def test_an_option_of_the_hba_that_is_wrong(options: dict[str, int]) -> None:
    with pytest.raises(
        OptionError, match=rf"{next(iter(options))} is {next(iter(options.values()))}, expected"
    ):
        assemble(devices=[{"driver": "ahci", **options}])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bus": "nowhere.0"}, "no bus 'nowhere.0'; the IDE buses are: sata0.0"),
        ({"bus": "sata0.0", "unit": 1}, "unit is 1, expected 0 to 0"),
        ({"serial": "x" * 21}, "serial is 'x{21}', expected at most 20"),
        ({"logical_block_size": 520}, "logical_block_size is 520, expected one of 512"),
        ({"queue-depth": 33}, "queue-depth is 33, expected 0 to 32"),
        ({"cyls": 10}, "heads is 0, expected 1 to 16"),
    ],
)
def test_an_option_of_a_disk_that_is_wrong(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        assemble(blockdevs=[DRIVE], devices=[HBA, {"driver": "ide-hd", "drive": "d0", **options}])


def test_the_command_list_goes_off_only_through_stopping() -> None:
    """AHCI 1.3.1 §10.3.1: PxCMD.CR is 1 until nothing runs any more."""
    into_off = {state for (state, _), target in TRANSITIONS.items() if target is State.OFF}
    assert into_off == {State.STOPPING}
    assert {event for _, event in TRANSITIONS} == set(Event)
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA, DISK]) as target:
        _, _, port = boot(target, Interrupts.POLLING)
        assert (
            port.read(PortReg.CMD) & (Cmd.ST | Cmd.FRE | Cmd.FR | Cmd.CR)
            == Cmd.ST | Cmd.FRE | Cmd.FR | Cmd.CR
        )
        target.stop()
        port.submit(ata.flush())
        target.advance()
        port.write(PortReg.CMD, port.read(PortReg.CMD) & ~(Cmd.ST | Cmd.FRE))
        assert port.read(PortReg.CMD) & (Cmd.CR | Cmd.FR) == Cmd.CR | Cmd.FR
        while target.advance():
            pass
        assert not port.read(PortReg.CMD) & (Cmd.CR | Cmd.FR)


@pytest.mark.parametrize(
    ("asked", "there"), [(2, 2), (6, 6), (1, 1), (8, 1)], ids=["partial", "slumber", "active", "devsleep"]
)
def test_the_link_sleeps_when_it_is_asked_to(asked: int, there: int) -> None:
    """PxCMD.ICC is 0 again when the link is in the state that PxSSTS.IPM tells (AHCI 1.3.1 §3.3.7, §8.3.1)."""
    with InProcessTarget(blockdevs=[DRIVE], devices=[HBA, DISK]) as target:
        _, _, port = boot(target, Interrupts.POLLING)
        command = port.read(PortReg.CMD)
        port.write(PortReg.CMD, command | asked << 28)
        assert port.read(PortReg.CMD) >> 28 == 0
        assert port.read(PortReg.SSTS) >> 8 == there
        port.write(PortReg.SCTL, 3 << 8)
        port.write(PortReg.CMD, command | 1 << 28)
        port.write(PortReg.CMD, command | asked << 28)
        assert port.read(PortReg.SSTS) >> 8 == 1, "PxSCTL.IPM forbids both"


@pytest.mark.parametrize("command", [ata.read_queued(8, 8), ata.read_queued(0, 1), ata.read_queued(2047, 2)])
def test_data_at_hand_is_read_as_other_data(command: ata.AtaCommand) -> None:
    """What a driver finds in registers and memory is the same as where a node below has to be waited for."""
    found = []
    for above in ([], [{"driver": "delay", "node-name": "top", "file": "d0"}]):
        disk = {**DISK, "drive": "top" if above else "d0"}
        with InProcessTarget(blockdevs=[DRIVE, *above], devices=[HBA, disk]) as target:
            guest, hba, port = boot(target, Interrupts.MSIX)
            guest.run(port.do(ata.write_queued(8, bytes(range(256)) * 16)))
            answer = guest.run(port.do(command))
            registers = [
                port.read(register) for register in PortReg if register not in (PortReg.CLB, PortReg.FB)
            ]
            found.append((answer, registers, hba.read(Hba.IS), guest.memory.read(port.received, 256)))
    assert found[0] == found[1]
