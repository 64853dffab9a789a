"""Every bit of every register of HBA, ports, task file and bus masters, as a guest reaches them in a machine.

What is expected of a bit is worked out from its declaration; how many bits and accesses that are is printed (`-s`).
Bits that make the device act are in `ACTING`, each with the test that is about it.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from devmodels.ahci import AhciPci
from devmodels.ahci.registers import GENERIC_SIZE, PORT_SIZE, GenericHostControl, PortRegisters
from devmodels.ata.taskfile import Place
from devmodels.ide_cdrom.channel import OBSOLETE
from devmodels.ide_cdrom.registers import CommandBlock, ControlBlock
from devmodels.registers import HWINIT, RESERVED, RO, RW, RW1C, WO, Access, Register, RegisterFile
from guestsim.drivers.ide_layouts import Control, Reg
from guestsim.drivers.pci import Bar, scan
from guestsim.guest import Guest
from guestsim.targets.inprocess import InProcessTarget
from tests.unit.ide_cdrom.machine import IdeMachine
from tools.ata_registers import PAGE, page

ACTING = {
    "GenericHostControl.ghc_hr": "ahci.test_hostile::test_an_hba_reset_while_a_write_runs",
    "PortRegisters.st": "ahci.test_hba::test_the_command_list_goes_off_only_through_stopping",
    "PortRegisters.fre": "ahci.test_hba::test_the_command_list_goes_off_only_through_stopping",
    "PortRegisters.clo": "ahci.test_fises::test_a_busy_device_is_forgotten_by_clo",
    "PortRegisters.icc": "ahci.test_hba::test_the_link_sleeps_when_it_is_asked_to",
    "PortRegisters.sctl_det": "ahci.test_fises::test_a_link_that_comes_up_after_a_reset_is_told_of",
    "PortRegisters.sact": "ahci.test_hostile::test_ports_written_to_before_they_run_take_nothing",
    "PortRegisters.ci": "ahci.test_hostile::test_ports_written_to_before_they_run_take_nothing",
    "CommandBlock.command": "ide_cdrom.test_channel::test_busy_is_seen_and_commands_meanwhile_are_ignored",
    "ControlBlock.srst": "ide_cdrom.test_channel::test_both_devices_show_their_signatures_after_a_reset",
}


@dataclass(slots=True)
class Tally:
    """What was tried of one block: registers, bits by access kind, accesses."""

    name: str
    registers: int = 0
    bits: Counter[Access] = field(default_factory=Counter)
    acting: int = 0
    accesses: int = 0

    def show(self) -> None:
        kinds = ", ".join(f"{self.bits[kind]} {kind.name}" for kind in Access if self.bits[kind])
        print(  # noqa: T201
            f"\n{self.name}: {self.registers} registers, {sum(self.bits.values())} bits ({kinds}), "
            f"{self.acting} that act; {self.accesses} accesses"
        )


@dataclass(slots=True)
class Block:
    """A register file of a device, and where the guest finds it."""

    file: RegisterFile
    bar: Bar
    base: int
    tally: Tally

    def read(self, offset: int, size: int) -> int:
        self.tally.accesses += 1
        return self.bar.read(self.base + offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        self.tally.accesses += 1
        self.bar.write(self.base + offset, size, value)

    def check(self) -> None:
        """Every bit of every register, by accesses of every size."""
        for register in self.file.layout().registers:
            self.tally.registers += 1
            kinds = bit_kinds(register)
            for bit, (kind, name) in enumerate(kinds):
                if acts(type(self.file), name):
                    self.tally.acting += 1
                    continue
                self.tally.bits[kind] += 1
                for size in self.file.layout().legal_widths(register):
                    if size <= register.width:
                        self._check(register, kinds, bit, size)

    def _check(self, register: Register, kinds: list[tuple[Access, str]], bit: int, size: int) -> None:
        lane = bit // (8 * size) * size
        at, own = register.offset + lane, bit - 8 * lane
        story = f"{type(self.file).__name__}.{register.name}, bit {bit}, {size} bytes"

        def quiet() -> int:
            """What changes nothing: as it is where that is kept, else 0."""
            held = self.file.value_of(register) >> 8 * lane
            kept = sum(1 << n for n in range(8 * size) if kinds[8 * lane + n][0] is RW)
            return held & kept

        def seen() -> int:
            return self.read(at, size) >> own & 1

        kind = kinds[bit][0]
        if kind is RW:
            for value in (1, 0, 1, 0):
                self.write(at, size, quiet() & ~(1 << own) | value << own)
                assert seen() == value, story
        elif kind is RW1C:
            setattr(self.file, register.name, self.file.value_of(register) | 1 << bit)
            self.write(at, size, quiet())
            assert seen() == 1, f"{story}: a written 0 has cleared it"
            self.write(at, size, quiet() | 1 << own)
            assert seen() == 0, f"{story}: a written 1 has not cleared it"
        else:
            assert kind in (RO, HWINIT, RESERVED), f"{story}: {kind}"
            before = seen()
            for value in (1, 0):
                self.write(at, size, quiet() & ~(1 << own) | value << own)
                assert seen() == before, f"{story}: a written {value} has changed it"
            assert kind is not RESERVED or not before, story


def acts(file: type[RegisterFile], name: str) -> bool:
    """Whether bits of that name are left to a test of their own."""
    return f"{file.__name__}.{name}" in ACTING


def bit_kinds(register: Register) -> list[tuple[Access, str]]:
    """The access kind of each bit, and the name of what it belongs to."""
    kinds = [(register.access, register.name)] * (8 * register.width)
    for each in register.fields:
        for bit in range(each.low, each.high + 1):
            kinds[bit] = each.access, each.name
    return kinds


def hba_blocks(target: InProcessTarget, ports: int) -> Iterator[Block]:
    """The registers of an HBA and its ports."""
    guest = Guest(target)
    (found,) = [each for each in scan(guest) if each.device == 0x2922]
    found.place_bars()
    function = target.assembly.ata_hosts["sata0"]
    assert isinstance(function, AhciPci)
    yield Block(function.hba.registers, found.bars[5], 0, Tally("HBA"))
    tally = Tally(f"{ports} ports")
    for port in function.hba.ports:
        yield Block(port.registers, found.bars[5], GENERIC_SIZE + PORT_SIZE * port.number, tally)


@pytest.mark.parametrize("ports", [1, pytest.param(32, marks=pytest.mark.slow)])
def test_hba_and_ports(ports: int) -> None:
    with InProcessTarget(devices=[{"driver": "ich9-ahci", "id": "sata0", "ports": ports}]) as target:
        tallies = []
        for block in hba_blocks(target, ports):
            block.check()
            if block.tally not in tallies:
                tallies.append(block.tally)
        for tally in tallies:
            tally.show()
        each = (len(GenericHostControl.layout().registers), len(PortRegisters.layout().registers) * ports)
        assert tuple(tally.registers for tally in tallies) == each
        assert tallies[1].accesses > 4000 * ports
        assert not target.violations()


def test_bus_masters() -> None:
    with IdeMachine() as w:
        tally = Tally("bus masters")
        for channel, own in zip(w.function.channels, w.controller.channels, strict=True):
            Block(channel.bus_master.registers, own.master, 0, tally).check()
        tally.show()
        assert tally.registers == 6


# --- the task file: its registers are the devices', two deep and written to both (ATA/ATAPI-7 vol. 2 §5)


def test_task_files() -> None:
    """Both devices of a channel hear of every write; HOB shows what was written before."""
    with IdeMachine() as w:
        tally = Tally("task file")
        for register in CommandBlock.layout().registers:
            tally.registers += 1
            for bit in range(8):
                if acts(CommandBlock, register.name):
                    tally.acting += 1
                    continue
                tally.bits[register.access] += 1
                KINDS[register.access](w, register, bit, tally)
        for register in ControlBlock.layout().registers:
            tally.registers += 1
            for bit, (kind, name) in enumerate(bit_kinds(register)):
                if acts(ControlBlock, name):
                    tally.acting += 1
                    continue
                tally.bits[kind] += 1
                control_bit(w, register, bit, kind, tally)
        tally.show()
        assert tally.registers == 11
        assert not w.violations()


def task_bit(w: IdeMachine, register: Register, bit: int, tally: Tally) -> None:
    """A register that is read and written: current content, previous content, on either device."""
    place = Reg(register.offset)
    always = OBSOLETE if place is Reg.DEVICE else 0
    for value in (1 << bit, 0xFF ^ 1 << bit):
        w.ide.set(place, value ^ 0xFF)
        w.ide.set(place, value)
        for unit in range(2):
            if place is not Reg.DEVICE:
                w.ide.set(Reg.DEVICE, unit << 4)
            assert w.ide.get(place) == value | always, (register.name, bit, unit)
            w.ide.set_control(Control.HOB | Control.NIEN)
            previous = value if place is Reg.DEVICE else value ^ 0xFF
            assert w.ide.get(place) == previous | always, (register.name, bit, unit)
            w.ide.set_control(Control.NIEN)
            tally.accesses += 6
    w.ide.set(Reg.DEVICE, 0)


def shown_bit(w: IdeMachine, register: Register, bit: int, tally: Tally) -> None:
    """Status and error: the device's, whatever is written where they are read."""
    for unit in w.channel.units:
        w.ide.set(Reg.DEVICE, unit << 4)
        own = w.channel.places[unit].taskfile
        for value in (1 << bit, 0):
            setattr(own, register.name, value)
            if register.name == "status":
                w.channel.places[unit].status = value
            else:
                w.ide.set(Reg(register.offset), value ^ 0xFF)
            assert w.ide.get(Reg(register.offset)) == value, (register.name, bit, unit)
            tally.accesses += 3
        w.channel.places[unit].status = 0
    w.ide.set(Reg.DEVICE, 0)


def given_bit(w: IdeMachine, register: Register, bit: int, tally: Tally) -> None:
    """Features: nobody but the devices sees them, two deep."""
    w.ide.set(Reg(register.offset), 0xFF ^ 1 << bit)
    w.ide.set(Reg(register.offset), 1 << bit)
    for each in w.channel.places:
        assert each.taskfile.features == (0xFF ^ 1 << bit) << 8 | 1 << bit
    tally.accesses += 2


KINDS: dict[Access, Callable[[IdeMachine, Register, int, Tally], None]] = {
    RW: task_bit,
    RO: shown_bit,
    WO: given_bit,
}


def control_bit(w: IdeMachine, register: Register, bit: int, kind: Access, tally: Tally) -> None:
    """Device control is written where the alternate status is read, which shows the status and changes nothing."""
    unit = w.channel.places[0]
    w.ide.set(Reg.DEVICE, 0)
    if kind is RO:
        unit.status = 1 << bit
        unit.interrupt = True
        assert w.ide.alternate_status == 1 << bit
        assert unit.interrupt
        unit.interrupt, unit.status = False, 0
        tally.accesses += 1
        return
    before = w.ide.alternate_status
    w.ide.set_control(1 << bit)
    assert w.ide.alternate_status == before, (register.name, bit)
    assert unit.taskfile.read(Place.COMMAND) == unit.taskfile.status
    w.ide.set_control(0)
    tally.accesses += 3


# --- what acts


@pytest.mark.parametrize("name", ACTING)
def test_what_acts_has_a_test_of_its_own(name: str) -> None:
    module, _, test = ACTING[name].partition("::")
    assert hasattr(importlib.import_module(f"tests.unit.{module}"), test)


def test_the_page_has_what_is_declared() -> None:
    assert PAGE.read_text() == page(), "run tools/ata_registers.py"
