"""What a PC's firmware is told of disks' cylinders, heads and sectors.

Two ways: CMOS memory, for the four disks of pc's IDE channels (types 47 at 19h and 1Ah, 1Bh and 24h for their geometry,
39h for the translation), with a guess from the partition table where nobody said anything; and the `bios-geometry` file
of `fw_cfg`, for disks with the properties `lcyls`, `lheads` and `lsecs`.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from devmodels.blockbackend import BlockBackend, Op, Request
from devmodels.pci.bridge import PciBridge

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from devmodels.assembly.assembly import Assembly
    from devmodels.ata.disk import AtaDisk
    from devmodels.pci.bus import RootBus
    from devmodels.pci.function import PciFunction
    from devmodels.qtest.firmware import Cmos

SECTOR = 512
NONE, LBA, LARGE = 0, 1, 2
TRANSLATIONS = {"none": NONE, "lba": LBA, "large": LARGE, "rechs": 3}
USER_TYPE = 47
MOST_CYLINDERS = 16383
HEADS, SECTORS = 16, 63
PARTITIONS, PARTITION = 0x1BE, struct.Struct("<8B2I")
LARGE_TRACKS = 131072


class Told(NamedTuple):
    """A geometry and the translation of it that a BIOS does."""

    cylinders: int
    heads: int
    sectors: int
    translation: int


def guess(first_sector: bytes, sectors: int) -> Told:
    """The geometry of a disk with so many sectors, from where its partitions end, or from its size."""
    for at in range(4) if first_sector[510:512] == b"\x55\xaa" else ():
        *_, end_head, end_sector, _, _, count = PARTITION.unpack_from(first_sector, PARTITIONS + 16 * at)
        heads, track = end_head + 1, end_sector & 0x3F
        if not (count and end_head and track):
            continue
        cylinders = sectors // (heads * track)
        if not 1 <= cylinders <= MOST_CYLINDERS:
            continue
        if heads <= HEADS:
            return Told(cylinders, heads, track, NONE)
        # Somebody has partitioned it through a translation already.
        told = _by_size(sectors)
        tracks = told.cylinders * told.heads
        return told._replace(translation=LARGE if tracks <= LARGE_TRACKS else LBA)
    return _by_size(sectors)


def _by_size(sectors: int) -> Told:
    cylinders = min(max(2, sectors // (HEADS * SECTORS)), MOST_CYLINDERS)
    return Told(cylinders, HEADS, SECTORS, NONE if cylinders <= 1024 else LBA)


def of_disk(disk: AtaDisk, options: Mapping[str, object]) -> Told:
    """What is told of an ATA disk that was made with these options."""
    backend = disk.backend
    told = guess(_first_sector(backend), backend.size // SECTOR)
    if options.get("cyls"):
        cylinders, heads, sectors = (int(str(options.get(key, 0))) for key in ("cyls", "heads", "secs"))
        usual = NONE if cylinders <= 1024 and heads <= HEADS and sectors <= SECTORS else LBA
        told = Told(cylinders, heads, sectors, usual)
    wanted = TRANSLATIONS.get(str(options.get("bios-chs-trans", "auto")))
    return told if wanted is None else told._replace(translation=wanted)


def _first_sector(backend: BlockBackend) -> bytes:
    data = bytearray(SECTOR)
    over: list[Request] = []
    # Nobody counts this as the device's own.
    own = BlockBackend(backend.node, name="geometry", read_only=True)
    try:
        own.activate()
        own.submit(Request(Op.READ, 0, SECTOR, [memoryview(data)], done=over.append))
        backend.context.run_while(lambda: not over)
    finally:
        own.close()
    return bytes(data) if over and not over[0].error else bytes(SECTOR)


def tell_cmos(cmos: Cmos, assembly: Assembly) -> None:
    """The disks of the first IDE controller."""
    translations = present = 0
    for name, place in assembly.ata_units.items():
        channel = "ide.0", "ide.1"
        if place.bus_name not in channel or place.device.packet_size:
            continue
        if TYPE_CHECKING:
            assert isinstance(place.device, AtaDisk)
        number = 2 * channel.index(place.bus_name) + place.unit
        told = of_disk(place.device, assembly.options[name])
        translations |= told.translation << 2 * number
        if number < 2:
            present |= (0xF0, 0x0F)[number]
            cmos.bytes[0x19 + number] = USER_TYPE
            low, high = told.cylinders & 0xFF, told.cylinders >> 8 & 0xFF
            control = 0xC0 | (told.heads > 8) << 3
            at = (0x1B, 0x24)[number]
            cmos.bytes[at : at + 9] = bytes(
                (low, high, told.heads, 0xFF, 0xFF, control, low, high, told.sectors)
            )
    cmos.bytes[0x12] = present
    cmos.bytes[0x39] = translations


def bios_geometry(assembly: Assembly, given: Mapping[str, tuple[int, int, int]]) -> bytes:
    """The file: a line for each device with a geometry of its own, by the path that firmware has for it."""
    lines = []
    for name, numbers in given.items():
        path = _firmware_path(assembly, name)
        if path is not None and any(numbers):
            lines.append(f"{path} {' '.join(map(str, numbers))}")
    return "\n".join(lines).encode() + b"\0" if lines else b""


def _firmware_path(assembly: Assembly, name: str) -> str | None:
    for root, function in _functions(assembly.machine.bus, "/pci@i0cf8"):
        if name in assembly.devices and assembly.devices[name] is function:
            return f"{root}/disk@0,0"
        if name in assembly.ata_units:
            ata = assembly.ata_units[name]
            host = assembly.ata_host(name)
            if host is function:
                return f"{root}/drive@{host.buses.index(ata.bus):x}/disk@{ata.unit:x}"
        if name in assembly.units:
            scsi = assembly.units[name]
            if any(each is function and each.device is scsi.host for each in assembly.devices.values()):
                return f"{root}/channel@0/disk@{scsi.target:x},{scsi.lun:x}"
    return None


def _functions(bus: RootBus, above: str) -> Iterator[tuple[str, PciFunction]]:
    """Functions by their paths, those behind bridges as well."""
    for slot, number, function in bus.functions():
        name = _node_name(function.identity.vendor_id, function.identity.device_id)
        path = f"{above}/{name}@{slot:x}" + (f",{number:x}" if number else "")
        yield path, function
        if isinstance(function, PciBridge):
            yield from _functions(function.behind, path)


def _node_name(vendor: int, device: int) -> str:
    if vendor == 0x1B36:
        return "pci-bridge"
    if vendor == 0x1AF4:
        return "scsi"
    return "ide" if device in (0x7010, 0x7111) else f"pci{vendor:x},{device:x}"
