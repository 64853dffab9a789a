"""Recording: the trace of devices at work, from options of a command to a file.

All queues of a recorded device run on one context, and nothing is polled for: what happens is one line of events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec

from devmodels.assembly import Assembly
from devmodels.blockbackend import BlockBackend
from devmodels.conformance import Profile, Violation, ViolationLog
from devmodels.iocontext import IoContext
from devmodels.trace import EventKind, Tracer
from devmodels.tracefile import DeviceFacts, DiskFacts, TraceHeader, TraceWriter
from devmodels.virtio.device import VirtioDevice


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
    )


class Recorder:
    """A trace file being written: `tracer` is what the recorded parts are given."""

    def __init__(
        self,
        path: Path,
        context: IoContext,
        *,
        strict: bool = True,
        memory: str = "shared",
        limit: int | None = None,
    ) -> None:
        header = TraceHeader.of(f"devmodels {version('devmodels')}", strict=strict, memory=memory)
        self.writer = TraceWriter(path, header, limit=limit)
        self.tracer = Tracer(context.now_ns)
        self.tracer.sinks.append(self.writer)

    def watch_violations(self, violations: ViolationLog) -> None:
        """What a guest does wrong is part of the trace."""
        violations.record = self._violation

    def _violation(self, violation: Violation) -> None:
        detail = violation.clause, violation.place, violation.summary, violation.data
        self.tracer.emit("violations", EventKind.VIOLATION, *detail)

    def announce(
        self, kind: str, options: Mapping[str, object], device: VirtioDevice, backend: BlockBackend
    ) -> None:
        """A device is recorded from now on."""
        facts = DeviceFacts(device.name, kind, dict(options), disk_facts(backend), device.memory.name)
        self.tracer.emit(device.name, EventKind.DEVICE, msgspec.json.encode(facts).decode())

    def watch_export(
        self, options: Mapping[str, object], device: VirtioDevice, backend: BlockBackend
    ) -> None:
        """Record an export that has just been made with `options`."""
        self.announce("export", options, device, backend)
        device.trace = self.tracer
        backend.trace = self.tracer
        device.memory.observe(dirty_log=device.memory.dirty_log, trace=self.tracer)
        device.memory.show_regions()
        self.watch_violations(device.violations)

    def close(self) -> None:
        """End the file. Idempotent."""
        self.writer.close()


def record_machine(
    assembly: Assembly, devices: Sequence[Mapping[str, object]], path: Path, *, limit: int | None = None
) -> Recorder:
    """Record a machine from now on, before its guest does anything; `devices` are its devices' options, in order."""
    backends = {backend.name: backend for backend in assembly.backends.values()}
    memory = "shared" if all(region.view is not None for region in assembly.memory.regions) else "bounced"
    strict = assembly.violations.profile is Profile.STRICT
    recorder = Recorder(path, assembly.context, strict=strict, memory=memory, limit=limit)
    for name, options in zip(assembly.devices, devices, strict=True):
        recorder.announce("device", options, assembly.virtio_device(name), backends[name])
    assembly.set_trace(recorder.tracer)
    assembly.memory.show_regions()
    recorder.watch_violations(assembly.violations)
    return recorder
