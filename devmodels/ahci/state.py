"""The state of an HBA beyond its registers, as plain data: for snapshots.

Commands in flight start anew; what only waits for its end (a reset, PxCMD.CR) is over where it is restored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from devmodels.ahci.command import Header, PortCommand
from devmodels.ahci.engine import Event, State
from devmodels.ahci.layout import ACMD_SIZE
from devmodels.ahci.registers import HBA_RESET
from devmodels.ata.state import Dword, Tag, TaskFileState, Word, decode
from devmodels.registers import POWER_ON

if TYPE_CHECKING:
    from devmodels.ahci.hba import Hba
    from devmodels.ahci.port import Port

Address = Annotated[int, msgspec.Meta(ge=0)]
Packet = Annotated[bytes, msgspec.Meta(min_length=ACMD_SIZE, max_length=ACMD_SIZE)]


class SlotState(msgspec.Struct, frozen=True):
    """A command that the device has: its FIS, the header that it came by, whether it is in NCQ's queue (`accepted`)."""

    slot: Tag
    taskfile: TaskFileState
    address: Address
    flags: Word
    prdtl: Word
    table: Address
    packet: Packet | None
    accepted: bool


class PortState(msgspec.Struct, frozen=True):
    """`Port`, field by field.  `resetting`: its device is being reset.  `device` is what that is saved as."""

    engine: Literal["OFF", "RUNNING", "HALTED", "STOPPING"]
    issued: Dword
    next_slot: Tag
    held_in_reset: bool
    signature_due: bool
    control_slot: Tag | None
    resetting: bool
    device: bytes | None
    commands: list[SlotState]
    untold: Dword = 0


class HbaState(msgspec.Struct, frozen=True):
    """`resetting` is the reset domain of a reset that waits for what runs; empty where there is none."""

    resetting: Literal["", "power-on", "hba-reset"]
    ports: list[PortState]


assert {POWER_ON, HBA_RESET} == {"power-on", "hba-reset"}


def save(hba: Hba) -> bytes:
    """The state of `hba`, whose context has nothing left to do."""
    return msgspec.msgpack.encode(HbaState(hba.resetting, [_save_port(port) for port in hba.ports]))  # type: ignore[arg-type]


def _save_port(port: Port) -> PortState:
    device = port.device
    commands = () if device is None else device.in_flight
    return PortState(
        port.state.name,  # type: ignore[arg-type]
        port.issued,
        port.next_slot,
        port.held_in_reset,
        port.link.signature_due,
        port.control_slot,
        device is not None and bool(device.resets),
        None if device is None else device.save(),
        [_save_command(each) for each in commands if isinstance(each, PortCommand) and not each.dropped],
        port.delivery.untold,
    )


def _save_command(command: PortCommand) -> SlotState:
    header = command.header
    return SlotState(
        command.slot,
        TaskFileState.of(command.taskfile),
        header.address,
        header.flags,
        header.prdtl,
        header.table,
        None if command.packet is None else command.packet.ljust(ACMD_SIZE, b"\0"),
        command.accepted,
    )


def judge(hba: Hba, data: bytes) -> None:
    """ValueError where that is not what `save` of such an HBA gave."""
    state = decode(data, HbaState, "an HBA")
    if len(state.ports) != len(hba.ports):
        raise ValueError(f"{hba.name}: the state of {len(state.ports)} ports, expected {len(hba.ports)}")
    for port, each in zip(hba.ports, state.ports, strict=True):
        if (each.device is None) is not (port.device is None):
            has = "a device" if port.device is not None else "no device"
            raise ValueError(f"{port.name}: the state is of another port; this one has {has}")
        if port.device is not None and each.device is not None:
            port.device.judge(each.device)
        slots = [command.slot for command in each.commands]
        if each.issued >> hba.slots or max(slots, default=0) >= hba.slots or len(slots) > 2 * hba.slots:
            raise ValueError(f"{port.name}: commands in slots beyond {hba.slots - 1}")
        if slots and port.device is None:
            raise ValueError(f"{port.name}: commands in flight, and no device")


def restore(hba: Hba, data: bytes) -> None:
    """Be as `data` says, which `judge` has found to be possible; the registers have been restored."""
    state = decode(data, HbaState, "an HBA")
    hba.restored(state.resetting)
    for port, each in zip(hba.ports, state.ports, strict=True):
        _restore_port(port, each)


def _restore_port(port: Port, state: PortState) -> None:
    device = port.device
    port.state = State[state.engine]
    port.issued, port.next_slot = state.issued, state.next_slot
    port.held_in_reset, port.link.signature_due = state.held_in_reset, state.signature_due
    port.control_slot = state.control_slot
    port.delivery.untold = state.untold
    if device is not None and state.device is not None:
        device.restore(state.device)
        for each in state.commands:
            header = Header(each.address, each.flags, each.prdtl, each.table & 0xFFFF_FFFF, each.table >> 32)
            packet = None if each.packet is None else port.delivery.fitting(each.packet)
            command = PortCommand(port.delivery, each.taskfile.taskfile(), each.slot, header, packet)
            command.again, command.accepted = True, each.accepted
            device.issue(command)
    port.restored(resetting=state.resetting)
    port.event(Event.IDLE)
