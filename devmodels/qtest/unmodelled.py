"""Devices of QEMU's that are not modelled here: what a machine has of them so that the rest of it runs.

Of one on PCI it is a function in its slot with QEMU 7.2's identity and BARs, nothing behind them; of others nothing.
The machine is not what was asked for, so only those are given one who say what is left out: `guestsim replay` of a
reproducer.  `qemu_devices.txt` has the names and the headers, `qemu_types.txt` the names of what is no device alone;
`tools/qemu_devices.py` makes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgspec

from devmodels.pci.bars import BarKind
from devmodels.pci.function import PciIdentity
from devmodels.qtest.board import Board
from devmodels.qtest.hotplug import STAYING
from devmodels.qtest.placeholders import IO, MEMORY, PREFETCHABLE, PREFETCHABLE64, Looks
from devmodels.qtest.properties import Global

TABLE = Path(__file__).with_name("qemu_devices.txt")
TYPES = Path(__file__).with_name("qemu_types.txt")
PCI = "PCI"
KINDS = {
    "io": IO,
    "memory": MEMORY,
    "memory64": BarKind.MEMORY64,
    "prefetchable": PREFETCHABLE,
    "prefetchable64": PREFETCHABLE64,
}
LATENCY_TIMER = 0x0D
UNITS = frozenset(("scsi-hd", "scsi-cd", "scsi-disk", "scsi-block", "scsi-generic"))
"""What may be behind a SCSI host."""
SCSI_HOSTS = frozenset(
    (
        *("megasas", "megasas-gen2", "lsi53c895a", "lsi53c810", "am53c974", "dc390", "pvscsi", "mptsas1068"),
        *("usb-bot", "usb-uas"),
    )
)
"""Behind which of these devices units may be."""


class Unmodelled(msgspec.Struct, frozen=True):
    """One of them: the bus that it is on, and of a PCI function how its header looks, where that is known."""

    name: str
    bus: str
    looks: Looks | None = None


def find(driver: str) -> Unmodelled | None:
    """The device of QEMU's that is called so; None where there is none."""
    words = _rows().get(driver)
    if words is None:
        return None
    name, bus, _, *header = words
    return Unmodelled(name, bus, _looks(*header) if header else None)


@cache
def _rows() -> dict[str, list[str]]:
    """The table's, by name and by other name."""
    found = {}
    for line in TABLE.read_text().splitlines():
        if not line.startswith("#"):
            words = line.split()
            found[words[0]] = found[words[2]] = words
    del found["-"]
    return found


def _looks(
    device: str, kind: str, revision: str, subsystem: str, pin: str, status: str, latency: str, *bars: str
) -> Looks:
    (vendor_id, device_id), (sub_vendor, sub_id) = (
        [int(each, 16) for each in pair.split(":")] for pair in (device, subsystem)
    )
    identity = PciIdentity(
        vendor_id, device_id, int(kind, 16), int(revision, 16), sub_vendor, sub_id, int(pin), int(status, 16)
    )
    sizes = {}
    for bar in bars:
        index, space, size = bar.split(":")
        sizes[int(index)] = int(size), KINDS[space]
    timer = int(latency, 16)
    return Looks(identity, sizes, {LATENCY_TIMER: (timer, 0)} if timer else {})


def warnings(board: Board, given: list[Global]) -> Iterator[str]:
    """What is to be said of `-global` for types that there are not, or that nothing can be of any more."""
    there = {str(options["driver"]) for options in board.assembly.options.values()}
    for kind, key, value in given:
        if not _is_type(kind):
            yield f"global {kind}.{key} has invalid class name"
        elif kind in STAYING and kind not in there:
            yield f"global {kind}.{key}={value} not used"


def _is_type(kind: str) -> bool:
    found = find(kind)
    return kind in _types() or kind.endswith("-x86_64-cpu") or (found is not None and found.name == kind)


@cache
def _types() -> frozenset[str]:
    text = TYPES.read_text()
    return frozenset(name for line in text.splitlines() if not line.startswith("#") for name in line.split())
