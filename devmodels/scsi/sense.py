"""Sense data: what a device server says of a command, or of itself (SPC-4 §4.5)."""

from __future__ import annotations

import msgspec

from devmodels.scsi.asc import Asc
from devmodels.scsi.constants import Failure, SenseKey
from devmodels.scsi.fields import Layout
from devmodels.scsi.layout import sense as layout

_FIXED = Layout(layout.FIXED)
_HEADER = Layout(layout.DESCRIPTOR_HEADER)
_INFORMATION = Layout(layout.INFORMATION)
_COMMAND_SPECIFIC = Layout(layout.COMMAND_SPECIFIC)
_KEY_SPECIFIC = Layout(layout.KEY_SPECIFIC)
_BLOCK_COMMANDS = Layout(layout.BLOCK_COMMANDS)
_FIELD_POINTER = Layout(layout.FIELD_POINTER)
_PROGRESS = Layout(layout.PROGRESS)

FIXED, DESCRIPTORS = 0x70, 0x72
"""RESPONSE CODE of current errors; that of deferred ones is one more."""
MAX_FIXED_INFORMATION = 0xFFFF_FFFF


class FieldPointer(msgspec.Struct, frozen=True):
    """The field that was wrong: its first byte in the CDB (or else in the parameter list), and its highest bit."""

    byte: int
    bit: int | None = None
    in_cdb: bool = True


class Sense(msgspec.Struct, frozen=True):
    """Sense data of the current command, or `deferred`: of one whose status has been sent already.

    `information`: an LBA, or an offset, as the command says.  `progress`: in 65536ths.  `ili`: INCORRECT LENGTH
    INDICATOR.  `failure`: what carriers that can say so tell instead.
    """

    key: SenseKey
    code: int = Asc.NO_ADDITIONAL_SENSE
    field: FieldPointer | None = None
    information: int | None = None
    command_specific: int | None = None
    progress: int | None = None
    ili: bool = False
    deferred: bool = False
    failure: Failure | None = None

    def build(self, *, descriptors: bool) -> bytes:
        """Its bytes, in the descriptor format (D_SENSE) or in the fixed one."""
        return self._descriptors() if descriptors else self._fixed()

    def _key_specific(self) -> bytes:
        """The three bytes that say more, if there are any."""
        if self.progress is not None:
            return _PROGRESS.pack(sksv=1, progress=min(self.progress, 0xFFFF))
        if self.field is not None:
            where = self.field
            has_bit = where.bit is not None
            return _FIELD_POINTER.pack(
                sksv=1,
                in_cdb=where.in_cdb,
                bpv=has_bit,
                bit_pointer=where.bit or 0,
                field_pointer=min(where.byte, 0xFFFF),
            )
        return b""

    def _fixed(self) -> bytes:
        information = self.information
        # What does not fit is not valid (SPC-4 §4.5.3, SBC-4 §4.18.1).
        valid = information is not None and information <= MAX_FIXED_INFORMATION
        return _FIXED.pack(
            valid=valid,
            response_code=FIXED + self.deferred,
            ili=self.ili,
            sense_key=self.key,
            information=information if valid and information is not None else 0,
            additional_length=_FIXED.size - 8,
            command_specific=self.command_specific or 0,
            code=self.code,
            key_specific=self._key_specific(),
        )

    def _descriptors(self) -> bytes:
        parts = []
        if self.information is not None:
            parts.append(_INFORMATION.pack(valid=1, information=self.information))
        if self.command_specific is not None:
            parts.append(_COMMAND_SPECIFIC.pack(command_specific=self.command_specific))
        more = self._key_specific()
        if more:
            parts.append(_KEY_SPECIFIC.pack(key_specific=more))
        if self.ili:
            parts.append(_BLOCK_COMMANDS.pack(ili=1))
        body = b"".join(parts)
        header = _HEADER.pack(
            response_code=DESCRIPTORS + self.deferred,
            sense_key=self.key,
            code=self.code,
            additional_length=len(body),
        )
        return header + body


NO_SENSE = Sense(SenseKey.NO_SENSE)


class CheckCondition(Exception):
    """A command ends with CHECK CONDITION and `sense`: raised by those who process commands, for the core alone."""

    def __init__(self, sense: Sense) -> None:
        super().__init__(sense)
        self.sense = sense


class Conflict(Exception):
    """A command ends with RESERVATION CONFLICT."""


def attention(code: Asc) -> Sense:
    """A unit attention condition."""
    return Sense(SenseKey.UNIT_ATTENTION, code)


def illegal(code: Asc) -> CheckCondition:
    """An illegal request, without a pointer to what is wrong."""
    return CheckCondition(Sense(SenseKey.ILLEGAL_REQUEST, code))


def not_ready(code: Asc, progress: int | None = None) -> CheckCondition:
    """The logical unit cannot do that now."""
    return CheckCondition(Sense(SenseKey.NOT_READY, code, progress=progress))


def invalid_field(layout: Layout, name: str) -> CheckCondition:
    """A field of the CDB has a value that is not for it."""
    place = layout.places[name]
    highest = place.shift + place.width - 1
    byte = place.offset + place.size - 1 - highest // 8
    whole = place.width == 8 * place.size
    pointer = FieldPointer(byte, None if whole else highest % 8)
    return CheckCondition(Sense(SenseKey.ILLEGAL_REQUEST, Asc.INVALID_FIELD_IN_CDB, pointer))


def invalid_parameter(
    byte: int, bit: int | None = None, code: Asc = Asc.INVALID_FIELD_IN_PARAMETER_LIST
) -> CheckCondition:
    """A field of the parameter list, at `byte`, has a value that is not for it."""
    pointer = FieldPointer(byte, bit, in_cdb=False)
    return CheckCondition(Sense(SenseKey.ILLEGAL_REQUEST, code, pointer))
