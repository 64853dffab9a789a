"""Processes of others as targets: started with what they say going to a file, waited for, always reaped."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from guestsim.targets import TargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_START_TIMEOUT = 60.0
"""Seconds until a process must have connected to us."""

_END_TIMEOUT = 10.0
"""Seconds that a process has for ending by itself (QEMU flushes its images) before it is killed."""

_LAST_WORDS_TIMEOUT = 5.0
"""Seconds from the end of a connection to the end of the process."""

_LAST_WORDS_SIZE = 4096
_LAST_WORDS_LINES = 3


@contextmanager
def temporary_folder() -> Iterator[tuple[Path, int]]:
    """A new folder under a short name, good for every process that inherits the descriptor given with it.

    A socket's address holds 107 bytes, which a folder for temporary files may well exceed.
    """
    with tempfile.TemporaryDirectory(prefix="guestsim-") as path:
        handle = os.open(path, os.O_PATH | os.O_DIRECTORY)
        try:
            yield Path(f"/proc/self/fd/{handle}"), handle
        finally:
            os.close(handle)


def launch(command: Sequence[str], output: Path, inherited: int) -> subprocess.Popen[bytes]:
    """Start a process with the descriptor `inherited` and with what it says going to the file `output`."""
    with output.open("wb") as said:
        try:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, pass_fds=[inherited]
            )
        except OSError as error:
            raise TargetError(f"{command[0]} can't be started: {error.strerror}") from error


def listen(path: Path) -> socket.socket:
    """A listening UNIX socket."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(1)
    return listener


def accept(
    who: str, listener: socket.socket, process: subprocess.Popen[bytes], why_lost: Callable[[], str]
) -> socket.socket:
    """The connection that `who` makes to `listener`, or a `TargetError` as soon as its process has ended."""
    pidfd = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        ready = [descriptor for descriptor, _ in poll.poll(_START_TIMEOUT * 1000)]
    finally:
        os.close(pidfd)
    if listener.fileno() in ready:
        return listener.accept()[0]
    if ready:
        raise TargetError(why_lost())
    raise TargetError(f"{who} didn't connect within {_START_TIMEOUT:g} s")


def end(process: subprocess.Popen[bytes]) -> None:
    """Have the process end, by force where it doesn't end by itself, and reap it."""
    if process.poll() is not None:
        return
    # `Popen.wait` with a time limit looks only every now and then.
    pidfd = os.pidfd_open(process.pid)
    try:
        process.terminate()
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        ended = poll.poll(_END_TIMEOUT * 1000)
    finally:
        os.close(pidfd)
    if not ended:
        process.kill()
    process.wait()


def why_lost(who: str, process: subprocess.Popen[bytes], output: Path) -> str:
    """One line on how `who` ended and what it last said; asked when its socket has been closed."""
    try:
        status = process.wait(_LAST_WORDS_TIMEOUT)
    except subprocess.TimeoutExpired:
        ending = f"{who} closed its socket but goes on running"
    else:
        ending = f"{who} exited with status {status}"
        if status < 0:
            ending = f"{who} was ended by signal {-status} ({signal.strsignal(-status)})"
    with output.open("rb") as said:
        said.seek(max(0, output.stat().st_size - _LAST_WORDS_SIZE))
        lines = said.read().decode(errors="replace").splitlines()
    last = " / ".join(line.strip() for line in lines[-_LAST_WORDS_LINES:] if line.strip())
    return f"{ending}: {last}" if last else ending
