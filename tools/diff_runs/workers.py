"""Devices compared in processes of their own."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from guestsim.diff.devices import DEVICES
from guestsim.diff.profiles import Profile
from guestsim.diff.run import compare_random
from guestsim.targets import TargetError
from tools.diff_runs import records
from tools.diff_runs.records import Run
from tools.progress import Progress

USAGE = 2
_TELL_EVERY = 0.5
"""Seconds between messages of how far a device is."""


@dataclass(frozen=True, slots=True)
class Task:
    """What one process does."""

    device: str
    profile: Profile
    seed: int
    steps: int
    folder: Path
    commit: str


@dataclass(slots=True)
class _Running:
    task: Task
    process: BaseProcess
    done: int = 0


def together(tasks: Sequence[Task], jobs: int, progress: Progress) -> Iterator[Run]:
    """Their runs as they end, so many at once, each in a process of its own.

    TargetError where one says so, or has ended without a word; all others are ended then, as they are where nobody
    asks for the next one.
    """
    waiting = deque(tasks)
    running: dict[Connection, _Running] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                ours, theirs = multiprocessing.Pipe(duplex=False)
                task = waiting.popleft()
                process = multiprocessing.get_context("spawn").Process(target=_work, args=(task, theirs))
                process.start()
                theirs.close()
                running[ours] = _Running(task, process)
            for ready in wait(running):
                assert isinstance(ready, Connection)
                one = running[ready]
                try:
                    said = ready.recv()
                except EOFError:
                    said = TargetError(f"{one.task.device}: the process of this device has ended")
                if isinstance(said, int):
                    progress.more(_where(running.values()), done=said - one.done)
                    one.done = said
                    continue
                if isinstance(said, TargetError):
                    raise said
                one.process.join()
                del running[ready]
                yield said
    finally:
        for one in running.values():
            one.process.terminate()
        for one in running.values():
            one.process.join()


def _where(running: Iterable[_Running]) -> str:
    return ", ".join(f"{one.task.device} {one.done}" for one in running)


def _work(task: Task, tell: Connection) -> None:
    """One device, in its own process: numbers of steps done go to `tell`, and the run in the end."""
    # Its QEMU is ended on the way out; a terminal's interrupt is for who has started this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(USAGE))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    told = 0.0

    def watch(done: int) -> None:
        nonlocal told
        if time.monotonic() - told > _TELL_EVERY:
            told = time.monotonic()
            tell.send(done)

    with suppress(BrokenPipeError):
        try:
            report = compare_random(
                DEVICES[task.device].under(task.profile),
                seed=task.seed,
                steps=task.steps,
                folder=task.folder,
                watch=watch,
            )
        except TargetError as error:
            tell.send(TargetError(str(error)))
        else:
            tell.send(records.made(report, task.commit, task.steps))
