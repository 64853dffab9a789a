"""The state of an ATAPI device as plain data: its registers' side, the sense data that it keeps, its drive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from devmodels.ata.state import AtaState, ModesState, TaskFileState

if TYPE_CHECKING:
    from devmodels.ata.packet.device import AtapiDevice


class AtapiState(AtaState, frozen=True, kw_only=True):
    """`AtapiDevice`, field by field; `drive` is what its logical unit is saved as."""

    modes: ModesState
    reverts: bool
    sense: Annotated[bytes, msgspec.Meta(max_length=252)]
    drive: bytes


def save(device: AtapiDevice) -> AtapiState:
    """The state of `device`."""
    return AtapiState(
        registers=TaskFileState.of(device.registers),
        resets=list(device.resets),
        modes=ModesState(device.modes.multiword, device.modes.ultra),
        reverts=device.reverts,
        sense=device.sense,
        drive=device.drive.save(device.nexus),
    )


def judge(device: AtapiDevice, state: AtapiState) -> None:
    """ValueError where it cannot be the state of such a device."""
    device.drive.judge(state.drive)


def restore(device: AtapiDevice, state: AtapiState) -> None:
    """Be as `state` says, which `judge` has found to be possible."""
    device.modes.multiword, device.modes.ultra = state.modes.multiword, state.modes.ultra
    device.reverts, device.sense = state.reverts, state.sense
    device.drive.restore(device.nexus, state.drive)
    device.restore_registers(state)
