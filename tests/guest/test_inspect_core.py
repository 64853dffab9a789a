"""A stock Linux guest stopped in the middle of its writes: what the inspector reads from its memory, and QEMU knows.

QEMU lets running requests end before it stops a guest; those that failed, with `werror=stop`, it keeps. So the disk
fails every write.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest

from guestsim.drivers.layouts import Feature
from guestsim.inspect.core import open_core
from guestsim.inspect.find import find_queues
from guestsim.inspect.queue import inspect_queue
from guestsim.inspect.state import QueueState, Virtqueue
from guestsim.targets.qmp import Json

from .conftest import needed
from .vm import Guest, run_guest

pytestmark = pytest.mark.guest

SIZE = 64 << 20
QUEUES = 2
FEATURES = frozenset({Feature.VERSION_1, Feature.EVENT_IDX, Feature.INDIRECT_DESC})


class QueueStatus(msgspec.Struct, rename="kebab"):
    """What is used of QMP's `VirtQueueStatus`."""

    inuse: int
    vring_num: int
    vring_desc: int
    vring_avail: int
    vring_used: int
    used_idx: int
    last_avail_idx: int


class Device(msgspec.Struct):
    """What is used of QMP's `VirtioInfo`."""

    path: str


class Descriptor(msgspec.Struct):
    """QMP's `VirtioRingDesc`."""

    addr: int
    len: int
    flags: list[str]


class Element(msgspec.Struct):
    """What is used of QMP's `VirtioQueueElement`: the head, and the descriptors from the last to the first."""

    index: int
    descs: list[Descriptor]


@dataclass(slots=True)
class Stopped:
    """What the host knows of a guest that it has stopped: QEMU's account, and the core.

    `elements` are what QEMU sees in the available ring's entries that were taken and not given back, by queue and slot;
    of packed rings it tells none.
    """

    core: Path
    has_elements: bool
    reason: str = ""
    queues: list[QueueStatus] = field(default_factory=list)
    elements: dict[tuple[int, int], Element] = field(default_factory=dict)

    def attend(self, guest: Guest) -> None:
        with guest.qmp() as monitor:
            self.reason = guest.await_stop(monitor)
            monitor.execute("dump-guest-memory", {"paging": False, "protocol": f"file:{self.core}"})
            (device,) = msgspec.convert(monitor.execute("x-query-virtio"), list[Device])
            for queue in range(QUEUES):
                asked: dict[str, Json] = {"path": device.path, "queue": queue}
                answer = monitor.execute("x-query-virtio-queue-status", asked)
                status = msgspec.convert(answer, QueueStatus)
                self.queues.append(status)
                for position in range(status.used_idx, status.last_avail_idx) if self.has_elements else ():
                    slot = position % status.vring_num
                    element = monitor.execute("x-query-virtio-queue-element", {**asked, "index": slot})
                    self.elements[queue, slot] = msgspec.convert(element, Element)
            monitor.execute("quit")


def stop_in_the_middle(folder: Path, *, packed: bool) -> Stopped:
    """Boot, read, and be stopped by the first writes."""
    image = folder / "disk.img"
    with image.open("wb") as file:
        file.truncate(SIZE)
    failing = (
        f"driver=blkdebug,node-name=d0,image.driver=file,image.filename={image},"
        "inject-error.0.event=none,inject-error.0.iotype=write,inject-error.0.errno=5"
    )
    device = f"virtio-blk-pci,drive=d0,num-queues={QUEUES},werror=stop,packed={'on' if packed else 'off'}"
    stopped = Stopped(folder / "core", has_elements=not packed)
    with needed():
        arguments = ["-blockdev", failing, "-device", device]
        run = run_guest("inflight.sh", None, cpus=QUEUES, arguments=arguments, attend=stopped.attend)
    run.check("reads")
    assert stopped.reason == "io-error"
    assert sum(status.inuse for status in stopped.queues) >= 16
    return stopped


def are_writes(state: QueueState) -> bool:
    requests = [buffer.request for buffer in state.buffers]
    return all(r is not None and (r.type_name, r.length, r.segments) == ("OUT", 4096, 1) for r in requests)


def test_a_split_ring_is_found_and_read_as_qemu_knows_it(tmp_path: Path) -> None:
    stopped = stop_in_the_middle(tmp_path, packed=False)
    image = open_core(stopped.core)
    places = [
        Virtqueue(status.vring_desc, status.vring_avail, status.vring_used, status.vring_num)
        for status in stopped.queues
    ]
    found = [candidate.queue for candidate in find_queues(image)]
    assert sorted(found[:QUEUES], key=lambda queue: queue.desc) == sorted(
        places, key=lambda queue: queue.desc
    )
    for number, (status, place) in enumerate(zip(stopped.queues, places, strict=True)):
        state = inspect_queue(image, replace(place, features=FEATURES, kind="blk"))
        assert state.problems == []
        assert state.indices["used idx"] == status.used_idx
        taken = [buffer for buffer in state.buffers if buffer.placement == "in flight"]
        assert len(taken) == status.inuse
        assert state.indices["available idx"] == status.last_avail_idx + state.outstanding - len(taken)
        assert are_writes(state)
        for buffer in taken:
            element = stopped.elements[number, buffer.slot]
            assert buffer.id == element.index
            assert [(part.address, part.length, part.writable) for part in buffer.parts] == [
                (one.addr, one.len, "write" in one.flags) for one in reversed(element.descs)
            ]


def test_a_packed_ring_is_found_and_read_as_qemu_knows_it(tmp_path: Path) -> None:
    stopped = stop_in_the_middle(tmp_path, packed=True)
    image = open_core(stopped.core)
    found = {(candidate.queue.desc, candidate.queue.size) for candidate in find_queues(image)[:QUEUES]}
    assert found == {(status.vring_desc, status.vring_num) for status in stopped.queues}
    for status in stopped.queues:
        place = Virtqueue(
            status.vring_desc, status.vring_avail, status.vring_used, status.vring_num, packed=True
        )
        state = inspect_queue(image, replace(place, features=FEATURES, kind="blk"))
        assert state.problems == []
        assert state.indices["next used"] == status.used_idx
        taken = [buffer for buffer in state.buffers if buffer.placement == "in flight"]
        assert len(taken) == status.inuse
        assert (
            state.indices["next available"]
            == (status.last_avail_idx + len(state.buffers) - len(taken)) % place.size
        )
        assert are_writes(state)
