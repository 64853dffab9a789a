"""What goes into the devices: each kind of input, done again.

Whoever is called here emits the event himself, or it is emitted here as his caller did; what follows is the device's.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec

from devmodels.exports.vhost_vring import take_owed
from devmodels.protocols.vhost_user import MAX_CONFIG
from devmodels.scsi.backed import BackedUnit
from devmodels.scsi.disk import Disk
from devmodels.scsi.mmc import CdDrive
from devmodels.trace import EventKind
from devmodels.virtio.constants import Status
from guestsim.replay.devices import World
from guestsim.replay.rings import start_again
from guestsim.replay.state import ReplayFile

_RUNNING = Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK | Status.DRIVER_OK

Detail = tuple[Any, ...]
Feed = Callable[[World, str, Detail], None]


def _device(world: World, _source: str, detail: Detail) -> None:
    try:
        world.add(detail[0], told=world.follower.skip)
    except ValueError as error:
        world.follower.unfit(f"device: {error}")


def _removed(world: World, source: str, _detail: Detail) -> None:
    if source not in world.disks and source not in world.ata_hosts:
        world.device(source)
    world.follower.emit(source, EventKind.REMOVED)
    world.remove(source)


# --- a machine's


def _access(kind: EventKind, world: World, source: str, detail: Detail) -> None:
    machine, read, write = world.space(source)
    address, size, *value = detail
    if size not in (1, 2, 4, 8):
        world.follower.unfit(f"an access of {size} bytes of {source}, expected 1, 2, 4 or 8")
    if not world.accessing:
        world.accessing = True
        machine.begin_access()
    if kind is EventKind.ACCESS_READ:
        read(address, size)
    else:
        write(address, size, *value)
    if machine.outbox.pending:
        event = world.follower.event()
        if event is not None and event[2:4] == (source, kind) and event.detail[0] == address + size:
            # One that lay over an edge was done in pieces, and interrupts have waited for the last.
            return
    world.accessing = False
    machine.end_access()


def _machine_reset(world: World, source: str, _detail: Detail) -> None:
    world.machine_at(source).machine.reset()


def _deliver(world: World, source: str, _detail: Detail) -> None:
    world.machine_at(source).machine.deliver()


# --- a front end's


def _memory(world: World, source: str, detail: Detail) -> None:
    try:
        world.memory(source).become(detail)
    except ValueError as error:
        world.follower.unfit(str(error))


def _features(world: World, source: str, detail: Detail) -> None:
    device = world.device(source).device
    device.driver_features = detail[0]
    device.write_status(_RUNNING)


def _config_read(world: World, source: str, detail: Detail) -> None:
    offset, data = detail
    device = world.device(source).device
    space = device.config_bytes().ljust(MAX_CONFIG, b"\0")
    device.note(EventKind.CONFIG_READ, offset, space[offset : offset + len(data)])


def _config_write(world: World, source: str, detail: Detail) -> None:
    offset, data = detail
    device = world.device(source).device
    device.note(EventKind.CONFIG_WRITE, offset, data)
    device.write_config(offset, len(data), int.from_bytes(data, "little"))


def _again(world: World, source: str, detail: Detail) -> None:
    index, *numbers = detail
    world.device(source).again[index] = numbers
    world.device(source).device.note(EventKind.AGAIN, *detail)


def _queue(world: World, source: str, detail: Detail) -> None:
    index, size, desc, driver, area, last_avail, used_idx = detail
    replayed = world.device(source)
    queue = world.queue(source, index)
    if not queue.allows(size) or not 0 <= last_avail <= 0xFFFF or not 0 <= used_idx <= 0xFFFF:
        world.follower.unfit(f"a queue of {size} entries that starts at {last_avail} and {used_idx}")
    queue.size = size
    queue.desc, queue.driver, queue.device = desc, driver, area
    try:
        start_again(queue, replayed.again.pop(index, []), packed=replayed.device.packed)
    except ValueError as error:
        world.follower.unfit(str(error))
    queue.start(last_avail=last_avail, used_idx=used_idx)


def _enable(world: World, source: str, detail: Detail) -> None:
    queue = world.queue(source, detail[0])
    queue.owner.note(EventKind.ENABLE, *detail)
    queue.enabled = bool(detail[1])


def _moved(world: World, source: str, detail: Detail) -> None:
    queue = world.queue(source, detail[0])
    if queue.ring is None:
        world.follower.unfit(f"queue {detail[0]} does not run, and moves")
    queue.ring.parts = detail[1:]
    queue.owner.note(EventKind.MOVED, *detail)


def _look(kind: EventKind, world: World, source: str, detail: Detail) -> None:
    queue = world.queue(source, detail[0])
    queue.owner.note(kind, *detail)
    queue.owner.process(queue)


def _stop(world: World, source: str, detail: Detail) -> None:
    queue = world.queue(source, detail[0])
    queue.owner.note(EventKind.STOP, *detail)
    take_owed(queue.owner, queue)
    queue.stop_when_idle(queue.clear)


def _reset(world: World, source: str, detail: Detail) -> None:
    device = world.device(source).device
    if detail[0] < 0:
        device.reset()
    else:
        device.reset_queue(world.queue(source, detail[0]))


def _migrated(world: World, source: str, detail: Detail) -> None:
    device = world.device(source).device
    device.note(EventKind.MIGRATED, *detail)
    # What does not fit is refused, as it was.
    with suppress(ValueError):
        device.take_migration_state(msgspec.json.decode(detail[0], type=dict[str, int]))


def _driver_reset(world: World, source: str, _detail: Detail) -> None:
    device = world.device(source).device
    device.note(EventKind.DRIVER_RESET)
    device.driver_reset()


def _driver_left(world: World, source: str, _detail: Detail) -> None:
    device = world.device(source).device
    device.note(EventKind.DRIVER_LEFT)
    device.driver_left()


# --- what comes from below, and from the owner


def _done(world: World, source: str, detail: Detail) -> None:
    number, error, _, data = detail
    if not world.disk(source).node.done(number, error, data):
        world.follower.part("nothing: the device has not given that to its disk")


def _update(world: World, source: str, detail: Detail) -> None:
    number, at, _, found = detail
    if not world.disk(source).node.update(number, at, found):
        world.follower.part("nothing: the device has not given that to its disk")


def _saved(world: World, source: str, detail: Detail) -> None:
    state = world.kept(source)
    if isinstance(state, ReplayFile) and state.saved(detail[0]):
        return
    # Or it comes to saving in its turn, and that is over at once.
    if not world.context.run_oldest():
        world.follower.part("nothing: the unit has nothing to save")


def _medium(world: World, source: str, detail: Detail) -> None:
    unit = world.unit(source, Disk)
    if detail[0]:
        unit.load()
    else:
        unit.eject()


def _attention(world: World, source: str, detail: Detail) -> None:
    world.unit(source, Disk).told_below(detail[0])


def _disc(world: World, source: str, detail: Detail) -> None:
    disk = world.disk(source)
    try:
        disk.node.has_disc(detail[0])
    except ValueError as error:
        world.follower.unfit(str(error))
    disk.backend.child_changed(disk.backend.edge)


def _tray(world: World, source: str, detail: Detail) -> None:
    try:
        world.unit(source, CdDrive).tray.user_does(detail[0])
    except ValueError as error:
        world.follower.unfit(str(error))


def _timer(world: World, source: str, _detail: Detail) -> None:
    if not world.unit(source, BackedUnit).turns.go_off():
        world.follower.part("nothing: no timer waits")


def _size(world: World, source: str, detail: Detail) -> None:
    disk = world.disk(source)
    disk.node.resized(*detail)
    disk.backend.child_changed(disk.backend.edge)


def _quiesce(world: World, source: str, detail: Detail) -> None:
    backend = world.disk(source).backend
    if detail[0]:
        backend.quiesce()
    elif backend.node.sections:
        # What was in flight when the device first asked to be alone (`Edge.serialise`) is over: it sees to the rest.
        world.context.run_oldest()
    else:
        backend.unquiesce()


def _run_state(world: World, _source: str, detail: Detail) -> None:
    if detail[0]:
        world.run_state.cont()
    else:
        world.run_state.stop()


FEEDS: dict[EventKind, Feed] = {
    EventKind.DEVICE: _device,
    EventKind.REMOVED: _removed,
    EventKind.ACCESS_READ: partial(_access, EventKind.ACCESS_READ),
    EventKind.ACCESS_WRITE: partial(_access, EventKind.ACCESS_WRITE),
    EventKind.MACHINE_RESET: _machine_reset,
    EventKind.DELIVER: _deliver,
    EventKind.MEMORY: _memory,
    EventKind.FEATURES: _features,
    EventKind.CONFIG_READ: _config_read,
    EventKind.CONFIG_WRITE: _config_write,
    EventKind.AGAIN: _again,
    EventKind.QUEUE: _queue,
    EventKind.ENABLE: _enable,
    EventKind.MOVED: _moved,
    EventKind.KICK: partial(_look, EventKind.KICK),
    EventKind.LOOK: partial(_look, EventKind.LOOK),
    EventKind.STOP: _stop,
    EventKind.RESET: _reset,
    EventKind.MIGRATED: _migrated,
    EventKind.DRIVER_RESET: _driver_reset,
    EventKind.DRIVER_LEFT: _driver_left,
    EventKind.DONE: _done,
    EventKind.UPDATE: _update,
    EventKind.SAVED: _saved,
    EventKind.MEDIUM: _medium,
    EventKind.ATTENTION: _attention,
    EventKind.DISC: _disc,
    EventKind.TRAY: _tray,
    EventKind.TIMER: _timer,
    EventKind.SIZE: _size,
    EventKind.QUIESCE: _quiesce,
    EventKind.RUN_STATE: _run_state,
}
"""By kind of event: what is done, in the world, at the event's source, with its details."""
