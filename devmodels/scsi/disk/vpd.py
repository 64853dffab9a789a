"""Vital product data of a disk (SPC-4 §7.8, SBC-4 §6.6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from devmodels.scsi.constants import DeviceType
from devmodels.scsi.disk.atomic import MAX_ATOMIC, MAX_COMPARE_BLOCKS
from devmodels.scsi.disk.copyresults import third_party_page
from devmodels.scsi.disk.provisioning import EXPONENT
from devmodels.scsi.disk.unmap import MAX_DESCRIPTORS
from devmodels.scsi.fields import Layout
from devmodels.scsi.layout import vpd
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.disk.disk import Disk

_HEADER = Layout(vpd.HEADER)
_DESIGNATOR = Layout(vpd.DESIGNATOR)
_EXTENDED = Layout(vpd.EXTENDED_INQUIRY)
_LIMITS = Layout(vpd.BLOCK_LIMITS)
_CHARACTERISTICS = Layout(vpd.BLOCK_CHARACTERISTICS)
_PROVISIONING = Layout(vpd.PROVISIONING)

BINARY, ASCII, UTF8 = 1, 2, 3
"""Code sets, SPC-4 §7.8.6.1."""
UNIT, PORT, TARGET = 0, 1, 2
"""What a designator is associated with."""
T10_VENDOR, NAA, RELATIVE_PORT, NAME_STRING = 1, 3, 4, 8
"""Types of designators."""

THIN = 2
"""PROVISIONING TYPE."""


def page(disk: Disk, code: int, task: Task) -> bytes | None:
    """The page of this number, with its header; None where there is none."""
    make = _PAGES.get(code)
    if make is None or (code == 0xB2 and not disk.options.thin):
        return None
    body = make(disk, task)
    return _HEADER.pack(device_type=DeviceType.DISK, page_code=code, page_length=len(body)) + body


def _supported(disk: Disk, _task: Task) -> bytes:
    return bytes(code for code in _PAGES if code != 0xB2 or disk.options.thin)


def _serial(disk: Disk, _task: Task) -> bytes:
    return disk.serial.encode()


def _designator(
    kind: int, code_set: int, data: bytes, *, association: int = UNIT, protocol: int | None = None
) -> bytes:
    return (
        _DESIGNATOR.pack(
            protocol=protocol or 0,
            code_set=code_set,
            piv=protocol is not None,
            association=association,
            designator_type=kind,
            designator_length=len(data),
        )
        + data
    )


def _designators(disk: Disk) -> dict[int, bytes]:
    """What the logical unit is known by: its NAA name, and its T10 vendor identification."""
    options = disk.options
    identification = options.vendor.ljust(8) + (options.device_id or disk.serial)
    return {NAA: disk.naa.to_bytes(8, "big"), T10_VENDOR: identification.encode()}


def is_named(disk: Disk, kind: int, name: bytes) -> bool:
    """Whether the disk has a designator of this type and name."""
    return _designators(disk).get(kind) == name


def _identification(disk: Disk, task: Task) -> bytes:
    """SPC-4 §7.8.6: the unit, and the target port that is asked."""
    port = task.nexus.port
    parts = [
        _designator(kind, ASCII if kind == T10_VENDOR else BINARY, name)
        for kind, name in _designators(disk).items()
    ]
    relative = bytes(2) + port.relative.to_bytes(2, "big")
    parts.append(_designator(RELATIVE_PORT, BINARY, relative, association=PORT, protocol=port.protocol))
    if port.name:
        for association, name in ((PORT, port.name), (TARGET, port.name.partition(",")[0])):
            text = name.encode() + b"\0"
            text = text.ljust(-(-len(text) // 4) * 4, b"\0")
            parts.append(
                _designator(NAME_STRING, UTF8, text, association=association, protocol=port.protocol)
            )
    return b"".join(parts)


def _extended(_disk: Disk, _task: Task) -> bytes:
    """SPC-4 §7.8.7."""
    return _EXTENDED.pack(headsup=1, ordsup=1, simpsup=1, v_sup=1, luiclr=1)


def _limits(disk: Disk, _task: Task) -> bytes:
    """SBC-4 §6.6.4."""
    options, size = disk.options, disk.block_size
    thin = options.thin
    granularity = options.discard_granularity or disk.backend.node.limits.pdiscard_alignment
    return _LIMITS.pack(
        wsnz=1,
        maximum_compare_and_write=min(MAX_COMPARE_BLOCKS, disk.max_blocks),
        optimal_granularity=options.min_io_size // size,
        maximum_transfer=disk.max_blocks,
        optimal_transfer=options.opt_io_size // size,
        maximum_unmap_blocks=disk.max_unmap_blocks if thin else 0,
        maximum_unmap_descriptors=MAX_DESCRIPTORS if thin else 0,
        optimal_unmap_granularity=-(-granularity // size) if thin else 0,
        ugavalid=thin,
        maximum_atomic_transfer=min(MAX_ATOMIC // size, disk.max_blocks),
    )


def _characteristics(disk: Disk, _task: Task) -> bytes:
    """SBC-4 §6.6.2."""
    return _CHARACTERISTICS.pack(
        medium_rotation_rate=disk.options.rotation_rate, fuab=1, wabereq=1, wacereq=1
    )


def _provisioning(_disk: Disk, _task: Task) -> bytes:
    """SBC-4 §6.6.5."""
    return _PROVISIONING.pack(
        threshold_exponent=EXPONENT,
        lbpu=1,
        lbpws=1,
        lbpws10=1,
        lbprz=1,
        provisioning_type=THIN,
    )


def _third_party(_disk: Disk, _task: Task) -> bytes:
    """SPC-4 §7.8.17."""
    return third_party_page()


def _mode_policy(_disk: Disk, _task: Task) -> bytes:
    """SPC-4 §7.8.9: each mode page is shared by all nexuses."""
    return bytes((0x3F, 0xFF, 0, 0))


_PAGES: dict[int, Callable[[Disk, Task], bytes]] = {
    0x00: _supported,
    0x80: _serial,
    0x83: _identification,
    0x86: _extended,
    0x87: _mode_policy,
    0x8F: _third_party,
    0xB0: _limits,
    0xB1: _characteristics,
    0xB2: _provisioning,
}
