"""An IDE channel as its driver sees it: a disk and a CD drive on one cable."""

from __future__ import annotations

import struct

import pytest

from guestsim.drivers.ide import identify, probe
from guestsim.drivers.ide_layouts import (
    START,
    TO_MEMORY,
    AtaCommand,
    AtaStatus,
    BmStatus,
    BusMaster,
    Control,
    Reg,
)
from guestsim.drivers.ide_task import Reply, Task, Way
from guestsim.drivers.pci import COMMAND_MASTER

from .machine import MIB, IdeMachine, block, sector
from .test_task_registers import settle

CONTROL = 2

REQUEST_SENSE = bytes((0x03, 0, 0, 0, 18))
INQUIRY = bytes((0x12, 0, 0, 0, 36))


def read(lba: int, count: int) -> bytes:
    """READ (10)."""
    return bytes((0x28, 0)) + lba.to_bytes(4, "big") + b"\0" + count.to_bytes(2, "big")


def content(first: int, count: int) -> bytes:
    return b"".join(map(sector, range(first, first + count)))


def dma_read(machine: IdeMachine, lba: int, count: int, **more: object) -> Reply:
    return machine.run(
        machine.ide.do(
            0,
            Task(AtaCommand.READ_DMA, lba=lba, count=count, way=Way.DMA_IN, length=count * 512, **more),  # type: ignore[arg-type]
        )
    )


def ready(machine: IdeMachine) -> None:
    """The drive has told that it was reset."""
    reply = machine.run(machine.ide.packet(1, bytes(6)))
    assert (reply.sense_key, reply.count) == (6, 3)


def test_both_devices_show_their_signatures_after_a_reset() -> None:
    with IdeMachine() as machine:
        assert machine.run(probe(machine.ide)) == {0: "ata", 1: "atapi"}
        assert machine.ide.signature(0) == (1, 1, 0, 0)
        assert machine.ide.signature(1) == (1, 1, 0x14, 0xEB)
        assert machine.ide.get(Reg.ERROR) == 1
        assert machine.run(probe(machine.controller.channels[1])) == {}


def test_identify_data_comes_by_one_interrupt() -> None:
    with IdeMachine(serial="ABC123") as machine:
        data = machine.run(identify(machine.ide, 0))
        assert machine.ide.interrupts == 1
        assert data[20:32] == b"BA1C32      "[:12]
        assert sum(data) & 0xFF == 0


def test_identify_device_is_aborted_by_the_drive_with_its_signature() -> None:
    with IdeMachine() as machine:
        reply = machine.run(
            machine.ide.do(1, Task(AtaCommand.IDENTIFY_DEVICE, device=0, way=Way.PIO_IN, length=512))
        )
        assert (reply.ok, reply.error, reply.lba, reply.count) == (False, 4, 0xEB1401, 1)
        packet = machine.run(identify(machine.ide, 1, packet=True))
        assert packet[:2] == b"\xc0\x85"


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_sectors_come_and_go_by_dma(native: bool, shared: bool) -> None:
    with IdeMachine(native=native, shared=shared) as machine:
        reply = dma_read(machine, 5, 8)
        assert (reply.data, reply.bus_master) == (content(5, 8), BmStatus.INTERRUPT)
        task = Task(AtaCommand.WRITE_DMA, lba=100, count=4, way=Way.DMA_OUT, data=b"w" * 2048)
        assert machine.run(machine.ide.do(0, task)).ok
        assert dma_read(machine, 100, 4).data == b"w" * 2048


@pytest.mark.parametrize("wide_data", [False, True])
def test_sectors_come_and_go_by_pio_an_interrupt_each(wide_data: bool) -> None:
    with IdeMachine() as machine:
        machine.ide.wide_data = wide_data
        task = Task(AtaCommand.READ_SECTORS, lba=3, count=3, way=Way.PIO_IN, length=1536)
        reply = machine.run(machine.ide.do(0, task))
        assert (reply.data, reply.blocks, machine.ide.interrupts) == (content(3, 3), [512] * 3, 3)
        task = Task(AtaCommand.WRITE_SECTORS, lba=200, count=3, way=Way.PIO_OUT, data=b"p" * 1536)
        assert machine.run(machine.ide.do(0, task)).ok
        assert machine.ide.interrupts == 6
        assert dma_read(machine, 200, 3).data == b"p" * 1536


@pytest.mark.parametrize(
    ("regions", "status"),
    [
        ([4096], BmStatus.INTERRUPT),
        ([512, 1024, 2560], BmStatus.INTERRUPT),
        ([4096, 512], BmStatus.INTERRUPT | BmStatus.ACTIVE),
        ([8192], BmStatus.INTERRUPT | BmStatus.ACTIVE),
        ([1000, 2], BmStatus(0)),
        ([2048], BmStatus(0)),
    ],
)
def test_the_bus_masters_status_says_how_table_and_transfer_compare(
    regions: list[int], status: BmStatus
) -> None:
    with IdeMachine() as machine:
        reply = dma_read(machine, 0, 8, regions=regions)
        assert reply.bus_master == status
        length = min(sum(regions), 4096)
        assert reply.data[:length] == content(0, 8)[:length]
        machine.run(machine.ide.reset())
        assert dma_read(machine, 0, 8).data == content(0, 8)


def test_a_table_that_is_no_memory_is_an_error_of_the_bus_master() -> None:
    with IdeMachine() as machine:
        ide = machine.ide
        ide.prepare(0xFFFF_0000, to_memory=True)
        ide.write_task(0, Task(AtaCommand.READ_DMA, count=1))
        ide.start(to_memory=True)
        machine.run(machine.guest.settle())
        assert ide.stop() == BmStatus.ERROR
        assert machine.violations() == ["SFF-8038i §2.2"]
        machine.run(ide.reset())
        assert dma_read(machine, 0, 1).data == content(0, 1)


def test_the_bus_master_is_told_the_direction_of_the_command() -> None:
    with IdeMachine() as machine:
        ide = machine.ide
        task = Task(AtaCommand.READ_DMA, count=1, way=Way.DMA_IN, length=512)
        table, _ = ide.table(task)
        ide.prepare(table, to_memory=False)
        ide.write_task(0, task)
        ide.start(to_memory=False)
        machine.run(machine.guest.settle())
        assert machine.violations() == ["SFF-8038i §2.1"]
        (told,) = machine.target.assembly.violations.recent
        assert told.data == b"\x01", "the command register"


def test_nothing_is_written_once_bus_mastering_is_off() -> None:
    """PCI 3.0 §6.2.2: what was under way then is lost, and the device waits until it is reset."""
    with IdeMachine(shared=False) as machine:
        ide, memory = machine.ide, machine.guest.memory
        task = Task(AtaCommand.READ_DMA, count=1, way=Way.DMA_IN, length=512)
        table, ((address, _),) = ide.table(task)
        memory.write(address, bytes([0xEE]) * 512)
        ide.prepare(table, to_memory=True)
        machine.target.stop()
        ide.write_task(0, task)
        ide.start(to_memory=True)
        machine.target.advance()
        machine.controller.function.set_command(off=COMMAND_MASTER)
        machine.target.cont()
        while machine.target.advance():
            pass
        assert memory.read(address, 512) == bytes([0xEE]) * 512
        assert ide.stop() & (BmStatus.ERROR | BmStatus.INTERRUPT) == BmStatus.ERROR
        assert machine.violations() == ["SFF-8038i §2.2"]
        machine.controller.function.set_command(on=COMMAND_MASTER)
        machine.run(ide.reset())
        assert dma_read(machine, 0, 1).data == content(0, 1)


@pytest.mark.parametrize("reset", [(Control.SRST, 0), ()])
def test_the_bus_master_is_active_as_long_as_anything_is_moved(reset: tuple[int, ...]) -> None:
    """A driver that has stopped it may use its memory otherwise when it is not active any more (SFF-8038i §2.2)."""
    disk = {"driver": "delay", "latency-ns": 1_000_000, "file": {"driver": "memory", "size": MIB}}
    with IdeMachine(disk=disk) as machine:
        memory, context = machine.target.assembly.memory, machine.target.assembly.context
        channel = machine.channel
        registers, master = channel.command_block, channel.bus_master.registers
        memory.write(0x1000, struct.pack("<IHH", 0x2000, 512, 0x8000))
        memory.write(0x2000, b"\xee" * 512)
        master.write(BusMaster.TABLE, 4, 0x1000)
        for register, value in ((Reg.DEVICE, 0x40), (Reg.COUNT, 1), (Reg.STATUS, AtaCommand.READ_DMA)):
            registers.write(register, 1, value)
        master.write(BusMaster.COMMAND, 1, START | TO_MEMORY)
        context.turn()
        context.turn()
        for value in reset:
            channel.control_block.write(CONTROL, 1, value)
        master.write(BusMaster.COMMAND, 1, 0)
        assert master.read(BusMaster.STATUS, 1) & BmStatus.ACTIVE
        while master.read(BusMaster.STATUS, 1) & BmStatus.ACTIVE:
            context.run_once()
        moved = memory.read(0x2000, 512)
        memory.write(0x2000, b"\xdd" * 512)
        context.run_until_idle()
        assert moved == bytes(512)
        assert memory.read(0x2000, 512) == b"\xdd" * 512


def test_a_command_that_waits_for_bus_mastering_goes_on_when_it_is_on() -> None:
    """PCI 3.0 §6.2.2: nothing is read or written without it, and nothing is lost."""
    with IdeMachine() as machine:
        ide, memory = machine.ide, machine.guest.memory
        task = Task(AtaCommand.READ_DMA, lba=3, count=1, way=Way.DMA_IN, length=512)
        table, ((address, _),) = ide.table(task)
        memory.write(address, bytes([0xEE]) * 512)
        ide.prepare(table, to_memory=True)
        machine.controller.function.set_command(off=COMMAND_MASTER)
        ide.write_task(0, task)
        ide.start(to_memory=True)
        machine.run(machine.guest.settle())
        assert memory.read(address, 512) == bytes([0xEE]) * 512
        assert ide.alternate_status & AtaStatus.DRQ
        machine.controller.function.set_command(on=COMMAND_MASTER)
        machine.run(machine.guest.settle())
        assert memory.read(address, 512) == content(3, 1)
        assert machine.violations() == []


def test_a_channel_without_devices_is_there_and_reads_0() -> None:
    """Intel 290550 §2.2: the secondary channel's registers are at 170h and 376h."""
    with IdeMachine() as machine:
        empty = machine.controller.channels[1]
        assert [empty.get(register) for register in Reg if register is not Reg.DATA] == [0] * 7
        assert (empty.alternate_status, machine.target.io_read(0x376, 1)) == (0, 0)


def test_previous_content_is_read_with_hob() -> None:
    with IdeMachine() as machine:
        ide = machine.ide
        for value in (0x12, 0x34):
            ide.set(Reg.LBA_LOW, value)
        assert ide.get(Reg.LBA_LOW) == 0x34
        ide.set_control(Control.HOB)
        assert ide.get(Reg.LBA_LOW) == 0x12
        ide.set(Reg.COUNT, 1)
        assert ide.get(Reg.LBA_LOW) == 0x34, "a write to the command block clears HOB"


def test_a_signature_and_a_reason_leave_the_previous_content_alone() -> None:
    with IdeMachine() as machine:
        ide = machine.ide
        for unit, opcode in (
            (1, AtaCommand.PACKET),
            (1, AtaCommand.IDENTIFY_DEVICE),
            (0, AtaCommand.FLUSH_CACHE),
        ):
            ide.set(Reg.DEVICE, unit << 4)
            for register in (Reg.COUNT, Reg.LBA_LOW, Reg.LBA_HIGH):
                ide.set(register, 0x12)
                ide.set(register, 0)
            ide.set(Reg.STATUS, opcode)
            settle(machine)
            ide.set_control(Control.HOB)
            assert [ide.get(each) for each in (Reg.COUNT, Reg.LBA_LOW, Reg.LBA_HIGH)] == [0x12] * 3
            ide.set_control(Control.SRST)
            settle(machine)
            ide.set_control(0)
            settle(machine)


def test_without_interrupts_the_driver_polls() -> None:
    with IdeMachine() as machine:
        machine.ide.polling = True
        machine.ide.set_control(0)
        assert len(machine.run(identify(machine.ide, 0))) == 512
        assert dma_read(machine, 1, 1).data == content(1, 1)
        assert machine.ide.interrupts == 0


def test_busy_is_seen_and_commands_meanwhile_are_ignored() -> None:
    with IdeMachine() as machine:
        ide = machine.ide
        ide.write_task(0, Task(AtaCommand.FLUSH_CACHE))
        assert ide.alternate_status == 0x80
        ide.set(Reg.STATUS, AtaCommand.IDENTIFY_DEVICE)
        machine.run(machine.guest.settle())
        assert ide.alternate_status == 0x50


def test_diagnostics_clear_the_device_register() -> None:
    with IdeMachine() as machine:
        ide = machine.ide
        ide.set(Reg.DEVICE, 0x4F)
        ide.set(Reg.STATUS, AtaCommand.EXECUTE_DEVICE_DIAGNOSTIC)
        settle(machine)
        assert ide.get(Reg.DEVICE) == 0xA0


def test_diagnostics_are_both_devices() -> None:
    with IdeMachine() as machine:
        reply = machine.run(machine.ide.do(1, Task(AtaCommand.EXECUTE_DEVICE_DIAGNOSTIC)))
        assert (reply.error, reply.count, reply.lba, reply.device & 0x10) == (1, 1, 1, 0)
        assert machine.ide.signature(1) == (1, 1, 0x14, 0xEB)
        assert not machine.channel.level


# --- packets


@pytest.mark.parametrize("dma", [False, True])
def test_packets_bring_their_data(dma: bool) -> None:
    with IdeMachine() as machine:
        ready(machine)
        reply = machine.run(machine.ide.packet(1, INQUIRY, room=36, dma=dma))
        assert (reply.data[:2], reply.count, reply.status) == (b"\x05\x80", 3, 0x50)
        reply = machine.run(machine.ide.packet(1, read(3, 2), room=4096, dma=dma))
        assert reply.data == block(3) + block(4)


@pytest.mark.parametrize(
    ("limit", "blocks"),
    [(0xFFFF, [4096]), (2048, [2048, 2048]), (1001, [1000] * 4 + [96]), (4095, [4094, 2]), (4096, [4096])],
)
def test_byte_count_limits_are_kept(limit: int, blocks: list[int]) -> None:
    with IdeMachine() as machine:
        ready(machine)
        reply = machine.run(machine.ide.packet(1, read(0, 2), limit=limit))
        assert (reply.blocks, reply.reasons) == (blocks, [2] * len(blocks))
        assert reply.data == block(0) + block(1)


def test_byte_count_limits_are_kept_for_other_data_than_blocks() -> None:
    with IdeMachine() as machine:
        ready(machine)
        reply = machine.run(machine.ide.packet(1, bytes((0x12, 0, 0, 0, 96)), limit=41))
        assert (reply.blocks, len(reply.data)) == ([40, 40, 16], 96)


def test_an_odd_number_of_bytes_is_one_block() -> None:
    with IdeMachine() as machine:
        ready(machine)
        reply = machine.run(machine.ide.packet(1, bytes((0x12, 0, 0, 0, 35)), limit=35))
        assert (reply.blocks, len(reply.data)) == ([35], 35)


def test_what_is_wrong_is_asked_for_with_request_sense() -> None:
    with IdeMachine() as machine:
        ready(machine)
        reply = machine.run(machine.ide.packet(1, read(1000, 1)))
        assert (reply.ok, reply.error, reply.count, reply.blocks) == (False, 0x54, 3, [])
        sense = machine.run(machine.ide.packet(1, REQUEST_SENSE)).data
        assert (sense[2], sense[12:14]) == (5, b"\x21\x00")
        sense = machine.run(machine.ide.packet(1, REQUEST_SENSE)).data
        assert sense[2] == 0


def test_an_empty_drive_says_so() -> None:
    with IdeMachine(empty=True) as machine:
        ready(machine)
        reply = machine.run(machine.ide.packet(1, read(0, 1)))
        assert (reply.error, reply.blocks) == (0x20, []), "it is not aborted"


def test_device_reset_ends_what_the_drive_does() -> None:
    with IdeMachine() as machine:
        ready(machine)
        ide = machine.ide
        ide.write_task(1, Task(AtaCommand.PACKET, lba=2048 << 8, device=0))
        machine.run(machine.guest.settle())
        ide.write_block(read(0, 4).ljust(12, b"\0"))
        machine.run(machine.guest.settle())
        assert ide.alternate_status == 0x58
        ide.set(Reg.STATUS, AtaCommand.DEVICE_RESET)
        assert ide.alternate_status == 0x80
        machine.run(machine.guest.settle())
        assert (ide.alternate_status, ide.signature(1)) == (0, (1, 1, 0x14, 0xEB))
        reply = machine.run(ide.packet(1, read(3, 1)))
        assert reply.data == block(3)
