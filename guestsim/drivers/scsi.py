"""A SCSI initiator as an operating system is one: what commands answer, and the scan that finds the logical units.

Follows SPC-4 (sense data, INQUIRY, REPORT LUNS) and SBC-4 (READ CAPACITY); of how commands travel this knows nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from guestsim.drivers import cdb, mmc_cdb
from guestsim.drivers.cdb import Cdb
from guestsim.errors import GuestError

LONGEST_LIST = 8 + 8 * 16384
"""Bytes of the longest list of logical units that is believed."""
MAX_ATTENTIONS = 16
"""Unit attention conditions of one unit after which an initiator gives up."""
LONG = 0xFFFF_FFFF
DISK, DRIVE = 0x00, 0x05
"""Device types whose blocks can be counted."""
NO_MEDIUM = 0x3A
"""The additional sense code of an empty tray."""


class Status(IntEnum):
    """How a command ended (SAM-5 §5.3)."""

    GOOD = 0x00
    CHECK_CONDITION = 0x02
    CONDITION_MET = 0x04
    BUSY = 0x08
    RESERVATION_CONFLICT = 0x18
    TASK_SET_FULL = 0x28
    ACA_ACTIVE = 0x30
    TASK_ABORTED = 0x40


class SenseKey(IntEnum):
    """What kind of thing happened (SPC-4 §4.5.6)."""

    NO_SENSE = 0x0
    RECOVERED_ERROR = 0x1
    NOT_READY = 0x2
    MEDIUM_ERROR = 0x3
    HARDWARE_ERROR = 0x4
    ILLEGAL_REQUEST = 0x5
    UNIT_ATTENTION = 0x6
    DATA_PROTECT = 0x7
    BLANK_CHECK = 0x8
    COPY_ABORTED = 0xA
    ABORTED_COMMAND = 0xB
    VOLUME_OVERFLOW = 0xD
    MISCOMPARE = 0xE
    COMPLETED = 0xF


@dataclass(frozen=True, slots=True)
class Sense:
    """Sense data: key, additional code and qualifier, and the information where it is valid."""

    key: int
    asc: int
    ascq: int
    information: int | None = None
    deferred: bool = False

    def __str__(self) -> str:
        name = SenseKey(self.key).name.replace("_", " ") if self.key in set(SenseKey) else f"key {self.key}"
        return f"{name} {self.asc:02x}/{self.ascq:02x}"


def parse_sense(data: bytes) -> Sense | None:
    """Sense data of either format (SPC-4 §4.5); None where there is none."""
    if len(data) < 1:
        return None
    kind = data[0] & 0x7F
    if kind in (0x70, 0x71):
        data = data.ljust(18, b"\0")
        information = struct.unpack(">I", data[3:7])[0] if data[0] & 0x80 else None
        return Sense(data[2] & 0xF, data[12], data[13], information, kind == 0x71)
    if kind in (0x72, 0x73):
        data = data.ljust(8, b"\0")
        return Sense(data[1] & 0xF, data[2], data[3], _information(data[8:]), kind == 0x73)
    return None


def _information(descriptors: bytes) -> int | None:
    """That of an information descriptor (SPC-4 §4.5.2.2)."""
    while len(descriptors) >= 2:
        kind, length = descriptors[:2]
        if kind == 0 and len(descriptors) >= 12 and descriptors[2] & 0x80:
            return int(struct.unpack(">Q", descriptors[4:12])[0])
        descriptors = descriptors[2 + length :]
    return None


class Answer(Protocol):
    """What came of a command: whether it was delivered at all, its status, its sense data, its data."""

    @property
    def delivered(self) -> bool:
        """Whether a unit, or a target for it, has answered."""
        ...

    @property
    def status(self) -> int:
        """SAM-5 status."""
        ...

    @property
    def sense(self) -> Sense | None:
        """Sense data."""
        ...

    @property
    def data(self) -> bytes:
        """What was returned."""
        ...


class Port(Protocol):
    """An initiator port: the way of commands to logical units."""

    async def send(self, target: int, lun: int, command: Cdb, data: bytes = b"") -> Answer:
        """Send a command and wait for its answer."""
        ...


class ScsiError(GuestError):
    """A command that should have succeeded did not."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A logical unit as a scan has found it; `blocks` of `block_size` bytes, 0 where there is no medium of such."""

    target: int
    lun: int
    device_type: int
    vendor: str
    product: str
    revision: str
    blocks: int = 0
    block_size: int = 0
    pages: tuple[int, ...] = ()
    """Its pages of vital product data."""

    def __str__(self) -> str:
        size = f", {self.blocks} blocks of {self.block_size}" if self.block_size else ""
        return f"{self.target}:{self.lun} {self.vendor} {self.product}{size}"


def opcode_name(opcode: int) -> str:
    """What people call a command, or its number."""
    return cdb.NAMES.get(opcode) or mmc_cdb.NAMES.get(opcode, f"command {opcode:#04x}")


async def scan(port: Port, targets: Iterable[int]) -> list[Unit]:
    """Every logical unit of `targets`, asked what it is and made ready, as an operating system does when it starts."""
    found = []
    for target in targets:
        for lun in await _luns(port, target):
            unit = await look_at(port, target, lun)
            if unit is not None:
                found.append(unit)
    return found


async def _luns(port: Port, target: int) -> list[int]:
    """The LUNs that a target reports; none where nothing answers there."""
    answer = await port.send(target, 0, cdb.inquiry(allocation=36))
    if not answer.delivered:
        return []
    allocation = 4096
    while True:
        data = await _insist(port, target, 0, cdb.report_luns(allocation=allocation), 8)
        length = struct.unpack(">I", data[:4])[0] + 8
        if length <= allocation:
            break
        if length > LONGEST_LIST:
            raise ScsiError(
                f"REPORT LUNS of target {target} says {length} bytes, expected {LONGEST_LIST} at most"
            )
        allocation = length
    luns = [data[at : at + 8] for at in range(8, min(length, len(data)) - 7, 8)]
    return [struct.unpack(">H", lun[:2])[0] & 0x3FFF for lun in luns if lun[0] >> 6 < 2]


async def look_at(port: Port, target: int, lun: int) -> Unit | None:
    """Ask a unit what it is, and wait until it is ready; None where none is."""
    data = await _insist(port, target, lun, cdb.inquiry(allocation=36), 36)
    if data[4] + 5 > 36:
        data = await _insist(port, target, lun, cdb.inquiry(allocation=min(data[4] + 5, 252)), 36)
    if data[0] >> 5:
        # No unit can be there, or none is connected (SPC-4 §6.6.2).
        return None
    vendor, product, revision = (
        data[start:end].decode("ascii", "replace").strip() for start, end in ((8, 16), (16, 32), (32, 36))
    )
    kind = data[0] & 0x1F
    ready = await wait_until_ready(port, target, lun, empty=kind == DRIVE)
    blocks, size = await _capacity(port, target, lun) if ready and kind in (DISK, DRIVE) else (0, 0)
    pages = await vital_pages(port, target, lun)
    return Unit(target, lun, kind, vendor, product, revision, blocks, size, pages)


async def wait_until_ready(port: Port, target: int, lun: int, *, empty: bool = False) -> bool:
    """TEST UNIT READY until it succeeds: each unit attention condition is taken note of.

    False where there is no medium, which only with `empty` is no error.
    """
    for _ in range(MAX_ATTENTIONS):
        answer = await port.send(target, lun, cdb.test_unit_ready())
        if answer.delivered and answer.status == Status.GOOD:
            return True
        if empty and answer.sense is not None and answer.sense.asc == NO_MEDIUM:
            return False
        if answer.sense is None or answer.sense.key != SenseKey.UNIT_ATTENTION:
            raise ScsiError(f"{target}:{lun} is not ready: {answer.sense}")
    raise ScsiError(f"{target}:{lun} has more than {MAX_ATTENTIONS} unit attention conditions")


async def _capacity(port: Port, target: int, lun: int) -> tuple[int, int]:
    """Blocks and bytes of each, by the longer command where the shorter one cannot say it."""
    last, size = struct.unpack(">II", (await _insist(port, target, lun, cdb.read_capacity_10(), 8))[:8])
    if last == LONG:
        last, size = struct.unpack(">QI", (await _insist(port, target, lun, cdb.read_capacity_16(), 12))[:12])
    return last + 1, size


async def vital_pages(port: Port, target: int, lun: int) -> tuple[int, ...]:
    """The pages of vital product data that a unit says it has; each is read."""
    data = await _insist(port, target, lun, cdb.inquiry(page=0), 4)
    pages = tuple(data[4 : 4 + struct.unpack(">H", data[2:4])[0]])
    for page in pages:
        content = await _insist(port, target, lun, cdb.inquiry(page=page, allocation=1024), 4)
        if content[1] != page:
            raise ScsiError(f"{target}:{lun}: page {page:02x} says that it is {content[1]:02x}")
    return pages


async def _insist(port: Port, target: int, lun: int, command: Cdb, least: int = 0) -> bytes:
    """What a command returns, `least` bytes of it; ScsiError where it fails or is shorter."""
    answer = await port.send(target, lun, command)
    if not answer.delivered or answer.status != Status.GOOD:
        name = opcode_name(command.data[0])
        raise ScsiError(f"{name} to {target}:{lun} failed: {answer.sense or answer}")
    if len(answer.data) < least:
        name = opcode_name(command.data[0])
        raise ScsiError(f"{name} of {target}:{lun} returned {len(answer.data)} bytes, expected {least}")
    return answer.data
