"""Steps below the driver: descriptors and rings written literally, split and packed."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from guestsim.drivers.layouts import (
    DESC,
    DESC_INDIRECT,
    DESC_NEXT,
    DESC_WRITE,
    PACKED_AVAIL,
    PACKED_DESC,
    PACKED_USED,
)
from guestsim.drivers.packed import PackedQueue
from guestsim.drivers.virtqueue import SplitQueue
from guestsim.errors import GuestError, GuestTimeoutError
from guestsim.script.outcome import Outcome

if TYPE_CHECKING:
    from guestsim.drivers.ring import Queue
    from guestsim.drivers.virtio import VirtioDevice
    from guestsim.script.schema import Step
    from guestsim.script.schema_raw import Descriptor, PackedDescriptor
    from guestsim.script.world import World

_FLAGS = {"next": DESC_NEXT, "write": DESC_WRITE, "indirect": DESC_INDIRECT}
_PACKED_FLAGS = _FLAGS | {"avail": PACKED_AVAIL, "used": PACKED_USED}
_USED_TIMEOUT_NS = 2_000_000_000


def _descriptor(world: World, it: Descriptor) -> bytes:
    flags = it.flags if isinstance(it.flags, int) else sum(_FLAGS[name] for name in it.flags)
    return DESC.pack(world.address(it.at) & (1 << 64) - 1, it.length, flags, it.next)


async def table(world: World, step: Step) -> Outcome:
    """Write descriptors into memory."""
    it = step.table
    assert it is not None
    base = world.ram(it.at, DESC.size * (1 + max((one.index for one in it.descriptors), default=0)))
    for one in it.descriptors:
        world.guest.memory.write(base + DESC.size * one.index, _descriptor(world, one))
    return Outcome(f"write {len(it.descriptors)} descriptors to {it.at}")


async def chain(world: World, step: Step) -> Outcome:
    """Write descriptors and available ring literally, notify, and see what is used."""
    it = step.chain
    assert it is not None
    device = world.driver(step.device).device
    queue = _queue(device, it.queue)
    if not isinstance(queue, SplitQueue):
        raise GuestError(f"queue {it.queue} is packed, expected packed-chain")
    for one in it.descriptors:
        queue.write_descriptors(one.index, _descriptor(world, one))
    if it.avail_flags is not None:
        queue.write_avail_flags(it.avail_flags)
    if it.used_event is not None:
        queue.write_used_event(it.used_event)
    queue.raw = True
    queue.collected.clear()
    for head in it.heads:
        queue.expose_raw(head)
    queue.publish(it.advance)
    if it.notify:
        queue.notify()
    text = f"expose {len(it.descriptors)} descriptors, heads {it.heads}, in queue {it.queue}"
    return await _used(world, step, queue, text, notified=it.notify)


async def packed_table(world: World, step: Step) -> Outcome:
    """Write descriptors of a packed ring's format into memory."""
    it = step.packed_table
    assert it is not None
    entries = b"".join(PACKED_DESC.pack(*_packed(world, one)) for one in it.descriptors)
    world.guest.memory.write(world.ram(it.at, len(entries)), entries)
    return Outcome(f"write {len(it.descriptors)} packed descriptors to {it.at}")


async def packed_chain(world: World, step: Step) -> Outcome:
    """Write a packed ring literally, notify, and see what is used."""
    it = step.packed_chain
    assert it is not None
    queue = _queue(world.driver(step.device).device, it.queue)
    if not isinstance(queue, PackedQueue):
        raise GuestError(f"queue {it.queue} is split, expected chain")
    queue.raw = True
    queue.collected.clear()
    if it.event is not None:
        queue.write_event(it.event.place, it.event.flags)
    for slot in it.slots:
        if slot.slot >= queue.size:
            raise GuestError(f"slot {slot.slot}, expected one of {queue.size}")
        queue.write_raw(slot.slot, _packed(world, slot))
    if it.descriptors:
        queue.expose_raw([_packed(world, one) for one in it.descriptors])
    if it.notify:
        queue.notify()
    ids = ", ".join(str(one.id) for one in (*it.slots, *it.descriptors)) or "none"
    text = f"expose {len(it.slots) + len(it.descriptors)} descriptors, ids {ids}, in queue {it.queue}"
    return await _used(world, step, queue, text, notified=it.notify)


def _packed(world: World, it: PackedDescriptor) -> tuple[int, int, int, int]:
    """A descriptor as (address, length, id, flags)."""
    flags = it.flags if isinstance(it.flags, int) else sum(_PACKED_FLAGS[name] for name in it.flags)
    return world.address(it.at) & (1 << 64) - 1, it.length, it.id, flags


def _queue(device: VirtioDevice, index: int) -> Queue:
    queue = device.queues.get(index)
    if queue is None:
        raise GuestError(f"queue {index} is not set up, expected one of {sorted(device.queues)}")
    return queue


async def _used(world: World, step: Step, queue: Queue, text: str, *, notified: bool) -> Outcome:
    """What came of descriptors that were exposed: as many used elements as are expected, and whatever else comes."""
    device = world.driver(step.device).device
    expected = step.expected_on(world.target.name).used
    used = await _collect(world, device, queue, len(expected or ())) if notified else []
    shown = ", ".join(f"{head} length {length}" for head, length in used) or "nothing"
    status = device.status
    return Outcome(
        text, f"used {shown}; status {int(status):#04x}", used=used, needs_reset=device.sees_needs_reset()
    )


async def _collect(world: World, device: VirtioDevice, queue: Queue, count: int) -> list[tuple[int, int]]:
    """Wait for `count` used elements, then for what else may come."""

    def enough() -> bool:
        queue.poll()
        return len(queue.collected) >= count

    with suppress(GuestTimeoutError):
        await world.guest.wait_until(
            lambda: enough() or device.needs_reset, f"{count} used elements", _USED_TIMEOUT_NS
        )
    await world.guest.settle()
    queue.poll()
    return list(queue.collected)
