"""A guest and its host at a recorded machine with a virtio-scsi host: whatever they do, the trace has it done again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from devmodels.scsi.disk import Disk
from devmodels.trace import TraceEvent
from devmodels.tracefile import TraceReader
from guestsim.drivers.pci import ConfigSpace, PciFunction
from guestsim.drivers.scsi import SenseKey
from guestsim.drivers.scsi_layouts import lun_bytes
from guestsim.drivers.virtio_bus import open_function
from guestsim.drivers.virtio_driver import Pending
from guestsim.drivers.virtio_scsi import Answer, Command, Control, VirtioScsi
from guestsim.guest import Guest
from guestsim.replay import replay
from guestsim.targets.inprocess import InProcessTarget

MIB = 1 << 20
SLOT = 4
SIZE = MIB
US = 1000
UNIT_ATTENTION = SenseKey.UNIT_ATTENTION


def does_it_again(path: Path) -> list[TraceEvent]:
    """The events; a replay makes them all."""
    result = replay(path)
    assert result.difference is None
    assert not result.short
    with TraceReader(path) as reader:
        events = list(reader)
    assert result.events == len(events)
    return events


class ScsiStory:
    """Two disks at target 0, slow ones if wanted; `disk` below are those by LUN.

    An option of a unit that is None is left out.  `medium`: a node for the memory that units are over elsewhere.
    """

    def __init__(
        self,
        path: Path,
        *,
        latency_ns: int = 0,
        shared: bool = True,
        host: dict[str, object] | None = None,
        units: Sequence[dict[str, object]] = ({}, {}),
        medium: dict[str, object] | None = None,
    ) -> None:
        nodes: list[dict[str, object]] = []
        self.units: list[dict[str, object]] = []
        for number, options in enumerate(units):
            memory: dict[str, object] = {"driver": "memory", "size": SIZE, "discard": "unmap"}
            disk = memory if medium is None else medium
            if latency_ns:
                disk = {
                    "driver": "delay",
                    "latency-ns": latency_ns * (number + 1),
                    "file": disk,
                    "discard": "unmap",
                }
            nodes.append({**disk, "node-name": f"d{number}"})
            where = {"drive": f"d{number}", "id": f"u{number}", "scsi-id": 0, "lun": number}
            made: dict[str, object] = {"driver": "scsi-hd", **where, **options}
            self.units.append({name: value for name, value in made.items() if value is not None})
        self.host = {"driver": "virtio-scsi-pci", "id": "s0", "addr": str(SLOT), **(host or {})}
        self.machine = InProcessTarget(blockdevs=nodes, devices=[self.host, *self.units], shared=shared)
        self.assembly = self.machine.assembly
        self.machine.record(path)
        self.guest = Guest(self.machine)
        self.driver: VirtioScsi | None = None

    def disk(self, number: int = 0) -> Disk:
        """The unit, on the host's side."""
        unit = self.assembly.units[f"u{number}"].unit
        assert isinstance(unit, Disk)
        return unit

    def probe(self) -> VirtioScsi:
        """Another guest begins: nothing of the one before answers its interrupts."""
        self.guest.close()
        self.guest = Guest(self.machine)
        self.driver = None
        function = PciFunction(self.guest, ConfigSpace(self.machine), SLOT, 0)
        driver = self.driver = VirtioScsi(self.guest, open_function(self.guest, function))
        self.guest.run(driver.probe())
        return driver

    def command(self, cdb: bytes, out: bytes = b"", room: int = 0, *, lun: int = 0) -> Command:
        """A command to a unit."""
        assert self.driver is not None
        return self.driver.command(lun_bytes(0, lun), cdb, out, room)

    def do(self, cdb: bytes, out: bytes = b"", room: int = 0, *, lun: int = 0) -> Answer:
        """Have it carried out."""
        assert self.driver is not None
        return self.guest.run(self.driver.execute(self.command(cdb, out, room, lun=lun)))

    def good(self, cdb: bytes, out: bytes = b"", room: int = 0, *, lun: int = 0) -> bytes:
        """The same, and it succeeds; what it returns."""
        answer = self.do(cdb, out, room, lun=lun)
        assert (answer.response, answer.status) == (0, 0), answer
        return answer.data

    def attend(self) -> None:
        """Hear what the units have to tell."""
        for lun in range(len(self.units)):
            while (sense := self.do(bytes(6), lun=lun).sense) is not None and sense.key == UNIT_ATTENTION:
                pass

    def submit(self, commands: Sequence[Command]) -> list[Pending[Command | Control]]:
        """Several at once."""
        assert self.driver is not None
        return self.guest.run(self.driver.submit(commands))

    def close(self) -> None:
        """Give the machine up."""
        self.guest.close()
        self.machine.close()
