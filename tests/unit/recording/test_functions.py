"""Functions in other programs' machines are recorded as machines are: accesses, memory, interrupts, the disk."""

from __future__ import annotations

import json
import random
from contextlib import closing
from pathlib import Path

import pytest

from devmodels.trace import EventKind, TraceEvent
from guestsim.disk import Disk
from guestsim.drivers import virtio_blk
from guestsim.drivers.pci import scan
from guestsim.drivers.scsi import SenseKey
from guestsim.drivers.scsi_layouts import lun_bytes
from guestsim.drivers.transport import Interrupts
from guestsim.drivers.virtio_bus import open_function
from guestsim.drivers.virtio_scsi import VirtioScsi
from guestsim.guest import Guest
from guestsim.targets.vfio_daemon import VfioDaemonTarget
from tests.unit.exports.vfio.served import Served
from tests.unit.guestsim.replay.anywhere import goes_on_anywhere
from tests.unit.recording.scsistory import does_it_again

HOST = {"driver": "virtio-scsi-pci", "id": "s0"}
UNITS = [{"driver": "scsi-hd", "bus": "s0.0", "drive": f"d{n}", "lun": n} for n in range(2)]
INQUIRY = bytes((0x12, 0, 0, 0, 36, 0))
MIB = 1 << 20
MS = 1_000_000


def kinds(events: list[TraceEvent], source: str) -> set[EventKind]:
    return {event.kind for event in events if event.source == source}


@pytest.mark.parametrize("legacy", [False, True], ids=["modern", "legacy"])
@pytest.mark.parametrize("interrupts", [Interrupts.MSIX, Interrupts.INTX])
def test_two_disks(tmp_path: Path, legacy: bool, interrupts: Interrupts) -> None:
    path = tmp_path / "t.trace"
    with Served(tmp_path, record=path) as served:
        for slot in (4, 5):
            disk = served.disk(slot, interrupts, legacy=legacy)
            disk.write(4096, bytes([slot]) * 8192)
            assert disk.read(4096, 8192) == bytes([slot]) * 8192
            assert disk.request(virtio_blk.read(disk.capacity, 512)).status_name == "IOERR"
    events = does_it_again(path)
    for name in ("v0", "v1"):
        assert {EventKind.ACCESS_READ, EventKind.ACCESS_WRITE} <= kinds(events, f"{name}.regions")
        assert {EventKind.DMA_READ, EventKind.DMA_WRITE} <= kinds(events, f"{name}.memory")
        assert {EventKind.INTERRUPT, EventKind.MACHINE_RESET} <= kinds(events, name)
        assert {EventKind.CHAIN, EventKind.USED, EventKind.COMPLETION} <= kinds(events, name)
    assert len([event for event in events if event.kind is EventKind.VIOLATION]) == 2


@pytest.mark.long
def test_one_client_after_the_other_and_what_was_in_flight(tmp_path: Path) -> None:
    path = tmp_path / "t.trace"
    with Served(tmp_path, record=path, latency_ns=MS) as served:
        for _ in range(3):
            disk = served.disk()
            disk.write(0, bytes(512))
            disk.guest.run(
                disk.driver.submit([virtio_blk.write(0, b"\x22" * 4096), virtio_blk.read(0, 4096)])
            )
            served.another()
    does_it_again(path)


def test_a_scsi_host_and_units_that_come_and_go(tmp_path: Path) -> None:
    path = tmp_path / "t.trace"
    with Served(tmp_path, [HOST, UNITS[0]], record=path) as served:
        driver = VirtioScsi(served.guest, open_function(served.guest, served.function(4)))
        served.guest.run(driver.probe())

        def inquire(lun: int) -> int:
            command = driver.command(lun_bytes(0, lun), INQUIRY, b"", 36)
            answer = served.guest.run(driver.execute(command))
            assert answer.sense is None or answer.sense.key == SenseKey.UNIT_ATTENTION
            return answer.response

        assert inquire(0) == 0
        machine = served.hosted.machines["s0"]
        name = served.hosted.add({**UNITS[1], "id": "u1"})
        assert inquire(1) == 0
        served.context.run(machine.remove_device(name))
        assert inquire(1) == 0
    events = does_it_again(path)
    announced = [json.loads(str(event.detail[0])) for event in events if event.kind is EventKind.DEVICE]
    assert [(each["name"], each["kind"], each.get("host", "")) for each in announced] == [
        ("s0", "function", ""),
        ("s0.scsi-hd@0.0", "function", "s0"),
        ("u1", "function", "s0"),
    ]
    assert [event.source for event in events if event.kind is EventKind.REMOVED] == ["u1"]


@pytest.mark.long
def test_a_replay_goes_on_from_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "t.trace"
    with Served(tmp_path, record=path, latency_ns=MS) as served:
        disk = served.disk()
        numbers = random.Random(3)
        for _ in range(5):
            disk.guest.run(
                disk.driver.submit(
                    [virtio_blk.write(512 * numbers.randrange(1 << 10), bytes(512)) for _ in range(3)]
                )
            )
            served.context.run_until_idle()
            disk.read(0, 512)
    goes_on_anywhere(path, 5)


@pytest.mark.slow
def test_a_daemon_records_memory_that_it_asks_for(tmp_path: Path) -> None:
    path = tmp_path / "t.trace"
    target = VfioDaemonTarget(
        blockdevs=[{"driver": "memory", "node-name": "d0", "size": MIB}],
        devices=[{"driver": "virtio-blk-pci", "drive": "d0", "id": "v0"}],
        shared=False,
        arguments=("--record", str(path)),
    )
    with closing(target), closing(Guest(target)) as guest:
        (function,) = scan(guest)
        driver = virtio_blk.VirtioBlk(guest, open_function(guest, function))
        guest.run(driver.probe())
        Disk(guest, driver).write(0, b"\x11" * 512)
    kinds = [event.kind for event in does_it_again(path)]
    assert kinds[0] is EventKind.DEVICE
    assert kinds.count(EventKind.COMPLETION) == 1
