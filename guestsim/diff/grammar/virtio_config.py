"""Random actions on the PCI configuration space of a virtio function (PCI 3.0 §6, VIRTIO 1.4 §4.1.4)."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from guestsim.diff.access import Access, Read, Write
from guestsim.diff.grammar.registers import Registers
from guestsim.drivers.layouts import COMMON_CFG

CAPABILITIES = ("cap-common", "cap-notify", "cap-isr", "cap-device")
"""Windows of the capabilities that say where structures lie."""

BARS = (0x10, 0x14, 0x18, 0x1C, 0x20, 0x24, 0x30)
"""Offsets of base addresses, the expansion ROM's last."""
READ_ONLY = (0x00, 0x08, 0x2C, 0x34, 0x38)
"""Offsets of dwords that cannot be written: identities, class code, capabilities."""
PLACES = {0x10: 0xC000, 0x14: 0xE000_0000, 0x20: 0xE001_0000}
"""Base addresses: what `virtio_devices` has written."""
MODERN_BAR = 4
NOTIFY = 0x3000
"""Where notifications are in it, for both."""

ALL = 0xFFFF_FFFF


def header(random: Random) -> Registers:
    """Registers of the header in any width (PCI 3.0 §6.1)."""
    reads: list[Access] = []
    for _ in range(4):
        size = random.choice((1, 2, 4))
        reads.append(Read("pci", random.randrange(0, 0x40, size), size))
    return Registers("read configuration space", tuple(reads))


def read_only(random: Random) -> Registers:
    """What cannot be written is, and what says nothing to the device; neither has an effect."""
    at = random.choice(READ_ONLY)
    kept = random.choice((0x0C, 0x0D, 0x3C))
    do = (
        Write("pci", at, 4, random.getrandbits(32)),
        Read("pci", at, 4),
        # Errors are cleared by ones, and there are none (§6.2.3).
        Write("pci", 6, 2, random.choice((0xFFFF, 0xF900, 0))),
        Read("pci", 6, 2),
        Write("pci", kept, 1, random.getrandbits(8)),
        Write("pci", 0x3D, 1, 0xFF),
        Write("pci", 0x0E, 2, 0xFFFF),
        Read("pci", 0x0C, 4),
        Read("pci", 0x3C, 4),
    )
    return Registers("write what is read only in configuration space", do)


def command_bits(random: Random) -> Registers:
    """All bits of the command register, and then those that are needed (PCI 3.0 §6.2.2)."""
    do = (
        Write("pci", 4, 2, random.choice((0xFFFF, 0xFBFF, 0x0147 | random.getrandbits(16)))),
        Read("pci", 4, 2),
        Write("pci", 4, 2, random.choice((0x0007, 0x0407))),
        Read("pci", 4, 2),
    )
    return Registers("write all of the command register", do)


def size_bar(random: Random) -> Registers:
    """How large a region is (PCI 3.0 §6.2.5.1), with decoding off as it should be, or on; it stays where it was.

    `PLACES` has the addresses of both sides' regions.
    """
    at = random.choice(BARS)
    off = random.random() < 0.7
    do = [
        *((Write("pci", 4, 1, 0x04),) if off else ()),
        Write("pci", at, 4, random.choice((ALL, ALL, ALL & ~0x7FF))),
        Read("pci", at, 4),
        Write("pci", at, 4, PLACES.get(at, 0)),
        Read("pci", at, 4),
        *((Write("pci", 4, 1, 0x07),) if off else ()),
    ]
    return Registers("find the size of a region", tuple(do))


def capability(random: Random) -> Registers:
    """What capabilities say, but where the next one is; writing them has no effect (VIRTIO 1.4 §4.1.4)."""
    window = random.choice(CAPABILITIES)
    at = random.choice((4, 8, 12))
    reads: list[Access] = [Read(window, 0, 1), Read(window, 2, 2)]
    reads += (Read(window, place, 4) for place in (4, 8, 12))
    if window == "cap-notify":
        reads.append(Read(window, 16, 4))
    return Registers(
        "read a capability", (*reads, Write(window, at, 4, random.getrandbits(32)), Read(window, at, 4))
    )


def msix(random: Random) -> Registers:
    """The bits of MSI-X's capability that cannot be written, and where the table is (PCI 3.0 §6.8.2)."""
    do = (
        Read("msixcap", 0, 1),
        Write("msixcap", 2, 2, random.choice((0x87FF, 0xBFFF))),
        Read("msixcap", 2, 2),
        Write("msixcap", 4, 4, ALL),
        Read("msixcap", 4, 4),
    )
    return Registers("write the capability of MSI-X", do)


def through(random: Random) -> Registers:
    """Registers through the capability for access by configuration space (VIRTIO 1.4 §4.1.4.9)."""
    if random.random() < 0.3:
        queue = random.randrange(2)
        access = (*at_offset(NOTIFY + 4 * queue, 2), Write("cap-pci", 16, 2, queue))
        return Registers("notify through configuration space", access)
    do: list[Access] = []
    for name in random.sample(("num_queues", "device_status", "config_msix_vector"), 2):
        field = COMMON_CFG[name]
        do += (*at_offset(field.offset, field.size), Read("cap-pci", 16, field.size))
    field = COMMON_CFG["device_feature_select"]
    do += (*at_offset(field.offset, 4), Write("cap-pci", 16, 4, random.randrange(3)))
    do += (Read("cap-pci", 16, 4), Read("common", field.offset, 4))
    return Registers("registers through configuration space", tuple(do))


def at_offset(offset: int, length: int) -> tuple[Access, ...]:
    """The next access goes there."""
    return (
        Write("cap-pci", 4, 1, MODERN_BAR),
        Write("cap-pci", 8, 4, offset),
        Write("cap-pci", 12, 4, length),
        *(Read("cap-pci", at, 4) for at in (4, 8, 12)),
    )


def bus_master(_: Random) -> Registers:
    """The function may not reach memory for a moment (PCI 3.0 §6.2.2)."""
    do = (Write("pci", 4, 1, 0x03), Read("pci", 4, 2), Write("pci", 4, 1, 0x07), Read("pci", 4, 2))
    return Registers("no bus mastering for a moment", do, tags=frozenset({"bus-master"}))


Maker = Callable[[Random], Registers]
"""Makes one of them."""

TABLE: tuple[tuple[Maker, float], ...] = (
    (header, 1.5),
    (read_only, 0.5),
    (command_bits, 0.5),
    (size_bar, 0.7),
    (capability, 0.7),
    (msix, 0.5),
    (through, 1),
    (bus_master, 0.1),
)
"""All of them, with their weights."""

LEGACY_TABLE = tuple(one for one in TABLE if one[0] is not through)
"""Those of a function that is driven by its legacy interface."""
