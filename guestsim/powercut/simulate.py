"""One run: a guest at work, the power cut at chosen moments, a new machine each time, and what it finds judged.

Cut number n of a run is the n-th moment at which the power can go.  All choices are made from the run's seed, so that
`Run` and a cut's number and outcome name one and the same cut wherever it is made.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from guestsim.drivers import virtio_blk
from guestsim.errors import GuestError, raised
from guestsim.powercut.ledger import Finding, Ledger
from guestsim.powercut.load import NO_FLUSH, QUEUES, Load, Player
from guestsim.powercut.machine import CutMachine, reopen
from guestsim.powercut.stacks import DEVICES, SECTORS, STACKS, WriteCache
from guestsim.powercut.vhost import VhostCutMachine

if TYPE_CHECKING:
    pass


REQUESTS = 40
"""How many requests a guest makes on each queue, if not said otherwise."""

_IN_MEMORY = Path("/dev/shm")
"""Where the images of stacks over files best are: whether the host's disk keeps them is another question."""

KEPT = 256
"""Of so many images that cuts have left, the newest, a run knows what a guest finds on them."""

_MOMENTS = 5
"""About so many moments a request has at which the power may go."""


@dataclass(frozen=True, slots=True)
class Run:
    """What runs: names in `DEVICES` and `STACKS`, the seed of everything, and how long the guest works."""

    device: str
    stack: str
    write_cache: WriteCache
    seed: int
    requests: int = REQUESTS

    def __str__(self) -> str:
        text = (
            f"--device {self.device} --stack {self.stack} --write-cache {self.write_cache} --seed {self.seed}"
        )
        return text if self.requests == REQUESTS else f"{text} --requests {self.requests}"


@dataclass(frozen=True, slots=True)
class Loss:
    """A cut that left what must not be left."""

    run: Run
    cut: int
    choice: str
    findings: tuple[Finding, ...]
    story: tuple[str, ...]
    """What happened to the first of the sectors, and what was under way, one event a line."""
    problem: str = ""
    """Where the machine went wrong otherwise: what it said."""

    @property
    def command(self) -> str:
        """The line that does it again; where the run went wrong by itself, it does so however it is cut."""
        if not self.choice:
            return f"guestsim powercut {self.run}"
        return f"guestsim powercut {self.run} --cut {self.cut}:{self.choice}"


@dataclass(slots=True)
class Result:
    """What came of a run: moments that there were, cuts that were made, by choice; the first loss."""

    run: Run
    moments: int = 0
    cuts: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    loss: Loss | None = None


Choose = Callable[[int], Sequence[str]]
"""The outcomes to try of a cut at a moment, by its number."""


def sample(run: Run, cuts: float) -> Choose:
    """About `cuts` cuts in a run, one outcome each: mostly by chance, but the extreme ones as well."""
    chance = random.Random(f"{run}/cuts")
    share = cuts / (run.requests * QUEUES * _MOMENTS)

    def choose(_moment: int) -> Sequence[str]:
        if chance.random() >= share:
            return ()
        number = chance.randrange(1 << 16)
        return (chance.choice(("none", "all", f"but-{number}", f"random-{number}", f"random-{number}")),)

    return choose


def everything(chances: int, until: int = 1 << 62) -> Choose:
    """At every moment up to `until`: none, all, all but one of the first requests, and `chances` by chance."""

    def choose(moment: int) -> Sequence[str]:
        if moment > until:
            return ()
        chosen = (f"random-{moment * chances + number}" for number in range(chances))
        return ("none", "all", *(f"but-{number}" for number in range(4)), *chosen)

    return choose


class _Over(BaseException):
    """Enough cuts were made."""


class _Simulation:
    def __init__(self, run: Run, choose: Choose, most: int, folder: Path | None) -> None:
        self.result = Result(run)
        self._choose = choose
        self._most = most
        self._folder = folder
        self._device, self._stack = DEVICES[run.device], STACKS[run.stack]
        self._reopened = DEVICES[self._device.reopened or run.device]
        self._ledger = Ledger(SECTORS)
        features = NO_FLUSH if run.write_cache is WriteCache.UNKNOWN else virtio_blk.BLK_FEATURES
        self._load = Load(
            run.seed,
            run.requests,
            features=features,
            toggles=run.write_cache is WriteCache.TOGGLED,
            may_fail=self._stack.may_fail,
        )
        self._found: dict[bytes, bytes] = {}
        self._player: Player | None = None
        self._machine: CutMachine | None = None

    def go(self) -> Result:
        run = self.result.run
        cache = run.write_cache is not WriteCache.OFF
        kind = VhostCutMachine if self._device.vhost_user else CutMachine
        with kind(
            self._device, self._stack, seed=run.seed, write_cache=cache, folder=self._folder
        ) as machine:
            guest, driver = machine.boot(self._device)
            self._machine = machine
            self._player = Player(guest, driver, self._ledger, self._load, self._moment)
            machine.stepping.on_step = self._moment
            try:
                guest.run(self._player.run())
                self._moment()
            except _Over:
                pass
            except GuestError as error:
                self._lost("", (), str(error))
            except Exception as error:
                self._lost("", (), raised(error))
            guest.close()
        return self.result

    def _moment(self) -> None:
        """The power may go now."""
        assert self._player is not None
        self._player.look()
        result = self.result
        result.moments += 1
        for choice in self._choose(result.moments):
            self._cut(choice)

    def _cut(self, choice: str) -> None:
        assert self._machine is not None
        result = self.result
        result.cuts += 1
        result.outcomes[choice.partition("-")[0]] += 1
        left = self._machine.left(choice)
        image = self._found_again(left)
        findings = self._ledger.check(image)
        if not findings and self._stack.unit > 1:
            findings = self._ledger.check_units(image, self._stack.unit)
        if findings:
            self._lost(choice, tuple(findings))
            raise _Over
        if result.cuts >= self._most:
            raise _Over

    def _found_again(self, left: bytes) -> bytes:
        """What a guest finds where this was left: cuts that follow one another often leave the same."""
        if left not in self._found:
            if len(self._found) >= KEPT:
                del self._found[next(iter(self._found))]
            self._found[left] = reopen(self._reopened, self._stack, left, self._folder)
        return self._found[left]

    def _lost(self, choice: str, findings: tuple[Finding, ...], problem: str = "") -> None:
        acts = set(self._ledger.under_way)
        if findings:
            sector = findings[0].sector
            acts |= {act for act in self._ledger.acts[1:] if act.first <= sector < act.end}
        story = tuple(self._ledger.story(acts))
        result = self.result
        result.loss = Loss(result.run, result.moments, choice, findings, story, problem)


def simulate(run: Run, choose: Choose, *, most: int = 1 << 62) -> Result:
    """Carry `run` out and cut where `choose` says, until `most` cuts were made or something was lost."""
    with _folder(wanted=STACKS[run.stack].file or DEVICES[run.device].vhost_user) as folder:
        return _Simulation(run, choose, most, folder).go()


@contextmanager
def _folder(*, wanted: bool) -> Iterator[Path | None]:
    if not wanted:
        yield None
        return
    with TemporaryDirectory(prefix="powercut-", dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None) as name:
        yield Path(name)


def earliest(loss: Loss) -> Loss:
    """The first moment of the same run at which something is lost."""
    found = simulate(loss.run, everything(2, loss.cut)).loss
    return loss if found is None else found


def cut_again(run: Run, cut: int, choice: str) -> Result:
    """Make one cut."""
    return simulate(run, lambda moment: [choice] if moment == cut else [], most=1)
