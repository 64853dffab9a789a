"""What is mutated, and which tests are asked: near ones first, then those that use the module from further away."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_VIRTIO = "tests/unit/virtio/"


@dataclass(frozen=True, slots=True)
class Part:
    """Modules with the same tests.  All paths are relative to the repository; tests are run in process only."""

    name: str
    modules: tuple[str, ...]
    near: tuple[str, ...]
    far: tuple[str, ...]


def _virtio(*names: str) -> tuple[str, ...]:
    return tuple(f"{_VIRTIO}test_{name}.py" for name in names)


_DEVICES = _virtio("quiet", "access_platform", "suspend", "reset_and_messages")
PARTS = (
    Part(
        "split ring",
        ("devmodels/virtio/split.py",),
        _virtio("split_ring", "ring_edges", "ring_machine"),
        (*_virtio("device_queues"), *_DEVICES),
    ),
    Part(
        "packed ring",
        ("devmodels/virtio/packed.py",),
        _virtio("packed_ring", "ring_edges", "ring_machine"),
        (*_virtio("device_queues"), *_DEVICES),
    ),
    Part(
        "both rings",
        tuple(
            f"devmodels/virtio/{name}.py" for name in ("layout", "queue", "ring", "ringoptions", "scatter")
        ),
        _virtio(
            "scatter",
            "queue_states",
            "split_ring",
            "packed_ring",
            "ring_edges",
            "device_queues",
            "ring_machine",
        ),
        _DEVICES,
    ),
    Part(
        "virtio over PCI",
        tuple(f"devmodels/virtio/{name}.py" for name in ("legacy", "pci", "pci_legacy", "pci_modern")),
        _virtio("legacy", "transport_edges", "pci", "pci_legacy", "device_queues"),
        (*_virtio("device_status", "device_queues", "transport_properties"), *_DEVICES),
    ),
    Part(
        "virtio over MMIO",
        tuple(f"devmodels/virtio/{name}.py" for name in ("mmio", "mmio_legacy", "mmio_modern", "places")),
        _virtio("mmio", "transport_edges", "transport_properties"),
        (
            *_virtio("device_status", "device_queues"),
            *_DEVICES,
            "tests/unit/guestsim/test_virtio_mmio.py",
            "tests/unit/guestsim/test_other_rings_and_transports.py",
        ),
    ),
    Part(
        "register files",
        tuple(
            f"devmodels/registers/{name}.py"
            for name in ("arrays", "check", "declare", "file", "plan", "state", "table")
        ),
        (
            "tests/unit/test_registers.py",
            "tests/unit/test_register_edges.py",
            "tests/unit/test_register_check.py",
            "tests/unit/test_registers_properties.py",
        ),
        (
            "tests/unit/ahci/test_registers.py",
            "tests/unit/ide_cdrom/test_registers.py",
            "tests/unit/pci/test_header.py",
            "tests/unit/pci/test_msix.py",
            *_virtio("mmio", "pci"),
        ),
    ),
    Part(
        "AHCI's registers",
        ("devmodels/ahci/registers.py", "devmodels/ahci/hba.py"),
        tuple(f"tests/unit/ahci/test_{name}.py" for name in ("register_map", "registers", "hba")),
        (
            *(f"tests/unit/ahci/test_{name}.py" for name in ("link", "queue", "fises", "stories", "hostile")),
            "tests/unit/ata/test_every_register.py",
        ),
    ),
    Part(
        "IDE's registers",
        ("devmodels/ide_cdrom/registers.py", "devmodels/ide_cdrom/busmaster.py"),
        tuple(
            f"tests/unit/ide_cdrom/test_{name}.py"
            for name in ("register_map", "regions", "registers", "channel")
        ),
        (
            "tests/unit/ide_cdrom/test_devices.py",
            "tests/unit/ide_cdrom/test_properties.py",
            "tests/unit/ide_cdrom/test_snapshot.py",
            "tests/unit/ata/test_every_register.py",
        ),
    ),
)
