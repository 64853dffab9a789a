"""A virtio block device, and a function, under profile `qemu`: what QEMU 7.2's do otherwise than VIRTIO 1.4 says."""

from __future__ import annotations

import errno
import struct

import pytest

from devmodels.blockbackend.errorpolicy import ErrorPolicy
from devmodels.blockbackend.request import Op
from devmodels.conformance import Profile
from devmodels.virtio_blk.layout import BlkFeature
from tests.unit.virtio.blkrig import DISCARD, FLUSH, GET_ID, IN, BlkRig, blk, header, segment
from tests.unit.virtio.model import VERSION_1, DriverRing, Form
from tests.unit.virtio.pcirig import PciRig
from tests.unit.virtio.scsirig import (
    CHECK_CONDITION,
    GOOD,
    INQUIRY,
    REQUEST,
    S_FAILURE,
    TEST_UNIT_READY,
    read_10,
    scsi,
    write_10,
)

OK, IOERR, UNSUPP = 0, 1, 2
NEEDS_RESET = 0x40
NOWHERE = 1 << 40
UNTOUCHED = b"\xee"
BARRIER = 1 << 31


@pytest.fixture
def rig() -> BlkRig:
    return blk(profile=Profile.QEMU)


def test_behind_an_identifier_nothing_is_written_and_everything_counted(rig: BlkRig) -> None:
    answer = rig.send(GET_ID, room=64)
    assert (answer.status, answer.length) == (OK, 65)
    assert answer.data[20:] == UNTOUCHED * 44


@pytest.mark.parametrize("kind", [GET_ID | 1, GET_ID | BARRIER])
def test_bits_0_and_31_of_a_type_are_not_looked_at(rig: BlkRig, kind: int) -> None:
    assert rig.send(kind, room=20) == rig.send(GET_ID, room=20)
    assert rig.send(FLUSH | 1).status == OK
    assert rig.send(IN | BARRIER, room=512) == rig.send(IN, room=512)


def test_what_was_refused_or_has_failed_has_written_nothing(rig: BlkRig) -> None:
    answer = rig.send(99, room=512)
    assert (answer.status, answer.length, answer.data) == (UNSUPP, 513, UNTOUCHED * 512)
    rig.disk.fail[Op.READ] = errno.EIO
    answer = rig.send(IN, room=512)
    assert (answer.status, answer.length, answer.data) == (IOERR, 513, UNTOUCHED * 512)


@pytest.mark.parametrize(("profile", "writeback"), [(Profile.QEMU, True), (Profile.STRICT, False)])
def test_config_wce_without_flush_leaves_the_mode(profile: Profile, writeback: bool) -> None:
    rig = blk(profile=profile, without=1 << BlkFeature.VIRTIO_BLK_F_FLUSH)
    assert rig.backend.write_cache is writeback


@pytest.mark.parametrize(("profile", "status"), [(Profile.QEMU, 1), (Profile.STRICT, 0)])
def test_the_queue_bit_of_isr_is_set_with_msix_too(profile: Profile, status: int) -> None:
    rig = PciRig(profile=profile)
    rig.map_bars()
    rig.enable_msix()
    rig.function.notify_used(0)
    assert rig.isr() == status


@pytest.mark.parametrize(
    ("profile", "offered"), [(Profile.QEMU, 0), (Profile.STRICT, 1 << 6 | 1 << 7 | 1 << 11)]
)
def test_what_qemu_has_not_is_not_offered(profile: Profile, offered: int) -> None:
    rig = PciRig(profile=profile)
    assert rig.device.device_features >> 32 & (1 << 6 | 1 << 7 | 1 << 11) == offered


def test_a_used_descriptor_of_a_packed_ring_does_not_say_that_something_was_written() -> None:
    rig = blk(profile=Profile.QEMU, packed=True)
    with pytest.raises(AssertionError, match="WRITE says whether anything was written"):
        rig.send(GET_ID, room=20)
    length, flags = struct.unpack("<IxxH", rig.device.memory.read(rig.device.queues[0].desc + 8, 8))
    assert (length, flags & 2) == (21, 0)


@pytest.mark.parametrize(("profile", "residual"), [(Profile.QEMU, 0), (Profile.STRICT, 512)])
def test_what_a_failed_command_has_left_undone_is_not_said(profile: Profile, residual: int) -> None:
    rig = scsi(profile=profile)
    rig.ready()
    answer = rig.send(read_10(1 << 30, 1), room=512)
    assert (answer.status, answer.residual) == (CHECK_CONDITION, residual)


@pytest.mark.parametrize(
    ("cdb", "data", "room", "strict", "qemu"),
    [
        (read_10(0, 1), b"", 4096, 3584, 0xFFFF_F200),
        (write_10(0, 1), bytes(2048), 0, 1536, 0xFFFF_FA00),
        (TEST_UNIT_READY, b"", 10, 10, 0),
        (INQUIRY, b"", 96, 60, 60),
    ],
    ids=["READ (10)", "WRITE (10)", "TEST UNIT READY", "INQUIRY"],
)
def test_the_residual_of_a_good_command(cdb: bytes, data: bytes, room: int, strict: int, qemu: int) -> None:
    for profile, residual in (Profile.STRICT, strict), (Profile.QEMU, qemu):
        rig = scsi(profile=profile)
        rig.ready()
        answer = rig.send(cdb, data, room)
        assert (answer.status, answer.residual) == (GOOD, residual)


@pytest.mark.parametrize(("profile", "length"), [(Profile.QEMU, 108 + 512), (Profile.STRICT, 108)])
def test_what_was_read_counts_as_used(profile: Profile, length: int) -> None:
    rig = scsi(profile=profile)
    rig.ready()
    assert rig.send(write_10(0, 1), bytes(512)).length == length


@pytest.mark.parametrize(("profile", "length"), [(Profile.QEMU, 108 + 512), (Profile.STRICT, 108)])
def test_room_for_data_that_did_not_come_counts_as_used(profile: Profile, length: int) -> None:
    rig = scsi(profile=profile)
    rig.ready()
    assert rig.send(read_10(1 << 30, 1), room=512).length == length


@pytest.mark.parametrize(("profile", "length"), [(Profile.QEMU, 108), (Profile.STRICT, 108)])
def test_the_rest_of_the_first_piece_is_no_data(profile: Profile, length: int) -> None:
    rig = scsi(profile=profile)
    rig.ready()
    assert rig.send(TEST_UNIT_READY, b"\0", cuts=((52,), (108,))).length == length


@pytest.mark.parametrize(("profile", "needs_reset"), [(Profile.QEMU, True), (Profile.STRICT, False)])
def test_a_command_without_its_header(profile: Profile, needs_reset: bool) -> None:
    rig = scsi(profile=profile)
    sent = rig.place(REQUEST, (), rig.writable(108))
    rig.go()
    assert bool(rig.device.status & NEEDS_RESET) is needs_reset
    assert (sent.length is None) is needs_reset
    assert needs_reset or rig.answer(sent).response == S_FAILURE


@pytest.mark.parametrize(("profile", "rest"), [(Profile.QEMU, UNTOUCHED), (Profile.STRICT, b"\0")])
@pytest.mark.parametrize("lba", [0, 1 << 30], ids=["a good one", "one that fails"])
def test_behind_the_sense_data_of_a_command(profile: Profile, rest: bytes, lba: int) -> None:
    rig = scsi(profile=profile)
    rig.ready()
    assert set(rig.send(read_10(lba, 1), room=512).padding) == set(rest)


def small_steps(profile: Profile, *statuses: int, accepted: int = 0) -> PciRig:
    """A driver that writes each of `statuses`, accepts those features after the first, and enables queue 0 last."""
    rig = PciRig(profile=profile)
    rig.map_bars()
    rig.features = accepted
    first, *others = statuses
    rig.set("device_status", first)
    if accepted:
        for select in (0, 1):
            rig.set("driver_feature_select", select)
            rig.set("driver_feature", accepted >> 32 * select & 0xFFFF_FFFF)
    for status in others:
        rig.set("device_status", status)
    rig.set_queue()
    return rig


@pytest.mark.parametrize(("profile", "status", "used"), [(Profile.QEMU, 0xF, 1), (Profile.STRICT, 3, 0)])
def test_a_driver_that_has_accepted_no_features_is_served(profile: Profile, status: int, used: int) -> None:
    rig = small_steps(profile, 3, 0xF)
    rig.expose()
    rig.notify(0)
    assert (rig.get("device_status"), rig.used()) == (status, used)


@pytest.mark.parametrize(("profile", "used"), [(Profile.QEMU, 1), (Profile.STRICT, 0)])
@pytest.mark.parametrize("statuses", [(3, 0xB), (3, 7)], ids=["FEATURES_OK alone", "DRIVER_OK alone"])
def test_queues_run_from_when_they_are_enabled_on(
    profile: Profile, used: int, statuses: tuple[int, ...]
) -> None:
    rig = small_steps(profile, *statuses, accepted=VERSION_1)
    rig.expose()
    rig.device.idle()
    assert rig.used() == 0
    rig.notify(0)
    assert rig.used() == used


@pytest.mark.parametrize(("accepted", "status"), [(0, 0xF), (VERSION_1, 0x4F)])
def test_a_driver_without_version_1_is_not_told_that_a_reset_is_needed(accepted: int, status: int) -> None:
    rig = small_steps(Profile.QEMU, 3, 0xF, accepted=accepted)
    rig.device.needs_reset()
    rig.expose()
    rig.notify(0)
    assert (rig.get("device_status"), rig.used()) == (status, 0)
    rig.set("device_status", 0)
    assert rig.get("device_status") == 0


@pytest.mark.parametrize(("profile", "shown"), [(Profile.QEMU, 1), (Profile.STRICT, 0)])
def test_accepted_features_are_still_shown_after_a_reset(profile: Profile, shown: int) -> None:
    rig = PciRig(profile=profile)
    rig.map_bars()
    rig.negotiate()
    rig.set("device_status", 0)
    rig.device.idle()
    rig.set("driver_feature_select", 1)
    assert (rig.get("driver_feature"), rig.device.driver_features) == (shown, 0)


def test_features_that_are_not_offered_are_taken_and_do_nothing() -> None:
    rig = small_steps(Profile.QEMU, 3, 0xF, accepted=VERSION_1 | 1 << 23)
    assert (rig.get("device_status"), rig.device.driver_features) == (0xF, VERSION_1)


@pytest.mark.parametrize(("profile", "length"), [(Profile.QEMU, 1), (Profile.STRICT, 0)])
def test_a_status_byte_outside_memory_is_counted(profile: Profile, length: int) -> None:
    rig = blk(profile=profile)
    sent = rig.place(rig.readable(header(FLUSH), (16,)), [(NOWHERE, 1)])
    rig.go()
    assert sent.length == length


@pytest.mark.parametrize(("profile", "status"), [(Profile.QEMU, IOERR), (Profile.STRICT, UNSUPP)])
def test_where_a_segment_lies_comes_before_its_flags(profile: Profile, status: int) -> None:
    rig = blk(profile=profile)
    assert rig.send(DISCARD, 0, segment(NOWHERE, 1, 2)).status == status
    assert rig.send(DISCARD, 0, segment(0, 1, 2)).status == UNSUPP


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
@pytest.mark.parametrize(("profile", "done"), [(Profile.QEMU, [Op.FLUSH]), (Profile.STRICT, [])])
def test_next_of_a_descriptor_with_a_table_says_nothing(
    profile: Profile, done: list[Op], packed: bool
) -> None:
    rig = blk(profile=profile, packed=packed)
    rig.place(rig.readable(header(FLUSH), (16,)), rig.writable(1, (0,)), Form.INDIRECT)
    rig.driver.expose()
    memory, flags = rig.device.memory, rig.device.queues[0].desc + (14 if packed else 12)
    memory.write_byte(flags, memory.read(flags, 1)[0] | 1)
    rig.device.kick(0)
    while rig.device.context.turn():
        pass
    assert rig.used_operations == done
    assert bool(rig.device.status & 0x40) is not bool(done)


def unframed(rig: BlkRig, readable: int, room: int) -> None:
    """A buffer that is no request."""
    rig.place(rig.readable(bytes(readable), (readable,)), rig.writable(room, (0,)) if room else [])


@pytest.mark.parametrize(("readable", "room"), [(16, 0), (0, 513), (15, 1)])
@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_a_buffer_without_header_or_status_needs_a_reset(readable: int, room: int, packed: bool) -> None:
    for profile, broken in ((Profile.QEMU, True), (Profile.STRICT, False)):
        rig = blk(profile=profile, packed=packed)
        unframed(rig, readable, room)
        (sent,) = rig.sent
        rig.go()
        assert (sent.length is None, bool(rig.device.status & 0x40)) == (broken, broken)


def test_what_waits_for_the_disk_when_the_ring_breaks_is_done_and_not_told_of() -> None:
    rig = blk(profile=Profile.QEMU)
    identity, read = rig.start(GET_ID, room=20), rig.start(IN, room=512)
    unframed(rig, 16, 0)
    after = rig.start(IN, room=512)
    rig.go()
    assert rig.device.status & 0x40
    assert (identity.length, read.length, after.length) == (21, None, None)
    assert rig.content(read.writable) == rig.disk.data[:512] + bytes([OK])
    assert rig.content(after.writable) == UNTOUCHED * 513
    assert rig.used_operations == [Op.READ]
    rig.device.write_status(0)
    rig.settle()
    assert rig.device.status == 0


@pytest.mark.parametrize("running", [False, True])
def test_what_lies_in_a_ring_that_is_enabled_waits_for_a_notification(running: bool) -> None:
    rig = PciRig(profile=Profile.QEMU)
    rig.map_bars()
    rig.negotiate()
    if running:
        rig.go()
    rig.driver = DriverRing(rig.plain, rig.size, rig.parts, rig.features)
    rig.expose()
    rig.enable_queue()
    assert rig.used() == 0
    rig.notify(0)
    assert rig.used() == 1


@pytest.mark.parametrize("select", [2, 3, 7, 0xFFFF_FFFF])
def test_there_are_two_words_of_features(select: int) -> None:
    rig = PciRig(profile=Profile.QEMU)
    rig.map_bars()
    for status in (1, 3):
        rig.set("device_status", status)
    rig.set("driver_feature_select", select)
    rig.set("driver_feature", 0xFFFF_FFFF)
    assert rig.device.features_written == 0
    rig.set("driver_feature_select", 1)
    rig.set("driver_feature", 1)
    rig.set("device_status", 11)
    assert (rig.get("device_status"), rig.device.driver_features) == (11, VERSION_1)


def run(rig: BlkRig) -> None:
    """Expose what was placed, notify and let everything run, but look at nothing that comes back."""
    rig.driver.expose()
    rig.device.kick(0)
    while rig.device.context.turn():
        pass


def test_an_empty_part_of_a_buffer_needs_a_reset() -> None:
    rig = blk(profile=Profile.QEMU)
    readable = rig.readable(header(FLUSH), (16,))
    rig.place([*readable, (0x1000, 0)], rig.writable(1, (0,)))
    rig.go()
    assert rig.device.status & 0x40


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
@pytest.mark.parametrize(("profile", "done"), [(Profile.QEMU, [Op.FLUSH]), (Profile.STRICT, [])])
def test_a_table_is_followed_that_was_not_negotiated(profile: Profile, done: list[Op], packed: bool) -> None:
    rig = blk(profile=profile, packed=packed, without=1 << 28)
    rig.place(rig.readable(header(FLUSH), (16,)), rig.writable(1, (0,)), Form.INDIRECT)
    run(rig)
    assert rig.used_operations == done


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
@pytest.mark.parametrize(("profile", "done"), [(Profile.QEMU, [Op.FLUSH]), (Profile.STRICT, [])])
def test_a_later_descriptor_that_is_indirect_is_data(profile: Profile, done: list[Op], packed: bool) -> None:
    rig = blk(profile=profile, packed=packed)
    rig.place(rig.readable(header(FLUSH) + bytes(16), (16,)), rig.writable(1, (0,)))
    rig.driver.expose()
    memory, flags = rig.device.memory, rig.device.queues[0].desc + 16 + (14 if packed else 12)
    memory.write_byte(flags, memory.read(flags, 1)[0] | 4)
    rig.device.kick(0)
    while rig.device.context.turn():
        pass
    assert rig.used_operations == done


@pytest.mark.parametrize(("profile", "held"), [(Profile.QEMU, UNTOUCHED), (Profile.STRICT, b"\0")])
def test_a_read_whose_error_is_ignored_leaves_its_buffer(profile: Profile, held: bytes) -> None:
    rig = blk(profile=profile)
    rig.backend.error_policy = ErrorPolicy("ignore", "ignore")
    rig.disk.fail[Op.READ] = errno.EIO
    answer = rig.send(IN, room=512)
    assert (answer.status, answer.length, answer.data) == (OK, 513, held * 512)


@pytest.mark.parametrize(("profile", "told"), [(Profile.QEMU, 1), (Profile.STRICT, 0)])
@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_of_the_first_used_buffer_the_driver_is_told_whatever_it_wishes(
    profile: Profile, told: int, packed: bool
) -> None:
    rig = blk(profile=profile, packed=packed)
    queue = rig.device.queues[0]
    if packed:
        rig.device.memory.write(queue.driver, struct.pack("<HH", 40 | 1 << 15, 2))
    else:
        rig.device.memory.write(queue.driver + 4 + 2 * queue.size, struct.pack("<H", 40))
    for _ in range(3):
        rig.start(FLUSH)
        run(rig)
    assert rig.used_operations == [Op.FLUSH] * 3
    assert len(rig.notifications.used) == told


@pytest.mark.parametrize(("profile", "ident"), [(Profile.QEMU, 7), (Profile.STRICT, 9)])
def test_a_buffer_of_a_packed_ring_has_the_id_of_its_first_or_last_descriptor(
    profile: Profile, ident: int
) -> None:
    rig = blk(profile=profile, packed=True)
    rig.start(IN, room=512)
    rig.driver.expose()
    memory, desc = rig.device.memory, rig.device.queues[0].desc
    for number, value in enumerate((7, 8, 9)):
        memory.write(desc + 16 * number + 12, struct.pack("<H", value))
    rig.device.kick(0)
    while rig.device.context.turn():
        pass
    assert struct.unpack("<IH", memory.read(desc + 8, 6)) == (513, ident)


@pytest.mark.parametrize(("profile", "early"), [(Profile.QEMU, True), (Profile.STRICT, False)])
def test_the_write_cache_mode_follows_from_the_features_with_driver_ok(profile: Profile, early: bool) -> None:
    """§5.2.5.1 has it from FEATURES_OK on."""
    rig = blk(profile=profile)
    device = rig.device
    device.write_status(0)
    device.write_status(3)
    device.write_features(VERSION_1 >> 32, select=1)
    device.write_features(0, select=0)
    device.write_status(11)
    assert rig.backend.write_cache is early
    device.write_status(15)
    assert rig.backend.write_cache is False
