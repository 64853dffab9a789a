"""The host of both machines: what it does, it does to both, as long as they are compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from guestsim.errors import GuestError
from guestsim.targets import TargetError

if TYPE_CHECKING:
    from guestsim.diff.script_record import Record
    from guestsim.targets.inprocess import InProcessTarget
    from guestsim.targets.qemu import QemuTarget


class BothHosts:
    """`dirty` is true where something was done since both were last at rest."""

    name: str
    ours: InProcessTarget
    theirs: QemuTarget
    comparing: bool
    dirty: bool
    record: Record

    def _host(self, does: str) -> None:
        """No access says what the host does."""
        self.record.beyond[f"the host's {does}"] = None
        self.dirty = True

    def resize(self, node: str, size: int) -> None:
        """Resize both."""
        self.ours.resize(node, size)
        if self.comparing:
            self.theirs.resize(node, size)
        self._host("resize")

    def plug(self, device: Mapping[str, object]) -> None:
        """Plug into both."""
        self.ours.plug(device)
        if self.comparing:
            self.theirs.plug(device)
        self._host("plug")

    def unplug(self, device: str) -> None:
        """Unplug from both."""
        self.ours.unplug(device)
        if self.comparing:
            self.theirs.unplug(device)
        self._host("unplug")

    def qmp(self, command: str, arguments: Mapping[str, Any]) -> object:
        """Ours answers; what it refuses the other hears of too, and has to refuse."""
        self._host(command)
        try:
            answer = self.ours.qmp(command, arguments)
        except TargetError as refusal:
            if self.comparing:
                self.theirs.qmp(command, arguments)
                raise GuestError(f"{command} is refused by ours alone: {refusal}") from None
            raise
        if self.comparing:
            self.theirs.qmp(command, arguments)
        return answer

    def statistics(self, device: str) -> dict[str, int]:
        """Ours: what the host counts is nothing that a guest sees."""
        return self.ours.statistics(device)

    def stop(self) -> None:
        """Stop both."""
        self.ours.stop()
        if self.comparing:
            self.theirs.stop()

    def cont(self) -> None:
        """Let both go on."""
        self.ours.cont()
        if self.comparing:
            self.theirs.cont()
        self._host("stop")

    def take_events(self) -> list[tuple[str, Mapping[str, object]]]:
        """Ours."""
        return self.ours.take_events()

    def violations(self) -> list[tuple[str, str]] | None:
        """Ours; None, where what is expected is what QEMU does, which tells of none."""
        return self.ours.violations() if self.name == self.ours.name else None
