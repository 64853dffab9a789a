"""The state of an IDE channel beyond its registers, as plain data: for snapshots.

What waits for the guest goes on waiting; what runs is done again from where its last piece of data was; a reset that
waits for what runs is over where it is restored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from devmodels.ata.command import AtaCommand, AtaError
from devmodels.ata.state import Byte, TaskFileState, decode
from devmodels.ata.transferstate import TransferState, restored_transfer, save_transfer
from devmodels.ide_cdrom.masterstate import MasterState, Number
from devmodels.ide_cdrom.unit import Phase, Unit

if TYPE_CHECKING:
    from devmodels.ata.device import AtaDevice
    from devmodels.ata.transfer import Transfer
    from devmodels.ide_cdrom.busmaster import BusMaster
    from devmodels.ide_cdrom.channel import Channel

Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 40)]
Buffer = Annotated[bytes, msgspec.Meta(max_length=1 << 17)]
Packet = Annotated[bytes, msgspec.Meta(min_length=12, max_length=12)]


class CommandState(msgspec.Struct, frozen=True):
    """A command, whose task file is its unit's; `moved` bytes of its transfer have gone."""

    packet: Packet | None
    moved: Count
    transfer: TransferState | None


class UnitState(msgspec.Struct, frozen=True):
    """`Unit`, field by field.  `attention`: an interrupt follows its reset."""

    phase: Literal["IDLE", "BUSY", "PACKET", "DATA_IN", "DATA_OUT", "DMA"]
    status: Byte
    taskfile: TaskFileState
    buffer: Buffer
    at: Annotated[int, msgspec.Meta(ge=0, le=1 << 17)]
    interrupt: bool
    resetting: bool
    attention: bool
    device: bytes | None
    command: CommandState | None


class ChannelState(msgspec.Struct, frozen=True):
    """`Channel`, field by field."""

    control: Byte
    select: Number
    level: bool
    units: tuple[UnitState, UnitState]
    master: MasterState


# --- saving


def save(channel: Channel) -> ChannelState:
    """The state of a channel whose context has nothing left to do."""
    first, second = channel.places
    units = _save_unit(first), _save_unit(second)
    return ChannelState(
        channel.control, channel.selected.number, channel.level, units, channel.bus_master.save()
    )


def _save_unit(unit: Unit) -> UnitState:
    device, command = unit.device, unit.command
    return UnitState(
        unit.phase.name,  # type: ignore[arg-type]
        unit.status,
        TaskFileState.of(unit.taskfile),
        bytes(unit.buffer),
        unit.at,
        unit.interrupt,
        unit.resetting,
        unit.attention,
        None if device is None else device.save(),
        None if command is None else _save_command(command),
    )


def _save_command(command: AtaCommand) -> CommandState:
    transfer = command.transfer
    return CommandState(command.packet, command.moved, None if transfer is None else save_transfer(transfer))


# --- judging


def decode_channels(data: bytes) -> tuple[ChannelState, ChannelState]:
    """The states of a controller's channels; ValueError where `data` are none."""
    return decode(data, tuple[ChannelState, ChannelState], "an IDE controller")


def judge(channel: Channel, state: ChannelState) -> None:
    """ValueError where it cannot be the state of such a channel."""
    for unit, each in zip(channel.places, state.units, strict=True):
        _judge_unit(unit, each, waiting=unit.number in state.master.waiting)
    waiting = state.master.waiting
    if len(set(waiting)) < len(waiting) or (state.master.piece is not None and not waiting):
        raise ValueError(f"{channel.name}: units {waiting} wait for the bus master")


def _judge_unit(unit: Unit, state: UnitState, *, waiting: bool) -> None:
    name = f"{unit.channel.name} unit {unit.number}"
    device, command = unit.device, state.command
    if (state.device is None) is not (device is None):
        has = "no device" if device is None else "a device"
        raise ValueError(f"{name}: the state is of another unit; this one has {has}")
    if device is not None and state.device is not None:
        device.judge(state.device)
    if device is None and (state.status or state.interrupt or state.phase != Phase.IDLE.name):
        raise ValueError(f"{name}: nobody is there, who works or asks")
    transfer = None if command is None else command.transfer
    phase = Phase[state.phase]
    possible = {
        Phase.IDLE: command is None,
        Phase.BUSY: command is None or not state.resetting,
        Phase.PACKET: command is not None
        and transfer is None
        and device is not None
        and len(state.buffer) == device.packet_size > 0,
        Phase.DATA_IN: transfer is not None,
        Phase.DATA_OUT: transfer is not None,
        Phase.DMA: transfer is not None,
    }[phase]
    if not possible or (command is not None and device is None) or (waiting and phase is not Phase.DMA):
        raise ValueError(f"{name}: no device can be in phase {state.phase} so")


# --- restoring


def restore(channel: Channel, state: ChannelState) -> None:
    """Be as `state` says, which `judge` has found to be possible; the registers have been restored."""
    channel.restored(state.control, state.select, level=state.level)
    master = channel.bus_master
    master.restore(state.master)
    for unit, each in zip(channel.places, state.units, strict=True):
        _restore_unit(unit, each, waiting=unit.number in state.master.waiting)
    _go_on(channel, master, state.master)


def _restore_unit(unit: Unit, state: UnitState, *, waiting: bool) -> None:
    unit.resets += 1
    unit.phase, unit.status = Phase[state.phase], state.status
    unit.taskfile = state.taskfile.taskfile()
    unit.buffer, unit.at = bytearray(state.buffer), state.at
    unit.interrupt, unit.resetting = state.interrupt, False
    device = unit.device
    if device is None or state.device is None:
        return
    device.restore(state.device)
    if state.resetting:
        unit.show_signature()
        if state.attention:
            unit.ask_for_attention()
    elif state.command is not None:
        _restore_command(unit, device, state.command, waiting=waiting)


def _restore_command(unit: Unit, device: AtaDevice, state: CommandState, *, waiting: bool) -> None:
    command = unit.command = AtaCommand(unit, unit.taskfile, packet=state.packet)
    command.again = True
    if state.transfer is None:
        if unit.phase is Phase.BUSY:
            device.issue(command)
        return
    try:
        device.resume(command)
        transfer = command.transfer = restored_transfer(device, command, state.transfer)
        command.moved = state.moved
        _check(unit, transfer, transfer.length - state.moved)
        if unit.phase is Phase.BUSY:
            unit.resume(command)
        elif unit.phase is Phase.DMA and not waiting:
            device.conclude(command)
    except AtaError as error:
        device.fail(command, error)


def _check(unit: Unit, transfer: Transfer, left: int) -> None:
    """AtaError where a transfer of which so many bytes are left cannot be where the unit is."""
    possible = left >= 0
    if unit.phase is not Phase.DMA:
        possible = possible and bool(transfer.block and unit.buffer)
    if transfer.out and unit.phase in (Phase.BUSY, Phase.DATA_OUT):
        concluding = unit.phase is Phase.BUSY and not left
        possible = possible and (concluding or len(unit.buffer) <= left)
    if unit.phase in (Phase.DATA_IN, Phase.DATA_OUT):
        possible = possible and transfer.out is (unit.phase is Phase.DATA_OUT)
    if not possible:
        raise AtaError


def _go_on(channel: Channel, master: BusMaster, state: MasterState) -> None:
    """Units wait for the bus master; what it was moving is moved again."""
    waiting = [
        channel.places[number] for number in state.waiting if channel.places[number].phase is Phase.DMA
    ]
    master.resume(waiting, None if state.piece is None else (state.piece.regions, state.piece.pad))
