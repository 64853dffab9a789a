"""The same over vhost-user: the export and its front end in one thread, so that a run is the same every time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from devmodels.conformance import Profile
from devmodels.exports.vhost_user_blk import VhostUserBlkOptions, vhost_user_blk
from guestsim.drivers.virtio_blk import VirtioBlk
from guestsim.guest import Guest
from guestsim.powercut.machine import TOP, CutMachine
from guestsim.powercut.stacks import Device, Stack
from guestsim.targets.vhost_device import VhostTransport
from guestsim.targets.vhost_user import VhostUserTarget

_QUIET = 3
"""After so many looks at which nothing happened nothing will: a message or a kick takes one to arrive."""


class _FrontEnd(VhostUserTarget):
    """A front end whose back end runs when somebody waits; time is the back end's."""

    def __init__(self, socket: Path, machine: VhostCutMachine) -> None:
        super().__init__({"disk": str(socket)})
        self.pump = self._answer
        self.now_ns: Callable[[], int] = machine.stepping.now_ns
        self._machine = machine
        self._quiet = 0

    def advance(self) -> bool:
        """Let the back end go on; False where nothing can happen any more."""
        machine = self._machine
        machine.pause()
        moved = self._run()
        self._look(0)
        return moved or self._quiet < _QUIET or machine.go_on()

    def _answer(self) -> None:
        """Somebody waits for the back end's answer; it may be one that a stopped machine does not give."""
        if not self._run() and self._quiet >= _QUIET:
            self._machine.go_on()

    def _run(self) -> bool:
        """Let the back end run; whether anything happened."""
        stepping = self._machine.stepping
        before = stepping.steps, stepping.now_ns()
        stepping.run_ready()
        moved = before != (stepping.steps, stepping.now_ns())
        self._quiet = 0 if moved else self._quiet + 1
        return moved


class VhostCutMachine(CutMachine):
    """Only its nodes are used: an export offers them to a front end."""

    def __init__(
        self, device: Device, stack: Stack, *, seed: int, write_cache: bool, folder: Path | None
    ) -> None:
        super().__init__(device, stack, seed=seed, write_cache=write_cache, folder=folder)
        assert folder is not None
        socket = folder / "vu.sock"
        options = {
            **device.options,
            **stack.device,
            "id": "disk",
            "node-name": TOP,
            "addr": {"type": "unix", "path": str(socket)},
            "writable": True,
            "writethrough": not write_cache,
        }
        export = msgspec.convert(options, VhostUserBlkOptions)
        top, run_state = self.assembly.graph[TOP], self.assembly.run_state
        self._server = vhost_user_blk(export, top, profile=Profile.STRICT, run_state=run_state)
        self._front_end = _FrontEnd(socket, self)

    def boot(self, device: Device) -> tuple[Guest, VirtioBlk]:  # noqa: ARG002
        """A guest at the front end."""
        guest = Guest(self._front_end)
        return guest, VirtioBlk(guest, VhostTransport(guest, self._front_end, "disk"))

    def close(self) -> None:
        """Give everything up. Idempotent."""
        self.stepping.on_step = lambda: None
        self._front_end.close()
        self._server.close()
        self.stepping.run_ready()
        super().close()
