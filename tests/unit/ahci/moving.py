"""A guest whose driver has brought up an HBA, and whose machine is exchanged under it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from devmodels.snapshot import save_snapshot
from guestsim.drivers.ahci_command import Answer, Pending
from guestsim.drivers.ata import AtaCommand
from guestsim.drivers.transport import Interrupts
from guestsim.targets.inprocess import InProcessTarget
from tests.unit.ahci.stories import boot
from tests.unit.moving import MovingTarget
from tests.unit.test_snapshot import RAM

HBA = {"driver": "ich9-ahci", "id": "sata0", "addr": "4", "ports": 2}


def machine(
    images: list[str], *, shared: bool = True, disc: bool = False, **options: object
) -> InProcessTarget:
    """Disks at the ports of an HBA, or with `disc` a drive for the last one."""

    def device(number: int) -> dict[str, object]:
        driver = "ide-cd" if disc and number == len(images) - 1 else "ide-hd"
        name = "cd0" if driver == "ide-cd" else f"hd{number}"
        return {"driver": driver, "id": name, "bus": f"sata0.{number}", "drive": f"d{number}"}

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
            *map(device, range(len(images))),
        ],
        ram=RAM,
        shared=shared,
        **cast("dict[str, Any]", options),
    )


class World:
    """The guest, its driver, port 0."""

    def __init__(
        self,
        make: Callable[[], InProcessTarget],
        interrupts: Interrupts = Interrupts.MSIX,
        *,
        period: int = 0,
        start: int = 0,
    ) -> None:
        self.moving = MovingTarget(make, period, start)
        self.guest, self.hba, self.port = boot(cast("Any", self.moving), interrupts)

    @property
    def assembly(self) -> Any:
        return self.moving.target.assembly

    @property
    def disk(self) -> Any:
        return self.assembly.ata_units["hd0"].device

    def save(self) -> bytes:
        return save_snapshot(self.assembly)

    def move(self) -> None:
        """Save the machine, and go on in another one."""
        self.moving.move()

    def do(self, command: AtaCommand, port: int = 0) -> Answer:
        return self.guest.run(self.hba.ports[port].do(command))

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
        self.moving.target.close()
