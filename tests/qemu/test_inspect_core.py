"""The inspector reads from a core what the guest did and what QEMU took, before and after the machine was stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from guestsim.drivers import virtio_blk
from guestsim.drivers.layouts import BLK_HEADER, BlkType, Feature
from guestsim.drivers.virtio_blk import VirtioBlk
from guestsim.guest import Guest
from guestsim.inspect.core import CoreError, open_core
from guestsim.inspect.find import find_queues
from guestsim.inspect.queue import inspect_queue
from guestsim.inspect.state import Virtqueue
from guestsim.memory import Segment
from guestsim.targets.qemu import QemuTarget
from guestsim.targets.qmp import Json

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("qemu")]

READS = 300
IN_FLIGHT = 3
LATER = 2


class QueueStatus(msgspec.Struct, rename="kebab"):
    """What is used of QMP's `VirtQueueStatus`."""

    inuse: int
    used_idx: int
    last_avail_idx: int


def failing_machine(image: Path, *, packed: bool) -> QemuTarget:
    """A disk whose writes all fail, which stops the machine and keeps them."""
    fail: Json = {"event": "none", "iotype": "write", "errno": 5}
    return QemuTarget(
        blockdevs=[
            {"driver": "file", "filename": str(image), "node-name": "f0"},
            {"driver": "blkdebug", "image": "f0", "node-name": "d0", "inject-error": [fail]},
        ],
        devices=[
            {"driver": "virtio-blk-pci", "id": "v0", "drive": "d0", "addr": "4", "werror": "stop"}
            | {"num-queues": 1, "packed": packed}
        ],
    )


def dump(target: QemuTarget, path: Path, **options: str) -> Path:
    target.qmp("dump-guest-memory", {"paging": False, "protocol": f"file:{path}", **options})
    return path


@pytest.mark.parametrize("indirect", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_requests_in_flight_and_not_taken(tmp_path: Path, image: Path, packed: bool, indirect: bool) -> None:
    with failing_machine(image, packed=packed) as target:
        guest = Guest(target)
        driver = VirtioBlk(guest, virtio_blk.find(guest)[0])
        guest.run(driver.probe(indirect=indirect))
        for sector in range(READS):
            guest.run(driver.read(sector * 512, 512))
        writes = [virtio_blk.write(sector * 512, bytes(1024)) for sector in range(IN_FLIGHT)]
        guest.start(driver.execute_all(writes))
        guest.run(guest.settle())
        while target.qmp("query-status") != {"status": "io-error", "singlestep": False, "running": False}:
            target.advance()
        queue = driver.device.queues[0]
        for sector in range(LATER):
            # Without telling the device: it would take them even now.
            header = Segment(guest.memory.store(BLK_HEADER.pack(BlkType.IN, 0, sector)), BLK_HEADER.size)
            data, status_byte = Segment(guest.memory.allocate(512), 512), Segment(guest.memory.allocate(1), 1)
            queue.add([header], [data, status_byte], indirect=indirect)
        queue.publish()

        image_of_memory = open_core(dump(target, tmp_path / "core"))
        path = "/machine/peripheral/v0/virtio-backend"
        answer = target.qmp("x-query-virtio-queue-status", {"path": path, "queue": 0})
        status = msgspec.convert(answer, QueueStatus)
        place = Virtqueue(*queue.addresses, queue.size, packed=packed)
        features = frozenset(Feature(bit) for bit in driver.device.features if bit in set(Feature))

        state = inspect_queue(image_of_memory, replace(place, features=features, kind="blk"))
        assert state.problems == []
        assert state.outstanding == IN_FLIGHT + LATER
        # Of a packed ring QEMU counts descriptors.
        slots = 3 if packed and not indirect else 1
        assert status.inuse == IN_FLIGHT * slots
        assert state.indices["next used" if packed else "used idx"] == status.used_idx
        requests = [buffer.request for buffer in state.buffers if buffer.request is not None]
        assert [(request.type, request.sector, request.length) for request in requests] == [
            *((BlkType.OUT, sector, 1024) for sector in range(IN_FLIGHT)),
            *((BlkType.IN, sector, 512) for sector in range(LATER)),
        ]
        assert [buffer.indirect for buffer in state.buffers] == [indirect] * len(requests)
        assert {buffer.id for buffer in state.buffers} == set(queue.in_flight)
        places = [buffer.placement for buffer in state.buffers]
        assert places == ["in flight"] * IN_FLIGHT + ["available"] * LATER
        if not packed:
            # A packed ring of lists has nothing that tells it from other memory: that search is for whole pages.
            assert find_queues(image_of_memory)[0].queue == place


def test_a_compressed_dump_is_refused(tmp_path: Path, image: Path) -> None:
    with failing_machine(image, packed=False) as target:
        path = dump(target, tmp_path / "core", format="kdump-zlib")
        with pytest.raises(CoreError, match="a compressed dump, expected an ELF core"):
            open_core(path)
