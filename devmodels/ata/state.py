"""What an ATA device knows beyond its medium, as plain data: for snapshots.

Commands in flight are their host adapter's part; they start anew.  Where a reset waits for them, it is over then.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec

from devmodels.ata.constants import Reset
from devmodels.ata.modes import MULTIWORD_MODES, ULTRA_MODES
from devmodels.ata.taskfile import TaskFile

Byte = Annotated[int, msgspec.Meta(ge=0, lt=1 << 8)]
Word = Annotated[int, msgspec.Meta(ge=0, lt=1 << 16)]
Dword = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
Tag = Annotated[int, msgspec.Meta(ge=0, lt=32)]
Lba = Annotated[int, msgspec.Meta(ge=0, lt=1 << 48)]


class TaskFileState(msgspec.Struct, frozen=True):
    """A `TaskFile`, field by field."""

    command: Byte
    features: Word
    count: Word
    lba: Lba
    device: Byte
    icc: Byte
    auxiliary: Dword
    status: Byte
    error: Byte

    @classmethod
    def of(cls, taskfile: TaskFile) -> TaskFileState:
        """What is in `taskfile`."""
        return cls(*(getattr(taskfile, name) for name in cls.__struct_fields__))

    def taskfile(self) -> TaskFile:
        """The opposite."""
        made = TaskFile()
        for name in self.__struct_fields__:
            setattr(made, name, getattr(self, name))
        return made


class ModesState(msgspec.Struct, frozen=True):
    """`TransferModes`, field by field."""

    multiword: Annotated[int, msgspec.Meta(ge=-1, lt=MULTIWORD_MODES)]
    ultra: Annotated[int, msgspec.Meta(ge=-1, lt=ULTRA_MODES)]


class AtaState(msgspec.Struct, frozen=True, kw_only=True):
    """`registers`: what the device shows of itself.  `resets`: those that wait for what runs, in order."""

    registers: TaskFileState
    resets: list[Reset] = []


S = TypeVar("S")


def decode(data: bytes, kind: type[S], what: str = "an ATA device") -> S:
    """The state in `data`; ValueError where there is none of that kind."""
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ValueError(f"not the state of {what}: {error}") from None
