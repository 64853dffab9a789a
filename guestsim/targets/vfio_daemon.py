"""Our own daemon as a vfio-user server, started for the sake of a guest, and its monitor as the host."""

from __future__ import annotations

from concurrent.futures import Future
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from guestsim.targets import TargetError
from guestsim.targets.daemon_exports import ATA_UNITS, UNITS, Exported
from guestsim.targets.storage_daemon import DEVMODELS_SERVE, DaemonProcess
from guestsim.targets.vfio_user import RAM, Place, VfioUserTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from guestsim.targets.qmp import Json

T = TypeVar("T")

_LOOK = 1e-4
"""Seconds between two looks at whether the monitor has answered."""
_FIRST_SLOT = 4


class _BlockStats(msgspec.Struct):
    """What is used of an element of `query-blockstats`."""

    stats: dict[str, object]
    qdev: str = ""
    device: str = ""


class VfioDaemonTarget(VfioUserTarget):
    """The guest of a daemon that has `blockdevs` and `devices`, with QEMU's names for `-blockdev` and `-device`.

    Every PCI device has an export of its own, and the slot that its option `addr` says.
    """

    def __init__(
        self,
        *,
        blockdevs: Sequence[Mapping[str, Json]],
        devices: Sequence[Mapping[str, Json]],
        ram: int = RAM,
        shared: bool = True,
        posted: bool = True,
        name: str = "vfio-user",
        arguments: Sequence[str] = (),
    ) -> None:
        """`arguments` are further ones of the daemon's command."""
        functions = [each for each in devices if each.get("driver") not in UNITS | ATA_UNITS]
        exports = [
            Exported(
                str(each["id"]), {"type": "vfio-user", "id": f"export-{each['id']}", "device": each["id"]}
            )
            for each in functions
        ]
        places = {str(each["id"]): _place(each, number) for number, each in enumerate(functions)}
        self._process = DaemonProcess(DEVMODELS_SERVE, blockdevs, exports, arguments, devices)
        try:
            super().__init__(self._process.sockets, places, ram=ram, shared=shared, posted=posted, name=name)
        except BaseException:
            self._process.close()
            raise

    def label(self, device: str) -> str:
        """The daemon's device, by its id."""
        return f"{self._process.name}, device {device}"

    def last_words(self) -> str:
        """What the daemon has printed last, or how it ended."""
        return self._process.last_words()

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        return self._process.pid

    def resize(self, node: str, size: int) -> None:
        """Give the block node a new size (QMP `block_resize`)."""
        self.qmp("block_resize", {"node-name": node, "size": size})

    def plug(self, device: Mapping[str, object]) -> None:
        """QMP `device_add` of a device on a bus."""
        self.qmp("device_add", msgspec.to_builtins(device))

    def unplug(self, device: str) -> None:
        """QMP `device_del`."""
        self.qmp("device_del", {"id": device})

    def statistics(self, device: str) -> dict[str, int]:
        """The integers of `query-blockstats` for the device with this id."""
        for entry in msgspec.convert(self.qmp("query-blockstats", {}), list[_BlockStats]):
            if device in (entry.device, *entry.qdev.split("/")):
                return {name: value for name, value in entry.stats.items() if type(value) is int}
        raise TargetError(f"query-blockstats names no device {device!r}")

    def stop(self) -> None:
        """QMP `stop`."""
        self.qmp("stop", {})

    def cont(self) -> None:
        """QMP `cont`."""
        self.qmp("cont", {})

    def take_events(self) -> list[tuple[str, Mapping[str, object]]]:
        """What QMP has told since the last call."""
        return self._meanwhile(self._process.take_events)

    def qmp(self, command: str, arguments: Mapping[str, Any]) -> object:
        """Any command of QMP's."""
        return self._meanwhile(partial(self._process.qmp, command, arguments))

    def _meanwhile(self, ask: Callable[[], T]) -> T:
        """Ask the monitor, and let the daemon have the memory that it asks for: else it could not answer."""
        answer: Future[T] = Future()

        def run() -> None:
            try:
                answer.set_result(ask())
            except BaseException as error:
                answer.set_exception(error)

        thread = Thread(target=run)
        thread.start()
        while not answer.done():
            self.serve(_LOOK)
        thread.join()
        return answer.result()

    def close(self) -> None:
        """Leave and end the daemon; TargetError where it went wrong by itself. Idempotent."""
        super().close()
        self._process.close()


def _place(device: Mapping[str, Json], number: int) -> Place:
    slot, _, function = str(device.get("addr", f"{_FIRST_SLOT + number:x}")).partition(".")
    return int(slot, 16), int(function or "0", 16)
