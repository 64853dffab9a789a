"""All targets, by name."""

from __future__ import annotations

from collections.abc import Iterator

from fuzz.target import Target

BOTH = ("devmodels", "guestsim")


def _targets() -> Iterator[Target]:
    """What they are, in the order in which they are run and shown."""
    for name, about, place in (
        ("virtio-blk", "device", "virtio:blk"),
        ("virtio-blk-pci-split", "device", "blk:pci_split"),
        ("virtio-blk-pci-packed", "device", "blk:pci_packed"),
        ("virtio-blk-mmio-split", "device", "blk:mmio_split"),
        ("virtio-blk-mmio-packed", "device", "blk:mmio_packed"),
        ("virtio-blk-pci-legacy", "device", "blk:pci_legacy"),
        ("virtio-blk-mmio-legacy", "device", "blk:mmio_legacy"),
        ("virtio-scsi", "device", "virtio:scsi"),
        ("virtio-scsi-pci-split", "device", "scsi_host:pci_split"),
        ("virtio-scsi-pci-packed", "device", "scsi_host:pci_packed"),
        ("virtio-scsi-mmio-split", "device", "scsi_host:mmio_split"),
        ("virtio-scsi-mmio-packed", "device", "scsi_host:mmio_packed"),
        ("virtio-scsi-pci-legacy", "device", "scsi_host:pci_legacy"),
        ("virtio-scsi-mmio-legacy", "device", "scsi_host:mmio_legacy"),
        ("scsi-disk", "device", "scsi:disk"),
        ("scsi-cd", "device", "scsi:drive"),
        ("scsi-nothing", "device", "scsi:nothing"),
        ("ahci-disk", "device", "ata:ahci_disk"),
        ("ahci-cd", "device", "ata:ahci_drive"),
        ("ide-disk", "device", "ata:ide_disk"),
        ("ide-cd", "device", "ata:ide_drive"),
        ("split-ring", "ring", "virtio:split_ring"),
        ("packed-ring", "ring", "virtio:packed_ring"),
        ("virtio-pci", "transport", "transports:modern"),
        ("virtio-pci-legacy", "transport", "transports:legacy"),
        ("virtio-mmio", "transport", "transports:mmio"),
        ("virtio-mmio-legacy", "transport", "transports:mmio_legacy"),
        ("pci-config", "transport", "transports:configuration"),
        ("vhost-user", "protocol", "protocols:vhost_user"),
        ("vfio-user", "protocol", "protocols:vfio_user"),
        ("iscsi", "protocol", "protocols:iscsi"),
        ("iscsi-pdus", "protocol", "protocols:iscsi_pdus"),
        ("iscsi-target", "protocol", "protocols:iscsi_target"),
        ("http", "protocol", "protocols:http"),
        ("qmp", "protocol", "protocols:qmp"),
        ("qtest", "protocol", "standin:qtest"),
        ("control-socket", "protocol", "standin:control"),
        ("migration", "protocol", "standin:migration"),
        ("command-lines", "parser", "standin:command_line"),
    ):
        yield Target(name, about, f"fuzz.targets.{place}")
    for name, place in (
        ("traces", "traces"),
        ("trace-events", "trace_events"),
        ("replays", "replays"),
        ("snapshots", "snapshots"),
        ("scripts", "scripts"),
        ("script-corpus", "script_corpus"),
        ("options", "options"),
        ("discs", "discs"),
        ("blkdebug-rules", "blkdebug"),
        ("block-logs", "logs"),
        ("write-logs", "write_logs"),
        ("cores", "cores"),
    ):
        yield Target(name, "parser", f"fuzz.targets.parsers:{place}", packages=BOTH)
    for name, place in (("accesses", "accesses"), ("reproducers", "reproducers"), ("tables", "tables")):
        yield Target(name, "parser", f"fuzz.targets.files:{place}", packages=(*BOTH, "tools"))


TARGETS = {target.name: target for target in _targets()}
