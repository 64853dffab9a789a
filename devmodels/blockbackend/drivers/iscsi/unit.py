"""What a logical unit is, as far as the driver has to know: asked when it is opened, and again when it has changed."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable

import msgspec

from devmodels.blockbackend.drivers.iscsi import commands
from devmodels.blockbackend.drivers.iscsi.retrying import CheckConditionError
from devmodels.blockbackend.options import MAX_SIZE
from devmodels.scsi.constants import DeviceType
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import data, modes, parameters, vpd

Ask = Callable[[bytes, int], Awaitable[bytes]]
"""Has a command executed that returns up to so many bytes; CheckConditionError, or OSError, where it fails."""

_INQUIRY = Layout(data.INQUIRY)
_CAPACITY_10 = Layout(data.READ_CAPACITY_10)
_CAPACITY_16 = Layout(data.READ_CAPACITY_16)
_MODE_HEADER = Layout(modes.HEADER_6)
_CACHING = Layout(modes.CACHING)
_PAGE_HEADER = Layout(vpd.HEADER)
_LIMITS = Layout(vpd.BLOCK_LIMITS)
_PROVISIONING = Layout(vpd.PROVISIONING)
_ONE_COMMAND = Layout(parameters.ONE_COMMAND_HEADER)

INQUIRY_SIZE = 36
LIMITS_PAGE, PROVISIONING_PAGE, SUPPORTED_PAGES = 0xB0, 0xB2, 0x00
CACHING_PAGE = 0x08
WRITE_PROTECTED, DPO_FUA = 0x80, 0x10
"""Bits of the device-specific parameter of mode parameter headers, SBC-4 §6.5.1."""
_LAST_10 = 0xFFFFFFFF
MIN_BLOCK, MAX_BLOCK = 512, 1 << 16
MAX_PAGE = 255
DISKS = (DeviceType.DISK, DeviceType.CD_DVD)


class WrongUnitError(Exception):
    """The unit is no disk that can be used; the text says why."""


class Capacity(msgspec.Struct, frozen=True):
    """`blocks` of `block_size` bytes; `provisioned`: space can be taken and given back (LBPME); `zeroes`: what has
    none reads as zeroes (LBPRZ)."""

    blocks: int
    block_size: int
    provisioned: bool = False
    zeroes: bool = False

    @property
    def size(self) -> int:
        """In bytes."""
        return self.blocks * self.block_size


class Limits(msgspec.Struct, frozen=True):
    """Page B0h; 0 means nothing is said.  Numbers are of blocks."""

    max_transfer: int = 0
    max_unmap: int = 0
    unmap_granularity: int = 0
    max_write_same: int = 0


class Provisioning(msgspec.Struct, frozen=True):
    """Page B2h: how space is given back."""

    unmap: bool = False
    write_same_16: bool = False
    write_same_10: bool = False


class Modes(msgspec.Struct, frozen=True):
    """`cached`: writes may be lost until the cache is synchronized (WCE).  `fua`: a write can say that it must not."""

    write_protected: bool = False
    cached: bool = True
    fua: bool = False


class Unit(msgspec.Struct, frozen=True):
    """All of it.  `no_data`: WRITE SAME (16) needs no block of zeroes (NDOB)."""

    device_type: int
    removable: bool
    capacity: Capacity
    modes: Modes
    limits: Limits
    provisioning: Provisioning
    no_data: bool


async def examine(ask: Ask) -> Unit:
    """Ask the unit what it is; WrongUnitError where it cannot be used, OSError where it does not say."""
    standard = _INQUIRY.unpack(
        (await ask(commands.inquiry(INQUIRY_SIZE), INQUIRY_SIZE)).ljust(_INQUIRY.size, b"\0")
    )
    device_type = standard["device_type"]
    if standard["qualifier"] or device_type == DeviceType.NONE:
        raise WrongUnitError("there is no such logical unit")
    if device_type not in DISKS:
        raise WrongUnitError(f"the logical unit is no disk: device type {device_type:#04x}")
    await ask(commands.TEST_UNIT_READY, 0)
    capacity = await read_capacity(ask)
    found = await read_modes(ask)
    if device_type == DeviceType.CD_DVD:
        found = Modes(write_protected=True, cached=False)
    pages = await _page(ask, SUPPORTED_PAGES)
    limits = _limits(await _page(ask, LIMITS_PAGE)) if LIMITS_PAGE in pages else Limits()
    provisioning = Provisioning()
    if PROVISIONING_PAGE in pages:
        provisioning = _provisioning(await _page(ask, PROVISIONING_PAGE))
    return Unit(
        device_type,
        bool(standard["rmb"]),
        capacity,
        found,
        limits,
        provisioning,
        no_data=await _has_ndob(ask),
    )


async def read_capacity(ask: Ask) -> Capacity:
    """How large it is, and how that is provisioned."""
    try:
        said = await ask(commands.read_capacity_16(_CAPACITY_16.size), _CAPACITY_16.size)
    except CheckConditionError as refused:
        if not refused.unknown:
            raise
        return await _read_capacity_10(ask)
    if len(said) < _CAPACITY_10.size + 4:
        raise WrongUnitError(f"it says {len(said)} bytes of its capacity")
    fields = _CAPACITY_16.unpack(said.ljust(_CAPACITY_16.size, b"\0"))
    size = fields["block_length"]
    return _checked(
        Capacity(
            fields["last_lba"] + 1,
            size,
            bool(fields["lbpme"]),
            bool(fields["lbprz"]),
        )
    )


async def _read_capacity_10(ask: Ask) -> Capacity:
    said = await ask(commands.READ_CAPACITY_10, _CAPACITY_10.size)
    if len(said) < _CAPACITY_10.size:
        raise WrongUnitError(f"it says {len(said)} bytes of its capacity")
    fields = _CAPACITY_10.unpack(said)
    if fields["last_lba"] == _LAST_10:
        raise WrongUnitError("it has more blocks than READ CAPACITY (10) can say, and knows no other")
    return _checked(Capacity(fields["last_lba"] + 1, fields["block_length"]))


def _checked(capacity: Capacity) -> Capacity:
    size = capacity.block_size
    if not MIN_BLOCK <= size <= MAX_BLOCK or size & (size - 1):
        raise WrongUnitError(
            f"its blocks have {size} bytes; expected a power of two from {MIN_BLOCK} to {MAX_BLOCK}"
        )
    if capacity.size > MAX_SIZE:
        raise WrongUnitError(f"it has {capacity.blocks} blocks, which is too large")
    return capacity


async def read_modes(ask: Ask) -> Modes:
    """Whether it can be written, and whether writes are stable at once."""
    said = await _if_told(ask, commands.mode_sense_6(CACHING_PAGE, MAX_PAGE), MAX_PAGE)
    if len(said) < _MODE_HEADER.size:
        return Modes()
    header = _MODE_HEADER.unpack(said)
    specific = header["device_specific"]
    cached = True
    page = said[_MODE_HEADER.size + header["block_descriptor_length"] :]
    if len(page) > _CACHING.places["wce"].offset and page[0] & 0x3F == CACHING_PAGE:
        cached = bool(_CACHING.unpack(page.ljust(_CACHING.size, b"\0"))["wce"])
    return Modes(bool(specific & WRITE_PROTECTED), cached, bool(specific & DPO_FUA))


async def _if_told(ask: Ask, cdb: bytes, length: int) -> bytes:
    """What the unit says; nothing where it does not, or not while another has it reserved (SPC-4 §5.12)."""
    try:
        return await ask(cdb, length)
    except CheckConditionError:
        return b""
    except OSError as error:
        if error.errno != errno.EBADE:
            raise
        return b""


async def _page(ask: Ask, page: int) -> bytes:
    """What follows the header of a page of vital product data; nothing where there is none."""
    said = await _if_told(ask, commands.inquiry(MAX_PAGE, page), MAX_PAGE)
    if len(said) < _PAGE_HEADER.size:
        return b""
    header = _PAGE_HEADER.unpack(said)
    if header["page_code"] != page:
        return b""
    return said[_PAGE_HEADER.size : _PAGE_HEADER.size + header["page_length"]]


def _limits(page: bytes) -> Limits:
    fields: Fields = _LIMITS.unpack(page[: _LIMITS.size].ljust(_LIMITS.size, b"\0"))
    return Limits(
        fields["maximum_transfer"],
        fields["maximum_unmap_blocks"],
        fields["optimal_unmap_granularity"],
        fields["maximum_write_same"],
    )


def _provisioning(page: bytes) -> Provisioning:
    fields = _PROVISIONING.unpack(page[: _PROVISIONING.size].ljust(_PROVISIONING.size, b"\0"))
    return Provisioning(bool(fields["lbpu"]), bool(fields["lbpws"]), bool(fields["lbpws10"]))


async def _has_ndob(ask: Ask) -> bool:
    """Whether WRITE SAME (16) has a usage bit for NDOB (SPC-4 §6.35.3)."""
    size = _ONE_COMMAND.size + 16
    said = await _if_told(ask, commands.report_opcode(commands.WRITE_SAME_16, size), size)
    if len(said) < _ONE_COMMAND.size + 2 or _ONE_COMMAND.unpack(said)["support"] not in (0b011, 0b101):
        return False
    return bool(said[_ONE_COMMAND.size + 1] & commands.NDOB)
