"""The virtio-blk driver on our own device: what it does with limits, errors, resets and changes."""

from __future__ import annotations

import pytest

from guestsim.disk import Disk, boot
from guestsim.drivers import virtio_blk
from guestsim.drivers.layouts import BlkFeature, Feature
from guestsim.drivers.transport import Interrupts
from guestsim.drivers.virtio import FeaturesRefusedError, NeedsResetError
from guestsim.drivers.virtio_blk import DroppedError, Operation, RequestError, VirtioBlk
from guestsim.drivers.virtqueue import SplitQueue
from guestsim.errors import GuestCheckError, GuestError, GuestTimeoutError
from guestsim.guest import SECOND, Guest
from guestsim.quick import NODE
from guestsim.targets.inprocess import InProcessTarget


def slow_disk(memory: str, latency_ns: int = 5_000_000) -> InProcessTarget:
    return InProcessTarget(
        blockdevs=[
            {
                "driver": "null-co",
                "node-name": "d0",
                "size": 1 << 20,
                "read-zeroes": True,
                "latency-ns": latency_ns,
            }
        ],
        devices=[{"driver": "virtio-blk-pci", "drive": "d0", "id": "vd0"}],
        shared=memory == "shared",
    )


def test_what_is_written_is_read_back(disk: Disk) -> None:
    data = bytes(range(256)) * 64
    disk.write(4096, data, scatter=7)
    assert disk.read(4096, len(data), scatter=5) == data
    assert disk.interrupts == 2


@pytest.mark.disk(size_max=4096, seg_max=4)
def test_long_transfers_are_cut_at_the_devices_limits(disk: Disk, machine: InProcessTarget) -> None:
    assert disk.driver.max_transfer() == 16384
    data = bytes(range(250)) * 2048 + bytes(512 - 250 * 2048 % 512)
    disk.write(0, data)
    assert disk.read(0, len(data)) == data
    assert machine.violations() == []


@pytest.mark.disk(size="1M")
def test_capacity_is_read_again_after_a_change(disk: Disk, machine: InProcessTarget) -> None:
    assert disk.capacity == 1 << 20
    machine.resize(NODE, 2 << 20)
    assert disk.capacity == 1 << 20
    disk.flush()
    assert disk.capacity == 2 << 20


def test_a_failed_request_says_which_and_how(disk: Disk) -> None:
    with pytest.raises(RequestError, match="IN failed with IOERR") as caught:
        disk.read(disk.capacity, 512)
    assert caught.value.answer.used_length == 513
    with pytest.raises(RequestError, match="GET_LIFETIME failed with UNSUPP"):
        disk.get_lifetime()


def test_offsets_are_multiples_of_512(disk: Disk) -> None:
    with pytest.raises(GuestError, match="offset 100"):
        disk.read(100, 512)


def test_a_broken_ring_ends_every_wait(disk: Disk) -> None:
    queue = disk.driver.queues[0]
    assert isinstance(queue, SplitQueue)
    queue.expose_raw(60_000)
    with pytest.raises(NeedsResetError, match="NEEDS_RESET"):
        disk.read(0, 512)
    disk.reset()
    assert disk.read(0, 512) == bytes(512)


def test_a_polling_driver_notices_a_broken_device(guest: Guest) -> None:
    driver = VirtioBlk(guest, virtio_blk.find(guest)[0])
    guest.run(driver.probe(interrupts=Interrupts.POLLING))
    queue = driver.queues[0]
    assert isinstance(queue, SplitQueue)
    queue.expose_raw(60_000)
    with pytest.raises(NeedsResetError):
        guest.run(driver.read(0, 512))


def test_a_reset_drops_what_is_in_flight(guest_memory: str) -> None:
    with slow_disk(guest_memory) as target:
        guest = Guest(target)
        driver = boot(guest).driver
        before = guest.memory.in_use
        pending = guest.run(driver.submit([virtio_blk.read(0, 4096), virtio_blk.flush()]))
        assert driver.in_flight == 2
        guest.run(driver.reset())
        assert driver.in_flight == 0
        for one in pending:
            with pytest.raises(DroppedError):
                guest.run(driver.finish(one))
        guest.run(driver.probe())
        assert guest.memory.in_use == before
        assert guest.run(driver.read(0, 512)) == bytes(512)


def test_a_driver_with_a_full_queue_waits_for_room(guest_memory: str) -> None:
    with slow_disk(guest_memory) as target:
        guest = Guest(target)
        driver = VirtioBlk(guest, virtio_blk.find(guest)[0])
        guest.run(driver.probe(queue_size=4, indirect=False))
        answers = guest.run(driver.execute_all([virtio_blk.read(512 * n, 512) for n in range(5)]))
        assert [answer.ok for answer in answers] == [True] * 5
        # One chain of three descriptors fits at a time, so they went one after the other.
        assert target.now_ns() >= 5 * 5_000_000


def test_a_slow_device_is_waited_for_as_long_as_the_caller_says(guest_memory: str) -> None:
    with slow_disk(guest_memory, latency_ns=60 * SECOND) as target:
        guest = Guest(target)
        driver = boot(guest).driver
        (pending,) = guest.run(driver.submit([virtio_blk.read(0, 512)]))
        with pytest.raises(GuestTimeoutError, match="IN on queue 0: time is over"):
            guest.run(driver.finish(pending, timeout_ns=10 * SECOND))
        (pending,) = guest.run(driver.submit([virtio_blk.read(0, 512)]))
        answer = guest.run(driver.finish(pending, timeout_ns=100 * SECOND))
        assert answer.ok
        assert answer.duration_ns == 60 * SECOND


def test_features_are_what_both_want(guest: Guest) -> None:
    driver = VirtioBlk(guest, virtio_blk.find(guest)[0])
    guest.run(driver.probe(features=[BlkFeature.FLUSH, BlkFeature.ZONED, 77]))
    assert driver.device.features == {Feature.VERSION_1, BlkFeature.FLUSH}


def test_refused_features_leave_the_device_failed(guest: Guest) -> None:
    driver = VirtioBlk(guest, virtio_blk.find(guest)[0])
    with pytest.raises(FeaturesRefusedError, match="34"):
        guest.run(driver.probe(force=[Feature.RING_PACKED]))
    assert driver.device.status & 0x80


def test_fields_that_were_not_offered_are_not_read(disk: Disk) -> None:
    assert "size_max" not in disk.config
    assert "max_secure_erase_sectors" not in disk.config
    assert disk.config["capacity"] == disk.capacity // 512


@pytest.mark.disk(num_queues=3)
def test_a_vcpu_uses_its_own_queue(disk: Disk, guest: Guest) -> None:
    driver = disk.driver

    async def one() -> None:
        await driver.read(0, 512)

    async def main() -> None:
        cpus = [guest.start(one()) for _ in range(2)]
        await guest.wait_until(lambda: all(cpu.finished for cpu in cpus), "both")

    before = [queue.kicks for queue in driver.queues]
    guest.run(main())
    assert [queue.kicks - old for queue, old in zip(driver.queues, before, strict=True)] == [0, 1, 1]


def test_a_queue_that_is_not_used_cannot_be_named(disk: Disk) -> None:
    with pytest.raises(GuestError, match="queue 1"):
        disk.request(virtio_blk.flush(), queue=1)


def test_a_driver_that_was_not_probed_refuses(guest: Guest) -> None:
    driver = VirtioBlk(guest, virtio_blk.find(guest)[0])
    with pytest.raises(GuestError, match="not been probed"):
        guest.run(driver.flush())


@pytest.mark.parametrize("status", [0x09, 0xFF])
def test_a_status_that_nobody_knows_or_wrote_is_found(disk: Disk, status: int) -> None:
    memory = disk.guest.memory
    real = memory.read
    # The status byte is a segment of its own.
    memory.read = lambda address, length: bytes([status]) if length == 1 else real(address, length)
    with pytest.raises(GuestCheckError, match=f"status byte {status:#x}"):
        disk.flush()


def test_an_operation_names_itself() -> None:
    assert virtio_blk.write(512, bytes(512)).name == "OUT"
    assert Operation(bytes([99]) + bytes(15)).name == "type 99"
    assert str(virtio_blk.read(1024, 512)) == "IN at sector 2, 0 bytes of payload, 513 writable"


def test_nothing_leaks(disk: Disk, guest: Guest) -> None:
    before = guest.memory.in_use
    for _ in range(20):
        disk.write(0, bytes(4096), scatter=3)
        disk.read(0, 4096)
        disk.request(virtio_blk.read(disk.capacity, 512))
    assert guest.memory.in_use == before


def test_a_wait_for_nothing_is_told_with_its_request(guest_memory: str) -> None:
    with slow_disk(guest_memory) as target:
        guest = Guest(target)
        driver = boot(guest).driver
        driver.device.function.set_command(off=4)
        with pytest.raises(GuestTimeoutError, match="IN on queue 0"):
            guest.run(driver.read(0, 512))
