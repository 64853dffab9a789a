"""What a hostile initiator sends: known commands with any fields, lengths and data, and task management.

Everything comes from one seed, in plain numbers: a hundred thousand commands take seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from devmodels.scsi import Function, TaskAttribute
from devmodels.scsi.table import Command, Data
from tests.unit.scsi.kinds import Kind
from tests.unit.scsi.parameterdata import VALUES, number

ATTRIBUTES = (
    *[TaskAttribute.SIMPLE] * 12,
    *[TaskAttribute.ORDERED, TaskAttribute.HEAD_OF_QUEUE] * 3,
    TaskAttribute.ACA,
)
FUNCTIONS = tuple(Function)
NO_LUN = (1, None, 1 << 48 | 1)
BLOCK_SIZES = (512, 512, 1024, 2048, 4096)
NOISE = Random(1).randbytes(1 << 17)
"""Data to write: any piece of this."""

LENGTHS = ("transfer_length", "number_of_blocks", "blocks_15_0")
RARELY = (
    *("naca", "protect", "mode_specific", "anchor", "znr", "fmtpinfo", "report_type", "ppc", "pf", "longid"),
    *("third_party", "self_test_code", "sp", "longlist", "cmplst", "format_layer", "fl", "agid", "open"),
)
"""Fields whose being set mostly ends a command."""


@dataclass(frozen=True)
class Send:
    """A command of one of two initiators, with data `out` and `room` for more, which come in `pieces`."""

    who: int
    cdb: bytes
    out: bytes
    room: int
    pieces: int
    attribute: TaskAttribute
    elsewhere: bool
    lun: int | None

    def __repr__(self) -> str:
        lun = f" to LUN {self.lun}" if self.elsewhere else ""
        out = f", {len(self.out)} bytes {self.out[:64].hex(' ')}" if self.out else ""
        return f"{self.who}: {self.cdb.hex(' ')}{lun} {self.attribute.name}, room for {self.room}{out}"


@dataclass(frozen=True)
class Manage:
    """A task management function of one of two initiators."""

    who: int
    function: Function
    elsewhere: bool
    lun: int | None
    tag: int


@dataclass(frozen=True)
class Wait:
    """Everything that runs ends."""


@dataclass(frozen=True)
class Deed:
    """Something that the host does to the unit."""

    what: str
    number: int


Step = Send | Manage | Wait | Deed


@cache
def _shape(command: Command[Any]) -> tuple[int, int, Sequence[tuple[str, int, int]]]:
    """Operation code and service action in their place, the size, and the other fields: name, shift, width."""
    layout = command.layout
    size = layout.size
    base = command.opcode << 8 * (size - 1)
    fields = []
    for name, place in layout.places.items():
        shift = place.shift + 8 * (size - place.offset - place.size)
        if name == "service_action" and command.action is not None:
            base |= command.action << shift
        elif name != "opcode":
            fields.append((name, shift, place.width))
    return base, size, fields


class Initiators:
    """Steps of two initiators of units of one kind: of few of its commands, often, so that they meet; or of all."""

    def __init__(self, kind: Kind, random: Random) -> None:
        self.kind = kind
        self.random = random
        self.block_size = self.random.choice(BLOCK_SIZES)
        most = len(kind.commands)
        some = self.random.sample(kind.commands, min(most, self.random.choice((2, 6, 20, most))))
        few = {command.opcode for command in some}
        self.commands = [command for command in kind.commands if command.opcode in few]

    def steps(self, count: int) -> Iterator[Step]:
        """`count` of them, and nothing is waited for at the end."""
        random = self.random
        for _ in range(count):
            dice = random.random()
            if dice < 0.03:
                yield Wait()
            elif dice < 0.06:
                yield self._manage()
            elif dice < 0.08 and self.kind.deeds:
                yield Deed(random.choice(self.kind.deeds), random.getrandbits(32))
            else:
                yield self._send()

    def _manage(self) -> Manage:
        random = self.random
        return Manage(
            random.randrange(2),
            random.choice(FUNCTIONS),
            random.random() < 0.1,
            random.choice(NO_LUN),
            random.randrange(64),
        )

    def _send(self) -> Send:
        random = self.random
        cdb, out, room = self._random_bytes() if random.random() < 0.04 else self._known()
        return Send(
            random.randrange(2),
            cdb,
            out,
            room,
            random.choice((1, 1, 2, 3)),
            random.choice(ATTRIBUTES),
            random.random() < 0.03,
            random.choice(NO_LUN),
        )

    def _random_bytes(self) -> tuple[bytes, bytes, int]:
        random = self.random
        return random.randbytes(random.randrange(40)), random.randbytes(random.randrange(96)), self._room()

    def _room(self) -> int:
        return self.random.choice((0, 1, 8, 36, 255, 512, 4096, 70_000))

    def _known(self) -> tuple[bytes, bytes, int]:
        """A CDB of the table, with data and room that mostly fit."""
        random = self.random
        command = random.choice(self.commands)
        make = self.kind.parameters.get((command.opcode, command.action))
        if random.random() < 0.1:
            out = self._noise(random.randrange(96))
        else:
            out = b"" if make is None else make(random)
        base, size, fields = _shape(command)
        blocks = random.randrange(9)
        value = base
        for name, shift, width in fields:
            value |= self._field(name, width, blocks, len(out)) << shift
        if make is None and command.data is Data.OUT and random.random() < 0.8:
            out = self._payload(command, blocks)
        data = value.to_bytes(size, "big")
        if random.random() < 0.1:
            data = self._spoil(data)
        room = (
            self._room() if command.data is not Data.IN or random.random() < 0.3 else blocks * self.block_size
        )
        return data + bytes(random.choice((0, 0, 16 - size % 16, 32))), out, room

    def _field(self, name: str, width: int, blocks: int, given: int) -> int:
        """A value for a field: what would make sense, nothing, or anything."""
        random = self.random
        dice = random.random()
        if dice > 0.93:
            value = number(random, width)
        elif name in LENGTHS:
            value = blocks
        elif name in ("parameter_list_length", "length_15_0"):
            value = given
        elif name in ("allocation_length", "lba"):
            value = random.randrange(1000)
        elif name in VALUES:
            value = random.choice(VALUES[name])
        elif width == 1 or name in RARELY:
            value = (name == "pf") ^ (dice < (0.03 if name in RARELY else 0.25))
        else:
            value = random.getrandbits(width) if dice < 0.5 else 0
        return value & (1 << width) - 1

    def _noise(self, length: int) -> bytes:
        at = self.random.randrange(len(NOISE) - length)
        return NOISE[at : at + length]

    def _payload(self, command: Command[Any], blocks: int) -> bytes:
        """So many blocks, or what the commands that take another number of them take."""
        random = self.random
        length = blocks * self.block_size
        if random.random() < 0.2:
            length = random.choice((self.block_size, 2 * length, length + 1, max(0, length - 1)))
        if "number_of_blocks" in command.layout.places and random.random() < 0.8:
            length = self.block_size if "unmap" in command.layout.places else 2 * length
        return bytes(length) if random.random() < 0.3 else self._noise(min(length, 1 << 16))

    def _spoil(self, cdb: bytes) -> bytes:
        """Another bit, or fewer bytes."""
        random = self.random
        if random.random() < 0.2:
            return cdb[: random.randrange(len(cdb))]
        data = bytearray(cdb)
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        return bytes(data)
