"""Requests of a virtio block device under profile `qemu` that QEMU 7.2's answers, or counts, in its own way."""

from __future__ import annotations

import errno
import struct

import pytest

from devmodels.blockbackend.accounting import Kind
from devmodels.blockbackend.options import Discard
from devmodels.blockbackend.request import Op
from devmodels.conformance import Profile
from devmodels.iocontext import Event
from devmodels.virtio.pci import VirtioPci
from devmodels.virtio.pci_legacy import LegacyBar
from tests.unit.virtio.blkrig import (
    DISCARD,
    F_DISCARD,
    F_WRITE_ZEROES,
    FLUSH,
    IN,
    IOERR,
    OK,
    OUT,
    UNSUPP,
    WRITE_ZEROES,
    BlkRig,
    blk,
    header,
    segment,
)

UNTOUCHED = b"\xee"
PROFILES = [(Profile.QEMU, True), (Profile.STRICT, False)]


def with_discards(profile: Profile) -> BlkRig:
    """One that went well, one that was refused and one that has failed."""
    rig = blk(profile=profile)
    rig.backend.stats.set_histogram(Kind.UNMAP, [10])
    assert rig.send(DISCARD, 0, segment(0, 8)).status == OK
    assert rig.send(DISCARD, 0, segment(1 << 30, 8)).status == IOERR
    rig.disk.fail[Op.DISCARD] = errno.EIO
    assert rig.send(DISCARD, 0, segment(0, 8)).status == IOERR
    return rig


@pytest.mark.parametrize(("profile", "counted"), [(Profile.QEMU, 0), (Profile.STRICT, 1)])
def test_discards_are_not_counted(profile: Profile, counted: int) -> None:
    stats = with_discards(profile).backend.stats
    assert (stats.unmap_operations, stats.invalid_unmap_operations, stats.failed_unmap_operations) == (
        counted,
        counted,
        counted,
    )
    assert stats.unmap_bytes == 4096 * counted
    assert sum(stats.histograms[Kind.UNMAP].bins) == 2 * counted


@pytest.mark.parametrize(("profile", "idle"), PROFILES)
def test_discards_do_not_end_the_idle_time(profile: Profile, idle: bool) -> None:
    rig = with_discards(profile)
    assert (rig.backend.stats.last_access_ns is None) is idle
    assert rig.send(FLUSH).status == OK
    assert rig.backend.stats.last_access_ns is not None


RANGES = 1 << F_DISCARD | 1 << F_WRITE_ZEROES


@pytest.mark.parametrize(("profile", "offered"), [(Profile.QEMU, RANGES), (Profile.STRICT, 0)])
def test_a_read_only_drive_offers_ranges(profile: Profile, offered: int) -> None:
    rig = blk(profile=profile, read_only=True)
    assert rig.device.device_features & RANGES == offered


@pytest.mark.parametrize(("discard", "answer"), [("ignore", OK), ("unmap", IOERR)])
def test_ranges_of_a_read_only_drive_fail_but_a_discard_that_does_nothing(
    discard: Discard, answer: int
) -> None:
    rig = blk(profile=Profile.QEMU, read_only=True, node_discard=discard)
    assert rig.send(DISCARD, 0, segment(0, 8)).status == answer
    assert rig.send(DISCARD, 0, segment(1 << 30, 8)).status == IOERR
    assert rig.send(WRITE_ZEROES, 0, segment(0, 8)).status == IOERR
    assert rig.backend.stats.failed_wr_operations == 1
    assert rig.used_operations == []


@pytest.mark.parametrize(("profile", "failed"), [(Profile.QEMU, 1), (Profile.STRICT, 0)])
def test_a_write_to_a_read_only_drive_fails_there_or_is_refused(profile: Profile, failed: int) -> None:
    rig = blk(profile=profile, read_only=True)
    assert rig.send(OUT, 0, bytes(512)).status == IOERR
    stats = rig.backend.stats
    assert (stats.failed_wr_operations, stats.invalid_wr_operations) == (failed, 1 - failed)
    assert rig.clauses == ["VIRTIO 1.4 §5.2.6.2"]
    assert rig.used_operations == []


@pytest.mark.parametrize("kind", [DISCARD & ~1, WRITE_ZEROES & ~1])
def test_types_of_ranges_are_odd(kind: int) -> None:
    rig = blk(profile=Profile.QEMU)
    assert rig.send(kind, 0, segment(0, 8)).status == UNSUPP
    assert rig.used_operations == []


@pytest.mark.parametrize(("kind", "op"), [(DISCARD, Op.DISCARD), (WRITE_ZEROES, Op.WRITE_ZEROES)])
@pytest.mark.parametrize(("profile", "status"), [(Profile.QEMU, OK), (Profile.STRICT, UNSUPP)])
def test_ranges_are_served_that_were_not_negotiated(profile: Profile, status: int, kind: int, op: Op) -> None:
    rig = blk(profile=profile, without=RANGES)
    assert rig.send(kind, 0, segment(0, 8)).status == status
    assert rig.used_operations == ([op] if status == OK else [])


SCSI_COMMAND = 2
ERRORS = bytes.fromhex("ff 00 00 00")


@pytest.mark.parametrize("kind", [SCSI_COMMAND, SCSI_COMMAND | 1])
@pytest.mark.parametrize(
    "cuts",
    [((16,), ()), ((16,), (20,)), ((), (5, 10))],
    ids=["status", "and data", "no command"],
)
def test_a_scsi_command_that_lacks_a_part_is_an_error(
    kind: int, cuts: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    rig = blk(profile=Profile.QEMU)
    room = cuts[1][-1] if cuts[1] else 0
    answer = rig.send(kind, data=bytes(6 if cuts[0] else 0), room=room, cuts=cuts)
    assert (answer.status, answer.length) == (IOERR, room + 1)
    assert answer.data == UNTOUCHED * room


@pytest.mark.parametrize(
    ("profile", "status", "data"),
    [
        (Profile.QEMU, UNSUPP, UNTOUCHED * 40 + ERRORS + UNTOUCHED * 12),
        (Profile.STRICT, UNSUPP, bytes(56)),
    ],
)
def test_a_scsi_command_is_not_supported_and_its_in_header_says_so(
    profile: Profile, status: int, data: bytes
) -> None:
    rig = blk(profile=profile)
    answer = rig.send(SCSI_COMMAND, data=bytes(6), room=56, cuts=((16,), (40, 56)))
    assert (answer.status, answer.length, answer.data) == (status, 57, data)


def test_an_in_header_is_as_long_as_qemu_writes_it() -> None:
    rig = blk(profile=Profile.QEMU)
    rig.device.memory.write(0x3000, UNTOUCHED * 8)
    readable = rig.readable(header(SCSI_COMMAND) + bytes(6), (16,))
    status = rig.writable(1, (0,))
    rig.place(readable, [(0x2000, 20), (0x3000, 1), *status])
    rig.go()
    assert rig.device.memory.read(0x3000, 8) == ERRORS + UNTOUCHED * 4
    assert rig.content(status) == bytes([UNSUPP])


def test_an_in_header_outside_memory_is_left_alone() -> None:
    rig = blk(profile=Profile.QEMU)
    readable = rig.readable(header(SCSI_COMMAND) + bytes(6), (16,))
    status = rig.writable(1, (0,))
    rig.place(readable, [(0x2000, 20), (1 << 40, 20), *status])
    rig.go()
    assert rig.content(status) == bytes([UNSUPP])


@pytest.mark.parametrize(("profile", "size"), [(Profile.QEMU, 64), (Profile.STRICT, 128)])
def test_without_ranges_the_legacy_registers_are_shorter(profile: Profile, size: int) -> None:
    rig = blk(profile=profile, discard=False, write_zeroes=False)
    function = VirtioPci(rig.device, class_code=0x010000, name="vd0", legacy=True)
    assert function.bars[0].size == size


@pytest.mark.parametrize(("sectors", "cylinders"), [(16 * 63 * 5 + 7, 5), (10, 2), (16 * 63 * 9, 9)])
def test_the_geometry_stays_what_it_was_when_the_device_was_made(sectors: int, cylinders: int) -> None:
    rig = blk(sectors * 512, profile=Profile.QEMU)
    assert geometry(rig) == (cylinders, 16, 63)
    rig.disk.size = 512 * 16 * 63 * 20
    rig.disk._resized(rig.disk.size)
    assert geometry(rig) == (cylinders, 16, 63)


def test_sectors_of_a_track_are_whole_blocks_where_the_capacity_needs_it() -> None:
    rig = blk(1 << 20, profile=Profile.QEMU, logical_block_size=4096, physical_block_size=4096)
    assert geometry(rig) == (2, 16, 56)
    rig.disk.size = 16 * 63 * 4096
    rig.disk._resized(rig.disk.size)
    assert geometry(rig) == (2, 16, 63)


def test_a_geometry_that_was_given_is_shown() -> None:
    rig = blk(profile=Profile.QEMU, cyls=7, heads=5, secs=3)
    assert geometry(rig) == (7, 5, 3)


def geometry(rig: BlkRig) -> tuple[int, ...]:
    """Cylinders, heads, sectors."""
    return struct.unpack("<HBB", rig.device.config_bytes()[16:20])


@pytest.mark.parametrize(("profile", "length"), [(Profile.QEMU, None), (Profile.STRICT, 513)])
def test_without_bus_mastering_a_request_is_done_and_never_given_back(
    profile: Profile, length: int | None
) -> None:
    rig = blk(profile=profile)
    gate = rig.disk.gate = Event(rig.device.context)
    sent = rig.start(IN, room=512)
    rig.go()
    rig.device.pause()
    gate.set()
    rig.settle()
    rig.device.resume()
    rig.settle()
    assert (sent.length, rig.content(sent.writable)[-1]) == (length, OK)


def legacy(profile: Profile) -> tuple[VirtioPci, LegacyBar]:
    """A function with its legacy registers, which nobody has used yet."""
    rig = blk(profile=profile)
    rig.device.write_status(0)
    rig.settle()
    function = VirtioPci(rig.device, class_code=0x010000, name="vd0", legacy=True)
    assert function.legacy is not None
    return function, function.legacy


@pytest.mark.parametrize(("profile", "master"), [(Profile.QEMU, True), (Profile.STRICT, False)])
def test_an_old_driver_need_not_switch_bus_mastering_on(profile: Profile, master: bool) -> None:
    function, registers = legacy(profile)
    for status in (1, 3):
        assert not function.bus_master
        registers.write(STATUS, 1, status)
    assert function.bus_master is master
    assert function.config_read(4, 2) == 4 * master


@pytest.mark.parametrize(("profile", "status"), [(Profile.QEMU, 0), (Profile.STRICT, 7)])
def test_taking_a_ring_away_over_the_legacy_interface_resets_all(profile: Profile, status: int) -> None:
    _, registers = legacy(profile)
    registers.write(STATUS, 1, 3)
    registers.write(STATUS, 1, 7)
    registers.write(0x08, 4, 0)
    assert registers.read(STATUS, 1) == status


STATUS = 0x12


def flush_held(profile: Profile, **options: object) -> tuple[BlkRig, Event]:
    """A device whose first flush is held, and what lets it go; what comes after that is not held."""
    rig = blk(profile=profile, **options)  # type: ignore[arg-type]
    gate = rig.disk.gate = Event(rig.device.context)
    rig.start(FLUSH)
    rig.go()
    rig.disk.gate = None
    return rig, gate


@pytest.mark.parametrize(("profile", "waits"), PROFILES)
def test_a_flush_waits_for_the_one_that_is_under_way(profile: Profile, waits: bool) -> None:
    rig, gate = flush_held(profile)
    second, third = rig.start(FLUSH), rig.start(OUT, 0, bytes(512))
    rig.go()
    assert ((second.length is None), (third.length is None)) == (waits, False)
    gate.set()
    rig.settle()
    assert (second.length, rig.used_operations.count(Op.FLUSH)) == (1, 2)


@pytest.mark.parametrize(("profile", "waits"), PROFILES)
def test_a_write_through_the_cache_is_done_and_waits_for_a_flush(profile: Profile, waits: bool) -> None:
    rig, gate = flush_held(profile, backend_cache=False)
    assert not rig.backend.write_cache
    write = rig.start(OUT, 0, b"\x5a" * 512)
    rig.go()
    assert (write.length is None) is waits
    assert rig.disk.data[:512] == b"\x5a" * 512
    read = rig.send(IN, 0, room=512)
    assert read.data == b"\x5a" * 512
    gate.set()
    rig.settle()
    assert write.length == 1


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
@pytest.mark.parametrize("profile", [Profile.QEMU, Profile.STRICT])
def test_what_is_under_way_at_a_reset_is_done_and_given_back_before_it(
    profile: Profile, packed: bool
) -> None:
    """§2.4.1 has nothing given back after the reset has begun: ours keeps to that."""
    rig = blk(profile=profile, packed=packed)
    queue = rig.device.queues[0]
    device_area = queue.desc if packed else queue.device
    gate = rig.disk.gate = Event(rig.device.context)
    read = rig.start(IN, 0, room=512)
    rig.driver.expose()
    rig.device.kick(0)
    run(rig)
    before = rig.device.memory.read(device_area, 16)
    rig.notifications.used.clear()
    rig.device.write_status(0)
    run(rig)
    assert rig.device.status
    gate.set()
    run(rig)
    done = profile is Profile.QEMU
    assert rig.device.status == 0
    assert (rig.device.memory.read(device_area, 16) != before) is done
    assert (rig.content(read.writable) == rig.disk.data[:512] + bytes([OK])) is done
    assert rig.notifications.used == [0] * done
    assert not queue.in_flight


@pytest.mark.parametrize("profile", [Profile.QEMU, Profile.STRICT])
def test_what_a_stop_holds_back_is_dropped_by_a_reset(profile: Profile) -> None:
    rig = blk(profile=profile)
    rig.run_state.stop("paused")
    read = rig.start(IN, 0, room=512)
    rig.go()
    rig.device.write_status(0)
    rig.settle()
    assert rig.device.status == 0
    assert rig.content(read.writable) == UNTOUCHED * 513
    assert (read.length, rig.used_operations) == (None, [])


def run(rig: BlkRig) -> None:
    """Let everything run, and look at nothing that comes back."""
    while rig.device.context.turn():
        pass
