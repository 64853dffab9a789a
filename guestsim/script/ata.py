"""Steps for IDE controllers: probe, commands, packets, tables, registers."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from guestsim.drivers.ide import Reply, Task, identify, probe
from guestsim.drivers.ide_layouts import EOT, BusMaster, Control, Reg
from guestsim.drivers.scsi import opcode_name
from guestsim.script.outcome import Outcome
from guestsim.script.schema_scsi import parse_cdb

if TYPE_CHECKING:
    from guestsim.drivers.ide import IdeChannel
    from guestsim.script.schema import Step
    from guestsim.script.schema_ata import Ata, Packet
    from guestsim.script.world import World


def _channel(world: World, step: Step, number: int) -> IdeChannel:
    return world.ide(step.device).channels[number]


async def ide_probe(world: World, step: Step) -> Outcome:
    """Reset a channel and find its devices."""
    it = step.ide_probe
    assert it is not None
    channel = _channel(world, step, it.channel)
    channel.polling, channel.wide_data = it.polling, it.wide
    channel.set_control(0)
    found = await probe(channel)
    names = []
    for unit in range(2):
        kind = found.get(unit, "none")
        if kind != "none":
            await identify(channel, unit, packet=kind == "atapi")
        names.append(kind)
    return Outcome(f"probe channel {it.channel}", ", ".join(names), found=names)


def _answered(did: str, reply: Reply, before: int, channel: IdeChannel) -> Outcome:
    registers = {
        "status": reply.status,
        "error": reply.error,
        "count": reply.count,
        "lba": reply.lba,
        "device": reply.device,
        "sense-key": reply.sense_key,
    }
    if reply.bus_master is not None:
        registers["bus-master"] = reply.bus_master & 0x07
    answered = f"status {reply.status:#04x}"
    if not reply.ok:
        answered += f", error {reply.error:#04x}"
    if reply.bus_master is not None:
        answered += f", bus master {reply.bus_master & 7:#x}"
    if reply.data:
        answered += f", {len(reply.data)} bytes"
    return Outcome(
        did,
        answered,
        data=reply.data,
        registers=registers,
        blocks=reply.blocks,
        complaint=not reply.ok,
        interrupts=channel.interrupts - before,
    )


def _task(it: Ata) -> Task:
    way, length = it.data_way, it.bytes_in_all
    data = b""
    if way.out:
        given = it.data
        length = length if given is None or given.length is None else int(given.length)
        data = bytes(length) if given is None else given.data(length)
        length = 0
    return Task(
        it.opcode,
        features=it.features,
        count=it.count,
        lba=it.lba & (0xFFFF_FFFF_FFFF if it.wide else 0xFF_FFFF),
        device=it.device if it.wide else it.device | it.lba >> 24 & 0x0F,
        wide=it.wide,
        way=way,
        length=length if way.value.endswith("in") else 0,
        data=data,
        regions=it.regions,
    )


async def ata(world: World, step: Step) -> Outcome:
    """A command."""
    it = step.ata
    assert it is not None
    channel = _channel(world, step, it.channel)
    before = channel.interrupts
    channel.block_bytes = it.block
    reply = await channel.do(it.unit, _task(it))
    name = it.command if isinstance(it.command, str) else f"command {it.command:#04x}"
    return _answered(f"{name} to unit {it.channel}.{it.unit}", reply, before, channel)


async def packet(world: World, step: Step) -> Outcome:
    """A command packet."""
    it = step.packet
    assert it is not None
    channel = _channel(world, step, it.channel)
    before = channel.interrupts
    cdb = parse_cdb(it.cdb)
    data = b"" if it.data is None else it.data.data(int(it.data.length or cdb.out))
    room = cdb.room if it.room is None else int(it.room)
    reply = await channel.packet(
        it.unit,
        cdb.data,
        room=room,
        data=data,
        limit=it.limit,
        dma=it.dma,
        regions=it.regions,
        features=it.features,
    )
    return _answered(_packet_text(it, cdb.data), reply, before, channel)


def _packet_text(it: Packet, cdb: bytes) -> str:
    name = opcode_name(cdb[0]) if cdb else "an empty packet"
    return f"{name} to unit {it.channel}.{it.unit} by {'DMA' if it.dma else 'PIO'}"


async def regions(world: World, step: Step) -> Outcome:
    """A table for the bus master."""
    it = step.regions
    assert it is not None
    entries = [
        struct.pack("<II", world.address(each.at) & 0xFFFF_FFFF, each.length | (EOT if each.last else 0))
        for each in it.regions
    ]
    address = world.address(it.at)
    if entries:
        world.guest.memory.write(world.ram(it.at, 8 * len(entries)), b"".join(entries))
    if it.channel is not None:
        _channel(world, step, it.channel).master.write(BusMaster.TABLE, 4, address & 0xFFFF_FFFF)
    return Outcome(f"table of {len(entries)} regions at {it.at}")


async def task_file(world: World, step: Step) -> Outcome:
    """Registers of the command block, literally."""
    it = step.task_file
    assert it is not None
    channel = _channel(world, step, it.channel)
    if it.device is not None:
        channel.set(Reg.DEVICE, it.device)
    for register, values in (
        (Reg.ERROR, it.features),
        (Reg.COUNT, it.count),
        (Reg.LBA_LOW, it.lba_low),
        (Reg.LBA_MID, it.lba_mid),
        (Reg.LBA_HIGH, it.lba_high),
    ):
        for value in values:
            channel.set(register, value)
    if it.command is not None:
        channel.set(Reg.STATUS, it.command)
    return Outcome("write the task file" if it.command is None else f"write command {it.command:#04x}")


async def registers(world: World, step: Step) -> Outcome:
    """What the selected device shows."""
    it = step.registers
    assert it is not None
    channel = _channel(world, step, it.channel)
    status = channel.alternate_status
    if it.hob:
        channel.set_control(Control.HOB)
    names = {
        "error": Reg.ERROR,
        "count": Reg.COUNT,
        "lba-low": Reg.LBA_LOW,
        "lba-mid": Reg.LBA_MID,
        "lba-high": Reg.LBA_HIGH,
        "device": Reg.DEVICE,
    }
    found = {"status": status} | {name: channel.get(register) for name, register in names.items()}
    found["bus-master"] = channel.master.read(BusMaster.STATUS, 1) & 0x07
    if it.hob:
        channel.set_control(0)
    text = ", ".join(f"{name} {value:#x}" for name, value in found.items())
    return Outcome("read the task file", text, registers=found)


async def ide_data(world: World, step: Step) -> Outcome:
    """Accesses to the data register."""
    it = step.ide_data
    assert it is not None
    channel = _channel(world, step, it.channel)
    if it.read is not None:
        out = b"".join(
            channel.command.read(Reg.DATA, it.width).to_bytes(it.width, "little")
            for _ in range(0, it.read, it.width)
        )
        return Outcome(f"read {it.read} bytes of the data register", data=out)
    assert it.write is not None
    data = it.write.data(int(it.write.length or 0))
    for at in range(0, len(data), it.width):
        channel.command.write(Reg.DATA, it.width, int.from_bytes(data[at : at + it.width], "little"))
    return Outcome(f"write {len(data)} bytes to the data register")


async def ide_reset(world: World, step: Step) -> Outcome:
    """SRST."""
    it = step.ide_reset
    assert it is not None
    channel = _channel(world, step, it.channel)
    if it.hold:
        channel.set_control(Control.SRST)
    else:
        channel.stop()
        await channel.reset()
    return Outcome(f"software reset of channel {it.channel}")
