"""READ DISC STRUCTURE, READ DVD STRUCTURE of old: what the lead-in of a DVD or a BD says (MMC-6).

What no image has is as of a disc without copy protection, made by nobody in particular.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from devmodels.scsi.asc import Asc
from devmodels.scsi.constants import SenseKey
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import mmc_cdb, mmc_data
from devmodels.scsi.mmc.medium import BD_LAYER, DVD_LAYER, Medium, Profile
from devmodels.scsi.sense import CheckCondition, Sense, invalid_field
from devmodels.scsi.table import Access, Command, Data
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.mmc.drive import CdDrive

CDB = Layout(mmc_cdb.READ_DISC_STRUCTURE)
_HEADER = Layout(mmc_data.STRUCTURE_HEADER)
_PHYSICAL = Layout(mmc_data.PHYSICAL_FORMAT)
_COPYRIGHT = Layout(mmc_data.COPYRIGHT)
_CAPABILITY = Layout(mmc_data.STRUCTURE_CAPABILITY)
_UNIT = Layout(mmc_data.DISC_INFORMATION_UNIT)

CAPABILITIES = 0xFF
MANUFACTURING_BYTES = 2048
BD_INFORMATION_BYTES = 4096

DVD_FIRST_SECTOR, BD_FIRST_SECTOR = 0x3_0000, 0x10_0000
"""The physical address of block 0."""
BD_END, BD_PAIR = 0x1F0_0000, 0x200_0000
"""Where the second layer ends; by how much the addresses of the next two layers are higher."""
BD_MOST_LAYERS = 4
BD_STEP = 2
"""Addresses count blocks, of which two share one."""
BD_BYTES_IN_USE = 32
BD_25_GB = 1
"""CHANNEL BIT LENGTH: 25 GB in a layer."""
PART_VERSION_1 = 1
RATE_NOT_SPECIFIED = 0xF
EMBOSSED = 1
"""LAYER TYPE: read-only."""
OPPOSITE = 1
"""TRACK PATH: the second layer is read from the outside in; its addresses are the complement of the first one's."""
_ADDRESS_MASK = 0xFF_FFFF


def _dvd_layers(medium: Medium) -> int:
    return 1 if medium.blocks <= DVD_LAYER else 2


def _physical_format(medium: Medium) -> bytes:
    layers = _dvd_layers(medium)
    last = DVD_FIRST_SECTOR + medium.blocks - 1
    end_of_first = 0
    if layers > 1:
        in_first = -(-medium.blocks // 2)
        end_of_first = DVD_FIRST_SECTOR + in_first - 1
        last = (end_of_first ^ _ADDRESS_MASK) + medium.blocks - in_first - 1
    return _PHYSICAL.pack(
        part_version=PART_VERSION_1,
        maximum_rate=RATE_NOT_SPECIFIED,
        number_of_layers=layers - 1,
        track_path=OPPOSITE if layers > 1 else 0,
        layer_type=EMBOSSED,
        first_sector=DVD_FIRST_SECTOR,
        last_sector=last & _ADDRESS_MASK,
        last_sector_of_layer_0=end_of_first,
    )


def _bd_layers(medium: Medium) -> int:
    return min(-(-medium.blocks // BD_LAYER), BD_MOST_LAYERS)


def _bd_layer(layer: int, blocks: int) -> tuple[int, int]:
    """The first address of a layer of so many blocks, and the one behind its last; each second layer ends where the
    pair does."""
    pair = layer // 2 * BD_PAIR
    if layer % 2:
        return pair + BD_END - blocks, pair + BD_END
    return pair + BD_FIRST_SECTOR, pair + BD_FIRST_SECTOR + blocks


def _bd_information(medium: Medium) -> bytes:
    """A unit for each layer; of two, each is a whole one, though the last may not be used to its end."""
    layers = _bd_layers(medium)
    used = min(medium.blocks - (layers - 1) * BD_LAYER, BD_LAYER)
    sizes = [BD_LAYER if layers > 1 else used] * layers
    last_data = _bd_layer(layers - 1, sizes[-1])[0] + used - 1
    data = b""
    for layer, size in enumerate(sizes):
        first, end = _bd_layer(layer, size)
        data += _UNIT.pack(
            identifier=b"DI",
            format_number=1,
            number_of_layers=layers,
            layer=layer,
            sequence_number=layer,
            bytes_in_use=BD_BYTES_IN_USE,
            type_identifier=b"BDO",
            disc_version=1,
            layers_of_disc=layers,
            layer_type=EMBOSSED,
            channel_bit_length=BD_25_GB,
            used_layers=(1 << layers) - 1,
            last_data_address=last_data,
            first_address=first,
            last_address=max(end - BD_STEP, first),
        )
    return data.ljust(BD_INFORMATION_BYTES, b"\0")


_Structures = Mapping[int, Callable[[Medium], bytes]]
DVD: _Structures = {
    0x00: _physical_format,
    0x01: lambda _: _COPYRIGHT.pack(),
    0x04: lambda _: bytes(MANUFACTURING_BYTES),
}
"""Physical format, copyright, manufacturing information."""
BD: _Structures = {0x00: _bd_information}
"""Disc information."""

MEDIA: dict[int, tuple[Profile, _Structures]] = {0: (Profile.DVD_ROM, DVD), 1: (Profile.BD_ROM, BD)}
"""MEDIA TYPE."""


def read_disc_structure(drive: CdDrive, _task: Task, fields: Fields) -> bytes:
    """One structure, or which there are."""
    media = MEDIA.get(fields["media_type"])
    if media is None:
        raise invalid_field(CDB, "media_type")
    profile, structures = media
    medium = drive.medium
    if medium.profile is not profile:
        raise CheckCondition(Sense(SenseKey.ILLEGAL_REQUEST, Asc.INCOMPATIBLE_FORMAT))
    code = fields["format"]
    if code == CAPABILITIES:
        body = b"".join(
            _CAPABILITY.pack(format_code=each, rds=1, structure_length=_HEADER.size + len(make(medium)))
            for each, make in structures.items()
        )
    else:
        make = structures.get(code)
        if make is None:
            raise invalid_field(CDB, "format")
        layers = _dvd_layers(medium) if profile is Profile.DVD_ROM else _bd_layers(medium)
        if fields["layer_number"] >= layers:
            raise invalid_field(CDB, "layer_number")
        body = make(medium)
    return _HEADER.pack(length=_HEADER.size - 2 + len(body)) + body


COMMAND: Command[CdDrive] = Command(
    0xAD,
    "READ DISC STRUCTURE",
    CDB,
    read_disc_structure,
    "MMC-6",
    data=Data.IN,
    length="allocation_length",
    refused=("agid",),
    ignored=("address",),
    access=Access.READ,
)
