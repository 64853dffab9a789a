"""A QEMU process whose machine is driven from outside: started, spoken to over qtest and QMP, and always reaped.

Debian's QEMU has no qtest accelerator, but it serves `-qtest` beside a CPU that does nothing: the firmware given here
halts the CPU with interrupts off.  The machine runs, so timers, ioeventfds and iothreads work; only qtest's
clock commands don't.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import weakref
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from guestsim.targets import TargetError
from guestsim.targets.qmp import QmpClient
from guestsim.targets.qtest import QtestClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from guestsim.targets.qmp import Json

_START_TIMEOUT = 60.0
"""Seconds until QEMU must have connected to us."""

_END_TIMEOUT = 10.0
"""Seconds that QEMU has for ending by itself (it flushes its images) before it is killed."""

_LAST_WORDS_TIMEOUT = 5.0
"""Seconds from the end of a connection to the end of the process."""

_LAST_WORDS_SIZE = 4096
_LAST_WORDS_LINES = 3

_FIRMWARE_SIZE = 64 * 1024
_RESET_VECTOR = 0xFFF0
_HALT = b"\xf4"
_HALT_FOR_EVER = b"\xfa\xf4\xeb\xfd"
"""CLI; HLT; JMP back to the HLT: nothing but an NMI wakes this CPU, and then only for one jump."""


class QemuProcess:
    """One running QEMU with its qtest and QMP connections.

    `arguments` follow those that every such process gets.  Raises `TargetError`, with QEMU's own words, where it
    can't be started.  The process ends with `close()`, with the object or with the interpreter.
    """

    def __init__(self, arguments: Sequence[str], *, binary: str = "qemu-system-x86_64") -> None:
        program = shutil.which(binary)
        if program is None:
            raise TargetError(f"{binary} not found: expected QEMU's system emulator, installed and in PATH")
        self._qmp: QmpClient | None = None
        with ExitStack() as resources:
            folder, handle = resources.enter_context(_temporary_folder())
            with _listen(folder / "qtest") as qtest, _listen(folder / "qmp") as qmp:
                output = folder / "output"
                self._process = _launch([program, *_common_arguments(folder), *arguments], output, handle)
                resources.callback(_end, self._process)
                self._why_lost = partial(_why_lost, self._process, output)
                self.qtest = QtestClient(_accept(qtest, self._process, self._why_lost), self._why_lost)
                resources.callback(self.qtest.close)
                self._qmp_socket = _accept(qmp, self._process, self._why_lost)
                resources.enter_context(self._qmp_socket)
            self._resources = resources.pop_all()
        # Nothing that the stack holds may refer to this object, which else would never be collected.
        self._finalizer = weakref.finalize(self, self._resources.close)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def qmp(self, command: str, arguments: Mapping[str, Json] | None = None) -> Json:
        """Execute one QMP command; raises `TargetError` in QEMU's words where it is refused."""
        if not self._finalizer.alive:
            raise TargetError("the machine has been closed")
        if self._qmp is None:
            self._qmp = QmpClient(self._qmp_socket, self._why_lost)
            self._resources.callback(self._qmp.close)
        return self._qmp.execute(command, arguments)

    def close(self) -> None:
        """End QEMU and remove its temporary files. Idempotent."""
        self._finalizer()


@contextmanager
def _temporary_folder() -> Iterator[tuple[Path, int]]:
    """A new folder under a short name, good for every process that inherits the descriptor given with it.

    A socket's address holds 107 bytes, which a folder for temporary files may well exceed.
    """
    with tempfile.TemporaryDirectory(prefix="guestsim-qemu-") as path:
        handle = os.open(path, os.O_PATH | os.O_DIRECTORY)
        try:
            yield Path(f"/proc/self/fd/{handle}"), handle
        finally:
            os.close(handle)


def _common_arguments(folder: Path) -> list[str]:
    """The arguments of every driven QEMU; writes the firmware into `folder`, which holds the sockets."""
    firmware = bytearray(_HALT * _FIRMWARE_SIZE)
    firmware[_RESET_VECTOR : _RESET_VECTOR + len(_HALT_FOR_EVER)] = _HALT_FOR_EVER
    (folder / "firmware").write_bytes(firmware)
    return [
        *("-accel", "tcg", "-nodefaults", "-no-user-config", "-display", "none"),
        *("-bios", str(folder / "firmware")),
        *("-qtest", f"unix:{folder}/qtest", "-qtest-log", "/dev/null"),
        *("-chardev", f"socket,id=qmp,path={folder}/qmp", "-mon", "chardev=qmp,mode=control"),
    ]


def _launch(command: Sequence[str], output: Path, inherited: int) -> subprocess.Popen[bytes]:
    """Start QEMU with the descriptor `inherited` and with what it says going to the file `output`."""
    with output.open("wb") as said:
        try:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, pass_fds=[inherited]
            )
        except OSError as error:
            raise TargetError(f"{command[0]} can't be started: {error.strerror}") from error


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(1)
    return listener


def _accept(
    listener: socket.socket, process: subprocess.Popen[bytes], why_lost: Callable[[], str]
) -> socket.socket:
    """The connection that QEMU makes to `listener`, or a `TargetError` as soon as QEMU has ended."""
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
    raise TargetError(f"QEMU didn't connect within {_START_TIMEOUT:g} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Have the process end, by force where it doesn't end by itself, and reap it."""
    process.terminate()
    try:
        process.wait(_END_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _why_lost(process: subprocess.Popen[bytes], output: Path) -> str:
    """One line on how QEMU ended and what it last said; asked when its socket has been closed."""
    try:
        status = process.wait(_LAST_WORDS_TIMEOUT)
    except subprocess.TimeoutExpired:
        ending = "QEMU closed its socket but goes on running"
    else:
        ending = f"QEMU exited with status {status}"
        if status < 0:
            ending = f"QEMU was ended by signal {-status} ({signal.strsignal(-status)})"
    with output.open("rb") as said:
        said.seek(max(0, output.stat().st_size - _LAST_WORDS_SIZE))
        lines = said.read().decode(errors="replace").splitlines()
    last = " / ".join(line.strip() for line in lines[-_LAST_WORDS_LINES:] if line.strip())
    return f"{ending}: {last}" if last else ending
