"""The state of an ATAPI device as plain data: its registers' side, the sense data that it keeps, its drive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from devmodels.ata.constants import BLOCK
from devmodels.ata.state import AtaState, ModesState, TaskFileState, decode

if TYPE_CHECKING:
    from devmodels.ata.packet.device import AtapiDevice


HEAD = 24
"""Bytes that QEMU's drive has of its buffer's beginning."""
SENSE = 18


class AtapiState(AtaState, frozen=True, kw_only=True):
    """`AtapiDevice`, field by field; `drive` is what its logical unit is saved as."""

    modes: ModesState
    reverts: bool
    sense: Annotated[bytes, msgspec.Meta(max_length=252)]
    drive: bytes


class FrontState(msgspec.Struct, frozen=True, kw_only=True):
    """What QEMU's drive remembers: `PacketFront`, field by field; as it is before anything has come to it."""

    changed: Annotated[int, msgspec.Meta(ge=0, le=2)] = 0
    new_media: bool = False
    eject_requested: bool = False
    buffer: Annotated[bytes, msgspec.Meta(min_length=HEAD, max_length=HEAD)] = bytes(HEAD)
    identity: Annotated[bytes, msgspec.Meta(max_length=BLOCK)] = b""


class AtapiStateAsQemu(AtapiState, frozen=True, kw_only=True):
    """The same of a device that does as QEMU's."""

    front: FrontState = FrontState()


def save(device: AtapiDevice) -> AtapiState:
    """The state of `device`."""
    state = AtapiState(
        registers=TaskFileState.of(device.registers),
        resets=list(device.resets),
        modes=ModesState(device.modes.multiword, device.modes.ultra),
        reverts=device.reverts,
        sense=device.sense,
        drive=device.drive.save(device.nexus),
    )
    if not device.violations.as_qemu:
        return state
    front = device.front
    return AtapiStateAsQemu(
        **msgspec.structs.asdict(state),
        front=FrontState(
            changed=front.changed,
            new_media=front.new_media,
            eject_requested=front.eject_requested,
            buffer=bytes(front.buffer),
            identity=front.identity,
        ),
    )


def read(device: AtapiDevice, data: bytes) -> AtapiState:
    """The state in `data`; ValueError where there is none of such a device."""
    return decode(data, AtapiStateAsQemu if device.violations.as_qemu else AtapiState)


def judge(device: AtapiDevice, state: AtapiState) -> None:
    """ValueError where it cannot be the state of such a device."""
    if isinstance(state, AtapiStateAsQemu):
        front = state.front
        if len(front.identity) not in (0, BLOCK) or len(state.sense) not in (0, SENSE):
            raise ValueError(f"{len(front.identity)} bytes of identity, {len(state.sense)} of sense data")
    device.drive.judge(state.drive)


def restore(device: AtapiDevice, state: AtapiState) -> None:
    """Be as `state` says, which `judge` has found to be possible."""
    device.modes.multiword, device.modes.ultra = state.modes.multiword, state.modes.ultra
    device.reverts, device.sense = state.reverts, state.sense
    device.drive.restore(device.nexus, state.drive)
    device.restore_registers(state)
    if isinstance(state, AtapiStateAsQemu):
        front, told = device.front, state.front
        front.changed, front.buffer, front.identity = told.changed, bytearray(told.buffer), told.identity
        front.new_media, front.eject_requested = told.new_media, told.eject_requested
