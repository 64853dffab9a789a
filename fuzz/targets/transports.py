"""Registers of transports and of configuration space: any access, any width, any order; a reset revives the disk."""

from __future__ import annotations

from fuzz.choices import Choices
from fuzz.target import Run
from fuzz.targets.of_hypothesis import property_of
from guestsim.targets.inprocess import InProcessTarget
from tests.qemu.by_hand import Pci
from tests.unit.virtio.test_transport_properties import (
    BAR4,
    COMMON,
    CONTROL,
    IO_BASE,
    LEGACY,
    Access,
    lives_after_a_reset,
    machine,
    perform,
)

MOST = 48
"""Accesses."""
SMALL = (0, 1, 2, 3, 4, 7, 8, 11, 15, 16, 31, 64, 128, 256, 4096, 0x20_0000, 0x200)
SIZES = (1, 2, 2, 4, 4, 4, 8)
PLACES = {
    "ports": LEGACY,
    "common": COMMON,
    "notify": [0, 4, 8],
    "config": [0, 4, 8, 12, 16],
    "mmio": CONTROL,
    "memory": [*range(0, 128, 8), 0x1000, 0x1002, 0x1004, 0x2000, 0x2002],
}
HEADER = (0x04, 0x05, 0x06, 0x0C, 0x0D, 0x10, 0x14, 0x18, 0x20, 0x24, 0x30, 0x34, 0x3C, 0x3D)


def _value(choices: Choices) -> int:
    """A small one, mostly."""
    kind = choices.randrange(4)
    return choices.choice(SMALL) if kind < 2 else choices.getrandbits(32 if kind == 2 else 64)


def _accesses(choices: Choices, places: list[str]) -> list[Access]:
    made: list[Access] = []
    while choices.left and len(made) < MOST:
        place = choices.choice(places)
        offset = choices.choice(PLACES[place]) if choices.randrange(4) else choices.randrange(0x200)
        made.append((place, offset, choices.choice(SIZES), _value(choices)))
    return made


def _run(driver: dict[str, object], places: list[str]) -> Run:
    def run(data: bytes) -> None:
        choices = Choices(data)
        with machine(bool(choices.randrange(2)), **driver) as target:
            perform(target, _accesses(choices, places))
            lives_after_a_reset(target)

    return run


def modern() -> Run:
    """The common configuration, notifications and capabilities of a modern function."""
    return _run({"driver": "virtio-blk-pci", "addr": "4"}, ["common", "common", "notify", "config", "memory"])


def legacy() -> Run:
    """The legacy interface of a transitional function, and the modern one beside it."""
    return _run({"driver": "virtio-blk-pci", "addr": "4"}, ["ports", "ports", "ports", "common", "memory"])


def mmio() -> Run:
    """Version 2."""
    return _run({"driver": "virtio-blk-device", "force-legacy": False}, ["mmio", "mmio", "memory"])


def mmio_legacy() -> Run:
    """Version 1."""
    return _run({"driver": "virtio-blk-device", "force-legacy": True}, ["mmio", "mmio", "memory"])


def configuration() -> Run:
    """Configuration space: BARs that move and overlap, decoding, bus mastering, MSI-X, power states; any functions.

    The second half of the inputs are the properties of `tests.unit.pci`.
    """
    properties = [
        property_of("tests.unit.pci.test_header", "test_no_access_raises_and_no_read_only_bit_changes"),
        property_of("tests.unit.pci.test_bars", "test_sizing_and_relocation_against_a_model"),
        property_of("tests.unit.pci.test_bus", "test_ports_and_ecam_are_two_ways_to_one_place"),
    ]

    def run(data: bytes) -> None:
        choices = Choices(data)
        kind = choices.randrange(6)
        if kind < len(properties):
            # One property each: its first byte would choose.
            properties[kind](b"\0" + data[1:])
            return
        with machine(bool(choices.randrange(2)), driver="virtio-blk-pci", addr="4") as target:
            _configure(target, choices)
            pci = Pci(target, 4)
            target.assembly.machine.reset()
            pci.write(0x10, 4, IO_BASE)
            pci.place_bar(4, BAR4)
            pci.write(0x04, 2, 7)
            lives_after_a_reset(target)

    return run


def _configure(target: InProcessTarget, choices: Choices) -> None:
    pci = Pci(target, 4)
    for _ in range(MOST):
        if not choices.left:
            break
        kind = choices.randrange(8)
        offset = choices.choice(HEADER) if kind < 4 else choices.randrange(0x100)
        size = choices.choice((1, 2, 4))
        value = choices.choice((0, 7, 6, 5, IO_BASE, BAR4, 0xFFFF_FFFF, BAR4 + 0x100, 0x20_0000, 0xFEE0_0000))
        if kind == 7:
            place = choices.choice((IO_BASE, BAR4, BAR4 + 0x1000, BAR4 + 0x3000, 0x20_0000))
            target.write(place + choices.randrange(64), size, choices.getrandbits(8 * size))
            continue
        if not choices.randrange(3):
            value = choices.getrandbits(32)
        offset -= offset % size
        pci.write(offset, size, value & (1 << 8 * size) - 1)
        pci.read(offset, size)
