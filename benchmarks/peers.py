"""Starts vhost-user-blk servers: ours and `qemu-storage-daemon`, with the same command-line options."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from benchmarks.frontend import FrontendError

START_SECONDS = 60.0
STOP_SECONDS = 30.0
QSD = "qemu-storage-daemon"


class ServerError(Exception):
    """A server did not start, or did not behave as a process; one line."""


@dataclass(frozen=True, slots=True)
class Server:
    """One way to serve a disk.

    `program` is the command that `objects` (`--object`), `--blockdev` and `--export` follow; `blockdev` the node's
    options without its name, a `filename` of None standing for the image, wherever in them; `iothread` gives the
    export a thread of its own (`qemu-storage-daemon` only: it then polls for a moment before it sleeps).
    """

    name: str
    program: tuple[str, ...]
    blockdev: Mapping[str, object]
    iothread: bool = False
    objects: tuple[str, ...] = ()

    @property
    def needs_image(self) -> bool:
        """Whether the server serves a file (then `serving` needs one)."""
        return any("filename" in node for node in _nested(self.blockdev))

    def command(self, socket: Path, image: Path | None, queues: int) -> list[str]:
        """The whole command line."""
        node = {**_with_image(self.blockdev, image), "node-name": "d0"}
        export = (
            "type=vhost-user-blk,id=e0,node-name=d0,addr.type=unix,"
            f"addr.path={socket},num-queues={queues},writable=on"
        )
        objects = [word for each in self.objects for word in ("--object", each)]
        if self.iothread:
            objects += ["--object", "iothread,id=t0"]
            export += ",iothread=t0"
        return [*self.program, *objects, "--blockdev", json.dumps(node), "--export", export]


def _nested(node: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """A node's options, and those of the nodes in them."""
    yield node
    for value in node.values():
        if isinstance(value, Mapping):
            yield from _nested(value)


def _with_image(node: Mapping[str, object], image: Path | None) -> dict[str, object]:
    """A node's options, `image` in the place of each `filename`."""
    return {
        key: _with_image(value, image)
        if isinstance(value, Mapping)
        else str(image)
        if key == "filename"
        else value
        for key, value in node.items()
    }


@dataclass(frozen=True, slots=True)
class Running:
    """A server that is there: the socket at which it listens, and its process."""

    socket: Path
    pid: int

    def cpu_seconds(self) -> float:
        """Processor time of all its threads so far."""
        return cpu_seconds(self.pid)


def cpu_seconds(pid: int) -> float:
    """Processor time of a process, in steps of a clock tick, mostly 10 ms (proc_pid_stat)."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system = int(after_name[11]), int(after_name[12])
    return (user + system) / os.sysconf("SC_CLK_TCK")


def _file(aio: str) -> dict[str, object]:
    # All serve one file, by turns: where a file lies in the page cache makes a difference.
    return {"driver": "file", "filename": None, "aio": aio, "locking": "off"}


def ours(aio: str = "threads") -> Server:
    """Our `file` node."""
    return Server(f"devmodels aio={aio}", (sys.executable, "-m", "devmodels", "serve"), _file(aio))


def ours_filtered() -> Server:
    """Our `file` node below a `blkdebug` without rules, in a throttle group that lets everything through, with
    statistics of the node: what these cost."""
    blkdebug = {"driver": "blkdebug", "image": {**_file("threads"), "accounting": True}}
    return Server(
        "devmodels throttle, blkdebug, accounting",
        (sys.executable, "-m", "devmodels", "serve"),
        {"driver": "throttle", "throttle-group": "g0", "file": blkdebug},
        objects=("throttle-group,id=g0,limits.iops-total=100000000,limits.bps-total=1000000000000",),
    )


def ours_null(size: int) -> Server:
    """Our `null-co` node of `size` bytes: rings and nothing behind them."""
    return Server(
        "devmodels null-co", (sys.executable, "-m", "devmodels", "serve"), {"driver": "null-co", "size": size}
    )


def qsd(aio: str, *, iothread: bool = False) -> Server:
    """`qemu-storage-daemon`'s `file` node with `aio=threads` or `aio=io_uring`, not O_DIRECT."""
    return Server(f"{QSD} aio={aio}{' iothread' if iothread else ''}", (QSD,), _file(aio), iothread)


def qsd_null(size: int) -> Server:
    """`qemu-storage-daemon`'s `null-co` node of `size` bytes."""
    return Server(f"{QSD} null-co", (QSD,), {"driver": "null-co", "size": size})


def missing(server: Server) -> str | None:
    """Why `server` cannot be started on this machine; None where its program is there."""
    return None if shutil.which(server.program[0]) else f"{server.program[0]} is not on the PATH"


def refusal(server: Server, image: Path | None = None) -> str | None:
    """Starts and stops `server`; what it says if it does not start, None if it does."""
    try:
        with serving(server, image):
            return None
    except ServerError as error:
        return str(error)


@contextmanager
def serving(server: Server, image: Path | None = None, *, queues: int = 1) -> Iterator[Running]:
    """Runs `server` until the block ends; raises `ServerError`.

    `image` is the file to serve where `server.needs_image`. The server's output is kept aside: its last line
    says why it did not start, and a traceback in it is an error even when everything else went well.
    """
    if server.needs_image == (image is None):
        raise ValueError(f"{server.name}: an image is needed for a file node, and for nothing else")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, tempfile.TemporaryFile("w+") as log:
        socket = Path(folder) / "s"
        process = subprocess.Popen(
            server.command(socket, image, queues), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            if not _wait_until_listening(process, socket):
                raise ServerError(f"{server.name}: {_last_line(_text(log))}")
            yield Running(socket, process.pid)
        except FrontendError as error:
            if "Traceback" in _text(log) or process.poll() is not None:
                raise ServerError(
                    f"{server.name}: {error}; its output ends: {_last_line(_text(log))}"
                ) from error
            raise FrontendError(f"{server.name}: {error}") from error
        finally:
            _stop(process)
        if "Traceback" in _text(log):
            raise ServerError(f"{server.name}: a traceback in its output: {_last_line(_text(log))}")


def _wait_until_listening(process: subprocess.Popen[bytes], socket: Path) -> bool:
    """False when the process ended, or the socket did not come to listen in time."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if _is_listening(socket):
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    return False


def _is_listening(socket: Path) -> bool:
    """Looked up in the kernel's table (proc_net_unix), since a connection would be the server's first session."""
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[-1] == str(socket) and int(fields[3], 16) & 0x10000:  # __SO_ACCEPTCON
            return True
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _text(log: IO[str]) -> str:
    log.seek(0)
    return log.read()


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2] or "it ended, or did not listen in time, and said nothing"
