"""SCT Command Transport (ACS-3 §8): commands in key sectors that are written to log E0h, data by log E1h.

A key sector has an action, a function and what these want, a word each; the log reads as what became of it.  What a
command returns is in its count and LBA 7:0, how many blocks of data there are to move in LBA 23:8; a command that is
refused has there why (`Status`).  WRITE SAME is done before its command ends, also where it might go on behind it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, NoReturn

from devmodels.ata.command import AtaCommand, AtaError
from devmodels.ata.constants import BLOCK, Error
from devmodels.ata.disk import power
from devmodels.ata.disk.requests import AtaRequest
from devmodels.ata.transfer import DataIn, DataOut
from devmodels.blockbackend import Flags, Op
from devmodels.iocontext import Coro

if TYPE_CHECKING:
    from devmodels.ata.disk.disk import AtaDisk

COMMAND, DATA = 0xE0, 0xE1
"""The logs."""
LOGS = (COMMAND, DATA)
FORMAT, VERSION, LEVEL = 3, 1, 1
WRITE_SAME, ERROR_RECOVERY, FEATURE_CONTROL, DATA_TABLE = 2, 3, 4, 5
"""Actions."""
SUPPORTED = 0x3D
"""Word 206 of IDENTIFY DEVICE: all of them."""
PATTERN, SECTOR, FOREGROUND = 0x0001, 0x0002, 0x0100
"""Functions of WRITE SAME: 32 bits that are repeated, or a sector; errors are told by the command, or its status."""
SAME_FUNCTIONS = 0x0303_0000
"""Which of these there are, as the log of IDENTIFY DEVICE data has it (ACS-4)."""
SET, RETURN, OPTIONS = 1, 2, 3
"""Functions of error recovery and feature control."""
WRITE_CACHE, REORDERING, INTERVAL = 1, 2, 3
"""Features that can be controlled: how far states go is in `STATES`."""
STATES = {WRITE_CACHE: 3, REORDERING: 2, INTERVAL: 0xFFFF}
BY_SET_FEATURES, FORCED_ON = 1, 2
"""States of the write cache; 3: forced off."""
DEFAULTS = {WRITE_CACHE: BY_SET_FEATURES, REORDERING: 1, INTERVAL: 1}
TEMPERATURE_HISTORY = 2
"""The one table."""
HISTORY, NO_TEMPERATURE = 128, 0x80
"""How many temperatures it has; one that was not measured."""
DEGREES, LEAST, MOST = 30, 0, 60
PIECE, ZEROES = 1 << 20, 1 << 30
"""How much is written at a time, and how much is zeroed, in bytes."""
PASSING, FAILING = 0xC24F, 0x2CF4
"""What SMART RETURN STATUS says."""


class Status(IntEnum):
    """Extended status codes (ACS-3 §8.2)."""

    GOOD = 0x0000
    BAD_FUNCTION = 0x0001
    BAD_LBA = 0x0002
    BAD_COUNT = 0x0003
    BAD_RECOVERY_FUNCTION = 0x0004
    BAD_SELECTION = 0x0005
    BACKGROUND_FAILED = 0x0009
    NO_COMMAND = 0x000B
    BAD_CONTROL_FUNCTION = 0x000C
    BAD_FEATURE = 0x000D
    BAD_STATE = 0x000E
    BAD_OPTIONS = 0x000F
    BAD_ACTION = 0x0010
    BAD_TABLE = 0x0011
    LOCKED = 0x0012
    FOREGROUND_FAILED = 0x0014


class SctError(Exception):
    """A command is refused."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.name)
        self.status = status


class Sct:
    """What hosts have set; the last command, `waiting` for its data where there is some: its key sector.

    `timers` are those of reads and writes, in 100 ms; 0: none.  `kept` are states that outlive a loss of power.
    """

    __slots__ = ("action", "function", "kept", "since_ns", "states", "status", "timers", "waiting")

    def __init__(self, now_ns: int) -> None:
        self.kept = dict(DEFAULTS)
        self.action = self.function = self.status = 0
        self.power_on(now_ns)

    def power_on(self, now_ns: int) -> None:
        """What was set to be kept holds, and nothing else."""
        self.states = dict(self.kept)
        self.timers = [0, 0]
        self.waiting = b""
        self.since_ns = now_ns
        """Since when temperatures are logged."""

    def write_cache(self, chosen: bool) -> bool:
        """Whether it is on, where SET FEATURES has chosen so."""
        state = self.states[WRITE_CACHE]
        return chosen if state == BY_SET_FEATURES else state == FORCED_ON


# --- log E0h


def status_page(disk: AtaDisk) -> bytes:
    """SCT status (ACS-3 §8.2.5)."""
    sct = disk.sct
    mode = {power.STANDBY: 1, power.SLEEP: 2}.get(disk.power_mode, 0)
    page = bytearray(BLOCK)
    struct.pack_into("<HHHIB", page, 0, FORMAT, VERSION, LEVEL, 0, 3 if disk.smart.running else mode)
    struct.pack_into("<HHH", page, 14, sct.status, sct.action, sct.function)
    struct.pack_into("<6B", page, 200, *[DEGREES] * 5, MOST)
    struct.pack_into("<H", page, 214, FAILING if disk.failing else PASSING)
    return bytes(page)


def wanted(disk: AtaDisk, command: AtaCommand, address: int, page: int, count: int) -> DataOut:
    """A write to one of the logs: a key sector, or the data of the command in one; AtaError."""
    if command.queued or page:
        raise AtaError(Error.ABRT)
    if address == COMMAND:
        if count != 1:
            raise AtaError(Error.ABRT)
        return DataOut(BLOCK, _key_sector)
    waiting = disk.sct.waiting
    if _words(waiting)[0] != WRITE_SAME:
        _refuse(disk, command, Status.NO_COMMAND)
    if count * BLOCK != disk.sector_size:
        _refuse(disk, command, Status.BAD_COUNT)
    return DataOut(count * BLOCK, _data)


def read(disk: AtaDisk, command: AtaCommand, address: int) -> bytes:
    """What is read of one of the logs; AtaError."""
    if address == COMMAND:
        return status_page(disk)
    if command.queued:
        raise AtaError(Error.ABRT)
    waiting, disk.sct.waiting = disk.sct.waiting, b""
    if _words(waiting)[0] != DATA_TABLE:
        _refuse(disk, command, Status.NO_COMMAND)
    return _history(disk)


def _words(key: bytes) -> tuple[int, ...]:
    return struct.unpack_from("<6H", key) if key else (0,) * 6


def _key_sector(disk: AtaDisk, command: AtaCommand, data: bytes) -> Coro[None] | None:
    sct = disk.sct
    action, function = _words(data)[:2]
    sct.action, sct.function, sct.waiting = action, function, b""
    handler = _ACTIONS.get(action)
    try:
        if handler is None:
            raise SctError(Status.BAD_ACTION)
        rest = handler(disk, command, data)
    except SctError as error:
        _refuse(disk, command, error.status)
    sct.status = Status.GOOD
    return rest


def _refuse(disk: AtaDisk, command: AtaCommand, status: Status) -> NoReturn:
    disk.sct.status = status
    _answer(command, status)
    raise AtaError(Error.ABRT)


def _answer(command: AtaCommand, value: int, blocks: int = 0) -> None:
    taskfile = command.taskfile
    taskfile.count = value & 0xFF
    taskfile.lba = value >> 8 & 0xFF | blocks << 8


# --- actions


def _write_same(disk: AtaDisk, command: AtaCommand, key: bytes) -> Coro[None] | None:
    """WRITE SAME (ACS-3 §8.3.4): a pattern, or the sector that the next write to log E1h brings."""
    function = _words(key)[1]
    if function & ~FOREGROUND not in (PATTERN, SECTOR):
        raise SctError(Status.BAD_FUNCTION)
    if disk.security.locked:
        raise SctError(Status.LOCKED)
    lba, count = _extent(disk, key)
    if function & SECTOR:
        disk.sct.waiting = key
        _answer(command, 0, disk.sector_size // BLOCK)
        return None
    (pattern,) = struct.unpack_from("<4s", key, 20)
    return _fill(disk, command, lba, count, pattern * (disk.sector_size // 4))


def _extent(disk: AtaDisk, key: bytes) -> tuple[int, int]:
    """First sector and number of sectors; a count of 0 reaches to the end."""
    lba, count = struct.unpack_from("<QQ", key, 4)
    if lba >= disk.accessible or lba + count > disk.accessible:
        raise SctError(Status.BAD_LBA)
    return lba, count or disk.accessible - lba


async def _data(disk: AtaDisk, command: AtaCommand, data: bytes) -> None:
    try:
        await _fill(disk, command, *_extent(disk, disk.sct.waiting), data)
    except SctError as error:
        _refuse(disk, command, error.status)
    finally:
        # Not before: one that is held is begun again where a snapshot is restored.
        disk.sct.waiting = b""


async def _fill(disk: AtaDisk, command: AtaCommand, lba: int, count: int, sector: bytes) -> None:
    """All sectors become this one."""
    disk.medium_wanted()
    offset, end = lba * disk.sector_size, (lba + count) * disk.sector_size
    zeroes = not any(sector)
    vector = memoryview(b"" if zeroes else sector * (min(PIECE, end - offset) // len(sector)))
    _answer(command, 0)
    while offset < end and not command.dropped:
        length = min(ZEROES if zeroes else len(vector), end - offset)
        if zeroes:
            request = AtaRequest(Op.WRITE_ZEROES, offset, length, (), Flags.MAY_UNMAP)
        else:
            request = AtaRequest(Op.WRITE, offset, length, (vector[:length],), Flags.NONE)
        if await disk.perform(command, request):
            if disk.sct.function & FOREGROUND:
                _refuse(disk, command, Status.FOREGROUND_FAILED)
            disk.sct.status = Status.BACKGROUND_FAILED
            return
        disk.written(offset, length)
        offset += length


def _error_recovery(disk: AtaDisk, command: AtaCommand, key: bytes) -> None:
    """Error recovery control (ACS-3 §8.3.2): timers that are kept, for nothing here takes as long."""
    function, selection, value = _words(key)[1:4]
    if function not in (SET, RETURN):
        raise SctError(Status.BAD_RECOVERY_FUNCTION)
    if selection not in (1, 2):
        raise SctError(Status.BAD_SELECTION)
    if function == SET:
        disk.sct.timers[selection - 1] = value
    _answer(command, disk.sct.timers[selection - 1] if function == RETURN else 0)


def _feature_control(disk: AtaDisk, command: AtaCommand, key: bytes) -> Coro[None] | None:
    """Feature control (ACS-3 §8.3.3): the write cache beyond SET FEATURES, reordering, the interval of temperatures."""
    function, feature, state, flags = _words(key)[1:5]
    sct = disk.sct
    if function not in (SET, RETURN, OPTIONS):
        raise SctError(Status.BAD_CONTROL_FUNCTION)
    if feature not in STATES:
        raise SctError(Status.BAD_FEATURE)
    if function != SET:
        kept = int(sct.kept[feature] != DEFAULTS[feature])
        _answer(command, sct.states[feature] if function == RETURN else kept)
        return None
    if not 1 <= state <= STATES[feature]:
        raise SctError(Status.BAD_STATE)
    if flags & ~1:
        raise SctError(Status.BAD_OPTIONS)
    sct.states[feature] = state
    if flags & 1:
        sct.kept[feature] = state
    _answer(command, 0)
    if feature == INTERVAL:
        sct.since_ns = disk.turns.now_ns()
    return _force(disk, command) if feature == WRITE_CACHE and state != BY_SET_FEATURES else None


async def _force(disk: AtaDisk, command: AtaCommand) -> None:
    on = disk.sct.states[WRITE_CACHE] == FORCED_ON
    if not on and disk.backend.write_cache:
        await disk.flush(command)
    disk.backend.write_cache = on


def _data_table(disk: AtaDisk, command: AtaCommand, key: bytes) -> None:
    """Data tables (ACS-3 §8.3.1): the history of temperatures, which log E1h has then."""
    function, table = _words(key)[1:3]
    if function != 1:
        raise SctError(Status.BAD_FUNCTION)
    if table != TEMPERATURE_HISTORY:
        raise SctError(Status.BAD_TABLE)
    disk.sct.waiting = key
    _answer(command, 0, 1)


def _history(disk: AtaDisk) -> bytes:
    """As many temperatures as there was time for; the newest one is at the index."""
    sct = disk.sct
    interval = sct.states[INTERVAL]
    taken = (disk.turns.now_ns() - sct.since_ns) // (interval * power.MINUTE) + 1
    page = bytearray(BLOCK)
    limits = (MOST, MOST, LEAST, LEAST)
    struct.pack_into("<HHH4B", page, 0, 2, 1, interval, *limits)
    struct.pack_into("<HH", page, 30, HISTORY, (taken - 1) % HISTORY)
    page[34 : 34 + HISTORY] = bytes((NO_TEMPERATURE,)) * HISTORY
    known = min(taken, HISTORY)
    page[34 : 34 + known] = bytes((DEGREES,)) * known
    return bytes(page)


Action = Callable[["AtaDisk", AtaCommand, bytes], "Coro[None] | None"]
_ACTIONS: dict[int, Action] = {
    WRITE_SAME: _write_same,
    ERROR_RECOVERY: _error_recovery,
    FEATURE_CONTROL: _feature_control,
    DATA_TABLE: _data_table,
}


def data_in(disk: AtaDisk, command: AtaCommand, address: int, page: int, count: int) -> DataIn:
    """A read of one of the logs, which have one page each; AtaError."""
    if page or count != 1:
        raise AtaError(Error.ABRT)
    return DataIn(read(disk, command, address))
