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
from devmodels.scsi.identity import vital_page
from devmodels.scsi.layout import vpd
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.disk.disk import Disk

_EXTENDED = Layout(vpd.EXTENDED_INQUIRY)
_LIMITS = Layout(vpd.BLOCK_LIMITS)
_CHARACTERISTICS = Layout(vpd.BLOCK_CHARACTERISTICS)
_PROVISIONING = Layout(vpd.PROVISIONING)

THIN = 2
"""PROVISIONING TYPE."""


def page(disk: Disk, code: int, task: Task) -> bytes | None:
    """The page of this number, with its header; None where there is none."""
    make = _PAGES.get(code)
    if make is None or (code == 0xB2 and not disk.options.thin):
        return None
    body = make(disk, task)
    return vital_page(DeviceType.DISK, code, body)


def _supported(disk: Disk, _task: Task) -> bytes:
    return bytes(code for code in _PAGES if code != 0xB2 or disk.options.thin)


def _serial(disk: Disk, _task: Task) -> bytes:
    return disk.identity.serial.encode()


def _identification(disk: Disk, task: Task) -> bytes:
    """SPC-4 §7.8.6."""
    return disk.identity.identification(task)


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


def _provisioning(disk: Disk, _task: Task) -> bytes:
    """SBC-4 §6.6.5."""
    return _PROVISIONING.pack(
        threshold_exponent=EXPONENT,
        lbpu=1,
        lbpws=1,
        lbpws10=1,
        lbprz=disk.zeroes,
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
