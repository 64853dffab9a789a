"""What a device says it wants to be notified of under profile `qemu`, where QEMU 7.2's says something else.

VIRTIO 1.4 §2.7.7, §2.7.10 and §2.8.10 leave that to the device.
"""

from __future__ import annotations

import struct

import pytest

from devmodels.conformance import Profile
from devmodels.virtio.queue import VirtQueue
from tests.unit.virtio.blkrig import FLUSH, BlkRig, Sent, blk, bring_up
from tests.unit.virtio.model import EVENT_IDX
from tests.unit.virtio.scsirig import CONTROL, ScsiRig, lun_of, scsi

PROFILES = [Profile.QEMU, Profile.STRICT]
NEEDS_RESET = 0x40
EVENTS = 1
OK = 0
WRAP, DESC, DISABLE = 1 << 15, 2, 1
QUERY_TASK = struct.pack("<II", 0, 6) + lun_of() + bytes(8)


def words(rig: BlkRig | ScsiRig, address: int, count: int) -> tuple[int, ...]:
    """Words of 16 bits in guest memory."""
    return struct.unpack(f"<{count}H", rig.device.memory.read(address, 2 * count))


def split_hints(rig: BlkRig | ScsiRig, queue: VirtQueue) -> tuple[int, int]:
    """`used.flags` and `avail_event`."""
    at = queue.device
    return words(rig, at, 1)[0], words(rig, at + 4 + 8 * queue.size, 1)[0]


def anew(rig: BlkRig, *, early: bool = False) -> Sent | None:
    """Bring the device up once more, perhaps with a request that is in the ring before DRIVER_OK."""
    device, queue = rig.device, rig.device.queues[0]
    features, parts = device.driver_features, (queue.desc, queue.driver, queue.device)
    device.memory.write(queue.device, bytes(4))
    rig.driver = type(rig.driver)(rig.plain, rig.driver.size, parts, features)
    sent = rig.start(FLUSH) if early else None
    rig.driver.expose()
    bring_up(rig, features, parts)
    return sent


def run(rig: BlkRig | ScsiRig) -> None:
    """Let everything run, and look at nothing that comes back."""
    while rig.device.context.turn():
        pass


@pytest.mark.parametrize(
    ("profile", "without", "hints"),
    [
        (Profile.QEMU, 0, (0, 3)),
        (Profile.STRICT, 0, (0, 0)),
        (Profile.QEMU, EVENT_IDX, (0, 0)),
        (Profile.STRICT, EVENT_IDX, (1, 0)),
    ],
)
def test_a_device_that_needs_a_reset_asks_for_the_next_buffer(
    profile: Profile, without: int, hints: tuple[int, int]
) -> None:
    rig = blk(profile=profile, without=without)
    queue = rig.device.queues[0]
    rig.start(FLUSH)
    rig.place(rig.readable(bytes(16), (16,)), rig.writable(1, (0,)))
    rig.driver.expose()
    # The second chain goes on behind the table; then comes one more.
    entry = queue.desc + 16 * words(rig, queue.driver + 6, 1)[0]
    rig.device.memory.write(entry + 12, struct.pack("<HH", 1, queue.size))
    rig.start(FLUSH)
    rig.driver.expose()
    rig.device.kick(0)
    run(rig)
    assert rig.device.status & NEEDS_RESET
    assert split_hints(rig, queue) == hints


@pytest.mark.parametrize(("profile", "hint"), [(Profile.QEMU, 0), (Profile.STRICT, WRAP | DESC << 16)])
def test_without_ioeventfd_nothing_is_asked_for_before_a_notification(profile: Profile, hint: int) -> None:
    rig = blk(profile=profile, packed=True)
    rig.device.ioeventfd = False
    anew(rig)
    queue = rig.device.queues[0]
    assert int.from_bytes(rig.device.memory.read(queue.device, 4), "little") == hint
    rig.start(FLUSH)
    rig.driver.expose()
    rig.device.kick(0)
    run(rig)
    assert words(rig, queue.device, 2) == (2 | WRAP, DESC)


@pytest.mark.parametrize("profile", PROFILES)
def test_with_ioeventfd_the_first_descriptor_is_asked_for(profile: Profile) -> None:
    rig = blk(profile=profile, packed=True)
    assert words(rig, rig.device.queues[0].device, 2) == (WRAP, DESC)


@pytest.mark.parametrize(
    ("profile", "ioeventfd", "done"),
    [
        (Profile.QEMU, False, False),
        (Profile.QEMU, True, True),
        (Profile.STRICT, False, True),
        (Profile.STRICT, True, True),
    ],
)
def test_driver_ok_tells_of_what_is_in_a_ring_already(profile: Profile, ioeventfd: bool, done: bool) -> None:
    rig = blk(profile=profile)
    rig.device.ioeventfd = ioeventfd
    sent = anew(rig, early=True)
    assert sent is not None
    assert (sent.length is not None) is done
    rig.device.kick(0)
    rig.settle()
    assert rig.answer(sent).status == OK


@pytest.mark.parametrize(
    ("profile", "flags"), [(Profile.QEMU, (7, 0)), (Profile.STRICT, (0, 0))], ids=["QEMU's", "ours"]
)
def test_without_event_idx_the_offset_of_a_packed_ring_is_nobodys(
    profile: Profile, flags: tuple[int, int]
) -> None:
    rig = blk(profile=profile, packed=True, without=EVENT_IDX)
    queue = rig.device.queues[0]
    rig.device.memory.write(queue.device, struct.pack("<HH", 7, DISABLE))
    rig.start(FLUSH)
    rig.driver.expose()
    rig.device.kick(0)
    run(rig)
    assert words(rig, queue.device, 2) == flags


@pytest.mark.parametrize("number", [CONTROL, EVENTS])
@pytest.mark.parametrize(
    ("profile", "asked"), [(Profile.QEMU, False), (Profile.STRICT, True)], ids=["QEMU's", "ours"]
)
def test_control_and_event_queue_ask_for_nothing_where_they_are_packed(
    profile: Profile, asked: bool, number: int
) -> None:
    rig = scsi(profile=profile, packed=True)
    queue = rig.device.queues[number]
    rig.device.memory.write(queue.device, b"\xee" * 4)
    if number == CONTROL:
        rig.place(CONTROL, rig.readable(QUERY_TASK), rig.writable(1))
        rig.drivers[CONTROL].expose()
        rig.device.kick(CONTROL)
        run(rig)
    else:
        rig.plug(5, 0)
    hint = (2 | WRAP, DESC) if number == CONTROL else (WRAP, DESC)
    assert words(rig, queue.device, 2) == (hint if asked else (0xEEEE, 0xEEEE))


@pytest.mark.parametrize(("profile", "hint"), [(Profile.QEMU, 1), (Profile.STRICT, 0)])
def test_the_event_queue_asks_for_the_buffer_after_the_one_it_has_taken(profile: Profile, hint: int) -> None:
    rig = scsi(profile=profile)
    queue = rig.device.queues[EVENTS]
    rig.offer_events(2)
    assert split_hints(rig, queue) == (0, 0)
    rig.plug(5, 0)
    assert split_hints(rig, queue) == (0, hint)


@pytest.mark.parametrize(("without", "hints"), [(0, (0, 2)), (EVENT_IDX, (0, 0))], ids=["event_idx", "flags"])
def test_the_control_queue_of_a_device_that_needs_a_reset(without: int, hints: tuple[int, int]) -> None:
    """Its last chain was taken, too, before it was seen that it is none; the one after it was not."""
    rig = scsi(profile=Profile.QEMU, without=without)
    queue = rig.device.queues[CONTROL]
    for _ in range(2):
        broken = rig.place(CONTROL, rig.readable(QUERY_TASK), rig.writable(1))
    rig.drivers[CONTROL].expose()
    entry = queue.desc + 16 * words(rig, queue.driver + 6, 1)[0]
    rig.device.memory.write(entry + 12, struct.pack("<HH", 1, queue.size))
    rig.place(CONTROL, rig.readable(QUERY_TASK), rig.writable(1))
    rig.drivers[CONTROL].expose()
    rig.device.kick(CONTROL)
    run(rig)
    assert rig.device.status & NEEDS_RESET
    assert broken.length is None
    assert split_hints(rig, queue) == hints
