"""ATA commands that a scripted guest gets done in a second: our HBA in this process, beside QEMU's over qtest.

All have the same driver bring up a port; then the same accesses to memory and registers, made beforehand, are done
round after round: command FISes written, commands issued, the interrupt awaited and acknowledged.  Over qtest each is a
round trip, as in a script; or, pipelined, all accesses up to the next wait go out together, so that one round trip, or
two where the queue is deep, are all that a round takes.
"""

from __future__ import annotations

import shutil
import statistics
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import cycle
from typing import NamedTuple, Protocol

from rich.table import Table

from benchmarks import peers
from benchmarks.compare import IMAGE_SIZE, Spread, cached_image
from guestsim.drivers import ahci, ata
from guestsim.drivers.ahci import Ahci
from guestsim.drivers.ahci_layouts import (
    ABAR,
    HEADER,
    HEADER_SIZE,
    HEADER_WRITE,
    PORT_STRIDE,
    PORTS_OFFSET,
    PRD,
    PRDT_OFFSET,
    Hba,
    PortReg,
    h2d_fis,
)
from guestsim.drivers.ahci_port import AhciPort
from guestsim.drivers.ata import AtaCommand
from guestsim.drivers.transport import Interrupts
from guestsim.guest import Guest
from guestsim.targets import Target, TargetError
from guestsim.targets.inprocess import InProcessTarget
from guestsim.targets.qemu import QemuTarget
from guestsim.targets.qmp import Json

OURS, QEMU, PIPELINED = "devmodels, in process", "QEMU over qtest", "QEMU over qtest, pipelined"
SLOT = 4
PATIENCE = 10.0
TABLE_SIZE = 256
BLOCK = 4096
ROUNDS_MADE = 64
"""So many rounds are made beforehand, and done again and again."""


class Access(NamedTuple):
    """Bytes for memory, a number for a register, or None: the register is read."""

    address: int
    value: bytes | int | None


Do = Callable[[], list[int]]
"""Does accesses; what was read."""


class Side(Protocol):
    """A machine, and the quickest way to do accesses in it."""

    @property
    def target(self) -> Target:
        """The machine."""
        ...

    def cpu_seconds(self) -> float:
        """Processor time so far, of guest and device."""
        ...

    def prepare(self, accesses: Sequence[Access]) -> Do:
        """What does these accesses."""
        ...

    def interrupted(self) -> bool:
        """Whether the HBA asks for an interrupt; lets the machine go on where it does not."""
        ...


class Calls:
    """Every access is a call of the target's."""

    def __init__(self, target: InProcessTarget | QemuTarget) -> None:
        self.target = target

    def prepare(self, accesses: Sequence[Access]) -> Do:
        """Calls."""
        read, write, store = self.target.read, self.target.write, self.target.ram_write

        def do() -> list[int]:
            found = []
            for address, value in accesses:
                if type(value) is int:
                    write(address, 4, value)
                elif value is None:
                    found.append(read(address, 4))
                else:
                    store(address, value)  # type: ignore[arg-type]
            return found

        return do

    def cpu_seconds(self) -> float:
        """This process's, and QEMU's."""
        others = peers.cpu_seconds(self.target.pid) if isinstance(self.target, QemuTarget) else 0.0
        return time.process_time() + others

    def interrupted(self) -> bool:
        """The line."""
        return self.target.intx_level(SLOT, 1) or (self.target.advance() and False)


class Pipelined(Calls):
    """QEMU's: accesses go out together, and then their answers are read."""

    def __init__(self, target: QemuTarget) -> None:
        super().__init__(target)
        self._requests = target.requests

    def prepare(self, accesses: Sequence[Access]) -> Do:
        """Lines."""
        lines = [_line(access) for access in accesses]
        return lambda: self._requests(lines)


def _line(access: Access) -> bytes:
    address, value = access
    if value is None:
        return b"readl 0x%x\n" % address
    if isinstance(value, int):
        return b"writel 0x%x 0x%x\n" % (address, value)
    return b"b64write 0x%x 0x%x %b\n" % (address, len(value), b64encode(value))


@dataclass(frozen=True, slots=True)
class ScriptedLoad:
    """`depth` commands at a time."""

    depth: int
    command: Callable[[int], AtaCommand]
    """The command at a block's number."""


LOADS: Sequence[tuple[str, ScriptedLoad]] = (
    ("READ FPDMA QUEUED, 4 KiB, depth 1", ScriptedLoad(1, lambda n: ata.read_queued(8 * n, 8))),
    ("READ FPDMA QUEUED, 4 KiB, depth 32", ScriptedLoad(32, lambda n: ata.read_queued(8 * n, 8))),
    ("WRITE FPDMA QUEUED, 4 KiB, depth 1", ScriptedLoad(1, lambda n: ata.write_queued(8 * n, bytes(BLOCK)))),
    (
        "WRITE FPDMA QUEUED, 4 KiB, depth 32",
        ScriptedLoad(32, lambda n: ata.write_queued(8 * n, bytes(BLOCK))),
    ),
    ("READ DMA EXT, 4 KiB", ScriptedLoad(1, lambda n: ata.read_dma_ext(8 * n, 8))),
    ("IDENTIFY DEVICE", ScriptedLoad(1, lambda _: ata.identify())),
)


class Script:
    """A load's accesses at one port, made for one side."""

    def __init__(self, side: Side, port: AhciPort, abar: int, load: ScriptedLoad) -> None:
        self._side = side
        self._depth = load.depth
        base = abar + PORTS_OFFSET + PORT_STRIDE * port.number
        memory = port.guest.memory
        first = load.command(0)
        length = len(first.out) or first.room
        tables = [memory.allocate_zeroed(TABLE_SIZE, 128) for _ in range(load.depth)]
        self.buffers = [memory.allocate_zeroed(length, 512) for _ in range(load.depth)]
        flags = (HEADER_WRITE if first.out else 0) | 5
        headers = []
        for slot, (table, buffer) in enumerate(zip(tables, self.buffers, strict=True)):
            header = HEADER.pack(flags, 1, 0, table & 0xFFFF_FFFF, table >> 32)
            headers.append(Access(port.list + slot * HEADER_SIZE, header))
            memory.write(table + PRDT_OFFSET, PRD.pack(buffer & 0xFFFF_FFFF, buffer >> 32, length - 1))
        self._begin = side.prepare(headers)
        bits = (1 << load.depth) - 1
        running = base + (PortReg.SACT if first.queued else PortReg.CI)
        issue = [Access(base + PortReg.SACT, bits)] if first.queued else []
        issue.append(Access(base + PortReg.CI, bits))
        # PxIS is cleared before IS, else that would be set again (AHCI 1.3.1 §5.6.3).
        served = [
            Access(base + PortReg.IS, 0xFFFF_FFFF),
            Access(abar + Hba.IS, 1 << port.number),
            Access(running, None),
        ]
        self._finish = side.prepare(served)
        self._issues: list[Do] = []
        self._goes_on: list[Do] = []
        block = 0
        for _ in range(ROUNDS_MADE):
            round_: list[Access] = []
            for slot, table in enumerate(tables):
                round_.append(
                    Access(table, h2d_fis(load.command(block % (IMAGE_SIZE // BLOCK)).tagged(slot)))
                )
                block += 97
            self._issues.append(side.prepare([*round_, *issue]))
            self._goes_on.append(side.prepare([*served, *round_, *issue]))

    def run(self, seconds: float) -> tuple[float, float]:
        """Commands a second, and microseconds of processor time for each."""
        self._begin()
        spent, start = self._side.cpu_seconds(), time.perf_counter()
        count = (self._one_by_one if self._depth == 1 else self._together)(start + seconds)
        taken, spent = time.perf_counter() - start, self._side.cpu_seconds() - spent
        return count / taken, spent / count * 1e6

    def _one_by_one(self, end: float) -> int:
        """The interrupt says that a command is over: the next one goes out with its acknowledgement."""
        count = 1
        self._issues[-1]()
        for go_on in cycle(self._goes_on):
            self._await()
            if time.perf_counter() >= end:
                break
            if go_on()[0]:
                raise TargetError("an interrupt without an end of the command")
            count += 1
        self._drain()
        return count

    def _together(self, end: float) -> int:
        """All that are over are acknowledged before others follow."""
        count = 0
        for issue in cycle(self._issues):
            issue()
            self._drain()
            count += self._depth
            if time.perf_counter() >= end:
                break
        return count

    def _drain(self) -> None:
        while True:
            self._await()
            if not self._finish()[0]:
                return

    def _await(self) -> None:
        interrupted = self._side.interrupted
        deadline = time.monotonic() + PATIENCE
        while not interrupted():
            if time.monotonic() > deadline:
                raise TargetError(f"no interrupt within {PATIENCE:g} s")


@dataclass(slots=True)
class ScriptedComparison:
    """One load on both sides: commands a second and processor time of each command, round by round."""

    name: str
    rates: dict[str, list[float]] = field(default_factory=dict)
    cpu_us: dict[str, list[float]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def ratio(self, side: str) -> Spread | None:
        """Ours/`side`, formed round by round; None for ours."""
        if side == OURS:
            return None
        pairs = zip(self.rates[OURS], self.rates[side], strict=True)
        return Spread.of([mine / theirs for mine, theirs in pairs])


def steps(rounds: int) -> int:
    """How many times `compare` will call its `step`, at most."""
    return 3 * len(LOADS) * rounds


def compare(rounds: int, seconds: float, step: Callable[[str], None]) -> Iterator[ScriptedComparison]:
    """Yields a comparison for each load; `step` is told of each run before it starts."""
    with ExitStack() as stack:
        absent: dict[str, str] = {}
        drives, devices = _machine(0)
        ours = Calls(stack.enter_context(InProcessTarget(blockdevs=drives, devices=devices)))
        sides: dict[str, tuple[Side, Ahci]] = {OURS: (ours, _boot(ours.target))}
        if shutil.which("qemu-system-x86_64") is None:
            absent[QEMU] = "qemu-system-x86_64 is not on the PATH"
        else:
            drives, devices = _machine(1)
            theirs = stack.enter_context(QemuTarget(blockdevs=drives, devices=devices))
            hba = _boot(theirs)
            sides |= {QEMU: (Calls(theirs), hba), PIPELINED: (Pipelined(theirs), hba)}
        for name, load in LOADS:
            comparison = ScriptedComparison(name, absent=absent)
            scripts = {
                side: Script(machine, hba.ports[0], hba.function.bars[ABAR].base, load)
                for side, (machine, hba) in sides.items()
            }
            for _ in range(rounds):
                for side, script in scripts.items():
                    step(f"{name}: {side}")
                    rate, cpu_us = script.run(seconds)
                    comparison.rates.setdefault(side, []).append(rate)
                    comparison.cpu_us.setdefault(side, []).append(cpu_us)
            yield comparison


def _machine(image: int) -> tuple[list[dict[str, Json]], list[dict[str, Json]]]:
    drive: dict[str, Json] = {"driver": "file", "filename": str(cached_image(image)), "node-name": "d0"}
    hba: dict[str, Json] = {"driver": "ich9-ahci", "id": "sata0", "addr": str(SLOT)}
    return [drive], [hba, {"driver": "ide-hd", "bus": "sata0.0", "drive": "d0"}]


def _boot(target: Target) -> Ahci:
    guest = Guest(target)
    (function,) = [each for each in ahci.find(guest) if each.slot == SLOT]
    hba = Ahci(guest, function)
    guest.run(hba.probe(interrupts=Interrupts.INTX))
    return hba


def table(comparison: ScriptedComparison) -> Table:
    """One load: commands a second and microseconds for each, of both sides."""
    rounds = max(len(rates) for rates in comparison.rates.values())
    shown = Table(
        title=f"scripted, {comparison.name}: medians (ranges) of {rounds} rounds", title_justify="left"
    )
    for heading in ("side", "commands/s", "µs each", "CPU µs each", "ours/this"):
        shown.add_column(heading, justify="left" if heading == "side" else "right", no_wrap=True)
    for side, rates in comparison.rates.items():
        ratio = comparison.ratio(side)
        own = Spread.of(rates)
        shown.add_row(
            side,
            f"{own.median:,.0f} ({own.low:,.0f}–{own.high:,.0f})",
            f"{1e6 / own.median:.1f}",
            f"{statistics.median(comparison.cpu_us[side]):.1f}",
            "" if ratio is None else f"{ratio.median:.2f} ({ratio.low:.2f}–{ratio.high:.2f})",
        )
    for side, reason in comparison.absent.items():
        shown.add_row(side, f"[dim]{reason}[/dim]")
    return shown
