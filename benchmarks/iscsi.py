"""Our iSCSI export beside `tgtd`, on the same file, with QEMU's own initiator (`qemu-img bench`) in front of both.

As elsewhere the sides take turns, and ratios are formed within a round.  Each round begins with another one: what one
leaves behind in the page cache is met by the next.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from benchmarks import iscsi_servers
from benchmarks.compare import Spread, cached_image
from benchmarks.iscsi_servers import TGTD
from benchmarks.peers import Running, ServerError

CLIENT = "qemu-img"
AIO = ("threads", "sync")
"""Ours with writes done by threads, and done at once, as suits a file whose pages are in memory."""
MIN_REQUESTS = 64
NEXT_TO_IT = 0
APART = (1 << 20) + (1 << 16)
"""Steps from one request to the next in bytes; `APART` leaves nothing for a server to bring together."""


@dataclass(frozen=True, slots=True)
class IscsiLoad:
    """Requests of `size` bytes, `depth` at a time; the first guess is that `rate` of them take a second."""

    size: int
    depth: int
    writes: bool
    rate: int
    step: int = NEXT_TO_IT

    def command(self, url: str, count: int) -> list[str]:
        """What makes `count` of them."""
        words = [CLIENT, "bench", "-f", "raw", "-t", "none", "-c", str(count), "-d", str(self.depth)]
        words += ["-s", str(self.size), *(["-w"] if self.writes else [])]
        return [*words, *(["-S", str(self.step)] if self.step else []), url]


LOADS: Sequence[tuple[str, IscsiLoad]] = (
    ("iSCSI, 4 KiB reads apart, depth 1", IscsiLoad(4096, 1, False, 20000, APART)),
    ("iSCSI, 4 KiB reads apart, depth 32", IscsiLoad(4096, 32, False, 40000, APART)),
    ("iSCSI, 4 KiB writes apart, depth 1", IscsiLoad(4096, 1, True, 10000, APART)),
    ("iSCSI, 4 KiB writes apart, depth 32", IscsiLoad(4096, 32, True, 30000, APART)),
    ("iSCSI, 4 KiB sequential writes, depth 32", IscsiLoad(4096, 32, True, 40000)),
    ("iSCSI, 1 MiB sequential reads, depth 1", IscsiLoad(1 << 20, 1, False, 1000)),
    ("iSCSI, 1 MiB sequential reads, depth 32", IscsiLoad(1 << 20, 32, False, 1500)),
    ("iSCSI, 1 MiB sequential writes, depth 1", IscsiLoad(1 << 20, 1, True, 800)),
    ("iSCSI, 1 MiB sequential writes, depth 32", IscsiLoad(1 << 20, 32, True, 1200)),
)


@dataclass(slots=True)
class IscsiComparison:
    """One load on both: requests a second and processor time of the server for one request, round by round."""

    name: str
    iops: dict[str, list[float]] = field(default_factory=dict)
    cpu_us: dict[str, list[float]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def ratio(self, server: str) -> Spread | None:
        """`server`/`tgtd`; None where a side is absent."""
        if server == TGTD or server not in self.iops or TGTD not in self.iops:
            return None
        pairs = zip(self.iops[server], self.iops[TGTD], strict=True)
        return Spread.of([mine / theirs for mine, theirs in pairs])


def steps(rounds: int) -> int:
    """How many times `compare` will call its `step`, at most."""
    return (len(AIO) + 1) * len(LOADS) * rounds


def compare(rounds: int, seconds: float, step: Callable[[str], None]) -> Iterator[IscsiComparison]:
    """Yields a comparison for each load; `step` is told of each run before it starts."""
    image = cached_image(0)
    with _serving(image) as (servers, absent):
        for name, load in LOADS:
            comparison = IscsiComparison(name, absent=dict(absent))
            count = max(MIN_REQUESTS, round(load.rate * seconds))
            order = deque(servers.items())
            for _ in range(rounds):
                order.rotate(1)
                for server, (url, running) in order:
                    step(f"{name}: {server}")
                    before = running.cpu_seconds()
                    taken = _run(load.command(url, count))
                    spent = running.cpu_seconds() - before
                    comparison.iops.setdefault(server, []).append(count / taken)
                    comparison.cpu_us.setdefault(server, []).append(spent / count * 1e6)
            yield comparison


def table(comparison: IscsiComparison) -> Table:
    """A comparison for people."""
    rounds = max(map(len, comparison.iops.values()), default=0)
    found = Table(title=f"{comparison.name}: medians (ranges) of {rounds} rounds", title_justify="left")
    for heading in ("server", "requests/s", "CPU µs/request", "this/tgtd"):
        found.add_column(heading, justify="left" if heading == "server" else "right", no_wrap=True)
    for server, iops in comparison.iops.items():
        spread, ratio = Spread.of(iops), comparison.ratio(server)
        found.add_row(
            server,
            f"{spread.median:,.0f} ({spread.low:,.0f}–{spread.high:,.0f})",
            f"{Spread.of(comparison.cpu_us[server]).median:.1f}",
            f"{ratio.median:.2f} ({ratio.low:.2f}–{ratio.high:.2f})" if ratio else "",
        )
    for server, reason in comparison.absent.items():
        found.add_row(server, f"[dim]{escape(reason)}[/dim]")
    return found


def _run(command: Sequence[str]) -> float:
    """Seconds that the client says it took."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    found = re.search(r"Run completed in ([0-9.]+) seconds", done.stdout)
    if found is None:
        raise ServerError(f"{' '.join(command)}: {(done.stdout + done.stderr).strip().splitlines()[-1:]}")
    return max(float(found[1]), 1e-3)


# --- the servers


def missing() -> str | None:
    """Why nothing can be measured here; None where it can."""
    if shutil.which(CLIENT) is None:
        return f"{CLIENT} is not on the PATH"
    done = subprocess.run([CLIENT, "--help"], capture_output=True, text=True, check=False)
    return None if re.search(r"\biscsi\b", done.stdout) else f"{CLIENT} has no iSCSI (qemu-block-extra)"


@contextmanager
def _serving(image: Path) -> Iterator[tuple[dict[str, tuple[str, Running]], dict[str, str]]]:
    servers: dict[str, tuple[str, Running]] = {}
    absent: dict[str, str] = {}
    ways = {f"devmodels aio={aio}": partial(_ours, aio) for aio in AIO} | {TGTD: iscsi_servers.tgtd}
    reason = missing()
    if reason is not None:
        yield {}, dict.fromkeys(ways, reason)
        return
    with ExitStack() as stack:
        for name, start in ways.items():
            try:
                servers[name] = stack.enter_context(start(image))
            except ServerError as error:
                absent[name] = str(error)
        yield servers, absent


@contextmanager
def _ours(aio: str, image: Path) -> Iterator[tuple[str, Running]]:
    node = {"driver": "file", "filename": str(image), "locking": "off", "aio": aio}
    with iscsi_servers.ours(node) as found:
        yield found
