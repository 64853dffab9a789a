"""Steps for a SCSI host device: commands, task management, notifications, events, the scan, and the host's plugging."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guestsim.drivers import scsi
from guestsim.drivers.scsi import opcode_name
from guestsim.drivers.scsi_layouts import ControlType, ScsiResponse, Tmf
from guestsim.drivers.virtio_scsi import Command, response_name
from guestsim.errors import GuestError
from guestsim.script.outcome import Outcome, scsi_status_name
from guestsim.script.requests import bytes_text, split
from guestsim.script.schema_scsi import parse_cdb

if TYPE_CHECKING:
    from guestsim.drivers.virtio_scsi import Answer, VirtioScsi
    from guestsim.script.schema import Step
    from guestsim.script.world import World

_NO_ANSWER = -1


def build(driver: VirtioScsi, step: Step) -> tuple[Command, str]:
    """The command of a step, and what the guest does in words."""
    it = step.scsi
    assert it is not None
    cdb = parse_cdb(it.cdb)
    data = b""
    if it.data is not None:
        data = it.data.data(cdb.out if it.data.length is None else it.data.length)
    elif cdb.out:
        data = bytes(cdb.out)
    room = cdb.room if it.room is None else it.room
    command = driver.command(
        it.field, cdb.data, data, room, tag=it.tag, attribute=it.task_attribute, scatter=it.scatter
    )
    if not (
        it.header is None and it.response is None and it.readable_split is None and it.writable_split is None
    ):
        command = _odd(command, it.header, it.response, it.readable_split, it.writable_split)
    return command, _text(step, cdb.data, len(data), room)


def _odd(
    command: Command,
    header: int | None,
    response: int | None,
    readable_split: list[int] | None,
    writable_split: list[int] | None,
) -> Command:
    """A command with a header or a response of another length, or cut literally."""
    data = command.readable[command.header :]
    room = command.writable - command.response
    header = command.header if header is None else header
    response = command.response if response is None else response
    readable = command.readable[: command.header].ljust(header, b"\0")[:header] + data
    return Command(
        readable,
        response + room,
        readable_split=split(readable_split, len(readable)),
        writable_split=split(writable_split, response + room),
        scatter=command.scatter,
        checked=False,
        header=header,
        response=response,
    )


def _text(step: Step, cdb: bytes, given: int, room: int) -> str:
    it = step.scsi
    assert it is not None
    name = opcode_name(cdb[0]) if cdb else "an empty command"
    text = f"{name} to {it.text}"
    if " " in it.cdb and not it.cdb[:2].isdecimal():
        text += f" ({it.cdb.split(' ', 1)[1]})"
    if given:
        text += f", given {bytes_text(given)}"
    return text + (f", room for {bytes_text(room)}" if room else "")


def answered(text: str, answer: Answer) -> Outcome:
    """What came of a command."""
    outcome = Outcome(
        text,
        _answer_text(answer),
        used_length=answer.used_length,
        data=answer.data,
        residual=answer.residual,
    )
    if answer.response != _NO_ANSWER:
        outcome.response = answer.response
        outcome.sense = answer.sense
        outcome.scsi_status = answer.status if answer.response == ScsiResponse.OK else None
    return outcome


def _answer_text(answer: Answer) -> str:
    if answer.response == _NO_ANSWER:
        return f"no room for a response, used length {answer.used_length}"
    if answer.response != ScsiResponse.OK:
        return f"{answer.response_name}, used length {answer.used_length}"
    text = scsi_status_name(answer.status)
    if answer.sense is not None:
        text += f", {answer.sense}"
    if answer.residual:
        text += f", residual {answer.residual}"
    return f"{text}, used length {answer.used_length}"


async def task_management(world: World, step: Step) -> Outcome:
    """A task management function."""
    it = step.task_management
    assert it is not None
    response = await world.scsi(step.device).manage(it.number, it.field, it.tag)
    name = Tmf(it.number).name if it.number in set(Tmf) else f"function {it.number}"
    tag = f" with tag {it.tag}" if it.tag else ""
    return _of_control(f"{name.replace('_', ' ')} of {it.text}{tag}", response)


def _of_control(did: str, response: int, value: int | None = None) -> Outcome:
    said = "no response" if response < 0 else response_name(response)
    return Outcome(did, said, response=None if response < 0 else response, value=value)


async def notifications(world: World, step: Step) -> Outcome:
    """Ask for asynchronous events, or subscribe to them."""
    it = step.notifications
    assert it is not None
    kind = ControlType.AN_SUBSCRIBE if it.subscribe else ControlType.AN_QUERY
    actual, response = await world.scsi(step.device).notifications(kind, it.field, it.events)
    verb = "subscribe to" if it.subscribe else "ask for"
    return _of_control(f"{verb} events {it.events:#x} of {it.text}", response, value=actual)


async def control(world: World, step: Step) -> Outcome:
    """A request of the control queue, literally."""
    it = step.control
    assert it is not None
    (pending,) = await world.scsi(step.device).submit_control(bytes(it.hex), it.writable)
    written, used_length, _ = await world.scsi(step.device).come_back(pending)
    return Outcome(
        f"control request of {len(it.hex)} bytes, {it.writable} writable",
        f"used length {used_length}: {written[:used_length].hex(' ')}",
        used_length=used_length,
        data=written[:used_length],
    )


async def event_buffers(world: World, step: Step) -> Outcome:
    """Give the event queue buffers."""
    assert step.event_buffers is not None
    world.scsi(step.device).offer_event_buffers(step.event_buffers.count)
    await world.guest.settle()
    return Outcome(f"offer {step.event_buffers.count} event buffers")


async def scsi_event(world: World, step: Step) -> Outcome:
    """Wait for the next event, which must be the one given."""
    it = step.scsi_event
    assert it is not None
    driver = world.scsi(step.device)
    await driver.device.wait_for(lambda: bool(driver.events), f"an event ({it.event})")
    found = driver.events.pop(0)
    wanted = (it.event_number, it.target, it.lun, it.reason_number, it.missed)
    if wanted != (found.event, found.target, found.lun, found.reason, found.missed):
        raise GuestError(f"{found}; expected {it.event} of {it.text}, reason {it.reason}")
    return Outcome(f"the event {it.event}", str(found))


async def scan(world: World, step: Step) -> Outcome:
    """Find the logical units."""
    assert step.scan is not None
    found = await scsi.scan(world.scsi(step.device), range(step.scan.targets))
    return Outcome(
        f"scan {step.scan.targets} targets",
        "; ".join(map(str, found)) or "nothing is there",
        units=[f"{unit.target}:{unit.lun}" for unit in found],
    )


async def plug(world: World, step: Step) -> Outcome:
    """The host plugs a device."""
    assert step.plug is not None
    world.target.plug(step.plug)
    return Outcome(f"the host plugs {step.plug.get('id', step.plug.get('driver'))}")


async def unplug(world: World, step: Step) -> Outcome:
    """The host takes a device out."""
    assert step.unplug is not None
    world.target.unplug(step.unplug.id)
    return Outcome(f"the host takes {step.unplug.id} out")
