"""A quick pass over the whole path, for CI: content, protocol and every mode of the front end; no figures.

Two processes check each other: what one server wrote is read through the other. And the check is checked: a
byte changed behind the server's back has to be found.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks import frontend, peers
from benchmarks.frontend import FrontendError, Load
from benchmarks.peers import Server

SIZE = 8 << 20
SECONDS = 0.03
QUEUES = 2

MODES: Sequence[tuple[str, Load]] = (
    ("depth 1", Load()),
    ("depth 32", Load(depth=32)),
    ("no event index", Load(depth=32, event_idx=False)),
    ("busy", Load(depth=32, busy=True)),
    ("busy, no event index", Load(depth=32, busy=True, event_idx=False)),
    ("4 segments", Load(depth=32, segments=4)),
    ("indirect, 16 segments, 2 queues", Load(bs=65536, depth=16, segments=16, indirect=True, queues=2)),
    ("1 MiB", Load(bs=1 << 20, depth=2)),
    ("single sectors", Load(bs=512, depth=64)),
)
"""Each writes the pattern over the whole disk, then reads and writes, comparing what it reads."""

LEAVE_PATTERN = Load(bs=65536, depth=4, prefill=True, verify=True)
READ_PATTERN = Load(depth=32, sequential=True, verify=True)


@dataclass(slots=True)
class Report:
    """What the check has done: front end runs, reads whose content was compared, servers (absent: why)."""

    runs: int = 0
    verified: int = 0
    served: list[str] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)


def check(step: Callable[[str], None]) -> Report:
    """Runs the check, telling `step` what comes next; raises `FrontendError` or `ServerError`."""
    report = Report()
    with tempfile.TemporaryDirectory(prefix="bench-check-") as folder:
        image = Path(folder) / "disk.img"
        image.write_bytes(bytes(SIZE))
        present = _present(report, image)
        previous: Server | None = None
        for server in present:
            with peers.serving(server, image, queues=QUEUES) as running:
                if previous is not None:
                    step(f"{server.name} reads what {previous.name} wrote")
                    _run(report, running.socket, READ_PATTERN)
                for name, load in MODES:
                    step(f"{server.name}: {name}")
                    _run(report, running.socket, replace(load, writes=50, prefill=True, verify=True))
                _run(report, running.socket, LEAVE_PATTERN)
            report.served.append(server.name)
            previous = server
        if previous is not None:
            _check_the_check(report, present[0], previous, image, step)
    return report


def _present(report: Report, image: Path) -> list[Server]:
    """Those that can be started here. io_uring may be forbidden, a reason to go on; for others it is an error."""
    present = []
    for server in (peers.ours(), peers.ours("io_uring"), peers.qsd("threads"), peers.qsd("io_uring")):
        reason = peers.missing(server)
        if reason is None and server.blockdev["aio"] == "io_uring":
            reason = peers.refusal(server, image)
        if reason is None:
            present.append(server)
        else:
            report.absent[server.name] = reason
    return present


def _run(report: Report, socket: Path, load: Load) -> None:
    result = frontend.run(socket, load, SECONDS)
    report.runs += 1
    report.verified += result.verified


def _check_the_check(
    report: Report, server: Server, writer: Server, image: Path, step: Callable[[str], None]
) -> None:
    with peers.serving(server, image, queues=QUEUES) as running:
        step(f"{server.name} reads what {writer.name} wrote")
        _run(report, running.socket, READ_PATTERN)
        step(f"{server.name}: a changed byte is found")
        with image.open("r+b") as file:
            first = file.read(1)[0]
            file.seek(0)
            file.write(bytes([first ^ 1]))
        try:
            _run(report, running.socket, READ_PATTERN)
        except FrontendError as error:
            if "wrong content at byte 0 " in str(error):
                return
            raise
        raise FrontendError(f"{server.name}: byte 0 was changed in the image, and no read noticed it")
