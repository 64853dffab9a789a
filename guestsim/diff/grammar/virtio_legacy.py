"""The legacy interface in place of the modern one (VIRTIO 1.4 §4.1.4.10): the same actions, other registers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from guestsim.diff.access import Access, Loose, Read, Rest, Step, Wait, Write
from guestsim.diff.arena import MESSAGES, MESSAGES_SIZE
from guestsim.diff.grammar.registers import Registers
from guestsim.diff.grammar.virtio import BringUp
from guestsim.diff.grammar.virtio_driver import Lowering
from guestsim.diff.grammar.virtio_rings import Ring
from guestsim.drivers.layouts import LEGACY_CFG, LEGACY_PAGE, Feature, Status

SIZE = 256
"""Entries of every queue: with so many the parts of a ring lie on pages of their own."""


def get(name: str) -> Read:
    """Read a register of the legacy header."""
    found = LEGACY_CFG[name]
    return Read("legacy", found.offset, found.size)


def put(name: str, value: int) -> Write:
    """Write a register of the legacy header."""
    found = LEGACY_CFG[name]
    return Write("legacy", found.offset, found.size, value)


class LegacyLowering(Lowering):
    """A driver of the legacy interface."""

    def _bring_up(self, action: BringUp) -> Step:
        """§3.1.1 without FEATURES_OK (§3.1.2)."""
        self._forget()
        self.features = 0 if "features" in action.skip else action.features
        self.vectors_on = action.vectors is not None
        do: list[Access] = [put("device_status", 0), Wait(), get("device_status")]
        do.append(Write("msixcap", 2, 2, 0x8000 if self.vectors_on else 0))
        do.append(put("device_status", Status.ACKNOWLEDGE))
        do += [put("device_status", Status.ACKNOWLEDGE | Status.DRIVER), get("device_feature")]
        if "features" not in action.skip:
            do += [put("driver_feature", action.features & 0xFFFF_FFFF), get("driver_feature")]
        if action.vectors is not None:
            do += [put("config_msix_vector", action.vectors[0]), get("config_msix_vector")]
        for number in range(min(len(action.sizes), self._available)):
            do += self._start_queue(self.queues[number], SIZE, action)
        if "driver-ok" not in action.skip:
            do.append(put("device_status", Status.ACKNOWLEDGE | Status.DRIVER | Status.DRIVER_OK))
            do.append(get("device_status"))
        return self._brought_up(action, do)

    def _broken_end(self, hints: Sequence[Loose], wait: Access, isr: Access) -> tuple[Access, ...]:  # noqa: ARG002
        """The legacy interface does not say what is to be seen before the reset: only what comes then is compared."""
        return (Rest(), isr, Rest(), *hints, Loose("broken-legacy", MESSAGES, MESSAGES_SIZE))

    def _start_queue(self, queue: Ring, size: int, action: BringUp | None = None) -> list[Access]:
        do = [*queue.emptied(size), put("queue_select", queue.number), get("queue_size")]
        if action is not None and action.vectors is not None:
            do += [put("queue_msix_vector", action.vectors[queue.number + 1]), get("queue_msix_vector")]
        return [*do, put("queue_pfn", queue.base // LEGACY_PAGE), get("queue_pfn")]

    def _reset_queue(self, queue: Ring, again: bool) -> Step:  # noqa: ARG002
        return Step("nothing: queues are not reset over the legacy interface", ())

    def _alias(self, access: Access) -> Access:
        match access:
            case Write("legacy", offset, _, value) if (
                offset == LEGACY_CFG["device_status"].offset and not value
            ):
                self._forget()
            case Write("legacy", offset, _, value) if offset == LEGACY_CFG["queue_select"].offset:
                self.selected = value
            case Read("legacy", offset) if offset in VECTORS and not self.vectors_on:
                return replace(access, window="device", offset=offset - VECTORS.start)
            case Read("legacy", offset) if offset in QUEUE_FIELDS and self._no_queue(offset == QUEUE_SIZE):
                return replace(access, window="legacy-none")
            case Write("legacy", offset) if offset in VECTORS and not self.vectors_on:
                return get("device_status")
        return super()._alias(access)

    def _place(self, access: Access) -> Access:
        """The device's configuration lies behind the vectors, where there are some (§4.1.4.10)."""
        match access:
            case Write("notify", _, size, value):
                return Write("legacy", LEGACY_CFG["queue_notify"].offset, size, value)
            case Read("isr", _, size):
                return Read("legacy", LEGACY_CFG["isr"].offset, size)
            case Read("isr-msix", _, size):
                return Read("legacy-isr-msix", 0, size)
            case Read("device") | Write("device"):
                return replace(access, window="device-msix" if self.vectors_on else "device")
        return access


MAPPED = frozenset({"map-vector"})
VECTORS = range(LEGACY_CFG["config_msix_vector"].offset, LEGACY_CFG["queue_msix_vector"].offset + 2)
QUEUE_SIZE = LEGACY_CFG["queue_size"].offset
QUEUE_FIELDS = (LEGACY_CFG["queue_pfn"].offset, QUEUE_SIZE, LEGACY_CFG["queue_msix_vector"].offset)


def read_registers(random: Random) -> Registers:
    """Registers of the legacy header, of a queue that there is or not."""
    names = ("device_feature", "driver_feature", "queue_pfn", "queue_size", "device_status")
    more = ("config_msix_vector", "queue_msix_vector", "queue_select")
    some = random.sample((*names, *more), 4)
    # QEMU does not take a number above 1023.
    select = put("queue_select", random.choice((0, 1, 0, 1, 2, 1023)))
    return Registers("read the legacy header", (select, *map(get, some)))


def vectors(random: Random) -> Registers:
    """A vector is mapped."""
    vector = random.choice((0, 1, 2, 3, 0x7FF, 0xFFFF))
    if random.random() < 0.3:
        return Registers(
            "map a vector", (put("config_msix_vector", vector), get("config_msix_vector")), tags=MAPPED
        )
    select = put("queue_select", random.randrange(2))
    return Registers(
        "map a vector", (select, put("queue_msix_vector", vector), get("queue_msix_vector")), tags=MAPPED
    )


def stop_queue(random: Random) -> Registers:
    """A queue loses its ring; nothing is asked of it until the next reset."""
    select = put("queue_select", random.randrange(2))
    return Registers("take a ring away", (select, put("queue_pfn", 0), get("queue_pfn")))


def reset(_: Random) -> Registers:
    """The device is reset, and left so."""
    return Registers("reset", (put("device_status", 0), get("device_status")))


QUIRKS = ("loop", "beyond", "head", "indirect-odd")
"""What is wrong with chains here: with `indirect-next` nothing tells whether QEMU's device is broken."""

OPTIONAL = 1 << Feature.ANY_LAYOUT
"""Features that there are here only."""
