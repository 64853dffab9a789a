"""Steps that govern a device, the host or time: probe, reset, resize, stop, events, waiting, statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from guestsim import workload
from guestsim.drivers.layouts import BlkFeature, Feature
from guestsim.drivers.scsi_layouts import CDB_SIZE, SENSE_SIZE, ScsiFeature
from guestsim.drivers.transport import Interrupts
from guestsim.drivers.virtio_blk import BLK_FEATURES, VirtioBlk
from guestsim.drivers.virtio_scsi import EVENT_BUFFERS, SCSI_FEATURES
from guestsim.errors import GuestError
from guestsim.script.outcome import Outcome
from guestsim.script.requests import bytes_text
from guestsim.script.schema_virtio import FEATURES
from guestsim.script.values import MAX_AMOUNT
from guestsim.targets import TargetError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from guestsim.script.schema import Step
    from guestsim.script.world import World

_BLK_NAMES = {bit.value: bit.name for bit in (*Feature, *BlkFeature)}
_SCSI_NAMES = {bit.value: bit.name for bit in (*Feature, *ScsiFeature)}


def _bits(names: Iterable[str | int]) -> set[int]:
    return {FEATURES[name] if isinstance(name, str) else name for name in names}


class _ProbeOptions(TypedDict):
    """What drivers of every kind are told."""

    features: Collection[int]
    force: Collection[int]
    queues: int | None
    queue_size: int | None
    interrupts: Interrupts
    indirect: bool


async def probe(world: World, step: Step) -> Outcome:
    """Reset a device and bring it up."""
    it = step.probe
    assert it is not None
    driver = await world.interface(step.device, legacy=it.legacy)
    block = isinstance(driver, VirtioBlk)
    wanted = (BLK_FEATURES if block else SCSI_FEATURES) if it.features is None else _bits(it.features)
    common: _ProbeOptions = {
        "features": wanted - _bits(it.without),
        "force": _bits(it.force),
        "queues": it.queues,
        "queue_size": it.queue_size,
        "interrupts": Interrupts(it.interrupts),
        "indirect": it.indirect,
    }
    own = {name: getattr(it, name) for name in ("sense_size", "cdb_size", "event_buffers")}
    if isinstance(driver, VirtioBlk):
        if given := [name for name, value in own.items() if value is not None]:
            raise GuestError(f"{' and '.join(given).replace('_', '-')} of a block device")
        await driver.probe(**common)
        size = f"{bytes_text(driver.capacity)}, "
        queues = driver.queues
    else:
        await driver.probe(
            **common,
            sense_size=SENSE_SIZE if it.sense_size is None else it.sense_size,
            cdb_size=CDB_SIZE if it.cdb_size is None else it.cdb_size,
            events=EVENT_BUFFERS if it.event_buffers is None else it.event_buffers,
        )
        size = ""
        queues = driver.request_queues
    device = driver.device
    world.config_changes_seen[world.device_name(step.device)] = device.config_changes
    known = _BLK_NAMES if block else _SCSI_NAMES
    names = " ".join(known.get(bit, str(bit)) for bit in sorted(device.features))
    return Outcome(
        f"probe {world.device_name(step.device)} with {it.interrupts}",
        f"{size}{len(queues)} queue{'s' * (len(queues) > 1)} of {queues[0].size}; {names}",
        features=device.features,
        config=dict(driver.config),
    )


async def reset(world: World, step: Step) -> Outcome:
    """Reset a device."""
    driver = world.driver(step.device)
    dropped = driver.in_flight
    await driver.reset()
    return Outcome(
        f"reset {world.device_name(step.device)}", f"done, {dropped} requests dropped", dropped=dropped
    )


async def reset_queue(world: World, step: Step) -> Outcome:
    """Reset one queue."""
    it = step.reset_queue
    assert it is not None
    driver = world.driver(step.device)
    if it.queue not in driver.device.queues:
        raise GuestError(f"queue {it.queue} is not set up, expected one of {sorted(driver.device.queues)}")
    before = driver.in_flight
    await driver.reset_queue(it.queue, it.size)
    dropped = before - driver.in_flight
    return Outcome(f"reset queue {it.queue}", f"done, {dropped} requests dropped", dropped=dropped)


async def write_cache(world: World, step: Step) -> Outcome:
    """Switch the write cache."""
    assert step.write_cache is not None
    on = step.write_cache.on
    driver = world.blk(step.device)
    driver.set_write_cache(on=on)
    value = driver.config["writeback"]
    return Outcome(f"switch the write cache {'on' if on else 'off'}", f"writeback is {value}", value=value)


async def config(world: World, step: Step) -> Outcome:
    """Read the configuration space."""
    driver = world.driver(step.device)
    found = driver.config
    return Outcome(
        "read the configuration", ", ".join(f"{key} {value}" for key, value in found.items()), config=found
    )


async def statistics(world: World, step: Step) -> Outcome:
    """Ask the host for a device's counters."""
    name = world.device_name(step.device)
    found = world.target.statistics(name)
    shown = ", ".join(f"{key} {value}" for key, value in found.items() if value and not key.endswith("_ns"))
    return Outcome(f"statistics of {name}", shown, statistics=found)


async def resize(world: World, step: Step) -> Outcome:
    """The host resizes a drive."""
    it = step.resize
    assert it is not None
    world.target.resize(it.drive, it.to)
    return Outcome(f"the host resizes {it.drive} to {bytes_text(it.to)}")


async def qmp(world: World, step: Step) -> Outcome:
    """The host executes a command; its refusal must be the one given."""
    it = step.qmp
    assert it is not None
    did = f"the host executes {it.execute}"
    if it.arguments:
        did += f" ({', '.join(f'{name} {value}' for name, value in it.arguments.items())})"
    try:
        world.target.qmp(it.execute, it.arguments)
    except TargetError as error:
        refused = str(error).removeprefix(f"{it.execute}: ")
        if refused != it.refused:
            raise
        return Outcome(did, f"refused: {refused}")
    if it.refused is not None:
        raise GuestError(f"{it.execute} succeeded, expected it refused: {it.refused}")
    return Outcome(did)


async def stop(world: World, step: Step) -> Outcome:  # noqa: ARG001
    """The host stops the machine."""
    world.target.stop()
    return Outcome("the host stops the machine")


async def cont(world: World, step: Step) -> Outcome:  # noqa: ARG001
    """The host lets the machine run on."""
    world.target.cont()
    return Outcome("the host continues the machine")


async def event(world: World, step: Step) -> Outcome:
    """Wait for an event that the host is told; others before it are passed over."""
    it = step.event
    assert it is not None

    def came() -> bool:
        world.events += world.target.take_events()
        while world.events and world.events[0][0] != it.name:
            del world.events[0]
        return bool(world.events)

    await world.guest.wait_until(came, f"the event {it.name}")
    _, found = world.events.pop(0)
    wrong = [
        f"{name} {found.get(name)!r}, expected {value!r}"
        for name, value in it.data.items()
        if found.get(name) != value
    ]
    if wrong:
        raise GuestError(f"event {it.name}: {'; '.join(wrong)}")
    shown = ", ".join(f"{name} {value}" for name, value in found.items())
    return Outcome(f"the host is told {it.name}", shown)


async def image(world: World, step: Step) -> Outcome:
    """The host reads a drive's file."""
    it = step.image
    assert it is not None
    path = world.images.get(it.drive)
    if path is None:
        raise GuestError(f"drive {it.drive!r} has no file of the script's own")
    with path.open("rb") as file:
        file.seek(it.at)
        data = file.read(it.length)
    return Outcome(
        f"the host looks at {bytes_text(it.length)} of {it.drive} at {bytes_text(it.at)}", data=data
    )


async def random(world: World, step: Step) -> Outcome:
    """Requests at random."""
    it = step.random
    assert it is not None
    driver = world.blk(step.device)
    if not driver.queues:
        raise GuestError("the device has not been probed")
    length = driver.capacity - it.at if it.length is None else it.length
    if length <= 0 or it.at + length > driver.capacity:
        raise GuestError(f"{length} bytes at {it.at}, expected a part of {driver.capacity} bytes")
    if length > MAX_AMOUNT:
        raise GuestError(f"{length} bytes, expected at most {MAX_AMOUNT}: give a length")
    mix = tuple((kind, getattr(it.mix, kind)) for kind in workload.KINDS)
    work = workload.Workload(
        it.at, length, it.requests, it.seed, it.depth, it.max_length, it.scatter, tuple(mix)
    )
    counts = await workload.run(driver, work)
    shown = ", ".join(f"{number} {kind}" for kind, number in sorted(counts.items()))
    return Outcome(
        f"{it.requests} requests at random, seed {it.seed}, depth {it.depth}", f"all as modelled: {shown}"
    )


async def sleep(world: World, step: Step) -> Outcome:
    """Let time pass."""
    assert step.sleep is not None
    await world.guest.sleep(step.sleep)
    return Outcome(f"let {step.sleep / 1e6:g} ms pass")


async def wait_for(world: World, step: Step) -> Outcome:
    """Wait for something of the device's."""
    what = step.wait_for
    driver = world.driver(step.device)
    device = driver.device
    if what == "idle":
        await world.guest.settle()
        return Outcome("wait until nothing happens", needs_reset=device.sees_needs_reset())
    if what == "needs-reset":
        await world.guest.wait_until(device.sees_needs_reset, f"{device} to set NEEDS_RESET")
        return Outcome("wait for NEEDS_RESET", f"status {int(device.status):#04x}", needs_reset=True)
    name = world.device_name(step.device)
    seen = world.config_changes_seen[name]
    await device.wait_for(lambda: device.config_changes > seen, f"a configuration change of {name}")
    world.config_changes_seen[name] = device.config_changes
    shown = f"capacity {bytes_text(driver.capacity)}" if isinstance(driver, VirtioBlk) else ""
    return Outcome("wait for a configuration change", shown, config=driver.config)
