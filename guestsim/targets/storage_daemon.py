"""Daemons that serve vhost-user-blk exports, started for the sake of a guest: qemu-storage-daemon and our own.

Both take `--blockdev` and `--export` with the same names.  A daemon that ends before it is asked to, or that leaves
an error of its own program behind, is a `TargetError` with its last words.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import weakref
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import msgspec

from guestsim.targets import TargetError
from guestsim.targets.daemon_exports import UNITS, BlkExports, Exported, exports_of, unit_of
from guestsim.targets.process import end, launch, temporary_folder, why_lost
from guestsim.targets.qmp import QmpClient
from guestsim.targets.vhost_user import RAM, VhostUserTarget

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from guestsim.targets.qmp import Json

_START_TIMEOUT = 30.0
_LAST_WORDS = 0.02
"""Seconds from the end of a connection to the end of the process, where the one comes of the other."""

_LISTENS = 0x10000
"""__SO_ACCEPTCON among the flags of proc_net_unix."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """A program that serves disks: its `command`, and what its exports can be told."""

    command: tuple[str, ...]
    exports: BlkExports

    @property
    def name(self) -> str:
        """What it is called."""
        return self.exports.name


QEMU_STORAGE_DAEMON = Daemon(
    ("qemu-storage-daemon",),
    BlkExports(
        "qemu-storage-daemon", frozenset({"num-queues", "logical-block-size", "writethrough"}), scsi=False
    ),
)
DEVMODELS_SERVE = Daemon(
    (sys.executable, "-m", "devmodels", "serve", "--strict"),
    BlkExports(
        "devmodels serve",
        frozenset({"num-queues", "logical-block-size", "writethrough", "serial", "rerror", "werror"}),
        scsi=True,
    ),
)


class DaemonTarget(VhostUserTarget):
    """The guest of a daemon that serves `blockdevs` as `devices`, with QEMU's names for `-blockdev` and `-device`.

    `LacksError` names an option of a device that the daemon's exports don't have.
    """

    def __init__(
        self,
        daemon: Daemon,
        *,
        blockdevs: Sequence[Mapping[str, Json]],
        devices: Sequence[Mapping[str, Json]],
        ram: int = RAM,
        name: str,
        arguments: Sequence[str] = (),
    ) -> None:
        """`arguments` are further ones of the daemon's command."""
        self._read_only = {str(drive.get("node-name")) for drive in blockdevs if drive.get("read-only")}
        self._hosts = {
            str(each.get("id")): each for each in devices if each.get("driver") == "virtio-scsi-pci"
        }
        exports = exports_of(daemon.exports, devices, self._read_only)
        self._process = DaemonProcess(daemon, blockdevs, exports, arguments)
        try:
            super().__init__(self._process.sockets, ram=ram, name=name)
        except BaseException:
            self._process.close()
            raise

    def resize(self, node: str, size: int) -> None:
        """Give the block node a new size (QMP `block_resize`)."""
        self._process.qmp("block_resize", {"node-name": node, "size": size})

    def plug(self, device: Mapping[str, object]) -> None:
        """QMP `block-export-add` of a unit on the bus of a SCSI host."""
        if device.get("driver") not in UNITS:
            raise TargetError(f"plugging of a device {device.get('driver')!r}, expected {' or '.join(UNITS)}")
        unit = unit_of(self._hosts, msgspec.to_builtins(device), self._read_only)
        self._process.qmp("block-export-add", self._process.at_socket(unit))

    def unplug(self, device: str) -> None:
        """QMP `block-export-del`."""
        self._process.qmp("block-export-del", {"id": device, "mode": "hard"})

    def qmp(self, command: str, arguments: Mapping[str, Any]) -> object:
        """Any command of QMP's."""
        return self._process.qmp(command, arguments)

    def stop(self) -> None:
        """QMP `stop`."""
        self._process.qmp("stop", {})

    def cont(self) -> None:
        """QMP `cont`."""
        self._process.qmp("cont", {})

    def take_events(self) -> list[tuple[str, Mapping[str, object]]]:
        """What QMP has told since the last call."""
        return self._process.take_events()

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        return self._process.pid

    def label(self, device: str) -> str:
        """The daemon's export, by the device's id."""
        return f"{self._process.name}, export {device}"

    def last_words(self) -> str:
        """What the daemon has printed last, or how it ended."""
        return self._process.last_words()

    def close(self) -> None:
        """Leave and end the daemon; TargetError where it went wrong by itself. Idempotent."""
        super().close()
        self._process.close()


class DaemonProcess:
    """A daemon that listens, with a socket for each export; it ends with `close()` or with the object."""

    def __init__(
        self,
        daemon: Daemon,
        blockdevs: Sequence[Mapping[str, Json]],
        exports: Sequence[Exported],
        arguments: Sequence[str] = (),
        devices: Sequence[Mapping[str, Json]] = (),
    ) -> None:
        """`devices` are those that exports offer."""
        program = shutil.which(daemon.command[0])
        if program is None:
            raise TargetError(f"{daemon.name} not found: expected it installed and in PATH")
        self._daemon = daemon
        self._qmp: QmpClient | None = None
        with ExitStack() as resources:
            folder, handle = resources.enter_context(temporary_folder())
            # Other processes' sockets are called the same but for this.
            mark = token_hex(4)
            exported = dict.fromkeys(export.device for export in exports)
            self.sockets = {device: f"{folder}/{mark}-{n}" for n, device in enumerate(exported)}
            command = [program, *daemon.command[1:], *arguments]
            for drive in blockdevs:
                command += ["--blockdev", json.dumps(drive)]
            for device in devices:
                command += ["--device", json.dumps(device)]
            for export in exports:
                command += ["--export", json.dumps(self.at_socket(export))]
            self._monitor = f"{folder}/{mark}-qmp"
            chardev = f"socket,id=qmp,path={self._monitor},server=on,wait=off"
            command += ["--chardev", chardev, "--monitor", "chardev=qmp"]
            self._output = folder / "output"
            self._process = launch(command, self._output, handle)
            self._why_lost = partial(why_lost, daemon.name, self._process, self._output)
            resources.callback(end, self._process)
            self._wait_until_listening()
            self._resources = resources.pop_all()
        # Nothing that the stack holds may refer to this object, which else would never be collected.
        self._finalizer = weakref.finalize(self, self._resources.close)

    def at_socket(self, export: Exported) -> dict[str, Json]:
        """An export's options with its address."""
        return {**export.options, "addr": {"type": "unix", "path": self.sockets[export.device]}}

    def _wait_until_listening(self) -> None:
        """Wait until all sockets are there; looked up, since a connection would be a front end's already."""
        deadline = time.monotonic() + _START_TIMEOUT
        awaited = {*self.sockets.values(), self._monitor}
        while not awaited <= _listening():
            if self._process.poll() is not None:
                raise TargetError(self._why_lost())
            if time.monotonic() > deadline:
                raise TargetError(f"{self._daemon.name} doesn't listen within {_START_TIMEOUT:g} s")
            time.sleep(0.002)

    def qmp(self, command: str, arguments: Mapping[str, Json]) -> Json:
        """Execute one QMP command."""
        if self._qmp is None:
            connection = self._resources.enter_context(socket.socket(socket.AF_UNIX))
            try:
                connection.connect(self._monitor)
            except OSError as error:
                raise TargetError(f"{command}: {self._why_lost()}") from error
            self._qmp = QmpClient(connection, self._why_lost)
            self._resources.callback(self._qmp.close)
        return self._qmp.execute(command, arguments)

    def take_events(self) -> list[tuple[str, Mapping[str, object]]]:
        """Events since the last call; the first one opens the session."""
        self.qmp("query-status", {})
        assert self._qmp is not None
        return [*self._qmp.take_events()]

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def name(self) -> str:
        """The daemon's name."""
        return self._daemon.name

    def last_words(self) -> str:
        """How the process ended, where it has, and the last that it has printed."""
        try:
            self._process.wait(_LAST_WORDS)
        except subprocess.TimeoutExpired:
            lines = self._output.read_text(errors="replace").splitlines()
            return next((line.strip() for line in reversed(lines) if line.strip()), "")
        return self._why_lost()

    def close(self) -> None:
        """End the daemon; TargetError where it had ended by itself or its program is at fault. Idempotent."""
        if not self._finalizer.alive:
            return
        fault = self._why_lost() if self._process.poll() is not None else None
        if fault is None:
            end(self._process)
            text = self._output.read_text(errors="replace")
            if self._process.returncode not in (0, -15) or "Traceback (most recent call last)" in text:
                fault = self._why_lost()
        self._finalizer()
        if fault is not None:
            raise TargetError(fault)


def _listening() -> set[str]:
    """The paths of UNIX sockets that somebody listens at (proc_net_unix)."""
    found = set()
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and int(fields[3], 16) & _LISTENS:
            found.add(fields[7])
    return found
