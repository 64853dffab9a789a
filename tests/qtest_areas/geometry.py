"""Geometries of disks for firmware: what CMOS memory says of IDE disks, and `bios-geometry` of `fw_cfg`.

CMOS (as PCs' firmware has it): 12h the types of both disks, 19h and 1Ah more of them, 1Bh to 23h and 24h to 2Ch their
cylinders, heads and sectors, 39h how they are translated.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from tests.qtest_areas.bench import Area, Bench, Machine

AREA = Area("geometry", 23)
SMALL, LARGE = 61440, 8388608
"""Sectors of the images."""
SELECT, CONTENT = 0x510, 0x511
DIRECTORY = 0x19
CMOS = 0x70
HAS_EXTENSION = 47
"""Type of a disk that CMOS tells more of."""

Board = Literal["pc", "q35"]


class Chs(NamedTuple):
    """A geometry, and how it is translated: 0 not at all, 1 LBA, 2 large."""

    cylinders: int
    heads: int
    sectors: int
    translation: int = 0


# --- CMOS


def _cmos(machine: Machine, register: int) -> int:
    machine.io_write(CMOS, 1, register)
    return machine.io_read(CMOS + 1, 1)


def _check_cmos(machine: Machine, disks: Sequence[Chs | None]) -> None:
    """`disks` in the order of their places."""
    first, second = (*disks, None, None)[:2]
    assert _cmos(machine, 0x12) == (0xF0 if first else 0) | (0x0F if second else 0)
    for number, disk in enumerate((first, second)):
        assert _cmos(machine, 0x19 + number) == (HAS_EXTENSION if disk else 0)
        told = bytes(_cmos(machine, 0x1B + 9 * number + at) for at in range(9))
        assert told == (_extension(disk) if disk else bytes(9)), (number, told.hex(" "))
    translations = sum(disk.translation << 2 * place for place, disk in enumerate(disks) if disk)
    assert _cmos(machine, 0x39) == translations


def _extension(disk: Chs) -> bytes:
    control = 0xC0 | (8 if disk.heads > 8 else 0)
    return struct.pack("<HBHBHB", disk.cylinders, disk.heads, 0xFFFF, control, disk.cylinders, disk.sectors)


@AREA.does("CMOS without IDE disks")
def ide_none(bench: Bench) -> None:
    _check_cmos(bench.machine("pc", "-nodefaults"), [])


BY_TABLE = {
    "blank": (Chs(60, 16, 63, 0), Chs(8322, 16, 63, 1)),
    "lba": (Chs(60, 16, 63, 2), Chs(8322, 16, 63, 1)),
    "chs": (Chs(60, 16, 63, 0), Chs(8322, 16, 63, 0)),
}
"""What a partition table of each kind makes of the small image and of the large one."""


def _table(kind: str) -> bytes:
    """A boot sector with one partition, whose last sector is at head 127 where LBA was in use, else at head 15."""
    if kind == "blank":
        return bytes(512)
    end = (127, 63, 0) if kind == "lba" else (15, 63, 7)
    entry = struct.pack("<BBBBBBBBII", 0x80, 1, 1, 0, 6, *end, 63, 8001)
    return bytes(446) + entry + bytes(48) + b"\x55\xaa"


def _images(bench: Bench, kind: str) -> list[Path]:
    return [bench.image(512 * sectors, f"{sectors}.img", _table(kind)) for sectors in (SMALL, LARGE)]


def _drives(bench: Bench, kind: str, *, device: bool, reverse: bool = False) -> None:
    """A small disk, a large one, and an empty CD-ROM drive, by -drive alone or by -device as well."""
    images: list[Path | None] = [*_images(bench, kind), None]
    geometries: list[Chs | None] = [*BY_TABLE[kind], None]
    if reverse:
        images.reverse()
        geometries.reverse()
    words = []
    for place, image in enumerate(images):
        medium = "media=cdrom" if image is None else f"format=raw,file={image}"
        where = "if=none" if device else f"if=ide,index={place}"
        words.append(f"-drive id=drive{place},{where},{medium}")
        if device:
            model = "ide-cd" if image is None else "ide-hd"
            words.append(f"-device {model},drive=drive{place},bus=ide.{place // 2},unit={place % 2}")
    _check_cmos(bench.machine("pc", "-nodefaults", *words), geometries)


for _kind, _text in (
    ("blank", "without a partition table"),
    ("lba", "whose partition table is of LBA"),
    ("chs", "whose partition table is of CHS"),
):
    AREA.add(
        f"ide-drive-table-{_kind}",
        f"CMOS of -drive if=ide: disks {_text}, and a CD",
        partial(_drives, kind=_kind, device=False),
    )
    AREA.add(
        f"ide-device-table-{_kind}",
        f"CMOS of -device ide-hd: disks {_text}, and a CD",
        partial(_drives, kind=_kind, device=True),
    )
AREA.add(
    "ide-drive-cd-first",
    "CMOS where the CD is the first and disks follow",
    partial(_drives, kind="blank", device=False, reverse=True),
)


def _given(bench: Bench, *, translated: bool) -> None:
    image = _images(bench, "chs")[0]
    geometry = Chs(SMALL // (4 * 32), 4, 32, int(translated))
    more = "bios-chs-trans=lba," if translated else ""
    drive = f"-drive id=drive0,if=none,format=raw,file={image}"
    chs = f"{more}cyls={geometry.cylinders},heads={geometry.heads},secs={geometry.sectors}"
    device = f"-device ide-hd,{chs},drive=drive0,bus=ide.0,unit=0"
    _check_cmos(bench.machine("pc", "-nodefaults", drive, device), [geometry])


AREA.add("ide-device-given", "CMOS of a disk with cyls, heads and secs", partial(_given, translated=False))
AREA.add(
    "ide-device-given-translated",
    "CMOS of a disk with bios-chs-trans=lba besides",
    partial(_given, translated=True),
)


# --- bios-geometry


def _file(machine: Machine, name: str) -> bytes:
    """A file of the firmware configuration, read byte by byte; empty where there is none."""

    def read(key: int, length: int) -> bytes:
        machine.io_write(SELECT, 2, key)
        return bytes(machine.io_read(CONTENT, 1) for _ in range(length))

    (count,) = struct.unpack(">I", read(DIRECTORY, 4))
    directory = read(DIRECTORY, 4 + 64 * count)[4:]
    for size, key, text in struct.iter_unpack(">IH2x56s", directory):
        if text.rstrip(b"\0").decode() == name:
            return read(key, size)
    return b""


def _geometries(machine: Machine) -> dict[str, tuple[int, ...]]:
    text = _file(machine, "bios-geometry").rstrip(b"\0").decode()
    found = {}
    for line in text.splitlines():
        path, *numbers = line.split()
        assert path not in found
        found[path] = tuple(map(int, numbers))
    return found


def _logical(geometry: tuple[int, int, int]) -> str:
    return "lcyls={},lheads={},lsecs={}".format(*geometry)


def _nodes(bench: Bench, count: int) -> list[str]:
    """Drives disk0 and so on, of one sector each."""
    return [
        f"-drive file={bench.image(512, f'{at}.img')},if=none,format=raw,id=disk{at}" for at in range(count)
    ]


def _ide(bus: int, unit: int, disk: int, geometry: tuple[int, int, int]) -> str:
    return f"-device ide-hd,drive=disk{disk},bus=ide.{bus},unit={unit},{_logical(geometry)}"


def _scsi(host: int, target: int, lun: int, disk: int, geometry: tuple[int, int, int]) -> str:
    where = f"bus=scsi{host}.0,channel=0,scsi-id={target},lun={lun}"
    return f"-device scsi-hd,id=scsi-disk{disk},drive=disk{disk},{where},{_logical(geometry)}"


def _virtio(bus: str, slot: int, disk: int, geometry: tuple[int, int, int]) -> str:
    return f"-device virtio-blk-pci,id=virtio-disk{disk},drive=disk{disk},bus={bus},addr={slot},{_logical(geometry)}"


BIG, BIG_TOO, ZERO = (10000, 120, 30), (9000, 120, 30), (0, 0, 0)
ROOT = "/pci@i0cf8"


def _check(
    bench: Bench, board: Board, words: Sequence[str], expected: dict[str, tuple[int, int, int]]
) -> Machine:
    machine = bench.machine(board, "-nodefaults", *words)
    found = _geometries(machine)
    assert found == {ROOT + path: geometry for path, geometry in expected.items()}, found
    return machine


@AREA.does("bios-geometry of four IDE disks, also with zeroes in it")
def override_ide(bench: Bench) -> None:
    geometries = (BIG, BIG_TOO, (0, 1, 1), (1, 0, 0))
    disks = [_ide(at // 2, at % 2, at, geometry) for at, geometry in enumerate(geometries)]
    expected = {f"/ide@1,1/drive@{at // 2}/disk@{at % 2}": geometry for at, geometry in enumerate(geometries)}
    _check(bench, "pc", [*_nodes(bench, 4), *disks], expected)


@AREA.does("bios-geometry of four SATA disks of q35")
def override_sata(bench: Bench) -> None:
    geometries = (BIG, BIG_TOO, (0, 1, 1), (1, 0, 0))
    disks = [_ide(at, 0, at, geometry) for at, geometry in enumerate(geometries)]
    expected = {f"/pci8086,2922@1f,2/drive@{at}/disk@0": geometry for at, geometry in enumerate(geometries)}
    _check(bench, "q35", [*_nodes(bench, 4), *disks], expected)


def _four_scsi(bench: Bench, board: Board, before: Sequence[str], bus: str, path: str) -> None:
    geometries = (BIG, BIG_TOO, (1, 0, 0), (0, 1, 0))
    host = f"-device virtio-scsi-pci,id=scsi0,bus={bus},addr=3"
    disks = [_scsi(0, at, 0, at, geometry) for at, geometry in enumerate(geometries)]
    expected = {f"{path}/scsi@3/channel@0/disk@{at},0": geometry for at, geometry in enumerate(geometries)}
    _check(bench, board, [*_nodes(bench, 4), *before, host, *disks], expected)


@AREA.does("bios-geometry of four SCSI disks (of virtio-scsi here, of an lsi53c895a there)")
def override_scsi(bench: Bench) -> None:
    _four_scsi(bench, "pc", [], "pci.0", "")


@AREA.does("the same behind a PCI bridge of q35")
def override_scsi_q35(bench: Bench) -> None:
    bridge = "-device pcie-pci-bridge,bus=pcie.0,id=br"
    _four_scsi(bench, "q35", [bridge], "br", "/pci-bridge@1")


@AREA.does("bios-geometry of SCSI disks of two hosts, with units other than 0")
def override_scsi_2_hosts(bench: Bench) -> None:
    hosts = [f"-device virtio-scsi-pci,id=scsi{at},bus=pci.0,addr={3 + at}" for at in range(2)]
    disks = [
        _scsi(0, 0, 0, 0, BIG),
        _scsi(0, 1, 0, 1, BIG_TOO),
        _scsi(1, 0, 1, 2, (1, 0, 0)),
        _scsi(1, 1, 2, 3, (0, 1, 0)),
    ]
    expected = {
        "/scsi@3/channel@0/disk@0,0": BIG,
        "/scsi@3/channel@0/disk@1,0": BIG_TOO,
        "/scsi@4/channel@0/disk@0,1": (1, 0, 0),
        "/scsi@4/channel@0/disk@1,2": (0, 1, 0),
    }
    _check(bench, "pc", [*_nodes(bench, 4), *hosts, *disks], expected)


@AREA.does("bios-geometry of two virtio-blk disks")
def override_virtio_blk(bench: Bench) -> None:
    disks = [_virtio("pci.0", 3, 0, BIG), _virtio("pci.0", 4, 1, BIG_TOO)]
    _check(bench, "pc", [*_nodes(bench, 2), *disks], {"/scsi@3/disk@0,0": BIG, "/scsi@4/disk@0,0": BIG_TOO})


@AREA.does("the same behind a PCI bridge of q35")
def override_virtio_blk_q35(bench: Bench) -> None:
    bridge = "-device pcie-pci-bridge,bus=pcie.0,id=br"
    disks = [_virtio("br", 3, 0, BIG), _virtio("br", 4, 1, BIG_TOO)]
    expected = {"/pci-bridge@1/scsi@3/disk@0,0": BIG, "/pci-bridge@1/scsi@4/disk@0,0": BIG_TOO}
    _check(bench, "q35", [*_nodes(bench, 2), bridge, *disks], expected)


@AREA.does("a geometry of zeroes is none, on pc")
def override_zero(bench: Bench) -> None:
    _check(bench, "pc", [*_nodes(bench, 1), _ide(1, 1, 0, ZERO)], {})


@AREA.does("a geometry of zeroes is none, on q35")
def override_zero_q35(bench: Bench) -> None:
    _check(bench, "q35", [*_nodes(bench, 1), _ide(0, 0, 0, ZERO)], {})


def _unplug(machine: Machine, device: str, left: str) -> None:
    """After a reset, only the disk that is `left` is told of."""
    machine.qmp("device_del", {"id": device})
    machine.qmp("system_reset")
    machine.wait_event("RESET")
    assert _geometries(machine) == {ROOT + left: (20, 20, 20)}


def _scsi_unplug(bench: Bench, board: Board, before: Sequence[str], bus: str, path: str) -> None:
    host = f"-device virtio-scsi-pci,id=scsi0,bus={bus},addr=2"
    disks = [_scsi(0, 0, 0, 0, BIG), _scsi(0, 1, 0, 1, (20, 20, 20))]
    expected = {f"{path}/scsi@2/channel@0/disk@0,0": BIG, f"{path}/scsi@2/channel@0/disk@1,0": (20, 20, 20)}
    machine = _check(bench, board, [*before, *_nodes(bench, 2), host, *disks], expected)
    _unplug(machine, "scsi-disk0", f"{path}/scsi@2/channel@0/disk@1,0")


def _virtio_unplug(bench: Bench, board: Board, before: Sequence[str], bus: str, path: str) -> None:
    disks = [_virtio(bus, 2, 0, BIG), _virtio(bus, 3, 1, (20, 20, 20))]
    expected = {f"{path}/scsi@2/disk@0,0": BIG, f"{path}/scsi@3/disk@0,0": (20, 20, 20)}
    machine = _check(bench, board, [*before, *_nodes(bench, 2), *disks], expected)
    _unplug(machine, "virtio-disk0", f"{path}/scsi@3/disk@0,0")


BRIDGES = ("-device pcie-root-port,id=p0", "-device pcie-pci-bridge,bus=p0,id=b1")
BEHIND = "/pci-bridge@1/pci-bridge@0"


@AREA.does("a SCSI disk that is unplugged is told of no more after a reset")
def override_scsi_hot_unplug(bench: Bench) -> None:
    _scsi_unplug(bench, "pc", [], "pci.0", "")


@AREA.does("the same behind a root port and a PCI bridge of q35")
def override_scsi_hot_unplug_q35(bench: Bench) -> None:
    _scsi_unplug(bench, "q35", BRIDGES, "b1", BEHIND)


@AREA.does("a virtio-blk disk that is unplugged is told of no more after a reset")
def override_virtio_hot_unplug(bench: Bench) -> None:
    _virtio_unplug(bench, "pc", [], "pci.0", "")


@AREA.does("the same behind a root port and a PCI bridge of q35")
def override_virtio_hot_unplug_q35(bench: Bench) -> None:
    _virtio_unplug(bench, "q35", BRIDGES, "b1", BEHIND)
