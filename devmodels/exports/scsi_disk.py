"""What exports share that offer a node as a SCSI disk: its options, and its way to the node."""

from __future__ import annotations

import msgspec

from devmodels.blockbackend import BlockBackend, BlockNode
from devmodels.blockbackend.errorpolicy import ErrorPolicy, OnReadError, OnWriteError
from devmodels.runstate import RunState
from devmodels.scsi.disk.options import DiskOptions


class ScsiDiskExportOptions(
    msgspec.Struct, rename="kebab", forbid_unknown_fields=True, frozen=True, kw_only=True
):
    """Options of an export that is a SCSI disk: those of every export, and what the disk says of itself."""

    id: str
    node_name: str
    writable: bool = False
    writethrough: bool = False
    logical_block_size: int = 512
    physical_block_size: int | None = None
    vendor: str = "DEVMODEL"
    product: str = "DISK"
    ver: str = "1.0"
    serial: str = ""
    device_id: str = ""
    wwn: int = 0
    removable: bool = False
    state: str = ""
    rerror: OnReadError = "report"
    werror: OnWriteError = "report"

    def __post_init__(self) -> None:
        self.disk()

    def disk(self) -> DiskOptions:
        """The disk's own options; ValueError."""
        return DiskOptions(
            vendor=self.vendor,
            product=self.product,
            ver=self.ver,
            serial=self.serial,
            device_id=self.device_id,
            wwn=self.wwn,
            removable=self.removable,
            state=self.state,
            logical_block_size=self.logical_block_size,
            physical_block_size=self.physical_block_size or max(512, self.logical_block_size),
        )


def disk_backend(options: ScsiDiskExportOptions, node: BlockNode, run_state: RunState) -> BlockBackend:
    """The way to `node`; while `run_state` is stopped requests are held."""
    backend = BlockBackend(
        node,
        name=options.id,
        run_state=run_state,
        write_cache=not options.writethrough,
        read_only=not options.writable,
    )
    backend.error_policy = ErrorPolicy(options.rerror, options.werror)
    return backend
