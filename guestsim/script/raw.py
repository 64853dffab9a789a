"""Steps below the driver: registers and guest memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guestsim.drivers.ahci_layouts import ABAR
from guestsim.drivers.layouts import BLK_CONFIG, Feature
from guestsim.drivers.scsi_layouts import SCSI_CONFIG
from guestsim.drivers.virtio_pci import ISR
from guestsim.drivers.virtio_pci_modern import ModernPci
from guestsim.drivers.virtio_scsi import VirtioScsi
from guestsim.errors import GuestError
from guestsim.script.outcome import Outcome
from guestsim.script.schema_ata import hba_register
from guestsim.script.schema_raw import Place

if TYPE_CHECKING:
    from guestsim.drivers.pci import PciFunction
    from guestsim.drivers.virtio import VirtioDevice
    from guestsim.script.schema import Step
    from guestsim.script.world import World


def _where(place: Place) -> str:
    if place.register is not None:
        return place.register
    if place.config is not None:
        return f"config {place.config}"
    if place.isr is not None:
        return "ISR"
    if place.bar is not None:
        return f"BAR {place.bar} offset {place.offset:#x} ({place.size} bytes{', by window' if place.window else ''})"
    if place.hba is not None:
        return place.hba if place.size == 4 else f"{place.hba} ({place.size} bytes)"
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
    controller = world.find_controller(step.device)
    if controller is not None:
        if place.hba is not None:
            world.hba(step.device)
            at = hba_register(place.hba) + place.offset
            place = Place(bar=ABAR, offset=at, size=place.size)
        return _access_function(controller.function, place, value)
    driver = world.driver(step.device)
    device = driver.device
    if place.register is not None:
        if step.queue is not None:
            device.set("queue_select", step.queue)
        if value is None:
            return device.get(place.register)
        device.set(place.register, value)
        return value
    if place.config is not None:
        layout = SCSI_CONFIG if isinstance(driver, VirtioScsi) else BLK_CONFIG
        if place.config not in layout.fields:
            raise GuestError(f"{layout.name} has no field {place.config}")
        field = layout[place.config]
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
    if place.bar is not None and place.window:
        if value is None:
            return _modern(device).window_read(place.bar, place.offset, place.size)
        _modern(device).window_write(place.bar, place.offset, place.size, value)
        return value
    return _access_function(device.function, place, value)


def _access_function(function: PciFunction, place: Place, value: int | None) -> int:
    """Configuration space, or a BAR."""
    if place.pci is not None:
        if value is None:
            return function.read(place.pci, place.size)
        function.write(place.pci, place.size, value)
        return value
    if place.bar is None:
        raise GuestError(f"{function} has no such registers")
    bar = function.bars.get(place.bar)
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
    device = world.driver(step.device).device
    value = _queue_number(device, it.queue) if it.value is None else it.value
    device.transport.notify(it.queue, value, it.size)
    await world.guest.settle()
    return Outcome(f"notify with {value:#x} in queue {it.queue}'s register")


def _queue_number(device: VirtioDevice, queue: int) -> int:
    """What names a queue in a notification: its index, or what the device gives for it (§4.1.5.2)."""
    if Feature.NOTIF_CONFIG_DATA not in device.features:
        return queue
    device.transport.set("queue_select", queue)
    return device.transport.get("queue_notif_config_data")


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
