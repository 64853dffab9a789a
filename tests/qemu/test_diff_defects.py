"""Defects that are put into our ATA devices and SCSI units: the comparison with a live QEMU finds each of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from devmodels.ata.command import AtaCommand
from devmodels.ata.device import AtaDevice
from devmodels.scsi.qemu.front import Front
from devmodels.scsi.task import Task
from devmodels.scsi.unit import LogicalUnit
from devmodels.virtio.ring import Chain
from guestsim.diff.profiles import PROFILES, Profile
from tests.defects import before, finishes, given

from .defects import is_found

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("qemu")]

Ended = Callable[[AtaCommand], None]
"""Changes what a command ends with."""


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


DEFECTS: tuple[Ended, ...] = (
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
    monkeypatch: pytest.MonkeyPatch, name: str, defect: Ended, profile: Profile
) -> None:
    def change(_device: AtaDevice, command: AtaCommand) -> None:
        if not command.dropped and not command.queued:
            defect(command)

    before(monkeypatch, AtaDevice, "finish", change)
    assert is_found(name, profile)


# --- SCSI

INQUIRY, MODE_SENSE_6, MODE_SENSE_10, READ_CAPACITY_16, LOG_SENSE = 0x12, 0x1A, 0x5A, 0x9E, 0x4D
READ_TOC, READ_DISC_INFORMATION = 0x43, 0x51
LBA_OUT_OF_RANGE = 0x21
MOST_OF_SCSI = 20000 // 30
"""Some of a hundred commands are rare."""

Answered = Callable[[bytes, bytearray], None]
"""Changes data that a command (its CDB) answers with."""


def flip(data: bytearray, at: int, bits: int = 1) -> None:
    if at < len(data):
        data[at] ^= bits


def inquiry_flags(cdb: bytes, data: bytearray) -> None:
    if cdb[:2] == bytes((INQUIRY, 0)):
        flip(data, 7, 0x02)


def removable(cdb: bytes, data: bytearray) -> None:
    if cdb[:2] == bytes((INQUIRY, 0)):
        flip(data, 1, 0x80)


def version(cdb: bytes, data: bytearray) -> None:
    """One of those that a mask is about."""
    if cdb[:2] == bytes((INQUIRY, 0)):
        flip(data, 2, 0x02)


def block_limits(cdb: bytes, data: bytearray) -> None:
    if cdb[:3] == bytes((INQUIRY, 1, 0xB0)):
        flip(data, 23)


def caching_page(cdb: bytes, data: bytearray) -> None:
    if cdb[0] in (MODE_SENSE_6, MODE_SENSE_10) and cdb[2] & 0x3F == 0x08:
        flip(data, len(data) - 1)


def control_page(cdb: bytes, data: bytearray) -> None:
    """One that QEMU does not have."""
    if cdb[0] in (MODE_SENSE_6, MODE_SENSE_10) and cdb[2] & 0x3F == 0x0A:
        flip(data, len(data) - 9)


def device_specific_parameter(cdb: bytes, data: bytearray) -> None:
    if cdb[0] == MODE_SENSE_10:
        flip(data, 3, 0x10)


def capacity(cdb: bytes, data: bytearray) -> None:
    if cdb[0] == READ_CAPACITY_16 and cdb[1] == 0x10:
        flip(data, 13)


def log_page(cdb: bytes, data: bytearray) -> None:
    if cdb[0] == LOG_SENSE:
        flip(data, len(data) - 1)


def capabilities_page(cdb: bytes, data: bytearray) -> None:
    if cdb[0] in (MODE_SENSE_6, MODE_SENSE_10) and cdb[2] & 0x3F == 0x2A:
        flip(data, len(data) - 30)


def table_of_contents(cdb: bytes, data: bytearray) -> None:
    if cdb[0] == READ_TOC:
        flip(data, 5)


def disc_information(cdb: bytes, data: bytearray) -> None:
    if cdb[0] == READ_DISC_INFORMATION:
        flip(data, 2)


OF_ALL: tuple[Answered, ...] = (inquiry_flags, removable, version)
OF_DISK: tuple[Answered, ...] = (
    *OF_ALL,
    block_limits,
    caching_page,
    control_page,
    device_specific_parameter,
    capacity,
    log_page,
)
OF_CD: tuple[Answered, ...] = (*OF_ALL, capabilities_page, table_of_contents, disc_information)
OURS_ALONE = (control_page, log_page)
"""What QEMU's disk does not have, nor ours under its profile."""
ANSWERED = (
    *(pytest.param("virtio-scsi", defect, id=f"disk-{defect.__name__}") for defect in OF_DISK),
    *(pytest.param("virtio-scsi-cd", defect, id=f"cd-{defect.__name__}") for defect in OF_CD),
)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("name", "defect"), ANSWERED)
def test_a_wrong_byte_of_what_a_unit_tells_is_found(
    monkeypatch: pytest.MonkeyPatch, name: str, defect: Answered, profile: Profile
) -> None:
    def change(one: object, task: Task, data: bytes | bytearray) -> tuple[object, Task, bytearray]:
        changed = bytearray(data)
        defect(task.cdb, changed)
        return one, task, changed

    kind, method = (Front, "send") if profile == "qemu" else (LogicalUnit, "answer")
    given(monkeypatch, kind, method, change)
    assert (profile == "qemu" and defect in OURS_ALONE) or is_found(name, profile, MOST_OF_SCSI)


@pytest.mark.parametrize("name", ["virtio-scsi", "virtio-scsi-cd"])
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    ("at", "value"), [(2, 0x03), (12, 0x22), (13, 0x01)], ids=["key", "code", "qualifier"]
)
def test_wrong_sense_data_of_a_block_that_is_not_there_are_found(
    monkeypatch: pytest.MonkeyPatch, name: str, at: int, value: int, profile: Profile
) -> None:
    def change(_unit: LogicalUnit, task: Task) -> None:
        if len(task.sense) > 13 and task.sense[12] == LBA_OUT_OF_RANGE:
            task.sense = task.sense[:at] + bytes((value,)) + task.sense[at + 1 :]

    before(monkeypatch, LogicalUnit, "finish", change)
    assert is_found(name, profile, MOST_OF_SCSI)


_HEADER, _RESPONSE = 51, 108


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    "has_data",
    [lambda chain: chain.readable_bytes > _HEADER, lambda chain: chain.writable_bytes > _RESPONSE],
    ids=["out", "in"],
)
def test_a_used_length_of_a_command_with_data_that_is_short_is_found(
    monkeypatch: pytest.MonkeyPatch, has_data: Callable[[Chain], bool], profile: Profile
) -> None:
    finishes(monkeypatch, lambda _, used: [(chain, length - has_data(chain)) for chain, length in used])
    assert is_found("virtio-scsi", profile, 1500 // 30)
