"""Runs the same loads on several servers in turn, round by round (A B C, C A B, …), and keeps what came out.

Figures of one round are taken within seconds of each other, so ratios are formed within a round and their
median is reported: what slows the machine for a while slows all sides.
"""

from __future__ import annotations

import os
import statistics
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import frontend, peers
from benchmarks.frontend import Load, Result
from benchmarks.peers import Running, Server

IMAGE_SIZE = 256 << 20
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Group:
    """Servers to be compared on some loads; the first is ours."""

    servers: Sequence[Server]
    loads: Sequence[tuple[str, Load]]


@dataclass(frozen=True, slots=True)
class Spread:
    """A median and the range around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(slots=True)
class Comparison:
    """One load on several servers: the results of each, in rounds; and why some servers are absent.

    `cpu_us` is the processor time of the server for one request, in microseconds: unlike a rate it hardly
    depends on what else the machine does.
    """

    name: str
    load: Load
    ours: str
    results: dict[str, list[Result]] = field(default_factory=dict)
    cpu_us: dict[str, list[float]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def iops(self, server: str) -> Spread:
        """Requests a second."""
        return Spread.of([result.iops for result in self.results[server]])

    def ratio(self, server: str) -> Spread | None:
        """Ours/`server` in requests a second, formed round by round; None where a side is absent."""
        if server == self.ours or server not in self.results or self.ours not in self.results:
            return None
        pairs = zip(self.results[self.ours], self.results[server], strict=True)
        return Spread.of([mine.iops / theirs.iops for mine, theirs in pairs])


def standard_groups() -> list[Group]:
    """What `make bench` compares: a file in the page cache, filters over it, rings with nothing behind them."""
    files = Group(
        [
            peers.ours(),
            peers.qsd("threads"),
            peers.qsd("threads", iothread=True),
            peers.ours("io_uring"),
            peers.qsd("io_uring"),
        ],
        [
            ("4 KiB random reads, depth 1", Load()),
            ("4 KiB random reads, depth 32", Load(depth=32)),
            ("4 KiB random writes, depth 1", Load(writes=100)),
            ("4 KiB random writes, depth 32", Load(writes=100, depth=32)),
            ("1 MiB sequential reads, depth 8", Load(bs=1 << 20, depth=8, sequential=True)),
        ],
    )
    filters = Group(
        [peers.ours_filtered(), peers.ours()],
        [
            ("filters, 4 KiB random reads, depth 1", Load()),
            ("filters, 4 KiB random reads, depth 32", Load(depth=32)),
            ("filters, 4 KiB random writes, depth 32", Load(writes=100, depth=32)),
        ],
    )
    nulls = Group(
        [peers.ours_null(IMAGE_SIZE), peers.qsd_null(IMAGE_SIZE)],
        [("null-co, 4 KiB reads, depth 1", Load()), ("null-co, 4 KiB reads, depth 32", Load(depth=32))],
    )
    return [files, filters, nulls]


def steps(groups: Sequence[Group], rounds: int) -> int:
    """How many times `compare` will call its `step` for these groups, at most."""
    return sum(len(group.servers) * len(group.loads) * rounds for group in groups)


def compare(group: Group, rounds: int, seconds: float, step: Callable[[str], None]) -> Iterator[Comparison]:
    """Yields a comparison for each load; `step` is told of each run before it starts.

    Raises `FrontendError` or `ServerError` when a server that did start then fails.
    """
    with _all_serving(group.servers) as (all_running, absent):
        for name, load in group.loads:
            comparison = Comparison(name, load, group.servers[0].name, absent=dict(absent))
            order = deque(all_running.items())
            for _ in range(rounds):
                order.rotate(1)
                for server, running in order:
                    step(f"{name}: {server}")
                    before = running.cpu_seconds()
                    result = frontend.run(running.socket, load, seconds)
                    spent = running.cpu_seconds() - before
                    comparison.results.setdefault(server, []).append(result)
                    comparison.cpu_us.setdefault(server, []).append(spent / max(1, result.requests) * 1e6)
            yield comparison


@contextmanager
def _all_serving(servers: Sequence[Server]) -> Iterator[tuple[dict[str, Running], dict[str, str]]]:
    """Starts all that can be started; these, and the reasons of the others, by name."""
    all_running: dict[str, Running] = {}
    absent: dict[str, str] = {}
    with ExitStack() as stack:
        for server in servers:
            reason = peers.missing(server)
            if reason is None:
                try:
                    image = cached_image(0) if server.needs_image else None
                    all_running[server.name] = stack.enter_context(peers.serving(server, image))
                except peers.ServerError as error:
                    reason = str(error)
            if reason is not None:
                absent[server.name] = reason
        yield all_running, absent


def cached_image(number: int) -> Path:
    """A file of `IMAGE_SIZE` random bytes, made once and read into the page cache."""
    path = frontend.CACHE / f"disk{number}.img"
    if not path.exists() or path.stat().st_size != IMAGE_SIZE:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as image:
            for _ in range(IMAGE_SIZE // CHUNK):
                image.write(os.urandom(CHUNK))
            image.flush()
            os.fsync(image.fileno())  # else its write-back would run into the first measurements
    with path.open("rb", buffering=0) as image:
        while image.read(CHUNK):
            pass
    return path
