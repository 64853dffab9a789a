"""What a hostile initiator sends: known commands with any fields, and data that some of them would take."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from devmodels.scsi import Function, TaskAttribute
from devmodels.scsi.disk.commands import COMMANDS
from devmodels.scsi.table import Command
from tests.unit.scsi.initiator import BLOCKS

ATTRIBUTES = st.sampled_from(
    [TaskAttribute.SIMPLE] * 8
    + [TaskAttribute.ORDERED, TaskAttribute.HEAD_OF_QUEUE] * 2
    + [TaskAttribute.ACA]
)
LUNS = st.sampled_from([0] * 12 + [1, None, 1 << 48 | 1])
ROOM = st.sampled_from([0, 1, 8, 36, 255, 512, 4096, 70_000])
NUMBERS = st.one_of(
    st.integers(0, 8),
    st.integers(BLOCKS - 4, BLOCKS + 4),
    st.sampled_from([0x7FFF_FFFF, 0xFFFF_FFFF, 2**63, 2**64 - 1]),
)
RARELY = ("naca", "vendor_control", "protect", "desc", "immed")


@dataclass(frozen=True)
class Send:
    """A command of one of two initiators."""

    who: int
    cdb: bytes
    out: bytes
    room: int
    pieces: int
    attribute: TaskAttribute
    lun: int | None


@dataclass(frozen=True)
class Manage:
    """A task management function of one of two initiators."""

    who: int
    function: Function
    lun: int | None
    tag: int


def _numbers(draw: st.DrawFn, bits: int) -> int:
    return draw(NUMBERS) & (1 << bits) - 1


@st.composite
def ranges(draw: st.DrawFn) -> bytes:
    """For UNMAP."""
    count = draw(st.integers(0, 3))
    body = b"".join(struct.pack(">QI4x", _numbers(draw, 64), _numbers(draw, 32)) for _ in range(count))
    return struct.pack(">HH4x", len(body) + 6, len(body)) + body


@st.composite
def keys(draw: st.DrawFn) -> bytes:
    """For PERSISTENT RESERVE OUT."""
    key = st.sampled_from([0, 1, 2])
    return struct.pack(">QQ4xB3x", draw(key), draw(key), draw(st.sampled_from([0, 0, 1, 4, 8, 13])))


@st.composite
def pages(draw: st.DrawFn) -> bytes:
    """For MODE SELECT."""
    page = draw(
        st.sampled_from(
            [
                "0812" + draw(st.sampled_from(["04", "00", "05"])) + "00" * 17,
                "0a0a" + draw(st.sampled_from(["04", "00", "02"])) + "1000" + "40" + "00" * 6,
                "0a0a" + "041008" + "00" * 7,
                "1c0a" + draw(st.sampled_from(["0402", "0406", "0000"])) + "00" * 8,
                "5c02002c" + "00" * 12 + "8002000000000000" * 4,
            ]
        )
    )
    return bytes(draw(st.sampled_from([4, 8]))) + bytes.fromhex(page)


@st.composite
def copies(draw: st.DrawFn) -> bytes:
    """For EXTENDED COPY."""
    target = struct.pack(">BBHBBxB20sBB2s", 0xE4, 0, 0, 1, 3, 8, bytes(8), 0, 0, b"\x02\x00")
    segment = struct.pack(
        ">BBHHHxxHQQ", 2, 0, 24, draw(st.integers(0, 1)), 0, draw(st.integers(0, 9)), _numbers(draw, 64), 4
    )
    return struct.pack(">BBH4xII", 1, 0, len(target), len(segment), 0) + target + segment


@st.composite
def blocks(draw: st.DrawFn) -> bytes:
    """A few blocks."""
    return draw(st.binary(min_size=1, max_size=4).map(lambda part: part * 512))[
        : 512 * draw(st.integers(1, 4))
    ]


PARAMETERS: dict[int, st.SearchStrategy[bytes]] = {
    0x42: ranges(),
    0x5F: keys(),
    0x15: pages(),
    0x55: pages(),
    0x83: copies(),
}
ANYTHING = st.one_of(st.just(b""), st.binary(max_size=96), blocks())


@st.composite
def commands(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A CDB and data: those of a known command with some of its fields set, or any bytes."""
    if draw(st.integers(0, 11)) == 0:
        return draw(st.binary(max_size=40)), draw(ANYTHING)
    command: Command[Any] = draw(st.sampled_from(COMMANDS))
    out = draw(PARAMETERS.get(command.opcode, ANYTHING) if draw(st.integers(0, 3)) else ANYTHING)
    layout = command.layout
    values: dict[str, int] = {"opcode": command.opcode}
    for name, place in layout.places.items():
        if name == "opcode" or draw(st.integers(0, 2)) == 0 or (name in RARELY and draw(st.integers(0, 7))):
            continue
        values[name] = draw(st.one_of(NUMBERS, st.integers(0, (1 << place.width) - 1)))
    if command.action is not None:
        values["service_action"] = command.action
    if "parameter_list_length" in layout.places and draw(st.integers(0, 3)):
        values["parameter_list_length"] = len(out)
    if "pf" in layout.places and draw(st.integers(0, 3)):
        values["pf"] = 1
    data = bytearray(layout.pack(**values))
    if draw(st.integers(0, 15)) == 0:
        data[draw(st.integers(0, len(data) - 1))] ^= 1 << draw(st.integers(0, 7))
    padding = draw(st.sampled_from([0, max(0, 16 - len(data)), max(0, 32 - len(data))]))
    return bytes(data) + bytes(padding), out


@st.composite
def steps(draw: st.DrawFn) -> Send | Manage:
    """One thing that one of two initiators does."""
    who = draw(st.integers(0, 1))
    if draw(st.integers(0, 15)) == 0:
        return Manage(who, draw(st.sampled_from(list(Function))), draw(LUNS), draw(st.integers(0, 12)))
    cdb, out = draw(commands())
    return Send(who, cdb, out, draw(ROOM), draw(st.integers(1, 3)), draw(ATTRIBUTES), draw(LUNS))
