"""An IDE channel under profile `qemu`: what QEMU 7.2's shows, where it departs from the specifications."""

from __future__ import annotations

import pytest

from guestsim.drivers.ide_layouts import DEV, AtaCommand, Control, Reg
from guestsim.drivers.ide_task import Task, Way

from .machine import MIB, IdeMachine, block
from .test_absent_device import TASK
from .test_channel import read
from .test_task_registers import settle

ABRT = 0x04
BSY_DRDY, BSY_READY = 0xC0, 0xD0


def test_an_error_clears_dsc() -> None:
    with IdeMachine(profile="qemu") as machine:
        reply = machine.run(machine.ide.do(0, Task(0xFF)))
        assert (reply.ok, reply.error, machine.ide.alternate_status) == (False, ABRT, 0x41)


def test_an_address_beyond_the_medium_is_aborted() -> None:
    with IdeMachine(profile="qemu") as machine:
        reply = machine.run(machine.ide.do(0, Task(AtaCommand.READ_SECTORS, lba=MIB // 512, count=1)))
        assert (reply.ok, reply.error) == (False, ABRT)


def test_data_are_asked_for_before_it_is_looked_at_where_they_go() -> None:
    with IdeMachine(profile="qemu") as machine:
        ide, last = machine.ide, MIB // 512
        ide.write_task(0, Task(AtaCommand.WRITE_SECTORS, lba=last - 1, count=2))
        for shown in ([2, 0xFF, 0x07], [1, 0x00, 0x08]):
            settle(machine)
            assert (ide.alternate_status, _task_registers(machine)) == (0x58, shown)
            for _ in range(256):
                machine.target.io_write(0x1F0, 2, 0x0909)
        settle(machine)
        assert (ide.get(Reg.STATUS), ide.get(Reg.ERROR)) == (0x41, ABRT)
        assert _task_registers(machine) == [1, 0x00, 0x08]
        reply = machine.run(
            ide.do(0, Task(AtaCommand.READ_SECTORS, lba=last - 1, count=1, way=Way.PIO_IN, length=512))
        )
        assert reply.data == b"\x09" * 512


def test_an_illegal_request_shows_its_sense_key_alone() -> None:
    with IdeMachine(profile="qemu") as machine:
        reply = machine.run(machine.ide.packet(1, read(1000, 1)))
        assert (reply.ok, reply.error) == (False, 0x50)


@pytest.mark.parametrize(
    ("task", "status"),
    [(Task(AtaCommand.FLUSH_CACHE), BSY_DRDY), (Task(AtaCommand.READ_SECTORS, count=1), BSY_READY)],
)
def test_a_busy_disk_is_ready_too_and_with_data_shows_dsc(task: Task, status: int) -> None:
    with IdeMachine(profile="qemu") as machine:
        machine.target.stop()
        machine.ide.write_task(0, task)
        settle(machine)
        assert machine.ide.alternate_status == status


def test_count_and_address_go_with_the_sectors() -> None:
    with IdeMachine(profile="qemu") as machine:
        ide = machine.ide
        ide.write_task(0, Task(AtaCommand.READ_SECTORS, lba=0xFF, count=3))
        settle(machine)
        assert _task_registers(machine) == [2, 0x00, 0x01]
        for _ in range(3):
            ide.get(Reg.STATUS)
            for _ in range(256):
                machine.target.io_read(0x1F0, 2)
            settle(machine)
        assert _task_registers(machine) == [0, 0x02, 0x01]


def test_a_device_1_that_is_not_there_has_registers_of_its_own() -> None:
    """A signature of nothing after a reset; no command is for it, the diagnostic neither."""
    with IdeMachine(only="disk", profile="qemu", probed=False) as machine:
        ide = machine.ide
        written = (Reg.COUNT, 0x55), (Reg.LBA_LOW, 0xAA), (Reg.LBA_MID, 0x33)
        own = [0, 0x55, 0xAA, 0x33, 0xFF, 0xB0, 0]
        for _ in range(2):
            ide.set(Reg.DEVICE, 0)
            ide.set(Reg.STATUS, 0xFF)
            settle(machine)
            assert ide.get(Reg.ERROR) == ABRT
            ide.set(Reg.DEVICE, DEV)
            assert [ide.get(register) for register in TASK] == [0, 1, 1, 0xFF, 0xFF, 0xB0, 0]
            for register, value in written:
                ide.set(register, value)
            for command in (0xEC, 0x90):
                ide.set(Reg.STATUS, command)
                settle(machine)
            assert [ide.get(register) for register in TASK] == own
            ide.set_control(Control.HOB)
            assert [ide.get(register) for register, _ in written] == [1, 1, 0xFF]
            ide.set(Reg.DEVICE, 0)
            ide.set(Reg.STATUS, 0x90)
            settle(machine)
            ide.set(Reg.DEVICE, DEV)
            assert [ide.get(register) for register in TASK] == own
            ide.set_control(Control.SRST)
            ide.set_control(0)
            settle(machine)


def _task_registers(machine: IdeMachine) -> list[int]:
    return [machine.ide.get(each) for each in (Reg.COUNT, Reg.LBA_LOW, Reg.LBA_MID)]


def test_the_disk_is_always_active_and_shows_no_dsc_after_a_power_command() -> None:
    with IdeMachine(profile="qemu") as machine:
        ide = machine.ide
        machine.run(ide.do(0, Task(0xE0)))
        assert ide.alternate_status == 0x40
        assert machine.run(ide.do(0, Task(0xE5))).count == 0xFF


def test_count_and_address_go_with_ranges_to_be_trimmed() -> None:
    with IdeMachine(profile="qemu") as machine:
        task = Task(0x06, features=1, count=1, way=Way.DMA_OUT, length=512, data=bytes(512))
        reply = machine.run(machine.ide.do(0, task))
        assert (reply.ok, reply.count, reply.lba) == (True, 0, 1)


DISK, DRIVE, NONE = [1, 1, 0, 0], [1, 1, 0x14, 0xEB], [1, 1, 0xFF, 0xFF]
"""Count and address: the signatures of a disk and a CD drive, and where there is neither."""


def _task(machine: IdeMachine) -> list[int]:
    status = machine.ide.alternate_status
    shown = [machine.ide.get(register) for register in TASK]
    assert shown[-1] == status
    return shown


@pytest.mark.parametrize("reset", [False, True])
def test_after_power_on_both_devices_are_ready_and_tell_of_no_diagnostic(reset: bool) -> None:
    with IdeMachine(profile="qemu", probed=reset) as machine:
        if reset:
            machine.channel.hardware_reset()
            settle(machine)
        assert _task(machine) == [0, *DISK, 0xA0, 0x50]
        machine.ide.set(Reg.DEVICE, DEV)
        assert _task(machine) == [0, *DRIVE, 0xB0, 0x50]


def test_a_software_reset_leaves_the_selected_device_and_does_not_wait_for_the_bit_to_be_cleared() -> None:
    with IdeMachine(profile="qemu", probed=False) as machine:
        ide = machine.ide
        ide.set(Reg.DEVICE, DEV)
        for control in (Control.SRST, 0):
            ide.set_control(control)
            settle(machine)
            assert _task(machine) == [1, *DRIVE, 0xA0, 0]
        ide.set(Reg.DEVICE, 0)
        assert _task(machine) == [1, *DISK, 0xA0, 0x50]
        ide.set(Reg.COUNT, 5)
        for _ in range(2):
            ide.set_control(Control.SRST)
            settle(machine)
            assert _task(machine) == [1, *DISK, 0xA0, 0x50]
            ide.set(Reg.COUNT, 7)


def test_a_device_0_that_is_not_there_is_ready_where_there_is_a_device_1() -> None:
    with IdeMachine(only="disk", profile="qemu", probed=False) as machine:
        machine.channel.detach(0)
        assert _task(machine) == [0] * 7
        machine.channel.attach(machine.disk, 1)
        assert _task(machine) == [0, *NONE, 0xA0, 0x50]
        machine.ide.set_control(Control.SRST)
        settle(machine)
        assert _task(machine) == [1, *NONE, 0xA0, 0x50]
        machine.ide.set(Reg.DEVICE, DEV)
        assert _task(machine) == [1, *DISK, 0xB0, 0x50]


def test_the_function_has_qemus_subsystem() -> None:
    for profile, subsystem in (("qemu", 0x1100_1AF4), ("strict", 0)):
        with IdeMachine(profile=profile, probed=False) as machine:
            assert machine.function.config_read(0x2C, 4) == subsystem


def test_command_and_status_of_a_bus_master_are_there_for_bytes_alone() -> None:
    with IdeMachine(profile="qemu", probed=False) as machine:
        registers = machine.channel.bus_master.registers
        assert [registers.read(offset, 1) for offset in range(4)] == [0, 0xFF, registers.status, 0xFF]
        assert [registers.read(0, 2), registers.read(2, 2)] == [0xFFFF, 0xFFFF]
        assert registers.read(0, 4) == 0xFFFF_FFFF
        registers.write(0, 2, 0x0008)
        registers.write(0, 4, 0x0008)
        assert registers.read(0, 1) == 0


def test_the_tables_address_comes_in_pieces_where_it_is_not_aligned() -> None:
    with IdeMachine(profile="qemu", probed=False) as machine:
        registers = machine.channel.bus_master.registers
        registers.write(4, 4, 0)
        registers.write(5, 2, 0x3412)
        assert (registers.read(4, 4), registers.read(5, 2)) == (0x0034_1200, 0x3412)
        registers.write(2, 4, 0x5678_0000)
        assert registers.read(4, 4) == 0x0034_5678


@pytest.mark.parametrize("profile", ["qemu", "strict"])
def test_a_reset_of_the_cable_selects_device_0(profile: str) -> None:
    with IdeMachine(profile=profile, probed=False) as machine:
        machine.ide.set(Reg.DEVICE, DEV)
        machine.channel.hardware_reset()
        settle(machine)
        assert _task(machine)[1:5] == DISK


@pytest.mark.parametrize(("profile", "selected"), [("qemu", DRIVE), ("strict", DISK)])
def test_a_software_reset_selects_device_0_but_for_qemus(profile: str, selected: list[int]) -> None:
    with IdeMachine(profile=profile, probed=False) as machine:
        machine.ide.set(Reg.DEVICE, DEV)
        for control in (Control.SRST, 0):
            machine.ide.set_control(control)
            settle(machine)
        assert _task(machine)[1:5] == selected


INQUIRY = bytes((0x12, 0, 0, 0, 0x24)).ljust(12, b"\0")


def _given(machine: IdeMachine, cdb: bytes, limit: int, *, features: int = 0) -> int:
    """A packet is given to the drive; its status then."""
    ide, io_write = machine.ide, machine.target.io_write
    ide.select(1)
    for register, value in ((Reg.ERROR, features), (Reg.LBA_MID, limit & 0xFF), (Reg.LBA_HIGH, limit >> 8)):
        io_write(0x1F0 + register, 1, value)
    io_write(0x1F7, 1, 0xA0)
    settle(machine)
    assert ide.get(Reg.STATUS) == 0x58
    for at in range(0, 12, 2):
        io_write(0x1F0, 2, int.from_bytes(cdb[at : at + 2], "little"))
    settle(machine)
    return ide.alternate_status


def test_half_a_word_is_never_read() -> None:
    with IdeMachine(profile="qemu") as machine:
        assert _given(machine, INQUIRY[:4] + b"\x05" + bytes(7), 0x24) == 0x58
        words = [machine.target.io_read(0x1F0, 2) for _ in range(4)]
        settle(machine)
        assert (words, machine.ide.get(Reg.STATUS)) == ([0x8005, 0x2100, 0, 0], 0x58)


def test_a_limit_of_one_byte_lets_no_data_through() -> None:
    with IdeMachine(profile="qemu") as machine:
        assert _given(machine, INQUIRY, 1) == 0x58
        assert (machine.ide.get(Reg.LBA_MID), machine.target.io_read(0x1F0, 2)) == (0, 0)
        settle(machine)
        assert machine.ide.get(Reg.STATUS) == 0x58


def test_without_a_limit_a_packet_is_aborted_without_an_interrupt() -> None:
    with IdeMachine(profile="qemu") as machine:
        registers = machine.channel.bus_master.registers
        registers.write(2, 1, 0x04)
        assert _given(machine, INQUIRY, 0) == 0x41
        assert not registers.read(2, 1) & 0x04
        assert (machine.ide.get(Reg.ERROR), machine.ide.get(Reg.COUNT)) == (ABRT, 1)


def test_no_data_by_dma_wait_for_the_bus_master_all_the_same() -> None:
    with IdeMachine(profile="qemu") as machine:
        assert _given(machine, INQUIRY[:4] + bytes(8), 0x24, features=1) == 0x58
        registers = machine.channel.bus_master.registers
        registers.write(0, 1, 0x09)
        settle(machine)
        assert registers.read(2, 1) & 0x05 == 0x04
        assert (machine.ide.get(Reg.STATUS), machine.ide.get(Reg.COUNT)) == (0x50, 3)


def test_after_a_packet_no_transfer_is_active_whatever_is_left() -> None:
    with IdeMachine(profile="qemu") as machine:
        memory, registers, at = machine.target.assembly.memory, machine.channel.bus_master.registers, 0x2_0000
        assert _given(machine, INQUIRY, 0x24, features=1) == 0x58
        memory.write(at, (at + 0x800).to_bytes(4, "little") + (0x100 | 0x8000 << 16).to_bytes(4, "little"))
        registers.write(4, 4, at)
        registers.write(0, 1, 0x09)
        settle(machine)
        assert registers.read(2, 1) & 0x05 == 0x04
        assert memory.read(at + 0x808, 28) == b"QEMU    QEMU DVD-ROM    2.5+"


def test_a_packet_with_more_data_than_regions_gives_what_there_is_room_for_and_never_ends() -> None:
    read = bytes((0x28, 0, 0, 0, 0, 1, 0, 0, 1)).ljust(12, b"\0")
    with IdeMachine(profile="qemu") as machine:
        memory, registers, at = machine.target.assembly.memory, machine.channel.bus_master.registers, 0x2_0000
        assert _given(machine, read, 0x24, features=1) == 0xD8
        memory.write(at, (at + 0x800).to_bytes(4, "little") + (0x400 | 0x8000 << 16).to_bytes(4, "little"))
        registers.write(4, 4, at)
        for _ in range(2):
            registers.write(0, 1, 0x09)
            settle(machine)
            registers.write(0, 1, 0x08)
        assert registers.read(2, 1) & 0x05 == 0
        assert memory.read(at + 0x800, 0x800) == block(1)[:0x400] + bytes(0x400)
        assert machine.ide.alternate_status == 0xD8


def test_a_diagnostic_is_the_selected_devices_alone_which_stays_selected() -> None:
    with IdeMachine(profile="qemu", only="disk") as machine:
        ide = machine.ide
        assert not machine.run(ide.do(0, Task(0xFF))).ok
        ide.select(1)
        machine.target.io_write(0x1F7, 1, 0x90)
        settle(machine)
        ide.select(0)
        assert (ide.alternate_status, ide.get(Reg.ERROR)) == (0x41, ABRT)
    with IdeMachine(profile="qemu") as machine:
        ide = machine.ide
        assert not machine.run(ide.do(0, Task(0xFF))).ok
        ide.select(1)
        machine.target.io_write(0x1F7, 1, 0x90)
        settle(machine)
        assert (ide.alternate_status, ide.get(Reg.ERROR), ide.get(Reg.LBA_MID)) == (0, 1, 0x14)
        ide.select(0)
        assert (ide.alternate_status, ide.get(Reg.ERROR)) == (0x41, ABRT)


def test_a_diagnostic_leaves_what_was_written_before_and_interrupts() -> None:
    with IdeMachine(profile="qemu") as machine:
        ide, registers = machine.ide, machine.channel.bus_master.registers
        ide.select(0)
        for value in (0x33, 0x44):
            ide.set(Reg.COUNT, value)
        registers.write(2, 1, 0x04)
        machine.target.io_write(0x1F7, 1, 0x90)
        settle(machine)
        assert registers.read(2, 1) & 0x04
        assert (ide.get(Reg.STATUS), ide.get(Reg.ERROR), ide.get(Reg.COUNT)) == (0x50, 1, 1)
        ide.set_control(Control.HOB)
        assert ide.get(Reg.COUNT) == 0x33


@pytest.mark.parametrize(("only", "told"), [("disk", True), ("cd", True), ("both", True)])
@pytest.mark.parametrize("disabled", [False, True])
def test_a_software_reset_interrupts_where_a_device_is_none_that_takes_packets(
    only: str, told: bool, disabled: bool
) -> None:
    with IdeMachine(profile="qemu", only=only) as machine:
        registers = machine.channel.bus_master.registers
        machine.ide.get(Reg.STATUS)
        registers.write(2, 1, 0x04)
        machine.ide.set_control(Control.SRST | Control.NIEN if disabled else Control.SRST)
        settle(machine)
        machine.ide.set_control(0)
        settle(machine)
        assert bool(registers.read(2, 1) & 0x04) is (told and not disabled)


def test_an_interrupt_is_the_channels_whichever_device_is_looked_at() -> None:
    with IdeMachine(profile="qemu") as machine:
        ide, channel = machine.ide, machine.channel
        ide.select(0)
        machine.target.io_write(0x1F7, 1, AtaCommand.FLUSH_CACHE)
        settle(machine)
        ide.set_control(Control.NIEN)
        ide.select(1)
        assert channel.level
        ide.get(Reg.STATUS)
        assert not channel.level
        ide.select(0)
        ide.set_control(0)
        assert not channel.level


def test_an_address_that_is_not_there_is_refused_when_the_bus_master_is_started() -> None:
    with IdeMachine(profile="qemu") as machine:
        memory, registers, at = machine.target.assembly.memory, machine.channel.bus_master.registers, 0x2_0000
        ide = machine.ide
        ide.write_task(0, Task(AtaCommand.READ_DMA, lba=MIB // 512, count=1))
        settle(machine)
        assert ide.get(Reg.STATUS) == 0x58
        memory.write(at, (at + 0x800).to_bytes(4, "little") + (0x400 | 0x8000 << 16).to_bytes(4, "little"))
        registers.write(4, 4, at)
        registers.write(0, 1, 0x09)
        settle(machine)
        assert registers.read(2, 1) & 0x05 == 0x04
        assert (ide.get(Reg.STATUS), ide.get(Reg.ERROR)) == (0x41, ABRT)
