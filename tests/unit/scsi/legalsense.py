"""Which sense data each command may end with: its format, its sense key and code, and what it points at.

By what a command is (SPC-4 §4.5, §6; SBC-4 §5), and by name where one has reasons of its own.  Written for the tests:
the units know nothing of it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from typing import Any

from devmodels.scsi.table import Command, Data

Reason = tuple[int, int]
"""Sense key, and additional sense code with its qualifier."""

NOT_READY, MEDIUM, HARDWARE, ILLEGAL, ATTENTION = 2, 3, 4, 5, 6
PROTECT, COPY_ABORTED, ABORTED, MISCOMPARE = 7, 0xA, 0xB, 0xE

INVALID_FIELD = ILLEGAL, 0x2400
INVALID_OPCODE = ILLEGAL, 0x2000
NO_UNIT = ILLEGAL, 0x2500
INVALID_MESSAGE = ILLEGAL, 0x4900
NO_SENSE = 0, 0x0000
OUT_OF_RANGE = ILLEGAL, 0x2100
DIFFERS = MISCOMPARE, 0x1D00

ATTENTIONS = {
    (ATTENTION, code)
    for code in (
        0x2800,
        0x2900,
        0x2903,
        0x2907,
        0x2A01,
        0x2A03,
        0x2A04,
        0x2A05,
        0x2A09,
        0x2C07,
        0x2C08,
        0x2C09,
        0x2F00,
        0x3807,
        0x3F0E,
        0x5DFF,
    )
}
IN_PROGRESS = {(NOT_READY, 0x0404), (NOT_READY, 0x041B)}
UNREADY = {*IN_PROGRESS, (NOT_READY, 0x0402), (NOT_READY, 0x3A00), (MEDIUM, 0x3100), (MEDIUM, 0x3103)}
NEVER_REFUSED = {"INQUIRY", "REPORT LUNS", "REQUEST SENSE", "LOG SENSE"}
"""They are answered whatever is done to the medium; LOG SENSE not while it is formatted."""
PARAMETERS = {(ILLEGAL, 0x1A00), (ILLEGAL, 0x2600)}
PROTECTED = {(PROTECT, 0x2700), (PROTECT, 0x2702)}
FAILURES = {
    (MEDIUM, 0x1100),
    (MEDIUM, 0x0C00),
    (PROTECT, 0x2707),
    (ABORTED, 0x0000),
    (ABORTED, 0x0800),
    (HARDWARE, 0x4400),
}
"""What the disk's own failures become."""

COPY = {(ILLEGAL, code) for code in (0x0016, 0x2606, 0x2607, 0x2608, 0x2609, 0x260B)} | {
    (COPY_ABORTED, code) for code in (0x0000, 0x0D01, 0x0D02)
}
SPECIAL: dict[str, set[Reason]] = {
    "READ BUFFER": {(ILLEGAL, 0x2C00)},
    "START STOP UNIT": {(ILLEGAL, 0x5302)},
    "FORMAT UNIT": {(MEDIUM, 0x3101)},
    "SANITIZE": {(MEDIUM, 0x3103)},
    "EXTENDED COPY (LID1)": COPY,
    "PERSISTENT RESERVE OUT, RELEASE": {(ILLEGAL, 0x2604)},
    "SET PRIORITY": {(ILLEGAL, 0x5503)},
    **{f"MODE SENSE ({size})": {(ILLEGAL, 0x3900)} for size in (6, 10)},
    **{f"VERIFY ({size})": {DIFFERS} for size in (10, 12, 16)},
    **{f"WRITE AND VERIFY ({size})": {DIFFERS} for size in (10, 12, 16)},
    "COMPARE AND WRITE": {DIFFERS},
    **{
        f"PERSISTENT RESERVE OUT, {action}": {(ILLEGAL, 0x5504)}
        for action in ("REGISTER", "REGISTER AND IGNORE EXISTING KEY", "REGISTER AND MOVE")
    },
}
ADDRESSES = ("lba", "lba_15_0", "number_of_blocks", "parameter_list_length")
"""Fields that a command has which may name blocks that are not there."""
NEEDS_MEDIUM = frozenset(
    bytes.fromhex(
        "00 04 08 0a 1b 25 28 2a 2e 2f 34 35 37 41 42 48 83 88 89 8a 8b 8e 8f 90 91 93 9c 9e a8 aa ae af b7"
    )
)
"""Operation codes of a disk that say where there is no medium, or none to be used."""
WRITES = frozenset(bytes.fromhex("04 0a 2a 2e 41 42 48 89 8a 8b 8e 93 9c aa ae"))
"""Those that say that the medium cannot be written."""


NEVER_READY = {"TEST UNIT READY", "START STOP UNIT"}
"""Commands of a drive that say what is the matter although they need no medium."""
WRONG_MODE, INCOMPATIBLE = (ILLEGAL, 0x6400), (ILLEGAL, 0x3002)
NO_MEDIUM = {(NOT_READY, code) for code in (0x3A01, 0x3A02, 0x0401, 0x3000)}
SPECIAL_OF_DRIVES: dict[str, set[Reason]] = {
    "START STOP UNIT": {(ILLEGAL, 0x5302), (NOT_READY, 0x5302)},
    "PAUSE/RESUME": {(ILLEGAL, 0x2C00)},
    "READ (10)": {WRONG_MODE},
    "READ (12)": {WRONG_MODE},
    "READ CD": {WRONG_MODE, INCOMPATIBLE},
    "READ CD MSF": {WRONG_MODE, INCOMPATIBLE, OUT_OF_RANGE},
    "PLAY AUDIO (10)": {WRONG_MODE, INCOMPATIBLE},
    "PLAY AUDIO (12)": {WRONG_MODE, INCOMPATIBLE},
    "PLAY AUDIO MSF": {WRONG_MODE, INCOMPATIBLE, OUT_OF_RANGE},
    "READ SUB-CHANNEL": {INCOMPATIBLE},
    "READ DISC STRUCTURE": {INCOMPATIBLE},
    "READ TRACK INFORMATION": {OUT_OF_RANGE},
    "GET PERFORMANCE": {OUT_OF_RANGE},
    **{f"MODE SENSE ({size})": {(ILLEGAL, 0x3900)} for size in (6, 10)},
}


@cache
def reasons(command: Command[Any], *, drive: bool = False) -> frozenset[Reason]:
    """What `command` may end with, as far as the disk does not fail; `drive`: of a CD drive."""
    special = SPECIAL_OF_DRIVES if drive else SPECIAL
    out = {INVALID_FIELD, *special.get(command.name, ()), *special.get(command.name.partition(",")[0], ())}
    if command.attention:
        out |= ATTENTIONS
    if drive:
        out |= NO_MEDIUM if command.ready or command.name in NEVER_READY else set()
    elif command.opcode in NEEDS_MEDIUM:
        out |= UNREADY
    elif command.name not in NEVER_REFUSED - {"LOG SENSE"}:
        out |= IN_PROGRESS
    if command.data is Data.OUT and command.length in ("parameter_list_length", ""):
        out |= PARAMETERS
    if command.name == "WRITE BUFFER":
        out |= PARAMETERS
    if not drive and command.opcode in WRITES:
        out |= PROTECTED
    if any(name in command.layout.places for name in ADDRESSES):
        out.add(OUT_OF_RANGE)
    return frozenset(out)


@dataclass(frozen=True)
class Parsed:
    """Sense data, in either format."""

    deferred: bool
    key: int
    code: int
    information: int | None
    specific: bytes
    """The three sense-key specific bytes; zeroes where there are none."""

    @property
    def reason(self) -> Reason:
        """Key and code."""
        return self.key, self.code


def parse(sense: bytes) -> Parsed:
    """Sense data; AssertionError where its lengths do not agree or something is set that is reserved (SPC-4 §4.5)."""
    response = sense[0] & 0x7F
    assert response in (0x70, 0x71, 0x72, 0x73), sense.hex()
    if response < 0x72:
        assert len(sense) == 8 + sense[7] == 18
        assert not sense[1]
        assert not sense[2] & 0xD0, "FILEMARK, EOM or SDAT_OVFL"
        information = int.from_bytes(sense[3:7], "big") if sense[0] & 0x80 else None
        assert information is not None or not any(sense[3:7])
        return Parsed(response == 0x71, sense[2] & 0xF, sense[12] << 8 | sense[13], information, sense[15:18])
    assert len(sense) == 8 + sense[7]
    assert not any(sense[4:7])
    assert not sense[0] & 0x80
    assert not sense[1] & 0xF0
    return _parse_descriptors(sense, response)


def _parse_descriptors(sense: bytes, response: int) -> Parsed:
    information, specific, at = None, bytes(3), 8
    seen = []
    while at < len(sense):
        kind, length = sense[at], sense[at + 1]
        body = sense[at + 2 : at + 2 + length]
        assert len(body) == length
        assert kind not in seen
        seen.append(kind)
        assert length == {0: 10, 1: 10, 2: 6, 5: 2}[kind]
        if kind == 0:
            assert body[:2] == b"\x80\0"
            information = int.from_bytes(body[2:], "big")
        elif kind == 2:
            specific = body[2:5]
        at += 2 + length
    return Parsed(response == 0x73, sense[1] & 0xF, sense[2] << 8 | sense[3], information, specific)


def check(
    sense: bytes,
    cdb: bytes,
    given: int,
    command: Command[Any] | None,
    *,
    failing: bool,
    drive: bool = False,
) -> Reason:
    """AssertionError where `cdb`, with `given` bytes of data, may not end with this sense data; its key and code.

    `command`: what the CDB is; None where it is none.  `failing`: whether the disk fails.  `drive`: of a CD drive.
    """
    parsed = parse(sense)
    reason = parsed.reason
    if parsed.deferred:
        # A disk that is resized cannot be formatted meanwhile.
        assert failing or reason == (MEDIUM, 0x3101)
        assert reason in FAILURES | {(MEDIUM, 0x3101)}
        return reason
    legal = {INVALID_MESSAGE}
    legal |= (
        {INVALID_OPCODE, INVALID_FIELD, NO_UNIT, *IN_PROGRESS}
        if command is None
        else reasons(command, drive=drive)
    )
    if command is not None and failing:
        legal |= FAILURES
    assert reason in legal, f"{reason[0]:x}/{reason[1]:04x}"
    _check_pointer(parsed, cdb, given)
    if reason == OUT_OF_RANGE and sense[0] & 0x7F == 0x72:
        assert parsed.information is not None
    if parsed.information is not None:
        # Of a medium error, and of a sector of another type: the first block that could not be read or written.
        assert reason in (OUT_OF_RANGE, DIFFERS, WRONG_MODE) or reason[0] == MEDIUM
    return reason


def _check_pointer(parsed: Parsed, cdb: bytes, given: int) -> None:
    """It points at a field that was there, or says how far something is."""
    flags, value = struct.unpack(">BH", parsed.specific)
    if not flags & 0x80:
        assert parsed.specific == bytes(3)
    elif parsed.reason in IN_PROGRESS:
        assert flags == 0x80
    else:
        assert parsed.key == ILLEGAL
        assert not flags & 0x30
        assert flags & 0x08 or not flags & 0x07
        assert value <= (len(cdb) if flags & 0x40 else given)
