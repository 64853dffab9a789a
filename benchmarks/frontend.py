"""Builds and runs `frontend.c`, a vhost-user front end for virtio-blk without a virtual machine.

The program is strict: it ends with an error at the first answer of the back end that the vhost-user protocol or
VIRTIO 1.4 does not allow (reply headers, used ids and lengths, status bytes, missed interrupts, writes outside of
the buffers, the ring's base at the stop, eventfds made blocking), so it serves as a test peer as well.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import msgspec

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent / ".cache" / "bench"
FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra")


class FrontendError(Exception):
    """The front end could not be built, or refused its options, or found the back end wrong; one line."""


class Latency(msgspec.Struct, frozen=True):
    """From a request's publication to the batch in which its used element was seen; microseconds."""

    mean: float
    p50: float
    p99: float
    max: float


class Result(msgspec.Struct, frozen=True):
    """What one run of the front end prints.

    A kick was possible each time the available index moved, an interrupt for each used element; what did not
    happen of these is counted as suppressed. `verified` counts reads whose content was compared; `cpu_seconds`
    is what the front end itself used.
    """

    requests: int
    seconds: float
    iops: float
    mib_per_second: float
    latency_us: Latency
    kicks: int
    kicks_suppressed: int
    interrupts: int
    interrupts_suppressed: int
    verified: int
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Load:
    """One load; `bs` in bytes (a multiple of 512 · segments), `depth` for each queue, `writes` in percent.

    `prefill` writes a pattern over the whole disk first; `verify` compares what is read with that pattern or
    with what this run wrote since. `busy` polls the used ring and asks for no interrupts.
    """

    bs: int = 4096
    depth: int = 1
    writes: int = 0
    sequential: bool = False
    queues: int = 1
    segments: int = 1
    event_idx: bool = True
    indirect: bool = False
    busy: bool = False
    prefill: bool = False
    verify: bool = False
    seed: int = 1

    def arguments(self) -> list[str]:
        """The front end's command line for this load, without socket and duration."""
        given = {
            "bs": self.bs,
            "depth": self.depth,
            "writes": self.writes,
            "queues": self.queues,
            "segments": self.segments,
            "seed": self.seed,
        }
        flags = {
            "sequential": self.sequential,
            "no-event-idx": not self.event_idx,
            "indirect": self.indirect,
            "busy": self.busy,
            "prefill": self.prefill,
            "verify": self.verify,
        }
        return [f"--{name}={value}" for name, value in given.items()] + [
            f"--{name}" for name, is_set in flags.items() if is_set
        ]


def build() -> Path:
    """The compiled front end, from the cache where sources and flags are unchanged; raises `FrontendError`."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise FrontendError("a C compiler (cc or gcc) is needed to build the front end; none is on the PATH")
    sources = sorted(HERE.glob("*.[ch]"))
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for source in sources:
        digest.update(source.read_bytes())
    program = CACHE / f"frontend-{digest.hexdigest()[:16]}"
    if program.exists():
        return program
    CACHE.mkdir(parents=True, exist_ok=True)
    partial = program.with_suffix(f".{os.getpid()}")
    units = [str(source) for source in sources if source.suffix == ".c"]
    done = subprocess.run([compiler, *FLAGS, "-o", str(partial), *units], capture_output=True, text=True)
    if done.returncode != 0:
        raise FrontendError(f"the front end does not compile: {_first_line(done.stderr)}")
    partial.replace(program)
    return program


def run(socket: Path, load: Load, seconds: float) -> Result:
    """Runs `load` for `seconds` against the back end that listens at `socket`; raises `FrontendError`.

    Preparation (a prefill) and draining come on top of `seconds`.
    """
    command = [str(build()), f"--socket={socket}", f"--seconds={seconds}", *load.arguments()]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise FrontendError(_first_line(done.stderr) or f"frontend: ended with status {done.returncode}")
    return msgspec.json.decode(done.stdout, type=Result)


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
