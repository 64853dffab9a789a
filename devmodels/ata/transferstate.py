"""Transfers as plain data: for snapshots of adapters in whose registers one may wait for its guest."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Annotated

import msgspec

from devmodels.ata.command import AtaCommand, AtaError
from devmodels.ata.device import AtaDevice
from devmodels.ata.disk import AtaDisk
from devmodels.ata.disk.medium import MediumTransfer
from devmodels.ata.packet import AtapiDevice
from devmodels.ata.packet.packet import MediumIn, PacketOut, blocks_of
from devmodels.ata.transfer import DataIn, DataOut, Transfer
from devmodels.blockbackend import Flags

Length = Annotated[int, msgspec.Meta(ge=1, lt=1 << 40)]
Block = Annotated[int, msgspec.Meta(ge=0, lt=1 << 17)]
Number = Annotated[int, msgspec.Meta(ge=0, lt=1 << 40)]
Bytes = Annotated[bytes, msgspec.Meta(max_length=1 << 25)]


class DataInState(msgspec.Struct, frozen=True, tag="data-in"):
    """`DataIn`."""

    data: Bytes
    block: Block


class DataOutState(msgspec.Struct, frozen=True, tag="data-out"):
    """`DataOut`: what it is for, its command says."""

    length: Length
    data: Bytes
    block: Block


class MediumState(msgspec.Struct, frozen=True, tag="medium"):
    """`MediumTransfer`."""

    offset: Number
    length: Length
    out: bool
    block: Block
    fua: bool


class MediumInState(msgspec.Struct, frozen=True, tag="medium-in"):
    """`MediumIn`: which blocks, its packet says."""

    length: Length
    block: Block
    next: Number
    ready: Bytes


class PacketOutState(msgspec.Struct, frozen=True, tag="packet-out"):
    """`PacketOut`."""

    length: Length
    data: Bytes
    block: Block


TransferState = DataInState | DataOutState | MediumState | MediumInState | PacketOutState


def save_transfer(transfer: Transfer) -> TransferState:
    """`transfer` as plain data; how far it has come is in its command."""
    match transfer:
        case DataIn():
            return DataInState(transfer.data, transfer.block)
        case DataOut():
            return DataOutState(transfer.length, bytes(transfer.data), transfer.block)
        case MediumTransfer():
            fua = transfer.flags is Flags.FUA
            return MediumState(transfer.offset, transfer.length, transfer.out, transfer.block, fua)
        case MediumIn():
            return MediumInState(transfer.length, transfer.block, transfer.next, bytes(transfer.ready))
        case PacketOut():
            return PacketOutState(transfer.length, bytes(transfer.data), transfer.block)
        case _:
            raise NotImplementedError(f"{transfer!r} cannot be saved")


def restored_transfer(device: AtaDevice, command: AtaCommand, state: TransferState) -> Transfer:
    """The opposite, of `command`, which `device` has; AtaError where it is none of such a command."""
    match state:
        case DataInState():
            return DataIn(state.data, block=state.block)
        case DataOutState():
            return _data_out(device, command, state)
        case MediumState() if isinstance(device, AtaDisk):
            if state.offset % device.granule or state.length % device.granule or state.block % device.granule:
                raise AtaError
            flags = Flags.FUA if state.fua else Flags.NONE
            return MediumTransfer(state.offset, state.length, out=state.out, block=state.block, flags=flags)
        case MediumInState() if isinstance(device, AtapiDevice) and command.packet is not None:
            blocks = blocks_of(device, command.packet)
            if blocks is None or not blocks.first <= state.next <= blocks.first + blocks.number:
                raise AtaError
            medium = MediumIn(state.length, blocks, block=state.block)
            medium.next, medium.ready = state.next, bytearray(state.ready)
            return medium
        case PacketOutState() if isinstance(device, AtapiDevice) and command.packet is not None:
            packet = PacketOut(state.length, block=state.block)
            packet.data = bytearray(state.data)
            return packet
        case _:
            raise AtaError


def _data_out(device: AtaDevice, command: AtaCommand, state: DataOutState) -> DataOut:
    """What is done with the data is what the command's handler says."""
    reply = device.handle(command)
    if isinstance(reply, Coroutine):
        reply.close()
    if not isinstance(reply, DataOut) or reply.length != state.length:
        raise AtaError
    reply.data = bytearray(state.data)
    return reply
