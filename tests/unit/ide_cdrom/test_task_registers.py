"""Registers of a channel that do something when they are read or written (ATA/ATAPI-7 vol. 2 §5)."""

from __future__ import annotations

from guestsim.drivers.ide_layouts import AtaCommand, BmStatus, BusMaster, Control, Reg
from guestsim.drivers.ide_task import Task

from .machine import IdeMachine


def settle(machine: IdeMachine) -> None:
    """What there is to do is done, and no driver has heard of it."""
    machine.target.assembly.machine.run_until_idle()


def flushed(machine: IdeMachine) -> None:
    """A command of device 0 has ended, and nobody has looked yet."""
    machine.ide.set_control(0)
    machine.ide.write_task(0, Task(AtaCommand.FLUSH_CACHE))
    settle(machine)
    assert machine.channel.level


def test_the_status_acknowledges_and_the_alternate_status_does_not() -> None:
    """§5.3, §5.15"""
    with IdeMachine() as machine:
        flushed(machine)
        assert machine.ide.alternate_status == 0x50
        assert machine.channel.level
        assert machine.ide.get(Reg.STATUS) == 0x50
        assert not machine.channel.level


def test_a_command_takes_back_the_interrupt_of_the_one_before() -> None:
    """§5.4"""
    with IdeMachine() as machine:
        flushed(machine)
        machine.ide.set(Reg.STATUS, AtaCommand.FLUSH_CACHE)
        assert not machine.channel.level
        settle(machine)
        assert machine.channel.level


def test_the_interrupt_is_that_of_the_selected_device_and_may_be_held_back() -> None:
    """§5.7, §5.8"""
    with IdeMachine() as machine:
        flushed(machine)
        machine.ide.set(Reg.DEVICE, 0x10)
        assert not machine.channel.level
        machine.ide.set(Reg.DEVICE, 0x00)
        assert machine.channel.level
        machine.ide.set_control(Control.NIEN)
        assert not machine.channel.level
        machine.ide.set_control(0)
        assert machine.channel.level


def test_a_software_reset_keeps_both_devices_busy_as_long_as_it_stands() -> None:
    """§5.7: SRST"""
    with IdeMachine() as machine:
        machine.ide.set_control(Control.SRST)
        settle(machine)
        assert machine.ide.alternate_status == 0x80
        assert [unit.status for unit in machine.channel.places] == [0x80, 0x80]
        machine.ide.set_control(0)
        settle(machine)
        assert not machine.ide.alternate_status & 0x80


def test_device_0_is_selected_at_power_on() -> None:
    """§9.1"""
    with IdeMachine(only="disk", probed=False) as machine:
        assert machine.ide.get(Reg.STATUS) == 0x50
        assert machine.ide.get(Reg.DEVICE) == 0xA0


def test_a_command_does_not_let_go_of_the_interrupt_that_is_held_back() -> None:
    """§5.8: nIEN stands until the device control register is written again."""
    with IdeMachine() as machine:
        machine.ide.set_control(Control.NIEN)
        machine.ide.write_task(0, Task(AtaCommand.FLUSH_CACHE))
        settle(machine)
        assert not machine.channel.level
        machine.ide.set_control(0)
        assert machine.channel.level


def test_without_data_to_move_the_data_register_is_nothing() -> None:
    """§5.6"""
    with IdeMachine() as machine:
        machine.ide.select(0)
        machine.ide.write_block(bytes(range(16)))
        assert machine.ide.read_block(16) == bytes(16)
        assert machine.ide.alternate_status == 0x50
        assert not machine.violations()


def test_the_error_is_that_of_the_last_command() -> None:
    """§5.9"""
    with IdeMachine() as machine:
        reply = machine.run(machine.ide.do(0, Task(0xFF)))
        assert (reply.ok, machine.ide.get(Reg.ERROR)) == (False, 4)
        assert machine.run(machine.ide.do(0, Task(AtaCommand.FLUSH_CACHE))).ok
        assert machine.ide.get(Reg.ERROR) == 0


def test_a_channel_that_is_not_decoded_is_not_there() -> None:
    """Intel 290550 §2.3.9, IDE decode enable; in native mode BARs alone count."""
    for native in (False, True):
        with IdeMachine(native=native) as machine:
            function = machine.controller.function
            machine.ide.select(0)
            for timing, there in ((0x0000, native), (0x8000, True)):
                function.write(0x40, 2, timing)
                assert machine.ide.get(Reg.STATUS) == (0x50 if there else 0xFF)
                assert machine.ide.alternate_status == (0x50 if there else 0xFF)


def test_the_bus_masters_interrupt_is_set_by_the_edge_alone() -> None:
    """SFF-8038i §2.2: by INTRQ when it rises; not while it stays, nor when it falls."""
    with IdeMachine() as machine:
        flushed(machine)
        master = machine.ide.master
        assert master.read(BusMaster.STATUS, 1) & BmStatus.INTERRUPT
        master.write(BusMaster.STATUS, 1, BmStatus.INTERRUPT)
        assert not master.read(BusMaster.STATUS, 1) & BmStatus.INTERRUPT
        machine.ide.get(Reg.STATUS)
        assert not machine.channel.level
        assert not master.read(BusMaster.STATUS, 1) & BmStatus.INTERRUPT


def test_what_is_written_while_the_device_is_busy_is_ignored() -> None:
    """§5, BSY: every register of the command block, with which of them is read (HOB) and which device is selected."""
    with IdeMachine() as machine:
        machine.ide.write_task(0, Task(AtaCommand.FLUSH_CACHE, count=0x11, lba=0x332211))
        machine.ide.set_control(Control.HOB)
        assert machine.ide.alternate_status == 0x80
        channel = machine.channel
        before = [repr(unit.taskfile) for unit in channel.places]
        selected, control = channel.selected, channel.control
        for register in range(Reg.ERROR, Reg.STATUS):
            machine.ide.set(Reg(register), 0x1F)
        assert [repr(unit.taskfile) for unit in channel.places] == before
        assert (channel.selected, channel.control) == (selected, control)
