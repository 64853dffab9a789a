"""`-drive`: a node, what a device over it inherits, and the device itself where an interface is named.

Image names are those that QEMU takes besides paths: `blkdebug:CONFIG:IMAGE`, `null-co://`, `json:{…}`.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping

import msgspec

from devmodels.blockbackend.registry import coerce
from devmodels.options import OptionError, json_object, parse_keyval, shown
from devmodels.qtest.numbers import option_number, size

INTERFACES = ("none", "ide", "scsi", "virtio", "floppy", "pflash")
MEDIA = ("disk", "cdrom")
WITHOUT_DEVICE = ("none", "floppy", "pflash")
"""Interfaces whose drives the board gives nothing to: there is no floppy controller, and no firmware."""
NOT_ON_PC = ("sd", "mtd", "xen")
FOR_DEVICES = ("rerror", "werror")
CACHE_MODES: dict[str, tuple[bool, bool, bool]] = {
    "none": (True, False, True),
    "directsync": (True, False, False),
    "writeback": (False, False, True),
    "writethrough": (False, False, False),
    "unsafe": (False, True, True),
}
"""By QEMU's name: direct, no-flush, and whether the device has a write cache."""
DISCARDS = {"on": "unmap", "off": "ignore"}
"""What `discard` is called on a line besides."""


class Drive(msgspec.Struct):
    """One `-drive`: `node` is opened unless there is no medium; a device over it takes `inherited`.

    `place` is (interface, bus, unit), where the board gives it a device, if it does, and `media` which one.
    """

    name: str
    place: tuple[str, int, int]
    node: dict[str, object] | None
    inherited: dict[str, object] = msgspec.field(default_factory=dict)
    media: str = "disk"
    limits: dict[str, object] = msgspec.field(default_factory=dict)


def drive(
    text: str, *, per_bus: Mapping[str, int], interface: str, taken: set[tuple[str, int, int]], snapshot: bool
) -> Drive:
    """What `text` says; OptionError where that cannot be.

    `interface` is the board's own, for drives that name none; `taken` has the places that are given already, and
    `per_bus` how many units a bus has, of interfaces whose buses have not as many as there are drives.
    """
    given = dict(parse_keyval(re.sub(_FILE, r"\1file.filename=", text)))
    interface = _word(given, "if", interface)
    if interface in NOT_ON_PC:
        bus, unit = (_number(given, key) or 0 for key in ("bus", "unit"))
        raise OptionError(f"machine type does not support if={interface},bus={bus},unit={unit}")
    if interface not in INTERFACES:
        raise OptionError(f"if: {shown(interface)} is given; expected one of {', '.join(INTERFACES)}")
    media = _word(given, "media", "disk")
    if media not in MEDIA:
        raise OptionError(f"'{media}' invalid media")
    place = _place(given, interface, taken, per_bus.get(interface))
    name = _word(given, "id", "") or _usual_name(place, media, per_bus)
    inherited: dict[str, object] = {key: given.pop(key) for key in FOR_DEVICES if key in given}
    write_cache = _cache(given)
    if write_cache is not None:
        inherited["write-cache"] = write_cache
    limits = _limits(given)
    snapshot = _word(given, "snapshot", "on" if snapshot else "off") == "on"
    node = _node(given, name, read_only=media == "cdrom", snapshot=snapshot)
    return Drive(name, place, node, inherited, media, limits)


def _word(given: dict[str, object], key: str, otherwise: str) -> str:
    value = given.pop(key, otherwise)
    if not isinstance(value, str):
        raise OptionError(f"{key}: expected a word")
    return value


def _number(given: dict[str, object], key: str) -> int | None:
    text = _word(given, key, "")
    return option_number(key, text) if text else None


def _place(
    given: dict[str, object], interface: str, taken: set[tuple[str, int, int]], width: int | None
) -> tuple[str, int, int]:
    """The one that is named, or the next one that is free from the bus on that is named."""
    index, bus, unit = (_number(given, key) for key in ("index", "bus", "unit"))
    if index is not None:
        if bus or unit is not None:
            raise OptionError("index cannot be used with bus and unit")
        bus, unit = (0, index) if width is None else divmod(index, width)
    bus = bus or 0
    if unit is None:
        unit = 0
        while (interface, bus, unit) in taken:
            unit += 1
            if unit == width:
                bus, unit = bus + 1, 0
    if width is not None and unit >= width:
        raise OptionError(f"unit {unit} too big (max is {width - 1})")
    place = (interface, bus, unit)
    if place in taken:
        raise OptionError(
            f"drive with bus={bus}, unit={unit} (index={-1 if index is None else index}) exists"
        )
    taken.add(place)
    return place


def _usual_name(place: tuple[str, int, int], media: str, per_bus: Mapping[str, int]) -> str:
    interface, bus, unit = place
    if interface not in per_bus:
        return f"{interface}{unit}"
    return f"{interface}{bus}-{'cd' if media == 'cdrom' else 'hd'}{unit}"


def _cache(given: dict[str, object]) -> str | None:
    """Cache modes, and the same by their parts; returns what the device's `write-cache` is."""
    mode = _word(given, "cache", "") if not isinstance(given.get("cache"), Mapping) else ""
    parts = given.pop("cache", {})
    cache: dict[str, object] = {}
    write_cache = None
    if mode:
        if mode not in CACHE_MODES:
            raise OptionError(f"cache: {shown(mode)} is given; expected one of {', '.join(CACHE_MODES)}")
        direct, no_flush, writeback = CACHE_MODES[mode]
        cache = {"direct": direct, "no-flush": no_flush}
        write_cache = "on" if writeback else "off"
    if isinstance(parts, dict):
        if "writeback" in parts:
            write_cache = str(parts.pop("writeback"))
        cache |= {key: value == "on" for key, value in parts.items()}
    if cache:
        given["cache"] = cache
    return write_cache


_FILE = r"(^|(?<!,)(?:,,)*,)file="
"""There may be `file.…` besides; two commas are one of a value."""
_OLD_LIMIT = r"(?P<unit>bps|iops)(?P<of>_rd|_wr)?(?P<rest>_max|_max_length)?"
_OF = {None: "total", "_rd": "read", "_wr": "write"}


def _limits(given: dict[str, object]) -> dict[str, object]:
    """`throttling.iops-total`, `throttling.group` and so on, and the old names of the same, `iops`."""
    nested = given.pop("throttling", {})
    limits = dict(nested) if isinstance(nested, Mapping) else {}
    for key in list(given):
        if key in ("group", "iops_size"):
            name = key.replace("_", "-")
        elif old := re.fullmatch(_OLD_LIMIT, key):
            name = f"{old['unit']}-{_OF[old['of']]}{(old['rest'] or '').replace('_', '-')}"
        else:
            continue
        if name in limits:
            raise OptionError(f"'throttling.{name}' and its alias '{key}' can't be used at the same time")
        limits[name] = given.pop(key)
    return limits


# --- nodes


_MAGICS = {b"QFI\xfb": "qcow2", b"QED\0": "qed", b"KDMV": "vmdk", b"vhdxfile": "vhdx"}
"""How images of other formats begin."""


def _node(
    given: dict[str, object], name: str, *, read_only: bool, snapshot: bool
) -> dict[str, object] | None:
    """The options of the node; None where there is no medium."""
    given.pop("serial", None)
    if "readonly" in given:
        given["read-only"] = given.pop("readonly")
    if read_only:
        given.setdefault("read-only", "on")
    name = str(given.pop("node-name", name))
    form, image = given.pop("format", None), given.pop("file", None)
    aio = given.pop("aio", None)
    driver = given.pop("driver", None)
    _name_discards(given, image)
    if image is None and driver is None:
        return None
    protocol = None if image is None else _protocol(image)
    if driver in (None, "raw"):
        if form not in (None, "raw"):
            raise OptionError(
                f"format: Unknown driver {shown(form)}; expected raw: there are no image formats here"
            )
        if protocol is None:
            raise OptionError("file: missing; expected an image")
        if form is driver is None:
            _check_raw(protocol)
        _hand_down(protocol, given, aio)
        driver = "raw"
    own = {"driver": driver, "node-name": name, **given}
    if protocol is not None:
        own["file"] = protocol
    if snapshot:
        below = {key: value for key, value in own.items() if key != "node-name"} | {"read-only": "on"}
        store = {"driver": "memory", "size": _size_of(protocol)}
        return {"driver": "overlay", "node-name": name, "file": store, "backing": coerce(below, size)}
    return _with_copy_on_read(coerce(own, size))


def _name_discards(*nodes: object) -> None:
    """Modes of discards by the names that block nodes know, of all nodes below as well."""
    for node in nodes:
        if isinstance(node, dict):
            if "discard" in node:
                node["discard"] = DISCARDS.get(str(node["discard"]), node["discard"])
            _name_discards(*node.values())


def _protocol(image: object) -> dict[str, object]:
    """`file=NAME`, `file.filename=NAME,file.locking=off`, `file.driver=…`."""
    assert isinstance(image, Mapping)
    if "driver" in image:
        below = (key for key in ("image", "file") if isinstance(image.get(key), Mapping))
        return {**image, **{key: _protocol(image[key]) for key in below}}
    if not isinstance(image.get("filename"), str):
        raise OptionError("file: missing; expected an image")
    return _with(image_node(image["filename"]), image)


def _with(node: dict[str, object], more: Mapping[str, object]) -> dict[str, object]:
    """A node that a name stands for, and `file.…` options besides, of nodes below it as well."""
    for key, value in more.items():
        below = node.get(key)
        if isinstance(value, Mapping) and isinstance(below, dict):
            _with(below, value)
        elif key != "filename":
            node[key] = value
    return node


def _check_raw(protocol: dict[str, object]) -> None:
    """OptionError where an image of which nothing is said is one that QEMU would not take for raw."""
    bottom = _bottom(protocol)
    if bottom.get("driver") != "file":
        return
    filename = str(bottom.get("filename"))
    if not os.path.isfile(filename):
        return
    try:
        with open(filename, "rb") as file:
            beginning = file.read(8)
    except OSError:
        return  # Who opens the node says why not.
    for magic, name in _MAGICS.items():
        if beginning.startswith(magic):
            raise OptionError(
                f"file: {filename} is of the format {name}; there are no image formats here (format=raw takes it so)"
            )


def _bottom(protocol: dict[str, object]) -> dict[str, object]:
    """The node below all filters."""
    while isinstance(inner := protocol.get("image", protocol.get("file")), dict):
        protocol = inner
    return protocol


def _size_of(protocol: Mapping[str, object] | None) -> int:
    filename = None if protocol is None else protocol.get("filename")
    if not isinstance(filename, str):
        raise OptionError("snapshot: expected an image in a file")
    try:
        with open(filename, "rb", buffering=0) as file:
            return -(-file.seek(0, os.SEEK_END) // 512) * 512
    except OSError as error:
        raise OptionError(f"file: {filename}: {error.strerror}") from None


def _hand_down(protocol: dict[str, object], given: Mapping[str, object], aio: object) -> None:
    """What QEMU hands down from a drive to the file below."""
    bottom = _bottom(protocol)
    if bottom.get("driver") in ("file", "host_device"):
        for key in ("read-only", "cache", "discard"):
            if key in given:
                bottom.setdefault(key, given[key])
        if aio == "io_uring":
            bottom["aio"] = aio


def _with_copy_on_read(node: dict[str, object]) -> dict[str, object]:
    if node.pop("copy-on-read", "off") in ("on", True):
        name = node.pop("node-name")
        return {"driver": "copy-on-read", "node-name": name, "file": node}
    return node


def image_node(filename: str) -> dict[str, object]:
    """The node that a file name of QEMU's stands for; OptionError where there is none such here."""
    kind, colon, rest = filename.partition(":")
    if filename.startswith(("null-co://", "null-aio://")):
        return {"driver": "null-co"}
    if kind == "blkdebug" and colon:
        config, colon, image = rest.partition(":")
        if not colon:
            raise OptionError(f"file: {shown(filename)} is given; expected blkdebug:CONFIG:IMAGE")
        node: dict[str, object] = {"driver": "blkdebug", "image": image_node(image)}
        return node | ({"config": config} if config else {})
    if kind == "json" and colon:
        try:
            return json_object(rest.encode())
        except (msgspec.DecodeError, RecursionError) as error:
            raise OptionError(f"file: {error}; expected json:{{…}}") from None
        except UnicodeEncodeError:
            raise OptionError(f"file: {shown(filename)} is given; expected UTF-8") from None
    if kind in ("nbd", "iscsi", "ssh", "http", "https", "ftp", "rbd") and colon:
        raise OptionError(f"file: Unknown protocol '{kind}'")
    if kind == "host_device" and colon:
        return {"driver": "host_device", "filename": rest}
    driver = "host_device" if _is_device(filename) else "file"
    return {"driver": driver, "filename": filename.removeprefix("file:")}


def _is_device(filename: str) -> bool:
    """Whether a name is that of a block or a character device."""
    try:
        mode = os.stat(filename).st_mode
    except (OSError, ValueError):
        return False  # Who opens the node says why not.
    return stat.S_ISBLK(mode) or stat.S_ISCHR(mode)


def medium_node(filename: str, form: str | None, *, read_only: bool) -> dict[str, object]:
    """The node of another medium; OptionError where its format is none that is here."""
    if form not in (None, "raw"):
        raise OptionError(f"Unknown driver '{form}'")
    protocol = image_node(filename)
    _hand_down(protocol, {"read-only": read_only}, None)
    return {"driver": "raw", "read-only": read_only, "file": protocol}
