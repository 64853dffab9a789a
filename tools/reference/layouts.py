"""Structures as they are declared with construct: where each is declared, what is said of it, and its parts."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from enum import IntEnum, IntFlag
from functools import cache
from typing import NamedTuple

import construct

from devmodels.virtio_blk.layout import BlkFeature
from devmodels.virtio_scsi.layout import ScsiFeature
from devmodels.wire import Codec, is_bit_struct
from tools.reference.declared import ROOT


class Module(NamedTuple):
    """A module whose structures are shown: its anchor, title, and the document that they are of."""

    anchor: str
    title: str
    name: str
    document: str = ""


class Bits(NamedTuple):
    """Some bits of a part: the highest and the lowest; no name where they are reserved."""

    name: str
    high: int
    low: int


class Part(NamedTuple):
    """`size` bytes at `offset`; no name where they are reserved; `bits` of a part that has such."""

    name: str
    offset: int
    size: int
    bits: tuple[Bits, ...] = ()


class Structure(NamedTuple):
    """One structure: its name in the module, what is said of it there."""

    module: Module
    name: str
    words: str
    declaration: construct.Construct

    @property
    def anchor(self) -> str:
        """Where it is on its page."""
        return f"{self.module.anchor}.{self.name}"

    @property
    def parts(self) -> list[Part]:
        """Its parts, from the first byte on."""
        return list(_parts(self.declaration, "", 0))

    @property
    def size(self) -> int:
        """Bytes in all."""
        return int(self.declaration.sizeof())

    @property
    def big_endian(self) -> bool:
        """Whether its integers are."""
        return _big_endian(self.declaration)


MEMORY = (
    Module("ring", "Virtqueues", "devmodels.virtio.layout"),
    Module("blk", "virtio-blk", "devmodels.virtio_blk.layout"),
    Module("scsi-host", "virtio-scsi", "devmodels.virtio_scsi.layout"),
    Module("ahci", "AHCI", "devmodels.ahci.layout"),
    Module("fis", "FISes", "devmodels.ahci.fis"),
    Module("prd", "IDE bus master", "devmodels.ide_cdrom.busmaster"),
    Module("iscsi", "iSCSI", "devmodels.protocols.iscsi.pdu", "RFC 7143"),
    Module("iscsi-codes", "Codes of iSCSI", "devmodels.protocols.iscsi.codes", "RFC 7143"),
    Module("vhost-user", "vhost-user", "devmodels.protocols.vhost_user"),
    Module("vfio-user", "vfio-user", "devmodels.protocols.vfio_user"),
)
FEATURES = (BlkFeature, ScsiFeature)
_LAYOUT = "devmodels.scsi.layout"
SCSI = (
    Module("cdb", "CDBs of all units", f"{_LAYOUT}.cdb"),
    Module("block-cdb", "CDBs of disks", f"{_LAYOUT}.block_cdb"),
    Module("mmc-cdb", "CDBs of drives", f"{_LAYOUT}.mmc_cdb"),
    Module("data", "What commands return", f"{_LAYOUT}.data"),
    Module("sense", "Sense data", f"{_LAYOUT}.sense"),
    Module("vpd", "Vital product data", f"{_LAYOUT}.vpd"),
    Module("modes", "Mode pages", f"{_LAYOUT}.modes"),
    Module("parameters", "Parameter lists", f"{_LAYOUT}.parameters"),
    Module("reservations", "Persistent reservations", f"{_LAYOUT}.reservations"),
    Module("copy", "Copying", f"{_LAYOUT}.copy"),
    Module("mmc-data", "What drives return", f"{_LAYOUT}.mmc_data"),
    Module("mmc-features", "Features of drives", f"{_LAYOUT}.mmc_features"),
    Module("mmc-modes", "Mode pages of drives", f"{_LAYOUT}.mmc_modes"),
)


@cache
def structures(module: Module) -> tuple[Structure, ...]:
    """What a module declares, in its order."""
    loaded = importlib.import_module(module.name)
    tree = ast.parse((ROOT / (module.name.replace(".", "/") + ".py")).read_text(encoding="utf-8"))
    found = []
    for number, node in enumerate(tree.body):
        name = _assigned(node)
        value = getattr(loaded, name, None)
        declaration = value.declaration if isinstance(value, Codec) else value
        if name.startswith("_") or not isinstance(declaration, construct.Struct):
            continue
        following = tree.body[number + 1] if number + 1 < len(tree.body) else None
        found.append(Structure(module, name, _string(following), declaration))
    return tuple(found)


@cache
def enumerations(module: Module) -> tuple[type[IntEnum | IntFlag], ...]:
    """The numbers with names that a module declares, but for feature bits, which have a page of their own."""
    own = vars(importlib.import_module(module.name)).values()
    found = (each for each in own if isinstance(each, type) and issubclass(each, IntEnum | IntFlag))
    return tuple(each for each in found if each.__module__ == module.name and each not in FEATURES)


def anchor_of(declaration: construct.Construct) -> str:
    """Where SCSI's structure `declaration` is on its page."""
    return next(
        each.anchor for module in SCSI for each in structures(module) if each.declaration is declaration
    )


def _assigned(node: ast.stmt) -> str:
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    return ""


def _string(node: ast.stmt | None) -> str:
    """What stands under a name as its documentation."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return " ".join(str(node.value.value).split())
    return ""


# --- parts


def _parts(layout: construct.Construct, name: str, at: int) -> Iterator[Part]:
    """Walk a declaration down to integers, bytes, bit fields and what is reserved."""
    if isinstance(layout, construct.Renamed):
        yield from _parts(layout.subcon, f"{name}.{layout.name}" if name else layout.name, at)
    elif isinstance(layout, construct.Struct):
        for member in layout.subcons:
            yield from _parts(member, name, at)
            at += member.sizeof()
    elif isinstance(layout, construct.Array):
        yield Part(f"{name}[{layout.count}]", at, layout.sizeof())
    elif isinstance(layout, construct.Padded):
        yield Part("", at, layout.sizeof())
    elif is_bit_struct(layout):
        yield Part(name, at, layout.sizeof(), tuple(_bits(layout)))
    else:
        yield Part(name, at, layout.sizeof())


def _bits(layout: construct.Construct) -> Iterator[Bits]:
    top = 8 * layout.sizeof() - 1
    for member in layout.subcon.subcons:
        width = member.sizeof()
        yield Bits(member.name or "", top, top - width + 1)
        top -= width


def _big_endian(layout: construct.Construct) -> bool:
    if isinstance(layout, construct.FormatField):
        return bool(layout.fmtstr[0] == ">") and layout.length > 1
    if is_bit_struct(layout):
        return True
    if isinstance(layout, construct.Struct):
        return any(_big_endian(member) for member in layout.subcons)
    return hasattr(layout, "subcon") and _big_endian(layout.subcon)
