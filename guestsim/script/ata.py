"""Steps for ATA controllers: probe, commands, packets, resets on either kind; tables and registers of IDE."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from guestsim.drivers.ahci import Ahci
from guestsim.drivers.ide import identify, probe
from guestsim.drivers.ide_layouts import EOT, BusMaster, Control, Reg
from guestsim.drivers.ide_task import Reply, Task, Way
from guestsim.drivers.scsi import opcode_name
from guestsim.errors import GuestError
from guestsim.script import ahci
from guestsim.script.outcome import Outcome
from guestsim.script.schema_scsi import parse_cdb

if TYPE_CHECKING:
    from guestsim.drivers.ide import IdeChannel, IdeController
    from guestsim.script.schema import Step
    from guestsim.script.schema_ata import Ata, Packet
    from guestsim.script.world import World


def _channel(world: World, step: Step, number: int) -> IdeChannel:
    return world.ide(step.device).channels[number]


def _unit(controller: IdeController, number: int) -> tuple[IdeChannel, int]:
    """The channel of the controller's device `number`, and its unit there."""
    channel, unit = divmod(number, 2)
    if channel not in range(len(controller.channels)):
        raise GuestError(f"no device {number}, expected 0 to 3")
    return controller.channels[channel], unit


async def ata_probe(world: World, step: Step) -> Outcome:
    """Reset a controller and find all its devices."""
    it = step.ata_probe
    assert it is not None
    controller = world.controller(step.device)
    if isinstance(controller, Ahci):
        return await ahci.probe(world, controller, it.interrupts)
    names = []
    for channel in controller.channels:
        names += await _find(channel, polling=it.interrupts == "polling", wide=it.wide)
    while names and names[-1] == "none":
        del names[-1]
    return Outcome("probe both channels", ", ".join(names), found=names)


async def ata_reset(world: World, step: Step) -> Outcome:
    """Resets of either controller."""
    it = step.ata_reset
    assert it is not None
    controller = world.controller(step.device)
    if isinstance(controller, Ahci):
        return await ahci.reset(controller, it)
    if it.kind != "software":
        raise GuestError(f"an IDE channel has no {it.kind}, expected software")
    channel, _ = _unit(controller, it.number)
    channel.stop()
    await channel.reset()
    return Outcome(f"software reset of channel {channel.number}")


async def ide_probe(world: World, step: Step) -> Outcome:
    """Reset a channel and find its devices."""
    it = step.ide_probe
    assert it is not None
    channel = _channel(world, step, it.channel)
    names = await _find(channel, polling=it.polling, wide=it.wide)
    return Outcome(f"probe channel {it.channel}", ", ".join(names), found=names)


async def _find(channel: IdeChannel, *, polling: bool, wide: bool) -> list[str]:
    """Reset a channel; what its units are."""
    channel.polling, channel.wide_data = polling, wide
    channel.set_control(0)
    found = await probe(channel)
    names = []
    for unit in range(2):
        kind = found.get(unit, "none")
        if kind != "none":
            await identify(channel, unit, packet=kind == "atapi")
        names.append(kind)
    return names


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
    """A command as IDE has it: queued ones are none of its, and are given without data."""
    return Task(
        it.opcode,
        features=it.all_features,
        count=it.count,
        lba=it.address & (0xFFFF_FFFF_FFFF if it.wide else 0xFF_FFFF),
        device=it.device if it.wide else it.device | it.address >> 24 & 0x0F,
        wide=it.wide,
        way=Way.NONE if it.form.queued else it.data_way,
        length=it.room,
        data=it.given,
        regions=it.regions,
    )


async def ata(world: World, step: Step) -> Outcome:
    """A command."""
    it = step.ata
    assert it is not None
    controller = world.controller(step.device)
    if isinstance(controller, Ahci):
        return await ahci.ata(controller, it)
    channel, unit = _unit(controller, it.number)
    before = channel.interrupts
    channel.block_bytes = it.block
    reply = await channel.do(unit, _task(it))
    return _answered(f"{it.name} to unit {channel.number}.{unit}", reply, before, channel)


async def ncq(world: World, step: Step) -> Outcome:
    """Queued commands at once."""
    it = step.ncq
    assert it is not None
    return await ahci.ncq(world.hba(step.device), it.port, it.commands)


async def packet(world: World, step: Step) -> Outcome:
    """A command packet."""
    it = step.packet
    assert it is not None
    controller = world.controller(step.device)
    if isinstance(controller, Ahci):
        return await ahci.packet(controller, it)
    channel, unit = _unit(controller, it.number)
    before = channel.interrupts
    cdb = parse_cdb(it.cdb)
    data = b"" if it.data is None else it.data.data(int(it.data.length or cdb.out))
    room = cdb.room if it.room is None else int(it.room)
    reply = await channel.packet(
        unit,
        cdb.data,
        room=room,
        data=data,
        limit=it.limit,
        dma=it.dma,
        regions=it.regions,
        features=it.features,
    )
    return _answered(_packet_text(it, cdb.data, f"{channel.number}.{unit}"), reply, before, channel)


def _packet_text(it: Packet, cdb: bytes, unit: str) -> str:
    name = opcode_name(cdb[0]) if cdb else "an empty packet"
    return f"{name} to unit {unit} by {'DMA' if it.dma else 'PIO'}"


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
    controller = world.controller(step.device)
    if isinstance(controller, Ahci):
        return ahci.registers(controller, it.number)
    channel, _ = _unit(controller, it.number)
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
