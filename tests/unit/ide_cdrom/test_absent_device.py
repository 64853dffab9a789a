"""A cable with one device, and the host selects the other one (ATA/ATAPI-6 §9.16)."""

from __future__ import annotations

from guestsim.drivers.ide_layouts import DEV, AtaCommand, Control, Reg
from guestsim.drivers.ide_task import Task

from .machine import IdeMachine
from .test_task_registers import settle

TASK = [Reg.ERROR, Reg.COUNT, Reg.LBA_LOW, Reg.LBA_MID, Reg.LBA_HIGH, Reg.DEVICE, Reg.STATUS]


def test_a_disk_answers_for_a_device_1_that_is_not_there() -> None:
    """ATA/ATAPI-6 §9.16.1: with its own registers, but for the status, which is 0."""
    with IdeMachine(only="disk") as machine:
        ide = machine.ide
        machine.run(ide.do(0, Task(0xFF, count=3, lba=0x30201)))
        ide.set(Reg.DEVICE, DEV)
        assert [ide.get(register) for register in TASK] == [0x04, 3, 1, 2, 3, 0xB0, 0]
        for register, value in ((Reg.COUNT, 0x55), (Reg.LBA_LOW, 0xAA)):
            ide.set(register, value)
        assert [ide.get(register) for register in TASK] == [0x04, 0x55, 0xAA, 2, 3, 0xB0, 0]
        ide.set_control(Control.HOB)
        assert [ide.get(register) for register in (Reg.COUNT, Reg.LBA_LOW)] == [3, 1]
        ide.set(Reg.DEVICE, 0)
        assert [ide.get(register) for register in TASK] == [0x04, 0x55, 0xAA, 2, 3, 0xA0, 0x51]


def test_a_drive_that_takes_packets_answers_with_0_for_a_device_1_that_is_not_there() -> None:
    """ATA/ATAPI-6 §9.16.1: whatever is read."""
    with IdeMachine(only="cd") as machine:
        machine.ide.set(Reg.DEVICE, DEV)
        machine.ide.set(Reg.COUNT, 0x55)
        assert [machine.ide.get(register) for register in TASK] == [0] * 7
        assert machine.ide.alternate_status == 0
        machine.ide.set(Reg.DEVICE, 0)
        assert machine.ide.get(Reg.COUNT) == 0x55


def test_a_device_1_that_is_not_there_takes_no_command_but_the_diagnostic() -> None:
    """ATA/ATAPI-6 §9.16.1; the interrupt of device 0 stays what it was (§5.2.9)."""
    with IdeMachine(only="disk") as machine:
        ide = machine.ide
        ide.write_task(0, Task(AtaCommand.FLUSH_CACHE))
        settle(machine)
        assert machine.channel.level
        ide.set(Reg.DEVICE, DEV)
        ide.set(Reg.STATUS, AtaCommand.IDENTIFY_DEVICE)
        settle(machine)
        assert (ide.get(Reg.STATUS), machine.channel.level) == (0, False)
        ide.set(Reg.DEVICE, 0)
        assert (ide.alternate_status, machine.channel.level) == (0x50, True)
        ide.set(Reg.DEVICE, DEV)
        ide.set(Reg.STATUS, 0x90)
        settle(machine)
        assert [ide.get(register) for register in TASK] == [1, 1, 1, 0, 0, 0xA0, 0x50]


def test_a_place_of_device_0_without_one_reads_0() -> None:
    """ATA/ATAPI-6 §9.16.2: device 1 does not answer for it."""
    with IdeMachine() as machine:
        machine.channel.detach(0)
        machine.ide.set(Reg.DEVICE, 0)
        machine.ide.set(Reg.COUNT, 0x55)
        assert [machine.ide.get(register) for register in TASK if register is not Reg.DEVICE] == [0] * 6
