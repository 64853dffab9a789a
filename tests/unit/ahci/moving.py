"""A guest whose driver has brought up an HBA, and whose machine is exchanged under it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from devmodels.snapshot import restore_snapshot, save_snapshot
from guestsim.drivers.ahci import Answer, Pending
from guestsim.drivers.ata import AtaCommand
from guestsim.drivers.transport import Interrupts
from guestsim.targets.inprocess import InProcessTarget
from tests.unit.ahci.stories import boot
from tests.unit.test_snapshot import RAM, Movable

HBA = {"driver": "ich9-ahci", "id": "sata0", "addr": "4", "ports": 2}


def machine(images: list[str], *, shared: bool = True, **options: object) -> InProcessTarget:
    """Disks at the ports of an HBA."""
    return InProcessTarget(
        blockdevs=[
            {
                "driver": "file",
                "filename": name,
                "node-name": f"d{number}",
                "locking": "off",
                "discard": "unmap",
            }
            for number, name in enumerate(images)
        ],
        devices=[
            HBA,
            *(
                {"driver": "ide-hd", "id": f"hd{number}", "bus": f"sata0.{number}", "drive": f"d{number}"}
                for number in range(len(images))
            ),
        ],
        ram=RAM,
        shared=shared,
        **cast("dict[str, Any]", options),
    )


class World:
    """The guest, its driver, port 0."""

    def __init__(self, make: Callable[[], InProcessTarget], interrupts: Interrupts = Interrupts.MSIX) -> None:
        self._make = make
        self._movable = Movable(make())
        self.guest, self.hba, self.port = boot(cast("Any", self._movable), interrupts)

    @property
    def assembly(self) -> Any:
        return self._movable.target.assembly

    @property
    def disk(self) -> Any:
        return self.assembly.ata_units["hd0"].device

    def save(self) -> bytes:
        return save_snapshot(self.assembly)

    def move(self, data: bytes | None = None) -> None:
        """Save the machine, and go on in another one."""
        data = self.save() if data is None else data
        self._movable.target.close()
        self._movable.target = self._make()
        restore_snapshot(self.assembly, data)

    def do(self, command: AtaCommand) -> Answer:
        return self.guest.run(self.port.do(command))

    def start(self, *commands: AtaCommand) -> list[Pending]:
        pending = self.port.submit(*commands)
        self.settle()
        return pending

    def wait(self, pending: Pending) -> Answer:
        return self.guest.run(self.port.wait(pending))

    def settle(self) -> None:
        self.guest.run(self.guest.settle())

    def close(self) -> None:
        self.guest.close()
        self._movable.target.close()
