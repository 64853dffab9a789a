"""Defects that are put into our ATA devices: the comparison with a live QEMU finds each of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from devmodels.ata.command import AtaCommand
from devmodels.ata.device import AtaDevice
from guestsim.diff.devices import DEVICES
from guestsim.diff.known import known
from guestsim.diff.profiles import PROFILES, Profile
from guestsim.diff.run import random_actions

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("qemu")]

MOST = 5000 // 30
"""Sequences in 5,000 steps."""

Defect = Callable[[AtaCommand], None]


def lba_low(command: AtaCommand) -> None:
    command.taskfile.lba ^= 1


def lba_high(command: AtaCommand) -> None:
    command.taskfile.lba ^= 1 << 16


def previous_lba(command: AtaCommand) -> None:
    command.taskfile.lba ^= 1 << 24


def count_after_pio(command: AtaCommand) -> None:
    if command.entry is not None and command.entry.protocol.pio:
        command.taskfile.count ^= 1


def count_after_dma_that_went_well(command: AtaCommand) -> None:
    if command.entry is not None and "DMA" in command.entry.protocol.value and not command.taskfile.error:
        command.taskfile.count ^= 1


def error(command: AtaCommand) -> None:
    if command.taskfile.error:
        command.taskfile.error ^= 0x02


def head(command: AtaCommand) -> None:
    command.taskfile.device ^= 0x01


DEFECTS: tuple[Defect, ...] = (
    lba_low,
    lba_high,
    previous_lba,
    count_after_pio,
    count_after_dma_that_went_well,
    error,
    head,
)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.__name__)
@pytest.mark.parametrize("name", ["ide-disk", "ahci-disk", "ide-pair"])
def test_a_wrong_register_after_a_command_is_found(
    monkeypatch: pytest.MonkeyPatch, name: str, defect: Defect, profile: Profile
) -> None:
    finish = AtaDevice.finish

    def broken(device: AtaDevice, command: AtaCommand) -> None:
        if not command.dropped and not command.queued:
            defect(command)
        finish(device, command)

    monkeypatch.setattr(AtaDevice, "finish", broken)
    device = DEVICES[name].under(profile)
    with device.with_qemu() as player:
        player.patience = 0.3
        played = (
            player.play(device.grammar.lower(random_actions(device, 1, number))) for number in range(MOST)
        )
        found = next((one for one in played if one and known(name, one, profile) is None), None)
    assert found is not None
