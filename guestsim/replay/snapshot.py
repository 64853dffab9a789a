"""Where a replay stands, as bytes, so that another one can begin there.

What is saved is what the events that follow depend on: registers, rings, buffers in flight, and which of their requests
are with the disk.  A state is saved between events, when nothing is put off to the next turn.  The form is msgpack.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Literal

import msgspec

from devmodels.blockbackend.request import Request
from devmodels.blockbackend.resume import Counts, InFlight, counts, in_flight, resume
from devmodels.options import one_line
from devmodels.tracefile import DiskFacts, TraceReader
from devmodels.virtio.constants import RING_PACKED
from devmodels.virtio.queue import VirtQueue
from devmodels.virtio.state import ChainState, DeviceState
from devmodels.virtio_blk import VirtioBlk
from devmodels.virtio_blk.inflight import (
    PutOff,
    RequestState,
    restore_put_off,
    restore_requests,
    save_put_off,
    save_request,
)
from devmodels.virtio_blk.request import BlkRequest
from guestsim.replay import atasnapshot
from guestsim.replay.atasnapshot import HostState
from guestsim.replay.devices import World
from guestsim.replay.memory import ReplayMap
from guestsim.replay.replayed import ReplayedDevice
from guestsim.replay.rings import owed, start_again

VERSION = 3
_MOST_QUIET = 1 << 16
_FIRST = 32
"""So many events from the beginning tell a trace from another one."""


class SnapshotError(ValueError):
    """The data is no snapshot, or one of another trace, or there is none to be had; the text is one line."""


class _Queue(msgspec.Struct, frozen=True):
    chains: list[ChainState]
    attached: bool
    again: list[int]
    stopping: bool
    resetting: bool
    flush_due: bool


class _PutOff(msgspec.Struct, frozen=True):
    """What is done in the next turn, of a device's queue; of the machine where there is none."""

    what: Literal["flush", "process", "deliver", "nothing"]
    device: str = ""
    queue: int = 0


class _Request(msgspec.Struct, frozen=True):
    number: int
    place: int
    dispatch: int
    """Which one it is in, or -1."""
    turn: int
    """Its place among those that this one serves."""
    state: RequestState
    taken: list[bytes]
    """What the trace has of the buffer of a write."""


class _Device(msgspec.Struct, frozen=True):
    facts: str
    addr: str
    """Slot and function of a PCI device."""
    disk: DiskFacts
    state: DeviceState
    initial_write_cache: bool
    queues: list[_Queue]
    counts: Counts
    requests: list[_Request]
    put_off: list[PutOff]


class Snapshot(msgspec.Struct, frozen=True):
    """A replay before event `number`; `mark` tells the trace from others."""

    version: int
    number: int
    mark: int
    now_ns: int
    devices: list[_Device]
    ata: list[HostState]
    memories: dict[str, list[int]]
    registers: dict[str, dict[str, int]]
    """By machine."""
    stopped: str
    """Why requests are held back; empty where they are not."""
    put_off: list[_PutOff]


def mark(reader: TraceReader, number: int) -> int:
    """What tells a trace from others where it is replayed up to event `number`: its first events, and the last one."""
    with TraceReader(reader.path) as again:
        events = [*islice(again, _FIRST), *islice(again.read_from(max(0, number - 1)), 1)]
    return zlib.crc32(
        msgspec.msgpack.encode(
            [
                (time_ns, source, kind.value, detail)
                for at, time_ns, source, kind, detail in events
                if at < number
            ]
        )
    )


def why_not(world: World) -> str:
    """Why the state cannot be saved here; empty where it can."""
    if world.accessing:
        return "an access is not over"
    if any(assembly.machine.outbox.pending for assembly in world.machines().values()):
        return "an interrupt is on its way"
    for name, replayed in world.devices.items():
        if replayed.again:
            return f"{name}: a ring is about to start"
        if name in world.removed and replayed.disk is not None and replayed.disk.backend.in_flight:
            return f"{name}: it has been taken out, and has requests in flight"
    if world.ata_hosts and any(
        _save_callback(world, each).what == "nothing" for each in world.context.put_off
    ):
        return "something is put off to the next turn"
    return atasnapshot.why_not(world)


def never(world: World) -> str:
    """Why no state can be saved any more; empty where that is not so."""
    hosts = [name for name, replayed in world.devices.items() if replayed.disk is None]
    return f"{hosts[0]}: what SCSI units are in the middle of cannot be saved" if hosts else ""


# --- saving


def save(world: World, reader: TraceReader) -> bytes:
    """The state of a replay; nothing may be in the way (`why_not`)."""
    number = world.follower.number
    run_state = world.run_state
    snapshot = Snapshot(
        VERSION,
        number,
        mark(reader, number),
        world.context.now_ns(),
        [
            _save_device(world, replayed)
            for name, replayed in world.devices.items()
            if name not in world.removed
        ],
        atasnapshot.save(world),
        {memory.name: memory.numbers() for memory in world.memories()},
        {name: assembly.machine.save() for name, assembly in world.machines().items()},
        "" if run_state.running else run_state.reason,
        [_save_callback(world, callback) for callback in world.context.put_off],
    )
    return msgspec.msgpack.encode(snapshot)


def _save_device(world: World, replayed: ReplayedDevice) -> _Device:
    device, disk = replayed.device, replayed.disk
    assert isinstance(device, VirtioBlk)
    assert disk is not None
    node, backend = disk.node, disk.backend
    dispatches = {
        root: (number, turn) for number, request in node.given() for turn, root in enumerate(request.roots())
    }
    facts = replayed.facts
    assert facts.disk is not None
    disk_facts = msgspec.structs.replace(
        facts.disk,
        size=node.size,
        can_unmap=node.can_unmap,
        max_transfer=node.limits.max_transfer,
        max_iov=node.limits.max_iov,
        discard_alignment=node.limits.pdiscard_alignment,
    )
    return _Device(
        msgspec.json.encode(facts).decode(),
        world.place(facts.name),
        disk_facts,
        device.state(),
        device.initial_write_cache,
        [_save_queue(device, queue) for queue in device.queues],
        counts(backend),
        [
            _Request(number, place, *dispatches.get(request, (-1, 0)), save_request(request), _taken(request))
            for request, number, place in in_flight(backend)
        ],
        save_put_off(device),
    )


def _taken(request: Request) -> list[bytes]:
    dma = request.dma if isinstance(request, BlkRequest) else None
    return list(dma.taken) if isinstance(dma, ReplayMap) else []


def _save_callback(world: World, callback: Callable[[], None]) -> _PutOff:
    """What `Tracer.put_off` was called with, in words."""
    assert isinstance(callback, partial)
    (what,) = callback.args
    for name, replayed in world.devices.items():
        for queue in replayed.device.queues:
            if what == queue.flush:
                return _PutOff("flush", name, queue.index)
            if isinstance(what, partial) and what.args == (queue,):
                return _PutOff("process", name, queue.index)
    for name, assembly in world.machines().items():
        if what == assembly.machine.outbox.deliver:
            return _PutOff("deliver", name)
    # Of a device that has gone, whose name another one has: nothing comes of it.
    return _PutOff("nothing", "")


def _save_queue(device: VirtioBlk, queue: VirtQueue) -> _Queue:
    return _Queue(
        [chain.save() for chain in queue.in_flight.values()],
        queue.ring is not None and queue.ring.attached,
        owed(queue),
        queue.on_idle is not None and not device.suspending,
        queue.resetting,
        queue.flush_due,
    )


# --- restoring


def load(data: bytes) -> Snapshot:
    """SnapshotError where `data` is none."""
    try:
        snapshot = msgspec.msgpack.decode(data, type=Snapshot)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise SnapshotError(f"not a snapshot of a replay: {error}") from None
    if snapshot.version != VERSION:
        raise SnapshotError(f"snapshot version {snapshot.version}, expected {VERSION}")
    return snapshot


def restore(world: World, reader: TraceReader, snapshot: Snapshot) -> None:
    """Bring a world without devices to the state that was saved; SnapshotError where it is not of this trace."""
    if mark(reader, snapshot.number) != snapshot.mark:
        raise SnapshotError("a snapshot of another trace")
    world.follower.pause()
    try:
        world.context.set_now(snapshot.now_ns)
        for saved in snapshot.devices:
            world.add(saved.facts, disk=saved.disk, addr=saved.addr)
        atasnapshot.add(world, snapshot.ata)
        _restore_all(world, snapshot)
    except Exception as error:
        text = one_line(f"{type(error).__name__}: {error}")
        raise SnapshotError(f"the snapshot is damaged: {text}") from None
    world.follower.go_on(snapshot.number)


def _restore_all(world: World, snapshot: Snapshot) -> None:
    for name, registers in snapshot.registers.items():
        world.machine_at(name).machine.restore(registers)
    if snapshot.stopped:
        world.run_state.stop(snapshot.stopped)
    for memory in world.memories():
        # Rings may lie where memory was.
        memory.become((0, (1 << 64) - 8, 0))
    devices = [
        (world.devices[name], saved) for name, saved in zip(world.devices, snapshot.devices, strict=True)
    ]
    for replayed, saved in devices:
        _restore_device(replayed, saved)
    for memory in world.memories():
        memory.become(snapshot.memories[memory.name])
    for replayed, saved in devices:
        for queue, was in zip(replayed.device.queues, saved.queues, strict=True):
            if was.attached and queue.ring is not None:
                queue.ring.attach()
        _resume(replayed, saved)
    atasnapshot.restore(world, snapshot.ata)
    for assembly in world.machines().values():
        assembly.machine.outbox.deliver()
    world.context.put_off.clear()
    for each in snapshot.put_off:
        if each.what == "nothing":
            world.context.call_soon(world.follower.put_off(_nothing))
            continue
        if each.what == "deliver":
            machine = world.machine_at(each.device).machine
            world.context.call_soon(world.follower.put_off(machine.outbox.deliver))
            continue
        queue = world.queue(each.device, each.queue)
        device = queue.owner
        device.soon(device.context, queue.flush if each.what == "flush" else partial(device.process, queue))


def _restore_device(replayed: ReplayedDevice, saved: _Device) -> None:
    """Everything but the requests in flight, and the resets and stops that wait for them."""
    device = replayed.device
    assert isinstance(device, VirtioBlk)
    device.initial_write_cache = saved.initial_write_cache
    for queue, was in zip(device.queues, saved.queues, strict=True):
        start_again(queue, was.again, packed=bool(saved.state.driver_features & RING_PACKED))
    queues = [
        msgspec.structs.replace(state, in_flight=was.chains, resetting=False)
        for state, was in zip(saved.state.queues, saved.queues, strict=True)
    ]
    state = msgspec.structs.replace(saved.state, queues=queues, resetting=False)
    # What is in flight does not start anew: `_resume` brings it back as it was.
    device.handle = _nothing  # type: ignore[assignment,method-assign]
    device.judge = _nothing  # type: ignore[assignment,method-assign]
    try:
        device.restore(state)
    finally:
        del device.handle, device.judge


def _nothing(*_: object) -> None:
    pass


def _resume(replayed: ReplayedDevice, saved: _Device) -> None:
    """Requests wait, or are with the disk; and what waits for them."""
    device = replayed.device
    assert isinstance(device, VirtioBlk)
    made = restore_requests(device, [each.state for each in saved.requests])
    for request, each in zip(made, saved.requests, strict=True):
        if each.taken:
            assert isinstance(request, BlkRequest)
            assert isinstance(request.dma, ReplayMap)
            request.dma.take(each.taken)
            request.vectors = request.dma.views
    requests = [
        InFlight(request, each.number, each.place) for request, each in zip(made, saved.requests, strict=True)
    ]
    runs: dict[int, list[Request]] = {}
    for request, each in sorted(zip(made, saved.requests, strict=True), key=lambda pair: pair[1].turn):
        if each.dispatch >= 0:
            runs.setdefault(each.dispatch, []).append(request)
    if not 0 <= saved.counts.quiesced <= _MOST_QUIET:
        raise ValueError(f"quiet {saved.counts.quiesced} times")
    assert replayed.disk is not None
    resume(replayed.disk.backend, requests, runs.items(), saved.counts)
    restore_put_off(device, saved.put_off)
    for queue, was in zip(device.queues, saved.queues, strict=True):
        queue.flush_due = was.flush_due
        if was.stopping:
            queue.stop_when_idle(queue.clear)
        if was.resetting:
            device.reset_queue(queue)
    if saved.state.resetting:
        device.reset()
