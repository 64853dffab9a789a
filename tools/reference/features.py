"""The page of feature bits: those of the code's enums, and whether a device offers them, found by making devices."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from enum import IntEnum
from html import escape
from typing import Any, NamedTuple

import msgspec

from devmodels.assembly import assemble
from devmodels.options import decode
from devmodels.virtio.constants import Feature
from devmodels.virtio.legacy import Legacy
from devmodels.virtio_blk.layout import BlkFeature
from devmodels.virtio_blk.pci import VirtioBlkPciOptions
from devmodels.virtio_scsi.layout import ScsiFeature
from devmodels.virtio_scsi.pci import VirtioScsiPciOptions
from tools.reference.bits import Bit, diagram
from tools.reference.page import Page, cell, table

LEAD = (
    "What devices offer their drivers, found by making devices with each of their options: "
    '<span class="kind rw">by default</span> or always, <span class="kind rw1c">with an option</span>, '
    'or <span class="kind wo">through the legacy interface</span> alone.'
)
NOTE = (
    "vhost-user leaves some of them to its front end: docs/virtio.md, which has those features of the specification, "
    "too, that nothing here knows."
)
_WORD = 32
"""Bits that a driver reads at a time."""


class Kind(NamedTuple):
    """A type of device: its driver's name, its options, what has to be said besides to try some of them."""

    driver: str
    options: type[msgspec.Struct]
    features: type[IntEnum]
    drive: bool
    values: tuple[str, ...]
    """Settings that are tried besides turning each switch over."""


BLK = Kind(
    "virtio-blk-pci",
    VirtioBlkPciOptions,
    BlkFeature,
    True,
    ("size-max=65536", "num-queues=2", "lifetime.pre-eol-info=1", "iommu_platform=on,disable-legacy=on"),
)
SCSI = Kind(
    "virtio-scsi-pci", VirtioScsiPciOptions, ScsiFeature, False, ("iommu_platform=on,disable-legacy=on",)
)
SLOTS = 24
"""Devices in one machine."""
READ_ONLY = "a read-only drive"
LEGACY_ALONE = "disable-modern=on"
"""There is no other interface then: what it has not is not offered."""

WORDS: dict[str, tuple[str, str]] = {
    "VIRTIO_F_NOTIFY_ON_EMPTY": ("§6.3", "a queue of which nothing is left is always told of"),
    "VIRTIO_F_ANY_LAYOUT": ("§6.3", "descriptors may be split anywhere"),
    "VIRTIO_F_INDIRECT_DESC": ("§2.7.5.3", "a descriptor may point at a table of descriptors"),
    "VIRTIO_F_EVENT_IDX": ("§2.7.7", "each side says from which entry on it wants to be told"),
    "UNUSED": ("§6.3", "who accepts it accepts whatever is offered"),
    "VIRTIO_F_VERSION_1": ("§6.1", "the device follows version 1 of the specification, or later"),
    "VIRTIO_F_ACCESS_PLATFORM": ("§6.1", "memory is reached through the platform's translation"),
    "VIRTIO_F_RING_PACKED": ("§2.8", "rings are packed"),
    "VIRTIO_F_IN_ORDER": ("§2.7.9, §2.8.8", "buffers are given back in the order in which they came"),
    "VIRTIO_F_NOTIFICATION_DATA": ("§2.9", "a notification says how far the driver has come"),
    "VIRTIO_F_NOTIF_CONFIG_DATA": (
        "§4.1.5.2",
        "a notification names the queue by a value of the device's",
    ),
    "VIRTIO_F_RING_RESET": ("§2.6.1", "a queue can be reset alone"),
    "VIRTIO_F_SUSPEND": ("§3.4", "the driver can suspend the device and resume it"),
    "VIRTIO_BLK_F_SIZE_MAX": ("§5.2.3", "size_max limits a segment"),
    "VIRTIO_BLK_F_SEG_MAX": ("§5.2.3", "seg_max limits the segments of a request"),
    "VIRTIO_BLK_F_GEOMETRY": ("§5.2.3", "cylinders, heads and sectors"),
    "VIRTIO_BLK_F_RO": ("§5.2.3", "nothing can be written"),
    "VIRTIO_BLK_F_BLK_SIZE": ("§5.2.3", "blk_size is the best size of a block"),
    "VIRTIO_BLK_F_FLUSH": ("§5.2.3", "there is a flush command"),
    "VIRTIO_BLK_F_TOPOLOGY": ("§5.2.3", "physical blocks, and sizes of I/O that suit them"),
    "VIRTIO_BLK_F_CONFIG_WCE": ("§5.2.3", "the driver can switch the write cache"),
    "VIRTIO_BLK_F_MQ": ("§5.2.3", "several queues"),
    "VIRTIO_BLK_F_DISCARD": ("§5.2.3", "ranges can be discarded"),
    "VIRTIO_BLK_F_WRITE_ZEROES": ("§5.2.3", "ranges can be zeroed"),
    "VIRTIO_BLK_F_LIFETIME": ("§5.2.3", "the device tells how worn it is"),
    "VIRTIO_BLK_F_SECURE_ERASE": ("§5.2.3", "ranges can be erased for good"),
    "VIRTIO_SCSI_F_INOUT": ("§5.6.3", "one command can have data both ways"),
    "VIRTIO_SCSI_F_HOTPLUG": ("§5.6.3", "units that come and go are told of"),
    "VIRTIO_SCSI_F_CHANGE": ("§5.6.3", "changed parameters of units are told of"),
    "VIRTIO_SCSI_F_T10_PI": ("§5.6.3", "protection information: there is none in the block layer"),
}
"""By name, as bits of different devices are the same numbers: clause of VIRTIO 1.4, and what it means, in our words."""


class Offer(NamedTuple):
    """Whether a bit is offered: the style of that, how it is called, and the setting that changes it."""

    look: str
    when: str
    setting: str = ""


def page() -> Page:
    """The page."""
    out = Page("features", "Feature bits", LEAD)
    blk, scsi = offers(BLK), offers(SCSI)
    core = {bit: blk[bit] for bit in map(int, Feature)}
    _part(
        out,
        "core-bits",
        "Of rings and transports",
        Feature,
        core,
        "of a virtio-blk-pci; virtio-scsi-pci is the same",
    )
    _part(out, "blk-bits", "Of the block device", BlkFeature, blk, "of a virtio-blk-pci")
    _part(out, "scsi-bits", "Of the SCSI host", ScsiFeature, scsi, "of a virtio-scsi-pci")
    out.add([f'<p class="note">{NOTE}</p>'])
    every = len(Feature) + len(BlkFeature) + len(ScsiFeature)
    out.summary = (
        f"{every} bits of rings, transports, disks and SCSI hosts; whether, and when, they are offered"
    )
    return out


def _part(
    out: Page, anchor: str, title: str, features: type[IntEnum], offered: dict[int, Offer], whose: str
) -> None:
    out.section(anchor, title)
    document = (inspect.getdoc(features) or "").partition(":")[0].rstrip(".")
    out.add([f'<p class="note">{cell(document)}; {whose}.</p>'])
    for first in reversed(range(0, max(features) + 1, _WORD)):
        mine = [each for each in features if first <= each < first + _WORD]
        named = [Bit(each, each, _short(each), offered[each].look, f"#{each.name}") for each in mine]
        out.add(diagram(_WORD, named, first=first))
    out.add(
        table(("Bit", "Feature", "Offered", "Changed by", "VIRTIO 1.4", ""), _rows(out, features, offered))
    )


def _rows(out: Page, features: type[IntEnum], offered: dict[int, Offer]) -> Iterator[tuple[str, ...]]:
    for each in features:
        clause, words = WORDS[each.name]
        offer = offered[each]
        out.hit(each.name, f"feature bit {each.value}: {words}", each.name)
        yield (
            str(each.value),
            f'<code id="{each.name}">{each.name}</code>',
            f'<span class="kind {offer.look}">{offer.when}</span>',
            f"<code>{escape(offer.setting)}</code>" if "=" in offer.setting else escape(offer.setting),
            clause,
            cell(words),
        )


def _short(feature: IntEnum) -> str:
    return re.sub(r"^VIRTIO_(?:BLK_|SCSI_)?F_", "", feature.name).lower()


# --- what is offered


def offers(kind: Kind) -> dict[int, Offer]:
    """By bit: those of the core, and the device's own."""
    settings = list(_settings(kind))
    usual, *others = _offered(kind, ["", *settings])
    on: dict[int, str] = {}
    off: dict[int, str] = {}
    for setting, now in zip(settings, others, strict=True):
        for bit in (bit for bit in range(64) if (usual[0] ^ now[0]) >> bit & 1):
            (on if now[0] >> bit & 1 else off).setdefault(bit, setting)
    bits = [*map(int, Feature), *map(int, kind.features)]
    return {bit: _offer(bit, *usual, on.get(bit), off.get(bit)) for bit in bits}


def _offer(bit: int, usual: int, legacy: int, on: str | None, off: str | None) -> Offer:
    if usual >> bit & 1:
        return Offer("rw", "by default", off) if off else Offer("rw", "always")
    if legacy >> bit & 1:
        return Offer("wo", "legacy interface")
    if on is not None:
        return Offer("rw1c", "with an option", on)
    return Offer("reserved", "no")


def _settings(kind: Kind) -> Iterator[str]:
    """Each switch the other way, and what is to be tried besides; what changes most comes last."""
    yield from kind.values
    tried = {setting.partition("=")[0] for setting in (*kind.values, LEGACY_ALONE)}
    for each in msgspec.structs.fields(kind.options):
        if each.type is bool and each.encode_name not in tried and not each.required:
            yield f"{each.encode_name}={'off' if each.default else 'on'}"
    if kind.drive:
        yield READ_ONLY
    yield LEGACY_ALONE


def _offered(kind: Kind, settings: Sequence[str]) -> list[tuple[int, int]]:
    """The features of a device made with each of `settings`: of its modern interface, and of its legacy one."""
    found: list[tuple[int, int]] = []
    for first in range(0, len(settings), SLOTS):
        some = settings[first : first + SLOTS]
        given = [_options(kind, setting, number) for number, setting in enumerate(some)]
        nodes = [_node(setting, number) for number, setting in enumerate(some)]
        with assemble(blockdevs=nodes, devices=given, ram=1 << 20) as assembly:
            devices = [assembly.virtio_device(f"v{number}") for number in range(len(some))]
            legacy = [Legacy(device, "").offered for device in devices]
            found += [
                (others if setting == LEGACY_ALONE else device.device_features, others)
                for setting, device, others in zip(some, devices, legacy, strict=True)
            ]
    return found


def _options(kind: Kind, setting: str, number: int) -> Any:
    drive = f",drive=d{number}" if kind.drive else ""
    more = f",{setting}" if "=" in setting else ""
    return decode(f"driver={kind.driver},id=v{number}{drive}{more}", kind.options, what="device")


def _node(setting: str, number: int) -> dict[str, object]:
    return {
        "driver": "memory",
        "node-name": f"d{number}",
        "size": 1 << 20,
        "read-only": setting == READ_ONLY,
    }
