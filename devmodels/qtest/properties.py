"""Properties of QEMU's devices that have one meaning here, or none; and which devices `-global` speaks of.

Values are those that QEMU 7.2 has by default.  Hyphens and underscores in names are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from devmodels.options import OptionError

if TYPE_CHECKING:
    from devmodels.qtest.board import Board

Global = tuple[str, str, str]
"""A type's name, a property and its value."""

FOR_FIRMWARE = frozenset({"acpi-index", "bootindex", "multifunction", "rombar", "romfile"})
WITHOUT_MEANING = {"share-rw": "drive"}
"""Switches that say nothing here, with another property that devices which have them have as well."""
BOOLS = {
    "on": "on",
    "yes": "on",
    "true": "on",
    "y": "on",
    "off": "off",
    "no": "off",
    "false": "off",
    "n": "off",
}
NUMBERS = ("-1", f"{(1 << 32) - 1}")
AS_IF_NOT_GIVEN = {
    **dict.fromkeys(("addr", "discard-granularity", "lun", "scsi-id", "unit", "vectors"), NUMBERS),
    **dict.fromkeys(("num-queues",), (*NUMBERS, f"{(1 << 16) - 1}")),
    **dict.fromkeys(("logical-block-size", "physical-block-size"), ("0",)),
    **dict.fromkeys(("account-failed", "account-invalid"), ("auto",)),
}
"""Values that leave it to the device, as on QEMU."""
PCI = {"romsize": NUMBERS[1], "x-pcie-extcap-init": "on", "x-pcie-lnksta-dllla": "on"}
BUS_OF_VIRTIO = {
    **PCI,
    **dict.fromkeys(("aer", "ats", "modern-pio-notify", "page-per-vq", "x-disable-pcie"), "off"),
    **dict.fromkeys(("migrate-extra", "x-ats-page-aligned"), "on"),
    **dict.fromkeys((f"x-pcie-{what}-init" for what in ("deverr", "flr", "lnkctl", "pm")), "on"),
    **dict.fromkeys(
        ("virtio-pci-bus-master-bug-migration", "x-disable-legacy-check", "x-ignore-backend-features"), "off"
    ),
}
"""What of a virtio function is the transport's, in QEMU's words."""
VIRTIO = {
    **BUS_OF_VIRTIO,
    **dict.fromkeys(("any-layout", "notify-on-empty", "use-disabled-flag", "use-started"), "on"),
}
BLOCK = {"backend-defaults": "auto"}
SCSI = {
    **BLOCK,
    "port-index": "0",
    "port-wwn": "0",
    "scsi-version": "5",
    "quirk-mode-page-vendor-specific-apple": "off",
}
CD = {
    **dict.fromkeys(("logical-block-size", "min-io-size", "opt-io-size", "physical-block-size"), "0"),
    "discard-granularity": NUMBERS[1],
    "write-cache": "auto",
}
FIXED: dict[str, Mapping[str, str]] = {
    "virtio-blk-pci": {
        **VIRTIO,
        **BLOCK,
        "class": "0",
        "report-discard-granularity": "on",
        "scsi": "off",
        "x-enable-wce-if-config-wce": "on",
    },
    "virtio-scsi-pci": VIRTIO,
    "scsi-hd": {**SCSI, **dict.fromkeys(("cyls", "heads", "secs"), "0")},
    "scsi-cd": {
        **SCSI,
        **CD,
        **dict.fromkeys(
            ("quirk-mode-page-apple-vendor", "quirk-mode-page-truncated", "quirk-mode-sense-rom-use-dbd"),
            "off",
        ),
    },
    "ide-hd": BLOCK,
    "ide-cd": {**BLOCK, **CD},
    **dict.fromkeys(("ahci", "ich9-ahci", "piix3-ide", "piix4-ide"), PCI),
}
"""By model: properties that can have no other value here."""
SEG_MAX, SEG_MAX_APART = "seg_max", 126
"""Without `seg-max-adjust` it is not the size of the queues that says how many segments there are."""
SWITCHES = {"seg_max_adjust": SEG_MAX, "ioeventfd": "ioeventfd"}
"""What is on or off, with our option."""
TRANSPORTS = frozenset(
    {*FOR_FIRMWARE, *BUS_OF_VIRTIO, *("addr", "disable-legacy", "disable-modern", "vectors", "ioeventfd")}
)
ABOVE = {
    "virtio-blk-pci": ("virtio-blk-pci-base", "virtio-pci", "pci-device"),
    "virtio-scsi-pci": ("virtio-scsi-pci-base", "virtio-pci", "pci-device"),
    "scsi-hd": ("scsi-disk-base", "scsi-device"),
    "scsi-cd": ("scsi-disk-base", "scsi-device"),
    "ide-hd": ("ide-device",),
    "ide-cd": ("ide-device",),
    "ahci": ("ich9-ahci", "pci-device"),
    "ich9-ahci": ("pci-device",),
    "piix3-ide": ("pci-ide", "pci-device"),
    "piix4-ide": ("pci-ide", "pci-device"),
}
"""Types of QEMU's that a device is as well; all are of the type `device`."""
BEHIND = {
    "virtio-blk-pci": ("virtio-blk-device", "virtio-device"),
    "virtio-scsi-pci": ("virtio-scsi-device", "virtio-scsi-common", "virtio-device"),
}
"""Those of the device behind a virtio transport."""
OWN = {"pc": "piix3-ide", "q35": "ich9-ahci"}
REMOVED = {("isa-fdc", "driveA"), ("isa-fdc", "driveB")}
"""What pc's own floppy controller had once."""


def says_nothing(model: str, key: str, value: object, names: set[str]) -> bool:
    """Whether the property is there, and has the only value that it can have here; OptionError for another value."""
    if key in FOR_FIRMWARE:
        return key not in names
    hyphens = key.replace("_", "-")
    fixed = FIXED.get(model, {}).get(hyphens)
    given = _word(value)
    if hyphens in AS_IF_NOT_GIVEN and fixed is None:
        return given in AS_IF_NOT_GIVEN[hyphens] and not names.isdisjoint(
            (key, hyphens, key.replace("-", "_"))
        )
    if fixed is None and WITHOUT_MEANING.get(hyphens) not in names:
        return False
    if (fixed is None or fixed in BOOLS) and given not in BOOLS.values():
        raise OptionError(f"Parameter '{key}' expects 'on' or 'off'")
    if fixed is not None and given != fixed:
        raise OptionError(f"{key}={given} is given; here it is always {fixed}")
    return True


def _word(value: object) -> str:
    return BOOLS.get(str(value).lower() if isinstance(value, bool) else str(value), str(value))


def take(options: dict[str, object], model: str, key: str, value: object, names: set[str]) -> bool:
    """Put a property into `options`; False where it is none of QEMU's and none of ours (`names`)."""
    if says_nothing(model, key, value, names):
        return True
    plain = key.replace("-", "_")
    if SWITCHES.get(plain) in names and _word(value) not in BOOLS.values():
        raise OptionError(f"Parameter '{key}' expects 'on' or 'off'")
    if plain == "seg_max_adjust" and SEG_MAX in names:
        options[SEG_MAX] = 0 if _word(value) == "on" else SEG_MAX_APART
        return True
    known = next(
        (each for each in (key, key.replace("_", "-"), key.replace("-", "_")) if each in names), None
    )
    if known is None:
        return False
    options[known] = value
    return True


def apply(options: dict[str, object], driver: str, model: str, names: set[str], given: list[Global]) -> None:
    """What `-global` says of a device; OptionError where it has no such property."""
    for kind, key, value in given:
        leaf = _leaf(driver, model, kind)
        if leaf is None:
            continue
        transport = leaf in BEHIND.get(model, ()) and key.replace("_", "-") in TRANSPORTS
        if transport or not take(options, model, key, value, names):
            raise _not_found(kind, key, value, leaf)


def _leaf(driver: str, model: str, kind: str) -> str | None:
    """The type of that object of a device which is of the type `kind`, too; None where there is none."""
    behind = BEHIND.get(model, ())
    if kind in behind:
        return behind[0]
    return driver if kind in (driver, model, "device", *ABOVE.get(model, ())) else None


def _not_found(kind: str, key: str, value: str, leaf: str) -> OptionError:
    return OptionError(f"can't apply global {kind}.{key}={value}: Property '{leaf}.{key}' not found")


def check_own(board: Board, given: list[Global]) -> None:
    """OptionError where `-global` gives the board's own controller a property that it has not."""
    own = OWN.get(board.name)
    for kind, key, value in given:
        if own is None:
            return
        removed = (kind, key) in REMOVED and board.name == "pc"
        leaf = kind if removed else _leaf(own, own, kind)
        if leaf is not None and (removed or (key != "addr" and not says_nothing(own, key, value, set()))):
            raise _not_found(kind, key, value, leaf)
