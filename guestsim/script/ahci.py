"""Steps for AHCI host bus adapters: commands, queued commands, packets, slots literally, registers, resets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guestsim.drivers.ahci_layouts import (
    ACMD_OFFSET,
    HEADER_WRITE,
    PRD,
    PRDT_OFFSET,
    SIGNATURE_ATAPI,
    SIGNATURE_DISK,
    TABLE_ALIGN,
    Ghc,
    Hba,
    PortIs,
    PortReg,
)
from guestsim.drivers.ata import AtaCommand
from guestsim.drivers.scsi import opcode_name
from guestsim.drivers.transport import Interrupts
from guestsim.errors import GuestError
from guestsim.script.outcome import Outcome
from guestsim.script.schema_scsi import parse_cdb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guestsim.drivers.ahci import Ahci
    from guestsim.drivers.ahci_command import Answer
    from guestsim.drivers.ahci_port import AhciPort
    from guestsim.script.schema import Step
    from guestsim.script.schema_ata import Ata, AtaReset, Packet
    from guestsim.script.world import World

_WAYS = {"msi": Interrupts.MSIX, "intx": Interrupts.INTX, "polling": Interrupts.POLLING}
_KINDS = {SIGNATURE_DISK: "ata", SIGNATURE_ATAPI: "atapi"}
CCS = 0x1F00
"""PxCMD: the current command slot."""
SLOT_BYTES = PRDT_OFFSET


def _port(hba: Ahci, number: int) -> AhciPort:
    if number not in hba.known:
        raise GuestError(f"the HBA has no port {number}, or was not probed")
    return hba.known[number]


async def probe(world: World, hba: Ahci, interrupts: str) -> Outcome:
    """Reset the HBA and bring up its ports; their command lists and FIS areas are called `P0CLB`, `P0FB`, …"""
    await hba.probe(interrupts=_WAYS[interrupts])
    names = []
    for number, port in hba.known.items():
        world.names[f"P{number}CLB"], world.names[f"P{number}FB"] = port.list, port.received
        kind = _KINDS.get(port.read(PortReg.SIG), "unknown") if number in hba.ports else "none"
        names.append(kind)
        port.seen = PortIs(0)
        if kind == "atapi":
            answer = await port.do(AtaCommand(0xA1, room=512))
            if not answer.ok:
                raise GuestError(f"IDENTIFY PACKET DEVICE failed with status {answer.status:#x}")
    while names and names[-1] == "none":
        del names[-1]
    return Outcome("probe the HBA", ", ".join(names), found=names, interrupts=0)


def _command(it: Ata) -> AtaCommand:
    form = it.form
    lba, device = it.address, it.device
    if not form.wide:
        lba, device = lba & 0xFF_FFFF, device | lba >> 24 & 0x0F
    features, count = it.all_features, it.count
    if form.queued and form.way != "non-data":
        features, count = it.count, features
    return AtaCommand(
        it.opcode,
        features=features,
        count=count,
        lba=lba,
        device=device,
        auxiliary=it.auxiliary,
        out=it.given,
        room=it.room,
        queued=form.queued,
    )


def _answered(did: str, port: AhciPort, answers: Sequence[Answer], before: int, *, wide: bool) -> Outcome:
    """What the last of `answers` says, with the data of all; of 28-bit commands as much as registers have."""
    last = next((each for each in answers if not each.ok), answers[-1])
    seen, port.seen = port.seen, PortIs(0)
    data = b"".join(each.data for each in answers)
    registers = {
        "status": int(last.status),
        "error": last.error,
        "count": last.count if wide else last.count & 0xFF,
        "lba": last.lba if wide else last.lba & 0xFF_FFFF,
        "device": last.device,
        "sense-key": last.error >> 4,
        "moved": sum(each.moved for each in answers),
        "is": int(seen),
    }
    answered = f"status {last.status:#04x}"
    if not last.ok:
        answered += f", error {last.error:#04x}"
    if data:
        # Of queued commands PRDBC says nothing.
        answered += f", {registers['moved'] or len(data)} bytes"
    return Outcome(
        did,
        answered,
        data=data,
        registers=registers,
        complaint=not last.ok,
        interrupts=port.interrupts - before,
    )


async def _recover(port: AhciPort, wanted: bool) -> None:
    if wanted and port.failed:
        await port.clear_errors()
        port.seen = PortIs(0)


async def ata(hba: Ahci, it: Ata) -> Outcome:
    """A command."""
    port = _port(hba, it.number)
    before, port.seen = port.interrupts, PortIs(0)
    answer = await port.do(_command(it), pieces=it.regions)
    outcome = _answered(f"{it.name} at port {it.number}", port, [answer], before, wide=it.wide)
    await _recover(port, it.recover)
    return outcome


async def ncq(hba: Ahci, number: int, commands: Sequence[Ata]) -> Outcome:
    """Commands at once."""
    port = _port(hba, number)
    before, port.seen = port.interrupts, PortIs(0)
    answers = [await port.wait(each) for each in port.submit(*map(_command, commands))]
    outcome = _answered(f"{len(commands)} commands at port {number}", port, answers, before, wide=True)
    await _recover(port, all(each.recover for each in commands))
    return outcome


async def packet(hba: Ahci, it: Packet) -> Outcome:
    """A command packet."""
    port = _port(hba, it.number)
    before, port.seen = port.interrupts, PortIs(0)
    cdb = parse_cdb(it.cdb)
    data = b"" if it.data is None else it.data.data(int(it.data.length or cdb.out))
    command = AtaCommand(
        0xA0,
        features=it.features | it.dma,
        lba=it.limit << 8,
        out=data,
        room=0 if data else cdb.room if it.room is None else int(it.room),
        packet=cdb.data.ljust(12, b"\0"),
    )
    answer = await port.do(command, pieces=it.regions)
    did = f"{opcode_name(cdb.data[0])} at port {it.number} by {'DMA' if it.dma else 'PIO'}"
    outcome = _answered(did, port, [answer], before, wide=False)
    if outcome.data is not None:
        outcome.data = outcome.data[: answer.moved]
    await _recover(port, it.recover)
    return outcome


async def slot(world: World, step: Step) -> Outcome:
    """A command header, its table and its FIS, literally."""
    it = step.slot
    assert it is not None
    hba = world.hba(step.device)
    port = _port(hba, it.port)
    table = b"".join(
        PRD.pack(world.address(prd.at) & 0xFFFF_FFFF, world.address(prd.at) >> 32, prd.last_dword)
        for prd in it.prds
    )
    memory = world.guest.memory
    length = SLOT_BYTES + len(table)
    at = memory.allocate_zeroed(length, TABLE_ALIGN) if it.table is None else world.address(it.table)
    for offset, part in ((0, it.fis), (ACMD_OFFSET, it.packet), (PRDT_OFFSET, table)):
        if part:
            memory.write(world.ram(at + offset, len(part)), bytes(part))
    flags = len(it.fis or b"") // 4 if it.flags is None else it.flags
    port.put(it.number, flags, len(it.prds) if it.prdtl is None else it.prdtl, at)
    before = port.interrupts
    if it.issue:
        if it.queued:
            port.write(PortReg.SACT, 1 << it.number)
        port.write(PortReg.CI, 1 << it.number)
        await world.guest.settle()
    direction = "to" if flags & HEADER_WRITE else "from"
    did = f"slot {it.number} of port {it.port}: {len(it.prds)} PRDs {direction} the device"
    outcome = registers(hba, it.port)
    outcome.did, outcome.interrupts = did, port.interrupts - before
    return outcome


def registers(hba: Ahci, number: int) -> Outcome:
    """What a port shows, and the HBA; `is` with what the driver has served since it was asked last."""
    port = _port(hba, number)
    taskfile, command = port.read(PortReg.TFD), port.read(PortReg.CMD)
    seen, port.seen = port.seen, PortIs(0)
    found = {
        "status": taskfile & 0xFF,
        "error": taskfile >> 8 & 0xFF,
        "is": port.read(PortReg.IS) | seen,
        "cmd": command & ~CCS,
        "ccs": (command & CCS) >> 8,
        "ghc": hba.read(Hba.GHC) & ~Ghc.AE,
        "ports": hba.read(Hba.IS),
    }
    for register in (
        PortReg.IE,
        PortReg.SIG,
        PortReg.SSTS,
        PortReg.SCTL,
        PortReg.SERR,
        PortReg.SACT,
        PortReg.CI,
    ):
        found[register.name.lower()] = port.read(register)
    text = ", ".join(f"{name} {value:#x}" for name, value in found.items())
    return Outcome(f"read the registers of port {number}", text, registers=found)


async def _recover_queue(port: AhciPort) -> Outcome:
    found = await port.recover_queue()
    port.seen = PortIs(0)
    registers = {
        "tag": found.tag,
        "status": int(found.status),
        "error": found.error,
        "lba": found.lba,
        "count": found.count,
    }
    answered = (
        f"tag {found.tag}: error {found.error:#04x} at {found.lba}; {len(found.again)} commands done again"
    )
    data = b"".join(each.data for each in found.again)
    failed = any(not each.ok for each in found.again)
    return Outcome(
        f"recover the queue of port {port.number}", answered, data=data, registers=registers, complaint=failed
    )


async def reset(hba: Ahci, it: AtaReset) -> Outcome:
    """Resets, and the command list's start and stop."""
    if it.kind == "hba":
        await hba.reset()
        return Outcome("reset the HBA")
    port = _port(hba, it.number)
    if it.kind == "software":
        await _recover(port, wanted=True)
        await port.software_reset()
    elif it.kind == "comreset":
        await port.stop()
        await port.comreset()
        await port.start()
        port.failed = PortIs(0)
    elif it.kind == "recover-queue":
        return await _recover_queue(port)
    elif it.kind == "stop":
        await port.stop()
    elif it.kind == "start":
        await port.start()
    else:
        await port.clear_errors()
    port.seen = PortIs(0)
    return Outcome(f"{it.kind} of port {it.number}")
