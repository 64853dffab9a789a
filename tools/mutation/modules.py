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

    def tests(self, *, near: bool) -> tuple[str, ...]:
        """One after the other: those further away are not the near ones once more."""
        return self.near if near else tuple(path for path in self.far if path not in self.near)


def _virtio(*names: str) -> tuple[str, ...]:
    return tuple(f"{_VIRTIO}test_{name}.py" for name in names)


_DEVICES = _virtio("quiet", "access_platform", "suspend", "reset_and_messages")
_AHCI = tuple(
    f"tests/unit/ahci/test_{name}.py"
    for name in (
        "as_qemu",
        "link",
        "queue",
        "fises",
        "packets",
        "stories",
        "hostile",
        "software",
        "snapshot",
    )
)
_IDE = tuple(
    f"tests/unit/ide_cdrom/test_{name}.py"
    for name in ("as_qemu", "absent_device", "devices", "properties", "snapshot")
)
_EVERY_ATA = "tests/unit/ata/test_every_register.py"
_SPLIT = ("split_ring", "split_order", "split_notifications", "split_memory")
_PACKED = ("packed_ring", "packed_order", "packed_notifications", "packed_memory")
_PCI = ("pci_registers", "pci_queues", "pci_interrupts", "pci_reset", "pci_window")
_BLK = ("blk", "blk_framing", "blk_ranges", "blk_resets", "blk_properties")
PARTS = (
    Part(
        "split ring",
        ("devmodels/virtio/split.py",),
        _virtio(*_SPLIT, "ring_edges", "ring_refusals", "ring_machine"),
        (*_virtio("device_queues", "queue_states"), *_DEVICES),
    ),
    Part(
        "packed ring",
        ("devmodels/virtio/packed.py", "devmodels/virtio/packedchain.py"),
        _virtio(*_PACKED, "ring_edges", "ring_refusals", "ring_machine"),
        (*_virtio("device_queues", "queue_states"), *_DEVICES),
    ),
    Part(
        "both rings",
        tuple(
            f"devmodels/virtio/{name}.py" for name in ("layout", "queue", "ring", "ringoptions", "scatter")
        ),
        _virtio(
            "scatter",
            "queue_states",
            *_SPLIT,
            *_PACKED,
            "ring_edges",
            "device_queues",
            "ring_machine",
        ),
        (*_DEVICES, "tests/unit/exports/test_vhost_rings.py"),
    ),
    Part(
        "virtio over PCI",
        tuple(f"devmodels/virtio/{name}.py" for name in ("legacy", "pci", "pci_legacy", "pci_modern")),
        _virtio("legacy", "transport_edges", *_PCI, "pci_legacy", "device_queues"),
        (*_virtio("as_qemu", "device_status", "device_queues", "transport_properties"), *_DEVICES),
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
            *_virtio("mmio", *_PCI),
        ),
    ),
    Part(
        "virtio devices",
        tuple(
            f"devmodels/virtio/{name}.py"
            for name in ("device", "devicestate", "devicetype", "negotiation", "suspension")
        ),
        _virtio("device_status", "device_queues", "reset_and_messages", "queue_states"),
        (
            *_virtio(
                "as_qemu", "legacy", *_PCI, "mmio", "suspend", "quiet", "access_platform", "transport_edges"
            ),
            *_virtio(*_BLK, "scsi", "scsi_events", "ring_edges", "threads"),
            "tests/unit/test_snapshot.py",
            "tests/unit/test_trace_of_a_request.py",
        ),
    ),
    Part(
        "PCI's registers",
        tuple(
            f"devmodels/pci/{name}.py"
            for name in (
                "capability",
                "config",
                "express",
                "function",
                "header",
                "msi",
                "msix",
                "power",
                "vendor",
            )
        ),
        tuple(
            f"tests/unit/pci/test_{name}.py"
            for name in ("register_map", "header", "msi", "msix", "capabilities", "bars", "decode", "bus")
        ),
        (*_virtio(*_PCI, "pci_legacy", "transport_edges"), "tests/unit/ahci/test_hba.py", _EVERY_ATA),
    ),
    Part(
        "AHCI's registers",
        ("devmodels/ahci/registers.py", "devmodels/ahci/sata.py", "devmodels/ahci/hba.py"),
        tuple(f"tests/unit/ahci/test_{name}.py" for name in ("register_map", "registers", "hba")),
        (*_AHCI, _EVERY_ATA),
    ),
    Part(
        "AHCI's ports",
        ("devmodels/ahci/port.py",),
        tuple(
            f"tests/unit/ahci/test_{name}.py"
            for name in ("register_map", "registers", "hba", "fises", "queue")
        ),
        (*_AHCI, _EVERY_ATA, "tests/unit/monitor/test_ata.py"),
    ),
    Part(
        "IDE's registers",
        tuple(f"devmodels/ide_cdrom/{name}.py" for name in ("registers", "function", "busmaster", "channel")),
        tuple(
            f"tests/unit/ide_cdrom/test_{name}.py"
            for name in ("register_map", "regions", "registers", "channel", "task_registers")
        ),
        (*_IDE, _EVERY_ATA),
    ),
)
