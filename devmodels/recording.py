"""Recording: the trace of devices at work, of exports or of a machine, into a file.

All queues of a recorded device run on one context, and nothing is polled for: what happens is one line of events.
Where a recording comes to its end before its devices do - at its limit, or the disk is full - they go on as if there
had never been one.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from itertools import count
from pathlib import Path
from types import TracebackType

import msgspec

from devmodels import logs
from devmodels.ahci import AhciPci
from devmodels.assembly import Assembly
from devmodels.ata import AtaDevice
from devmodels.ata.disk import AtaDisk
from devmodels.blockbackend import BlockBackend
from devmodels.blockbackend.removable import disc_of
from devmodels.conformance import Profile, Violation, ViolationLog
from devmodels.ide_cdrom import PiixIde
from devmodels.iocontext import ClockKind, IoContext
from devmodels.scsi.backed import BackedUnit
from devmodels.scsi.disk import Disk
from devmodels.trace import EventKind, Tracer
from devmodels.tracefile import (
    DeviceFacts,
    DiskFacts,
    TraceFileError,
    TraceHeader,
    TraceReader,
    TraceWriter,
    WritingTracer,
)
from devmodels.tracefile.format import MemoryKind
from devmodels.virtio.device import VirtioDevice
from devmodels.virtio.threaded import ThreadedQueue
from devmodels.virtio_scsi import VirtioScsi

log = logs.logger("devmodels.recording")


def disk_facts(backend: BlockBackend) -> DiskFacts:
    """What the device over `backend` sees of its disk."""
    node = backend.node
    return DiskFacts(
        node_name=node.node_name,
        size=node.size,
        read_only=backend.read_only,
        can_unmap=node.can_unmap,
        write_cache=backend.write_cache,
        max_transfer=node.limits.max_transfer,
        max_iov=node.limits.max_iov,
        discard_alignment=node.limits.pdiscard_alignment,
        disc=disc_of(node),
        running=backend.running,
    )


def _make_way(path: Path) -> None:
    """A trace that is there is written over; one without an end is kept; OSError where it is something else."""
    if not path.is_file() or not path.stat().st_size:
        return
    try:
        with TraceReader(path) as reader:
            reader.count()
            ended = reader.ending is not None
    except TraceFileError as error:
        raise FileExistsError(errno.EEXIST, "it is there, and no trace that could be written over") from error
    if not ended:
        kept = next(each for n in count(1) if not (each := path.with_name(f"{path.name}.{n}")).exists())
        path.rename(kept)
        log.warning("%s: a recording without an end is there; it is kept as %s", path, kept.name)


class Recorder:
    """A trace being written to `path`: `tracer` is what the recorded parts are given.

    `limit` is the most bytes that the file may have.  OSError where it cannot be written, or is there and is no trace;
    ValueError where the limit is too small for anything.
    """

    def __init__(
        self,
        path: Path,
        context: IoContext,
        *,
        strict: bool = True,
        memory: MemoryKind = "shared",
        limit: int | None = None,
    ) -> None:
        _make_way(path)
        header = TraceHeader.of(f"devmodels {version('devmodels')}", strict=strict, memory=memory)
        ended = partial(context.post, self._let_go)
        self.writer = TraceWriter(path, header, limit=limit, on_end=ended)
        now_ns = time.monotonic_ns if context.kind is ClockKind.WALL else context.now_ns
        self.tracer: Tracer = WritingTracer(now_ns, self.writer)
        self._recorded: dict[object, Callable[[], None]] = {}
        """What lets each recorded part go."""

    def watch_violations(self, violations: ViolationLog) -> None:
        """What a guest does wrong is part of the trace."""
        violations.record = self._violation

    def _violation(self, violation: Violation) -> None:
        detail = violation.clause, violation.place, violation.summary, violation.data
        self.tracer.emit("violations", EventKind.VIOLATION, *detail)

    def announce(
        self, kind: str, options: Mapping[str, object], device: VirtioDevice, backend: BlockBackend | None
    ) -> None:
        """A device is recorded from now on; a host of SCSI units has no `backend` itself."""
        disk = None if backend is None else disk_facts(backend)
        self._announce(DeviceFacts(device.name, kind, dict(options), disk, device.memory.name))
        device.trace = self.tracer
        if backend is not None:
            backend.trace = self.tracer

    def announce_unit(
        self, kind: str, options: Mapping[str, object], host: VirtioDevice, unit: BackedUnit
    ) -> None:
        """A unit is recorded from now on, which `host` is about to have."""
        state = unit.state if isinstance(unit, Disk) else None
        saved = (state is not None and state.read_file()) or b""
        backend = unit.backend
        facts = DeviceFacts(
            backend.name,
            kind,
            dict(options),
            disk_facts(backend),
            host.memory.name,
            host.name,
            saved.decode(errors="replace"),
        )
        self._announce(facts)
        unit.observe(self.tracer)

    def announce_ata(self, facts: DeviceFacts, what: AhciPci | PiixIde | AtaDevice) -> None:
        """A host of ATA devices, or one of these, is recorded from now on."""
        self._announce(facts)
        what.observe(self.tracer)
        if isinstance(what, AtaDevice):
            what.count_from(bytes.fromhex(facts.saved))

    def _announce(self, facts: DeviceFacts) -> None:
        text = msgspec.json.encode(facts, enc_hook=str).decode()
        self.tracer.emit(facts.name, EventKind.DEVICE, text)

    # --- exports

    def watch_export(
        self, options: Mapping[str, object], device: VirtioDevice, backend: BlockBackend
    ) -> None:
        """Record an export that has just been made with `options`."""
        self.announce("export", options, device, backend)
        self._watch_front_end(device)
        self._recorded[device] = partial(_release, device, backend)

    def _watch_front_end(self, device: VirtioDevice) -> None:
        """Its memory, and what it gets wrong."""
        device.memory.observe(dirty_log=device.memory.dirty_log, trace=self.tracer)
        device.memory.show_regions()
        self.watch_violations(device.violations)

    def watch_host(self, options: Mapping[str, object], device: VirtioScsi) -> None:
        """Record a host of SCSI units that has just been made."""
        self.announce("export", options, device, None)
        self._watch_front_end(device)
        self._recorded[device] = partial(_release, device, None)

    def watch_unit(self, options: Mapping[str, object], host: VirtioScsi, unit: BackedUnit) -> None:
        """Record a unit that `host` is about to have."""
        self.announce_unit("export", options, host, unit)
        self._recorded[unit] = partial(unit.observe, None)

    def unit_leaves(self, unit: BackedUnit) -> None:
        """The unit is about to be taken away."""
        if unit in self._recorded:
            self.tracer.emit(unit.backend.name, EventKind.REMOVED)

    def unit_gone(self, host: VirtioScsi, unit: BackedUnit) -> None:
        """It has gone; with the last one its host."""
        release = self._recorded.pop(unit, None)
        if release is not None:
            release()
        if not host.bus.targets:
            self.export_ended(host)

    def export_ended(self, device: VirtioDevice) -> None:
        """The export is there no more."""
        release = self._recorded.pop(device, None)
        if release is not None:
            device.note(EventKind.REMOVED)
            release()

    # --- a machine

    def watch_function(self, assembly: Assembly) -> None:
        """Record a function that is hosted for others' machines, with its own around it that has just been made."""
        self.watch_machine(assembly, "function")

    def watch_machine(self, assembly: Assembly, kind: str = "device") -> None:
        """Record a machine, and the devices that are plugged later, as devices of that `kind`."""
        machine = _RecordedMachine(self, assembly, kind)
        for name in (*assembly.devices, *assembly.units, *assembly.ata_hosts):
            machine.added(name)
        for name in assembly.ata_units:
            machine.ata_unit(name, saved=assembly.ata_units[name].device.save())
        assembly.set_trace(self.tracer)
        assembly.memory.show_regions()
        self.watch_violations(assembly.violations)
        assembly.watcher = machine
        assembly.one_context = True
        self._recorded[assembly] = machine.release

    # --- the end

    def _let_go(self) -> None:
        """Nothing is recorded from now on."""
        while self._recorded:
            self._recorded.popitem()[1]()

    def close(self) -> None:
        """End the recording; the devices go on. Idempotent."""
        self._let_go()
        self.writer.close()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _release(device: VirtioDevice, backend: BlockBackend | None) -> None:
    device.trace = None
    if backend is not None:
        backend.trace = None
    device.memory.observe(dirty_log=device.memory.dirty_log)
    device.violations.record = None


class _RecordedMachine:
    """The machine's `Watcher`."""

    __slots__ = ("_assembly", "_kind", "_recorder")

    def __init__(self, recorder: Recorder, assembly: Assembly, kind: str) -> None:
        self._recorder = recorder
        self._assembly = assembly
        self._kind = kind

    def added(self, name: str) -> None:
        assembly, options = self._assembly, self._assembly.options[name]
        if name in assembly.ata_hosts:
            self._recorder.announce_ata(
                DeviceFacts(name, self._kind, dict(options), None, assembly.memory.name),
                assembly.ata_hosts[name],
            )
            return
        if name in assembly.ata_units:
            self.ata_unit(name)
            return
        place = assembly.units.get(name)
        if place is None:
            backend = assembly.drives.get(name)
            self._recorder.announce(self._kind, options, assembly.virtio_device(name), backend)
        else:
            assert isinstance(place.unit, BackedUnit)
            where = {"scsi-id": place.target, "lun": place.lun}
            self._recorder.announce_unit(self._kind, {**options, **where}, place.host, place.unit)

    def ata_unit(self, name: str, *, saved: bytes = b"") -> None:
        """The device is there; `saved` is what it knows already."""
        assembly = self._assembly
        place = assembly.ata_units[name]
        facts = DeviceFacts(
            name,
            self._kind,
            {**assembly.options[name], "bus": place.bus_name, "unit": place.unit},
            disk_facts(assembly.drives[name]),
            assembly.memory.name,
            assembly.ata_host(name).name,
            saved.hex(),
            "" if saved else _kept(place.device),
        )
        self._recorder.announce_ata(facts, place.device)

    def removing(self, name: str) -> None:
        self._recorder.tracer.emit(name, EventKind.REMOVED)

    def release(self) -> None:
        assembly = self._assembly
        assembly.watcher = None
        assembly.violations.record = None
        assembly.set_trace(None)


def record_machine(assembly: Assembly, path: Path, *, limit: int | None = None) -> Recorder:
    """Record a machine from now on, which is before its guest does anything; `limit` in bytes.

    OSError where the file cannot be written; ValueError where the machine cannot be recorded, or the limit is too small
    for anything.
    """
    _judge(assembly)
    memory: MemoryKind = (
        "shared" if all(region.view is not None for region in assembly.memory.regions) else "bounced"
    )
    strict = assembly.violations.profile is Profile.STRICT
    recorder = Recorder(path, assembly.context, strict=strict, memory=memory, limit=limit)
    recorder.watch_machine(assembly)
    return recorder


def _judge(assembly: Assembly) -> None:
    """ValueError where a recording would not have everything."""
    for name in assembly.devices:
        virtio = assembly.virtio_device(name)
        if any(isinstance(queue, ThreadedQueue) for queue in virtio.queues):
            raise ValueError(f"device {name!r} has queues on iothreads; expected a machine with one_context")
        if virtio.status:
            raise ValueError(f"device {name!r} is in use; expected a recording that begins before that")
    for register, value in assembly.machine.save().items():
        if register.endswith(".0x00.command") and value:
            raise ValueError(
                f"function {register.partition('.0x00')[0]} is in use; expected a recording that begins before that"
            )
    machine, own = assembly.machine, [*assembly.devices.values(), *assembly.ata_hosts.values()]
    plugged = [(each, each.name) for _, _, each in machine.bus.functions()]
    plugged_mmio = [(each, each.name) for _, _, each in machine.mmio]
    for device, name in (*plugged, *plugged_mmio):
        if device not in own:
            raise ValueError(f"{name!r} was plugged by hand; expected devices of the assembly alone")
    if assembly.watcher is not None:
        raise ValueError("the machine is being recorded already")


def _kept(device: AtaDevice) -> str:
    """What is in the file in which a disk keeps something, if it has one."""
    state = device.state if isinstance(device, AtaDisk) else None
    return "" if state is None else (state.read_file() or b"").decode(errors="replace")
