"""Whatever a guest does to a host adapter of ATA devices, with resets at any moment: what must hold.

An example is a few steps (commands, structures in memory, accesses to registers, resets), a reset, and a driver that
begins anew.  Steps come from one seed, in plain numbers, and many examples are played to one machine:

    never an exception out of a device or of a turn of its context,
    nothing is written to memory but buffers that the guest gave for reading, and what the adapter reports there,
    each command that a device was given ends once, nothing stays mapped,
    what a disk reads was written, and what it said to be stable outlives a power cut,
    nothing is written to memory any more when an adapter has said that it has stopped, or that a reset is over,
    after the reset and a proper initialisation the device says what it is, and a read succeeds.

What does not hold is shown with the fewest steps that lead there.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from random import Random
from typing import Any

import pytest

from devmodels.assembly import Assembly, assemble
from devmodels.ata import AtaCommand, AtaDevice, Status
from devmodels.ata.disk import AtaDisk
from devmodels.ata.disk.commands import COMMANDS as DISK_COMMANDS
from devmodels.ata.packet.commands import COMMANDS as PACKET_COMMANDS
from devmodels.ata.table import Addressing, Command, Protocol
from tests.doorbells import UNLIMITED, allocates
from tests.unit.ata.promises import Promises
from tests.unit.ata.shadow import Shadow

Step = tuple[Any, ...]
"""What is done, with plain numbers."""
Example = tuple[tuple[Step, ...], str]
"""Steps, and the reset that follows them."""

DISK_SIZE = 1 << 20
SECTORS = DISK_SIZE // 512
BAD = range(1000, 1004)
"""Sectors that cannot be read, where there are such."""
LBAS = (0, 1, 7, 100, 998, SECTORS - 8, SECTORS - 1, SECTORS, (1 << 28) - 1, (1 << 48) - 1)
COUNTS = (0, 1, 1, 2, 3, 8, 8, 16, 33, 255, 256, 0xFFFF)
BYTES = (0, 1, 2, 3, 5, 6, 7, 0x10, 0x20, 0x42, 0x44, 0x55, 0x7F, 0x80, 0xAA, 0xFE, 0xFF)
POLLS = 10_000
"""How often a driver looks at most whether a device has stopped."""
ACCESSES, OF_COMMAND = 32 * 16, 2 * 256
"""To guest memory for one step: 32 slots' headers, FISes and packets, and for each command that a device is given the
regions of its table: an HBA reads 256 at a time, and so many are enough for any command here, and are mapped."""
ALLOCATED = 4 << 20
"""Bytes for one step: the 1 MiB of a medium that a command works on at a time, and copies of memory (256 KiB) in which
several regions lie on one another."""
TRIALS = 400
"""How often fewer steps are tried."""
SET_PASSWORD, SET_FEATURES, WRITE_UNCORRECTABLE = 0xF1, 0xEF, 0x45
CACHE_ON, SPIN_UP, CACHE_OFF = 0x02, 0x07, 0x82
SET_ACCESSIBLE = (0x78, 1)
QUEUED_SET_FEATURES = (0x63, 5)
INWARD = frozenset({Protocol.PIO_IN, Protocol.DMA_IN, Protocol.QUEUED_IN, Protocol.PACKET})
SPIN_UP_FIRST = 0x738C
"""Word 2 of a disk that waits."""
SMART, SMART_KEY = 0xB0, 0xC24F00
PACKETS = {
    **dict.fromkeys((0x00, 0x1E, 0x25, 0x51), None),
    **dict.fromkeys((0x03, 0x12, 0x1B, 0x55), 4),
    **dict.fromkeys((0x43, 0x46, 0x4A, 0x5A, 0x28, 0xBE), 8),
    **dict.fromkeys((0xA8, 0xAC, 0xB6, 0xB9, 0xBD), 9),
}
"""Packets that drives know, by the last byte of their lengths."""
READS = (0x28, 0x28, 0x28, 0xA8, 0xBE, 0xBE)

MEDIUM = "medium"
"""The node of what is left of a disk when its power is cut."""
CACHED: dict[str, object] = {
    "driver": "volatile-cache",
    "file": {"driver": "memory", "size": DISK_SIZE, "node-name": MEDIUM},
}
PLAIN: dict[str, object] = {"driver": "memory", "size": DISK_SIZE}
BACKENDS: dict[str, dict[str, object]] = {
    "memory": {},
    "slow": {
        "driver": "delay",
        "latency-ns": 1_000_000,
    },
    "broken": {
        "driver": "blkdebug",
        "inject-error": [
            {"event": "none", "iotype": "read", "sector": sector, "errno": 5, "immediately": False}
            for sector in BAD
        ],
    },
}


def blockdev(backend: str, *, drive: bool) -> dict[str, object]:
    """What is behind a device: a disk's has a volatile write cache."""
    below = PLAIN if drive else CACHED
    options = BACKENDS[backend]
    if not options:
        return dict(below)
    return {**options, "image" if options["driver"] == "blkdebug" else "file": below}


class Bench:
    """A machine with an adapter and its devices; `drive`: it is a CD drive that is looked at, and no disk.

    `ends` counts how commands ended.
    """

    def __init__(
        self,
        stack: ExitStack,
        shadow: Shadow,
        blockdevs: Sequence[dict[str, object]],
        ends: Counter[str],
        *,
        drive: bool,
    ) -> None:
        self.shadow = shadow
        self.drive = drive
        self.turns = 0
        self.ends = ends
        self.assembly: Assembly = assemble(memory=shadow.memory, blockdevs=blockdevs)
        stack.callback(self.assembly.close)
        self.context = self.assembly.context
        self._begun: set[AtaCommand] = set()
        self._promises: Promises | None = None
        self.wrong: list[str] = []
        """What did not hold while the adapter was at work."""

    def watch(self, device: AtaDevice) -> None:
        """Look at what begins and ends in `device`, and at what the disk that is looked at promises."""
        if isinstance(device, AtaDisk) and not self.drive:
            self._promises = Promises(device, self.assembly.graph.nodes[MEDIUM])
        issue, finish = device.issue, device.finish

        def begun(command: AtaCommand) -> None:
            assert command not in self._begun
            self._begun.add(command)
            self.shadow.memory.left += OF_COMMAND
            issue(command)

        def finished(command: AtaCommand) -> None:
            self._begun.remove(command)
            failed = command.taskfile.status & (Status.ERR | Status.DF)
            self.ends["dropped" if command.dropped else "failed" if failed else "done"] += 1
            finish(command)

        setattr(device, "issue", begun)  # noqa: B010
        setattr(device, "finish", finished)  # noqa: B010

    @contextmanager
    def doorbell(self) -> Iterator[None]:
        """What is done meanwhile is one step, and what commands do by then that a device has been given in it."""
        self.shadow.memory.left = ACCESSES
        with allocates(ALLOCATED):
            yield
        self.shadow.memory.left = UNLIMITED

    def settle(self) -> None:
        """Until nothing happens any more."""
        self.context.run_until_idle()

    def until(self, over: Callable[[], object]) -> None:
        """As a driver polls: turn by turn, and not a turn more."""
        for _ in range(POLLS):
            if over():
                return
            self.context.run_once()
        raise AssertionError("what the driver waits for does not come")

    def at_rest(self) -> None:
        """Nothing runs, nothing is mapped, nothing was written where it must not be."""
        assert not self._begun, self._begun
        assert not self.shadow.region.pins
        self.shadow.check()
        assert not self.wrong, self.wrong[0]
        if self._promises is not None:
            self._promises.check()
        self.assembly.violations.clear()

    def do(self, step: Step) -> None:
        """One step; here, those that every adapter has."""
        match step:
            case "turn", *_:
                self.context.turn()
            case "settle", *_:
                self.settle()
            case "stop", *_:
                self.assembly.run_state.stop()
            case "cont", *_:
                self.assembly.run_state.cont()
            case _:
                raise AssertionError(step)

    def works(self) -> None:
        """What a driver does of a device that it has begun with: it says what it is, and a read succeeds."""
        identity = self.identify()
        assert not sum(identity) & 0xFF
        if self.drive:
            self._drive_works()
            return
        if int.from_bytes(identity[4:6], "little") == SPIN_UP_FIRST:
            self.switch(SET_FEATURES, SPIN_UP)
        data = self.turns.to_bytes(4, "big") * 128
        way = self.stable_ways[self.turns % len(self.stable_ways)]
        self.turns += 1
        way(data)
        assert self.read_sector() == data, "sector 0 is not what was written"

    @property
    def stable_ways(self) -> Sequence[Callable[[bytes], None]]:
        """Ways of writing sector 0 after which it is stable."""
        return self._write_and_flush, self.write_sector_fua, self._write_without_cache

    def _write_and_flush(self, data: bytes) -> None:
        self.write_sector(data)
        self.switch(0xE7 if self.turns % 2 else 0xEA)

    def _write_without_cache(self, data: bytes) -> None:
        self.switch(SET_FEATURES, CACHE_OFF)
        self.write_sector(data)
        self.switch(SET_FEATURES, CACHE_ON)

    def _drive_works(self) -> None:
        for attempt in range(6):
            read = self.packet(0x28, *bytes(7), 1, length=2048)
            if read is not None:
                assert read == bytes(2048)
                return
            if attempt > 1:
                # What there was to tell has been told: the door is unlocked and the tray closed.
                self.packet(0x1E)
                self.packet(0x1B, 0, 0, 0, 3)
        raise AssertionError("the drive does not read")

    def identify(self) -> bytes:
        """The data of IDENTIFY (PACKET) DEVICE."""
        raise NotImplementedError

    def switch(self, opcode: int, features: int = 0) -> None:
        """A command without data, which must succeed."""
        raise NotImplementedError

    def write_sector(self, data: bytes) -> None:
        """Sector 0."""
        raise NotImplementedError

    def write_sector_fua(self, data: bytes) -> None:
        """The same, by WRITE DMA FUA EXT."""
        raise NotImplementedError

    def read_sector(self) -> bytes:
        """The same."""
        raise NotImplementedError

    def packet(self, *cdb: int, length: int = 0) -> bytes | None:
        """A packet by DMA, and so much data of it; None where it has failed."""
        raise NotImplementedError

    def begin_anew(self, how: str) -> None:
        """A reset, and a driver's initialisation; then the device works."""
        raise NotImplementedError

    def play(self, example: Example) -> None:
        """One example."""
        steps, how = example
        for step in steps:
            with self.doorbell():
                self.do(step)
        with self.doorbell():
            self.begin_anew(how)
        self.at_rest()


Make = Callable[[ExitStack, str, Counter[str]], Bench]
"""A bench in a configuration, which counts how commands end."""
Generate = Callable[[Random], Example]


class Runner:
    """Plays examples; what an exception in a turn would have become is in the log."""

    def __init__(
        self,
        make: Make,
        generate: Generate,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        self.examples = 0
        self.ends: Counter[str] = Counter()
        self._known: dict[tuple[str, int], Exception] = {}
        self._trials = 0
        self._make = make
        self._generate = generate
        self._caplog = caplog
        caplog.set_level(logging.ERROR, "devmodels")

    def run(self, configuration: str, seed: int, count: int) -> None:
        """A new machine, `count` examples of `seed`; the exception with the fewest steps that lead to it."""
        if (configuration, seed) in self._known:
            raise self._known[configuration, seed]
        random = Random(seed)
        examples = [self._generate(random) for _ in range(count)]
        error, number = self._go(configuration, examples)
        if error is None:
            self.examples += count
            return
        fewest = self._fewest(configuration, examples[: number + 1])
        error = self._go(configuration, fewest)[0] or error
        self._known[configuration, seed] = error
        error.add_note("\n".join([f"{configuration}, seed {seed}:", *map(repr, fewest)]))
        raise error

    def _go(self, configuration: str, examples: Sequence[Example]) -> tuple[Exception | None, int]:
        """What went wrong, and in which example."""
        self._caplog.clear()
        number = 0
        with ExitStack() as stack:
            try:
                bench = self._make(stack, configuration, self.ends)
                for example in examples:
                    bench.play(example)
                    number += 1
                    assert not self._caplog.records, self._caplog.text
            except Exception as error:
                return error, number
        return None, 0

    def _goes_wrong(self, configuration: str, examples: Sequence[Example]) -> bool:
        self._trials += 1
        return self._trials <= TRIALS and self._go(configuration, examples)[0] is not None

    def _fewest(self, configuration: str, examples: list[Example]) -> list[Example]:
        """Leave out examples, and then steps, that are not needed to go wrong."""
        for size in (len(examples) - 1, *(1 << n for n in range(len(examples).bit_length(), -1, -1))):
            at = 0
            while size and at + size < len(examples):
                fewer = examples[:at] + examples[at + size :]
                if self._goes_wrong(configuration, fewer):
                    examples = fewer
                else:
                    at += size
        for at, (steps, how) in enumerate(examples):
            kept = list(steps)
            for step in steps:
                fewer = [each for each in kept if each is not step]
                trial = [*examples[:at], (tuple(fewer), how), *examples[at + 1 :]]
                if self._goes_wrong(configuration, trial):
                    kept = fewer
                    examples = trial
        return examples


# --- what guests send


def sequence(
    random: Random,
    lengths: Sequence[int],
    command: Callable[[], list[Step]],
    access: Callable[[], Step],
    other: Callable[[], Step],
) -> tuple[Step, ...]:
    """Commands, mostly, accesses to registers, and what else may happen."""
    steps: list[Step] = []
    for _ in range(random.choice(lengths)):
        kind = random.randrange(16)
        if kind < 11:
            steps += command()
        else:
            steps.append(access() if kind < 14 else other())
    return tuple(steps)


def somewhere(random: Random, first: int, end: int, nowhere: Sequence[int]) -> int:
    """An address of a buffer: an even one between `first` and `end`, mostly; or one that is none."""
    if not random.randrange(16):
        return random.choice(nowhere)
    return random.randrange(first, end) & ~(random.random() < 0.9)


def backend_of(configuration: str) -> tuple[str, bool]:
    """The backend of a configuration, and whether memory is shared with the device."""
    return configuration if configuration in BACKENDS else "slow", configuration != "copied"


def registers(random: Random, commands: Sequence[Command[Any]]) -> tuple[int, int, int, int, int]:
    """Command, features, count, LBA and device: those of a command of the table, mostly, or any."""
    if not random.randrange(8):
        opcode = random.randrange(256)
        opcode += opcode == SET_PASSWORD
        return (
            opcode,
            random.choice(BYTES),
            random.choice(COUNTS),
            random.choice(LBAS),
            random.choice((0x40, 0xE0, 0)),
        )
    command = random.choice(commands)
    features = random.choice(BYTES)
    count, lba = random.choice(COUNTS), random.choice(LBAS)
    if command.addressing is not Addressing.NONE and random.randrange(3):
        count = random.choice((1, 2, 8))
        lba = random.choice((random.randrange(1100), random.randrange(BAD[0] - 8, BAD[-1] + 2)))
    if command.value is not None and random.randrange(8):
        features = command.value
    if command.opcode == SMART:
        lba = SMART_KEY | random.choice((0, 1, 2, 6, 0x7F, 0x80, 0x81, 0x82, 0xE0, 0xE0, 0xE1))
        count = random.choice((0, 1, 1, 1, 2))
    elif command.opcode == WRITE_UNCORRECTABLE or (command.opcode, command.value) == SET_ACCESSIBLE:
        # The first sector is what drivers look at.
        lba = max(lba, 1)
    elif command.protocol.queued:
        features, count = count, random.randrange(32) << 3 | random.choice((0, 0, 0x4000, 0x8000))
        if command.value is not None:
            features, count = features & ~0xF | command.value & 0xF, count | command.value << 8
            if (command.opcode, command.value) == QUEUED_SET_FEATURES:
                features |= random.choice(BYTES) << 8
    return command.opcode, features, count, lba, random.choice((0x40, 0x40, 0x40, 0xE0, 0xC0, 0))


def likely(commands: Sequence[Command[Any]]) -> tuple[Command[Any], ...]:
    """The commands, those that move data of the medium more often than others; without passwords, which nobody would
    know afterwards."""
    made: list[Command[Any]] = []
    for each in commands:
        medium = each.addressing is not Addressing.NONE
        many = 32 if medium and each.protocol.queued else 8 if medium else 1
        if each.protocol is Protocol.PACKET:
            many = len(commands)
        made += [each] * many * (each.opcode != SET_PASSWORD)
    return tuple(made)


def packet(random: Random) -> bytes:
    """A packet: a command that drives know, mostly, with plausible fields or any."""
    if not random.randrange(6):
        return bytes((random.choice((*PACKETS, random.randrange(256))),)) + random.randbytes(11)
    opcode = random.choice(READS) if random.randrange(2) else random.choice(tuple(PACKETS))
    data = bytearray(12)
    data[0] = opcode
    length = PACKETS[opcode]
    if opcode in READS:
        data[4:6] = random.choice((0, 1, 5, 63, 200, 505, 511, 512)).to_bytes(2, "big")
    if length is not None:
        data[length] = random.choice((0, 1, 2, 2, 3, 8, 18, 64, 255))
    if opcode == 0xBE:
        data[9] = random.choice((0, 0x10, 0x10, 0xF8))
    if not random.randrange(8):
        data[random.randrange(1, 12)] = random.choice(BYTES)
    return bytes(data)


DISK, DRIVE = likely(DISK_COMMANDS), likely(PACKET_COMMANDS)
