"""Vhost-user-blk back ends for the guest's disk: ours, and qemu-storage-daemon as the known-good peer."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from .host import tool

START_SECONDS = 60.0
STOP_SECONDS = 30.0


Kind = Literal["blk", "scsi", "vfio"]


@dataclass(slots=True)
class Backend:
    """A back end: where it listens, its process, the file with all it printed, its exit status after SIGTERM.

    The status is None while it runs, and where it would not end.  `kind` is what QEMU has in front of it.
    """

    name: str
    command: list[str]
    socket: Path
    process: subprocess.Popen[bytes]
    log: Path
    status: int | None = None
    kind: Kind = "blk"
    others: tuple[Path, ...] = ()
    """Sockets of further functions."""

    def words(self) -> str:
        """All it printed so far."""
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """SIGKILL; returns once nothing of the process is left."""
        self.process.kill()
        self.process.wait()

    def start_again(self) -> None:
        """A new process in the place of the old one, which must be dead; the log goes on."""
        with self.log.open("ab") as output:
            self.process = _started(self.command, output)
        _await_listening(self)


# An image, a folder for socket and log, a number of queues, and further options of the export.
Offer = Callable[[Path, Path, int, str], AbstractContextManager[Backend]]


def qemu_storage_daemon(
    image: Path, folder: Path, queues: int = 1, options: str = ""
) -> AbstractContextManager[Backend]:
    """The image offered by QEMU's own daemon; raises `Unavailable` where there is none."""
    command = [
        str(tool("qemu-storage-daemon", "qemu-system-common")),
        *_arguments(image, folder, queues, options),
    ]
    return offered("qemu-storage-daemon", command, folder)


def devmodels_serve(
    image: Path,
    folder: Path,
    queues: int = 1,
    options: str = "",
    more: Sequence[str] = (),
    over: Mapping[str, object] | None = None,
    within: Sequence[str] = (),
) -> AbstractContextManager[Backend]:
    """The image offered by `devmodels serve`, run by this interpreter; `more` are further options of the command.

    `over` are the options of a filter over the image.  `within` is a command that runs the one that follows it, as
    the same process.
    """
    arguments = _arguments(image, folder, queues, options, over)
    command = [*within, sys.executable, "-m", "devmodels", "serve", "-v", *arguments, *more]
    return offered("devmodels", command, folder)


OFFERS: dict[str, Offer] = {"devmodels": devmodels_serve, "qemu-storage-daemon": qemu_storage_daemon}


def chosen() -> str:
    """The back end under test, a key of `OFFERS`: `DEVMODELS_GUEST_BACKEND`, else ours."""
    return os.environ.get("DEVMODELS_GUEST_BACKEND", "devmodels")


def _arguments(
    image: Path, folder: Path, queues: int, options: str, over: Mapping[str, object] | None = None
) -> list[str]:
    """The node and the export, in the words that both commands understand."""
    node: dict[str, object] = {"driver": "file", "filename": str(image), "discard": "unmap"}
    if over is not None:
        node = {"discard": "unmap", **over, "file": node}
    node["node-name"] = "d0"
    export = (
        f"type=vhost-user-blk,id=e0,node-name=d0,addr.type=unix,addr.path={folder / 'vu.sock'},"
        f"num-queues={queues},writable=on"
    )
    return ["--blockdev", json.dumps(node), "--export", export + (f",{options}" if options else "")]


@contextmanager
def offered(
    name: str, command: list[str], folder: Path, kind: Kind = "blk", others: tuple[Path, ...] = ()
) -> Iterator[Backend]:
    """Run a back end until the block ends; then SIGTERM, and SIGKILL where that does not help."""
    path, log = folder / "vu.sock", folder / "backend.log"
    with log.open("wb") as output:
        backend = Backend(name, command, path, _started(command, output), log, kind=kind, others=others)
    try:
        _await_listening(backend)
        yield backend
        backend.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            backend.status = backend.process.wait(STOP_SECONDS)
    finally:
        backend.kill()
        path.unlink(missing_ok=True)


def _started(command: list[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)


def _await_listening(backend: Backend) -> None:
    """Return once the socket accepts a connection; raises AssertionError where it never does."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if backend.process.poll() is not None:
            raise AssertionError(
                f"{backend.name} ended with status {backend.process.returncode} at its start\n{backend.words()}"
            )
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(os.fspath(backend.socket))
            except (FileNotFoundError, ConnectionRefusedError):
                time.sleep(0.01)  # another process's start: nothing to wait on
            else:
                return
    raise AssertionError(f"{backend.name} did not listen within {START_SECONDS:g} s\n{backend.words()}")
