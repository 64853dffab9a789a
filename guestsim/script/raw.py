"""Steps below the driver: registers, guest memory, descriptors and rings written literally."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from guestsim.drivers.layouts import BLK_CONFIG, DESC, DESC_INDIRECT, DESC_NEXT, DESC_WRITE
from guestsim.drivers.virtio_pci import ISR
from guestsim.drivers.virtio_pci_modern import ModernPci
from guestsim.errors import GuestError, GuestTimeoutError
from guestsim.script.outcome import Outcome

if TYPE_CHECKING:
    from guestsim.drivers.virtio import VirtioDevice
    from guestsim.drivers.virtqueue import SplitQueue
    from guestsim.script.schema import Descriptor, Place, Step
    from guestsim.script.world import World

_FLAGS = {"next": DESC_NEXT, "write": DESC_WRITE, "indirect": DESC_INDIRECT}
_USED_TIMEOUT_NS = 2_000_000_000


def _where(place: Place) -> str:
    if place.register is not None:
        return place.register
    if place.config is not None:
        return f"config {place.config}"
    if place.isr is not None:
        return "ISR"
    if place.bar is not None:
        return f"BAR {place.bar} offset {place.offset:#x} ({place.size} bytes{', by window' if place.window else ''})"
    if place.pci is not None:
        return f"PCI configuration {place.pci:#x} ({place.size} bytes)"
    if place.address is not None:
        return f"address {place.address:#x} ({place.size} bytes)"
    return f"port {place.port:#x} ({place.size} bytes)"


def access(world: World, step: Step, place: Place, value: int | None) -> int:
    """Write `value` to a register, or read it where None."""
    target = world.target
    if place.address is not None:
        if value is None:
            return target.read(place.address, place.size)
        target.write(place.address, place.size, value)
        return value
    if place.port is not None:
        if value is None:
            return target.io_read(place.port, place.size)
        target.io_write(place.port, place.size, value)
        return value
    return _access_device(world, step, place, value)


def _access_device(world: World, step: Step, place: Place, value: int | None) -> int:
    device = world.driver(step.device).device
    if place.register is not None:
        if step.queue is not None:
            device.set("queue_select", step.queue)
        if value is None:
            return device.get(place.register)
        device.set(place.register, value)
        return value
    if place.config is not None:
        field = BLK_CONFIG[place.config]
        if value is None:
            return device.read_config([field])[0]
        device.transport.write_config(field, value)
        return value
    return _access_pci(device, place, value)


def _access_pci(device: VirtioDevice, place: Place, value: int | None) -> int:
    if place.isr is not None:
        if value is None:
            return device.pci.read_isr()
        _modern(device).isr.write(ISR, value)
        return value
    if place.pci is not None:
        if value is None:
            return device.function.read(place.pci, place.size)
        device.function.write(place.pci, place.size, value)
        return value
    assert place.bar is not None
    if place.window:
        if value is None:
            return _modern(device).window_read(place.bar, place.offset, place.size)
        _modern(device).window_write(place.bar, place.offset, place.size, value)
        return value
    bar = device.function.bars.get(place.bar)
    if bar is None:
        raise GuestError(f"the function has no BAR {place.bar}")
    if value is None:
        return bar.read(place.offset, place.size)
    bar.write(place.offset, place.size, value)
    return value


def _modern(device: VirtioDevice) -> ModernPci:
    if not isinstance(device.transport, ModernPci):
        raise GuestError(f"{device} has no modern interface on PCI")
    return device.transport


async def get(world: World, step: Step) -> Outcome:
    """Read a register."""
    assert step.get is not None
    value = access(world, step, step.get, None)
    return Outcome(f"read {_where(step.get)}", f"{value:#x}", value=value)


async def set_(world: World, step: Step) -> Outcome:
    """Write a register."""
    assert step.set is not None
    access(world, step, step.set, step.set.value)
    return Outcome(f"write {step.set.value:#x} to {_where(step.set)}", value=step.set.value)


async def notify(world: World, step: Step) -> Outcome:
    """Write a notification register literally."""
    it = step.notify
    assert it is not None
    value = it.queue if it.value is None else it.value
    world.driver(step.device).device.transport.notify(it.queue, value, it.size)
    await world.guest.settle()
    return Outcome(f"notify with {value:#x} in queue {it.queue}'s register")


async def allocate(world: World, step: Step) -> Outcome:
    """Take guest memory and name it."""
    it = step.allocate
    assert it is not None
    if it.name in world.names:
        raise GuestError(f"memory {it.name!r} exists already")
    address = world.guest.memory.allocate(it.size, it.align)
    world.names[it.name] = address
    world.guest.memory.write(address, it.data.data(it.size) if it.data is not None else bytes(it.size))
    return Outcome(f"allocate {it.size} bytes as {it.name}", f"{address:#x}")


async def poke(world: World, step: Step) -> Outcome:
    """Write guest memory."""
    it = step.poke
    assert it is not None
    length = it.length if it.length is not None else len(it.hex or b"")
    if not length:
        raise GuestError("poke: expected a length")
    world.guest.memory.write(world.ram(it.at, length), it.data(length))
    return Outcome(f"write {length} bytes of memory at {it.at}")


async def peek(world: World, step: Step) -> Outcome:
    """Read guest memory."""
    it = step.peek
    assert it is not None
    data = world.guest.memory.read(world.ram(it.at, it.length), it.length)
    shown = data[:16].hex(" ") + (" …" if len(data) > 16 else "")
    return Outcome(f"read {it.length} bytes of memory at {it.at}", shown, data=data)


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
    queue = device.queues.get(it.queue)
    if queue is None:
        raise GuestError(f"queue {it.queue} is not set up, expected one of {sorted(device.queues)}")
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
    expected = step.expected_on(world.target.name).used
    used = await _collect(world, step, queue, len(expected or ())) if it.notify else []
    text = f"expose {len(it.descriptors)} descriptors, heads {it.heads}, in queue {it.queue}"
    shown = ", ".join(f"head {head} length {length}" for head, length in used) or "nothing"
    status = device.status
    return Outcome(
        text, f"used {shown}; status {int(status):#04x}", used=used, needs_reset=device.sees_needs_reset()
    )


async def _collect(world: World, step: Step, queue: SplitQueue, count: int) -> list[tuple[int, int]]:
    """Wait for `count` used elements, then for what else may come."""
    device = world.driver(step.device).device

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
