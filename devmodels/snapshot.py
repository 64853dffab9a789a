"""Snapshots of a whole machine: memory, PCI, devices, requests in flight; not the disks' content.

Saving lets everything that runs come to its end; what is held back (the run state is stopped, a clock stands) is saved
as the buffers it came in and starts anew after restoring, unless a reset waits for it: that is over then.  The disks
must be those of the moment of saving, as in a migration with shared storage.  The form is msgpack, versioned.  Memory
and devices are judged before anything of them is changed; what the machine was doing is dropped.  Read-only memory is
not part of it; time goes on from the new machine's clock.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import msgspec

from devmodels.assembly import Assembly
from devmodels.memory import GuestMemory
from devmodels.virtio.state import DeviceState

VERSION = 4
CHUNK = 1 << 16
"""Memory is saved in pieces of this many bytes; pieces of zeroes are left out."""


class SnapshotError(ValueError):
    """The data is no snapshot, or one of another machine; the text is one line."""


class _Chunk(msgspec.Struct, frozen=True):
    address: int
    data: bytes
    """Compressed with zlib."""


class _Snapshot(msgspec.Struct, frozen=True):
    version: int
    status: str
    """Why it was stopped, or `running`."""
    machine: dict[str, int]
    virtio: dict[str, DeviceState]
    ata: dict[str, bytes]
    """By host: what that saves beyond its registers."""
    regions: list[tuple[int, int]]
    chunks: list[_Chunk]


def save_snapshot(assembly: Assembly) -> bytes:
    """The machine's state as bytes."""
    assembly.machine.run_until_idle()
    devices = assembly.devices
    virtio = {name: function.device.save() for name, function in devices.items()}
    memory = assembly.memory
    snapshot = _Snapshot(
        VERSION,
        assembly.run_state.status,
        assembly.machine.save(),
        virtio,
        {name: host.save_state() for name, host in assembly.ata_hosts.items()},
        _writable(memory),
        _save_memory(memory),
    )
    return msgspec.msgpack.encode(snapshot)


def restore_snapshot(assembly: Assembly, data: bytes) -> None:
    """Bring a machine made with the same options to the saved state; SnapshotError where `data` does not fit it."""
    if assembly.watcher is not None:
        raise SnapshotError(
            "the machine is being recorded: its trace would not have what comes from elsewhere"
        )
    try:
        snapshot = msgspec.msgpack.decode(data, type=_Snapshot)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise SnapshotError(f"not a snapshot: {error}") from None
    if snapshot.version != VERSION:
        raise SnapshotError(f"snapshot version {snapshot.version}, expected {VERSION}")
    devices, hosts = assembly.devices, assembly.ata_hosts
    given, expected = sorted((*snapshot.virtio, *snapshot.ata)), sorted((*devices, *hosts))
    if given != expected or set(snapshot.ata) != set(hosts):
        raise SnapshotError(f"snapshot of devices {given}, the machine has {expected}")
    memory = assembly.memory
    regions = _writable(memory)
    if regions != snapshot.regions:
        raise SnapshotError(f"snapshot of memory {snapshot.regions}, the machine has {regions}")
    chunks = [(chunk.address, _content(memory, chunk)) for chunk in snapshot.chunks]
    try:
        for name, function in devices.items():
            function.device.judge(snapshot.virtio[name])
        for name, host in hosts.items():
            host.judge_state(snapshot.ata[name])
        for function in devices.values():
            device = function.device
            device.reset()
            # Workers, and queues' own threads, give back what was thrown away.
            assembly.context.run_while(lambda device=device: device.resetting)  # type: ignore[misc]
            if device.resetting:
                raise SnapshotError(f"{function.name}: requests are running")
        for host in hosts.values():
            host.drop()
            assembly.context.run_while(lambda host=host: host.busy)  # type: ignore[misc]
            if host.busy:
                raise SnapshotError(f"{host.name}: commands are running")
        assembly.machine.restore(snapshot.machine)
    except (ValueError, KeyError) as error:
        raise SnapshotError(f"snapshot of another machine: {error}") from error
    running = snapshot.status == "running"
    if not running:
        assembly.run_state.stop(snapshot.status)
        assembly.run_state.reason = snapshot.status
    for address, content in _contents(memory):
        memory.store(address, bytes(len(content)))
    for address, content in chunks:
        memory.store(address, content)
    for name, function in devices.items():
        function.device.restore(snapshot.virtio[name])
    for name, host in hosts.items():
        host.restore_state(snapshot.ata[name])
    if running:
        assembly.run_state.cont()


def _content(memory: GuestMemory, chunk: _Chunk) -> bytes:
    """What a chunk holds; SnapshotError where it is damaged or belongs to no memory."""
    try:
        content = zlib.decompressobj().decompress(chunk.data, CHUNK)
    except zlib.error as error:
        raise SnapshotError(f"memory at {chunk.address:#x} is damaged: {error}") from None
    if not memory.contains(chunk.address, len(content), write=True):
        raise SnapshotError(f"memory at {chunk.address:#x}: the machine has none there")
    return content


def _writable(memory: GuestMemory) -> list[tuple[int, int]]:
    return [(region.base, region.size) for region in memory.regions if not region.readonly]


def _save_memory(memory: GuestMemory) -> list[_Chunk]:
    return [_Chunk(address, zlib.compress(data, 1)) for address, data in _contents(memory)]


def _contents(memory: GuestMemory) -> Iterator[tuple[int, bytes]]:
    """Each chunk of memory that is not all zeroes.

    Memory is only read: pages that nobody has written need not be made.
    """
    zeroes = bytes(CHUNK)
    for base, size in _writable(memory):
        for address in range(base, base + size, CHUNK):
            data = memory.load(address, min(CHUNK, base + size - address))
            if data != zeroes[: len(data)]:
                yield address, data
