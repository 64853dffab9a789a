"""A QEMU process whose machine is driven from outside: started, spoken to over qtest and QMP, and always reaped.

Debian's QEMU has no qtest accelerator, but it serves `-qtest` beside a CPU that does nothing: the firmware given here
halts the CPU with interrupts off.  The machine runs, so timers, ioeventfds and iothreads work; only qtest's
clock commands don't.
"""

from __future__ import annotations

import os
import shutil
import weakref
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from guestsim.targets import TargetError
from guestsim.targets.process import accept, end, launch, listen, temporary_folder, why_lost
from guestsim.targets.qmp import QmpClient
from guestsim.targets.qtest import QtestClient

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from guestsim.targets.qmp import Json

BINARY_VARIABLE = "QTEST_QEMU_BINARY"
"""QEMU's own tests look there, too."""

Accelerator: TypeAlias = Literal["tcg", "qtest"]
"""`tcg` halts a CPU and lets time go on; `qtest` has no CPU, and its client owns the clock (Debian's QEMU lacks it)."""

_FIRMWARE_SIZE = 64 * 1024
_RESET_VECTOR = 0xFFF0
_HALT = b"\xf4"
_HALT_FOR_EVER = b"\xfa\xf4\xeb\xfd"
"""CLI; HLT; JMP back to the HLT: nothing but an NMI wakes this CPU, and then only for one jump."""


class QemuProcess:
    """One running QEMU with its qtest and QMP connections.

    `arguments` follow those that every such process gets.  Raises `TargetError`, with QEMU's own words, where it
    can't be started.  `binary` is what the environment variable QTEST_QEMU_BINARY says, if it is not given, or
    `qemu-system-x86_64`.  The process ends with `close()`, with the object or with the interpreter.
    """

    def __init__(
        self, arguments: Sequence[str], *, binary: str | None = None, accel: Accelerator = "tcg"
    ) -> None:
        binary = binary or os.environ.get(BINARY_VARIABLE) or "qemu-system-x86_64"
        program = shutil.which(binary)
        if program is None:
            raise TargetError(f"{binary} not found: expected QEMU's system emulator, installed and in PATH")
        self._qmp: QmpClient | None = None
        with ExitStack() as resources:
            folder, handle = resources.enter_context(temporary_folder())
            with listen(folder / "qtest") as qtest, listen(folder / "qmp") as qmp:
                output = folder / "output"
                command = [program, *_common_arguments(folder, accel), *arguments]
                self._process = launch(command, output, handle)
                resources.callback(end, self._process)
                self._why_lost = partial(why_lost, "QEMU", self._process, output)
                self.qtest = QtestClient(accept("QEMU", qtest, self._process, self._why_lost), self._why_lost)
                resources.callback(self.qtest.close)
                self._qmp_socket = accept("QEMU", qmp, self._process, self._why_lost)
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

    def take_events(self) -> list[tuple[str, Mapping[str, object]]]:
        """Events since the last call; the first one opens the session."""
        self.qmp("query-status")
        assert self._qmp is not None
        return [*self._qmp.take_events()]

    def close(self) -> None:
        """End QEMU and remove its temporary files. Idempotent."""
        self._finalizer()


def _common_arguments(folder: Path, accel: Accelerator) -> list[str]:
    """The arguments of every driven QEMU; writes the firmware into `folder`, which holds the sockets."""
    sockets = [
        *("-qtest", f"unix:{folder}/qtest", "-qtest-log", "none"),
        *("-chardev", f"socket,path={folder}/qmp,id=char0", "-mon", "chardev=char0,mode=control"),
        *("-display", "none"),
    ]
    if accel == "qtest":
        return [*sockets, "-accel", "qtest"]
    firmware = bytearray(_HALT * _FIRMWARE_SIZE)
    firmware[_RESET_VECTOR : _RESET_VECTOR + len(_HALT_FOR_EVER)] = _HALT_FOR_EVER
    (folder / "firmware").write_bytes(firmware)
    return [
        *("-accel", "tcg", "-nodefaults", "-no-user-config", "-bios", str(folder / "firmware")),
        *sockets,
    ]
