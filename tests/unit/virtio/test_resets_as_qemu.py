"""Requests under way when a device, or a queue of it, is reset, under profile `qemu` (VIRTIO 1.4 §2.4, §2.6.1).

QEMU 7.2's device waits for them before it resets itself, and resets a queue without a look at them.
"""

from __future__ import annotations

import pytest

from devmodels.conformance import Profile
from devmodels.iocontext import Event
from tests.unit.virtio.blkrig import IN, OK, OUT, BlkRig, blk
from tests.unit.virtio.model import EVENT_IDX
from tests.unit.virtio.scsirig import REQUEST, TEST_UNIT_READY, ScsiRig, lun_of, read_10, scsi

UNTOUCHED = b"\xee"
S_OK, S_RESET = 0, 4
PROFILES = [Profile.QEMU, Profile.STRICT]
FORMS = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])


def run(rig: BlkRig | ScsiRig) -> None:
    """Let everything run, and look at nothing that comes back."""
    while rig.device.context.turn():
        pass


def command_held(
    profile: Profile, *, packed: bool = False
) -> tuple[ScsiRig, Event, bytes, list[tuple[int, int]]]:
    """A reading command at the disk, what lets it go, what the disk has, and where the command may write."""
    rig = scsi(profile=profile, packed=packed, without=EVENT_IDX)
    # There is a unit attention condition first.
    rig.start(TEST_UNIT_READY)
    rig.drivers[REQUEST].expose()
    rig.device.kick(REQUEST)
    run(rig)
    disk = rig.disks[0, 0]
    gate = disk.gate = Event(rig.device.context)
    sent = rig.start(read_10(0, 1), room=512, lun=lun_of())
    rig.drivers[REQUEST].expose()
    rig.device.kick(REQUEST)
    run(rig)
    rig.notifications.used.clear()
    return rig, gate, bytes(disk.data[:512]), list(sent.writable)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_command_that_is_under_way_at_a_reset_is_told_of_it(profile: Profile) -> None:
    rig, gate, data, writable = command_held(profile)
    queue = rig.device.queues[REQUEST]
    index = queue.device + 2
    before = rig.device.memory.read(index, 2)
    rig.device.write_status(0)
    run(rig)
    gate.set()
    run(rig)
    told = profile is Profile.QEMU
    assert rig.device.status == 0
    assert (rig.device.memory.read(index, 2) != before) is told
    content = rig.content(writable)
    assert (content[11] == S_RESET) is told
    assert content[108:] == data
    assert rig.notifications.used == [REQUEST] * told


@FORMS
@pytest.mark.parametrize("profile", PROFILES)
def test_a_command_whose_queue_is_reset_is_done(profile: Profile, packed: bool) -> None:
    rig, gate, data, writable = command_held(profile, packed=packed)
    queue = rig.device.queues[REQUEST]
    used = rig.device.memory.read(queue.device, 16)
    rig.device.reset_queue(queue)
    gate.set()
    run(rig)
    done = profile is Profile.QEMU
    assert (queue.resetting, queue.enabled, dict(queue.in_flight)) == (False, False, {})
    content = rig.content(writable)
    assert (content[11] == S_OK and content[108:] == data) is done
    assert rig.device.memory.read(queue.device or 0x1000, 16) == used or queue.device == 0
    assert rig.notifications.used == [REQUEST] * (done and not packed)


@FORMS
@pytest.mark.parametrize("profile", PROFILES)
def test_a_request_whose_queue_is_reset_is_done(profile: Profile, packed: bool) -> None:
    rig = blk(profile=profile, packed=packed)
    queue = rig.device.queues[0]
    gate = rig.disk.gate = Event(rig.device.context)
    read, write = rig.start(IN, 0, room=512), rig.start(OUT, 8, b"\x5a" * 512)
    rig.driver.expose()
    rig.device.kick(0)
    run(rig)
    rig.notifications.used.clear()
    used = queue.device
    before = rig.device.memory.read(used, 16)
    rig.device.reset_queue(queue)
    assert queue.resetting
    gate.set()
    run(rig)
    done = profile is Profile.QEMU
    assert (queue.resetting, dict(queue.in_flight)) == (False, {})
    assert rig.device.memory.read(used, 16) == before
    assert (rig.content(read.writable) == bytes(rig.disk.data[:512]) + bytes([OK])) is done
    assert (rig.content(write.writable) == bytes([OK])) is done
    assert rig.disk.data[8 * 512 : 9 * 512] == b"\x5a" * 512
    assert rig.notifications.used == [0] * (done and not packed)
