"""Several virtio functions of ours in one machine, modern and transitional, and what their host does to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from guestsim.targets.qmp import Json

from .scsi import MIB, image, monitor, pattern
from .vfio import file_node, vfio_serve
from .vm import FIRST_SLOT, Guest, GuestRun, run_guest

SIZE = 64


@dataclass(frozen=True, slots=True)
class Function:
    """A function, and what its guest has to find: PCI device, VERSION_1, vectors."""

    name: str
    options: str
    device: str
    modern: int
    vectors: int

    @property
    def scsi(self) -> bool:
        """Whether it is a SCSI host: its disk is a unit, and another one comes and goes."""
        return "scsi" in self.name


FUNCTIONS = [
    Function("modern-blk", "virtio-blk-pci,num-queues=2,disable-legacy=on", "0x1042", 1, 3),
    Function("legacy-blk", "virtio-blk-pci,num-queues=2", "0x1001", 0, 3),
    Function("modern-scsi", "virtio-scsi-pci,num_queues=2,disable-legacy=on", "0x1048", 1, 5),
    Function("legacy-scsi", "virtio-scsi-pci,num_queues=2", "0x1004", 0, 5),
]
"""Transitional ones are driven by their legacy interface here, and by their modern one in the other tests."""


def several(
    folder: Path, functions: Sequence[Function], files: dict[str, bytes], more: Sequence[str]
) -> GuestRun:
    """A guest works on them by `virtio-pci.sh` while their disks grow and shrink, and units come and go."""
    nodes, devices, found = [], [], ""
    for number, each in enumerate(functions):
        nodes.append(file_node(image(folder, f"d{number}", pattern(1, SIZE * MIB)), f"d{number}"))
        devices.append(f"{each.options},id=f{number}" + ("" if each.scsi else f",drive=d{number}"))
        if each.scsi:
            nodes.append(file_node(image(folder, f"n{number}", b"plugged\n", MIB), f"n{number}"))
            devices.append(f"scsi-hd,bus=f{number}.0,drive=d{number}")
        found += f"{each.name} {number + FIRST_SLOT:02x} {each.device} {each.modern} {each.vectors}\n"

    def attend(guest: Guest) -> None:
        with monitor(folder) as host:
            for number, each in enumerate(functions):
                for mebibytes, asked in ((2 * SIZE, "steady"), (SIZE, "grown-steady")):
                    guest.await_item(f"{each.name}-{asked}")
                    host.execute("block_resize", {"node-name": f"d{number}", "size": mebibytes * MIB})
                guest.await_item(f"{each.name}-shrunk")
                if each.scsi:
                    place: dict[str, Json] = {"bus": f"f{number}.0", "lun": 1, "drive": f"n{number}"}
                    host.execute("device_add", {"driver": "scsi-hd", "id": f"u{number}", **place})
                    guest.await_item(f"{each.name}-unit-came")
                    host.execute("device_del", {"id": f"u{number}"})

    files = {"functions": found.encode(), "options": b"virtio_pci force_legacy=1\n", **files}
    with vfio_serve(folder, nodes, devices, more) as backend:
        run = run_guest("virtio-pci.sh", backend, files=files, cpus=2, queues=2, timeout=240, attend=attend)
    assert backend.status == 0, backend.words()
    assert "violation" not in backend.words()
    return run
