"""virtio-blk's features, configuration space and write-cache mode, VIRTIO 1.4 §5.2.3 to §5.2.5."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from devmodels.blockbackend.request import Flags, Op
from devmodels.iocontext import Coro
from devmodels.virtio_blk import VirtioBlkOptions
from devmodels.virtio_blk.config import Lifetime
from tests.unit.virtio.blkrig import (
    F_BLK_SIZE,
    F_CONFIG_WCE,
    F_DISCARD,
    F_FLUSH,
    F_LIFETIME,
    F_MQ,
    F_RO,
    F_SECURE_ERASE,
    F_SEG_MAX,
    F_SIZE_MAX,
    F_WRITE_ZEROES,
    FLUSH,
    IN,
    IOERR,
    OK,
    OUT,
    WRITE_ZEROES,
    BlkRig,
    blk,
    bring_up,
    segment,
)
from tests.unit.virtio.dut import RUNNING
from tests.unit.virtio.model import EVENT_IDX, IN_ORDER, INDIRECT_DESC, RING_RESET, VERSION_1, DriverRing

FIELDS = {
    "capacity": "Q",
    "size_max": "I",
    "seg_max": "I",
    "cylinders": "H",
    "heads": "B",
    "sectors": "B",
    "blk_size": "I",
    "physical_block_exp": "B",
    "alignment_offset": "B",
    "min_io_size": "H",
    "opt_io_size": "I",
    "writeback": "Bx",
    "num_queues": "H",
    "max_discard_sectors": "I",
    "max_discard_seg": "I",
    "discard_sector_alignment": "I",
    "max_write_zeroes_sectors": "I",
    "max_write_zeroes_seg": "I",
    "write_zeroes_may_unmap": "B3x",
    "max_secure_erase_sectors": "I",
    "max_secure_erase_seg": "I",
    "secure_erase_sector_alignment": "I",
}
"""struct virtio_blk_config up to the secure-erase fields."""
LAYOUT = struct.Struct("<" + "".join(FIELDS.values()))

WRITEBACK = 32
WCE = 1 << F_CONFIG_WCE
CACHE = 1 << F_FLUSH
Change = Callable[[BlkRig], None]


def config(r: BlkRig) -> dict[str, int]:
    """Every field, read byte by byte as the transport offers it."""
    raw = bytes(r.device.load_config(at, 1) for at in range(LAYOUT.size))
    return dict(zip(FIELDS, LAYOUT.unpack(raw), strict=True))


def run(r: BlkRig, coro: Coro[None]) -> None:
    r.device.context.run(coro)
    r.settle()


# --- configuration space


def test_the_fields_in_their_places() -> None:
    options: dict[str, object] = {
        "num_queues": 3,
        "logical_block_size": 1024,
        "physical_block_size": 8192,
        "min_io_size": 4096,
        "opt_io_size": 65536,
        "alignment_offset": 1024,
        "discard_granularity": 4096,
        "cyls": 100,
        "heads": 7,
        "secs": 17,
        "size_max": 0x1_2340,
        "seg_max": 77,
        "max_discard_sectors": 1001,
        "max_discard_seg": 11,
        "max_write_zeroes_sectors": 1002,
        "max_write_zeroes_seg": 12,
        "max_secure_erase_sectors": 1003,
        "max_secure_erase_seg": 13,
        "secure_erase": True,
    }
    assert config(blk(options=options)) == {
        "capacity": 512,
        "size_max": 0x1_2340,
        "seg_max": 77,
        "cylinders": 100,
        "heads": 7,
        "sectors": 17,
        "blk_size": 1024,
        "physical_block_exp": 3,
        "alignment_offset": 1,
        "min_io_size": 4,
        "opt_io_size": 64,
        "writeback": 1,
        "num_queues": 3,
        "max_discard_sectors": 1001,
        "max_discard_seg": 11,
        "discard_sector_alignment": 8,
        "max_write_zeroes_sectors": 1002,
        "max_write_zeroes_seg": 12,
        "write_zeroes_may_unmap": 1,
        "max_secure_erase_sectors": 1003,
        "max_secure_erase_seg": 13,
        "secure_erase_sector_alignment": 2,
    }


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_any_width_reads_the_same_bytes_and_zero_beyond(size: int) -> None:
    r = blk()
    whole = r.device.config_bytes() + bytes(64)
    for offset in range(0, LAYOUT.size + 32, size):
        expected = int.from_bytes(whole[offset : offset + size], "little")
        assert r.device.load_config(offset, size) == expected
    assert r.device.load_config(0xFFF, 8) == 0
    assert r.clauses == []


def test_padding_is_0() -> None:
    """§5.2.5.2: unused0 and unused1."""
    whole = blk(secure_erase=True).device.config_bytes()
    assert (whole[33], whole[57:60]) == (0, bytes(3))


def test_every_field_can_be_read_before_features_ok_but_writeback() -> None:
    """§2.5.2; §5.2.5.1: the driver must not read `writeback` before it has set FEATURES_OK."""
    r = blk()
    r.device.write_status(0)
    for offset in range(LAYOUT.size):
        if offset != WRITEBACK:
            r.device.load_config(offset, 1)
    assert r.clauses == []
    r.device.load_config(WRITEBACK, 1)
    r.device.load_config(WRITEBACK - 3, 4)
    assert r.clauses == ["VIRTIO 1.4 §5.2.5.1"] * 2


@pytest.mark.parametrize(("offset", "size"), [(0, 8), (0, 1), (31, 1), (32, 2), (32, 4), (33, 1), (200, 4)])
def test_nothing_but_writeback_can_be_written(offset: int, size: int) -> None:
    r = blk()
    before = r.device.config_bytes()
    r.device.write_config(offset, size, 0)
    assert r.device.config_bytes() == before
    assert r.clauses == ["VIRTIO 1.4 §5.2.4"]


@pytest.mark.parametrize(
    ("capacity", "cylinders"), [(16 * 63 * 5 + 7, 5), (16 * 63 * 20_000, 16383), (10, 0)]
)
def test_geometry_follows_the_capacity(capacity: int, cylinders: int) -> None:
    r = blk(512)
    r.disk.size = capacity * 512
    r.disk._resized(capacity * 512)
    found = config(r)
    assert (found["capacity"], found["cylinders"], found["heads"], found["sectors"]) == (
        capacity,
        cylinders,
        16,
        63,
    )


@pytest.mark.parametrize("can_unmap", [True, False])
def test_write_zeroes_may_unmap_where_it_can(can_unmap: bool) -> None:
    """§5.2.6.2: the field is cleared if and only if no sector can be deallocated."""
    r = blk()
    r.disk.unmaps = can_unmap
    r.disk._resized(r.disk.size)
    assert config(r)["write_zeroes_may_unmap"] == can_unmap
    assert r.notifications.config == (not can_unmap), "and the driver is told of another value"


@pytest.mark.parametrize("reserved", [{"pre_eol_info": 4}, {"device_lifetime_est_typ_a": 12}])
def test_values_of_a_lifetime_that_mean_nothing_are_refused(reserved: dict[str, int]) -> None:
    """§5.2.6.2"""
    with pytest.raises(ValueError, match="expected 0 to"):
        Lifetime(**reserved)


# --- features


def bits(features: int) -> set[int]:
    return {bit for bit in range(64) if features >> bit & 1}


def test_what_is_offered_by_default() -> None:
    offered = bits(blk().device.device_features)
    assert offered == {2, 4, 6, 9, 10, 11, 13, 14, 28, 29, 32, 38, 40, 43}


@pytest.mark.parametrize(
    ("options", "present", "absent"),
    [
        ({"size_max": 4096}, {F_SIZE_MAX}, set()),
        ({"num_queues": 2}, {F_MQ}, set()),
        ({"num_queues": 1}, set(), {F_MQ}),
        ({"flush": False}, set(), {F_FLUSH, F_CONFIG_WCE}),
        ({"config_wce": False}, {F_FLUSH}, {F_CONFIG_WCE}),
        ({"discard": False}, {F_WRITE_ZEROES}, {F_DISCARD}),
        ({"write_zeroes": False}, {F_DISCARD}, {F_WRITE_ZEROES}),
        ({"secure_erase": True}, {F_SECURE_ERASE}, set()),
        ({"lifetime": Lifetime()}, {F_LIFETIME}, set()),
        ({"in_order": True}, {35}, set()),
        ({"indirect_desc": False, "event_idx": False, "queue_reset": False}, {32}, {28, 29, 40}),
        ({}, {F_SEG_MAX, F_BLK_SIZE}, {F_RO, F_SECURE_ERASE, F_LIFETIME, F_SIZE_MAX}),
    ],
)
def test_options_switch_features(options: dict[str, object], present: set[int], absent: set[int]) -> None:
    offered = bits(blk(options=options).device.device_features)
    assert present <= offered
    assert not absent & offered


def test_fields_of_features_that_are_not_offered_are_zero() -> None:
    found = config(blk(discard=False, write_zeroes=False))
    zero = {name for name in FIELDS if name.startswith(("max_", "discard_", "write_zeroes", "secure_erase"))}
    assert {found[name] for name in zero | {"size_max"}} == {0}


@pytest.mark.parametrize(
    "dropped", [INDIRECT_DESC, EVENT_IDX, RING_RESET, 1 << F_MQ, WCE, CACHE | WCE, CACHE]
)
def test_any_subset_works(dropped: int) -> None:
    r = blk(num_queues=2, in_order=True, without=dropped)
    assert r.send(OUT, 0, b"x" * 512).status == OK
    assert r.send(IN, 0, room=512).data == b"x" * 512


def test_without_mq_there_is_one_queue() -> None:
    """§5.2.2"""
    r = blk(num_queues=4)
    assert r.device.usable_queues() == 4
    r = blk(num_queues=4, without=1 << F_MQ)
    assert r.device.usable_queues() == 1
    r.device.kick(1)
    assert len(r.clauses) == 1


def test_without_mq_another_queue_is_not_served_when_it_is_enabled() -> None:
    """§5.2.2: a chain that waits there is left alone, before DRIVER_OK and after it."""
    r = blk(num_queues=2, without=1 << F_MQ)
    other = r.device.queues[1]
    parts = tuple(address + 0x3F_0000 - r.driver.parts[0] for address in r.driver.parts)
    r.driver = DriverRing(r.plain, 8, (parts[0], parts[1], parts[2]), r.driver.features)
    other.size, other.desc, other.driver, other.device = 8, *parts
    sent = r.start(OUT, 9, b"x" * 512)
    r.driver.expose()
    r.device.enable_queue(other)
    r.device.pause()
    r.device.resume()
    r.settle()
    assert sent.length is None
    assert not r.disk.log


def test_in_order_is_kept_by_the_device() -> None:
    r = blk(in_order=True)
    assert r.driver.has(IN_ORDER)
    for sector in range(20):
        assert r.send(IN, sector, room=512).status == OK


# --- the write cache (§5.2.5.2, §5.2.6.2)


def stable(r: BlkRig) -> bool:
    """Whether a write completes only when it is on stable storage."""
    r.disk.log.clear()
    assert r.send(OUT, 0, b"y" * 512).status == OK
    return any(op is Op.FLUSH or bool(flags & Flags.FUA) for op, _, _, flags in r.disk.log)


@pytest.mark.parametrize("backend_cache", [True, False])
@pytest.mark.parametrize(
    ("negotiated", "first"),
    [(CACHE | WCE, None), (CACHE, None), (WCE, 0), (0, 0)],
    ids=["FLUSH and CONFIG_WCE", "FLUSH", "CONFIG_WCE", "neither"],
)
def test_the_mode_after_negotiation(negotiated: int, first: int | None, backend_cache: bool) -> None:
    """§5.2.5.2: CONFIG_WCE without FLUSH begins with 0; §5.2.6.2: with neither, every write is stable."""
    r = blk(features=negotiated, backend_cache=backend_cache)
    expected = int(backend_cache) if first is None else first
    assert config(r)["writeback"] == expected
    assert stable(r) is not bool(expected)


@pytest.mark.parametrize("negotiated", [CACHE | WCE, WCE])
def test_the_driver_switches_the_mode_at_run_time(negotiated: int) -> None:
    r = blk(features=negotiated)
    for value in (0, 1, 0, 1):
        r.device.write_config(WRITEBACK, 1, value)
        assert r.device.load_config(WRITEBACK, 1) == value
        assert stable(r) is not bool(value)
    assert r.clauses == []


def test_write_zeroes_is_a_write_too() -> None:
    r = blk()
    r.device.write_config(WRITEBACK, 1, 0)
    assert r.send(WRITE_ZEROES, 0, segment(0, 1)).status == OK
    assert any(op is Op.FLUSH or bool(flags & Flags.FUA) for op, _, _, flags in r.disk.log)


@pytest.mark.parametrize("value", [2, 255])
def test_other_modes_there_are_none(value: int) -> None:
    r = blk()
    r.device.write_config(WRITEBACK, 1, value)
    assert config(r)["writeback"] == 1
    assert r.clauses == ["VIRTIO 1.4 §5.2.6.1"]


def test_without_config_wce_the_mode_cannot_be_switched() -> None:
    r = blk(features=CACHE)
    r.device.write_config(WRITEBACK, 1, 0)
    assert not stable(r)
    assert r.clauses == ["VIRTIO 1.4 §5.2.6.1"]


@pytest.mark.parametrize("backend_cache", [True, False])
@pytest.mark.parametrize(("option", "mode"), [("on", True), ("off", False), ("auto", None)])
def test_the_option_decides_over_the_backend(option: str, mode: bool | None, backend_cache: bool) -> None:
    r = blk(backend_cache=backend_cache, write_cache=option)
    expected = backend_cache if mode is None else mode
    assert config(r)["writeback"] == expected
    assert r.backend.write_cache is expected


def test_a_reset_goes_back_to_the_configured_mode() -> None:
    r = blk()
    r.device.write_config(WRITEBACK, 1, 0)
    r.device.write_status(0)
    assert r.backend.write_cache
    bring_up(r, WCE | VERSION_1, r.driver.parts)
    assert not r.backend.write_cache
    r.device.write_status(0)
    assert r.backend.write_cache


def test_a_flush_that_was_not_negotiated_is_done_all_the_same() -> None:
    r = blk(features=0)
    assert r.send(FLUSH).status == OK
    assert r.clauses == ["VIRTIO 1.4 §5.2.6.1"]


# --- a change of size (§5.2.6.2)


def test_a_new_capacity_is_announced_and_seen() -> None:
    r = blk()
    before = r.device.config_generation
    run(r, r.backend.resize(1 << 20))
    assert r.notifications.config == 1
    assert config(r)["capacity"] == 2048
    assert r.device.config_generation != before
    assert r.send(IN, 2047, room=512).status == OK


def test_a_smaller_disk_ends_earlier() -> None:
    r = blk()
    run(r, r.backend.resize(512 * 100))
    assert config(r)["capacity"] == 100
    assert r.send(IN, 99, room=512).status == OK
    assert r.send(IN, 100, room=512).status == IOERR


def test_nobody_is_told_before_driver_ok() -> None:
    r = blk()
    r.device.write_status(0)
    run(r, r.backend.resize(1 << 20))
    assert r.notifications.config == 0
    assert config(r)["capacity"] == 2048


CHANGES: list[tuple[str, Change]] = [
    ("size", lambda r: run(r, r.backend.resize(1 << 20))),
    ("writeback by the driver", lambda r: r.device.write_config(WRITEBACK, 1, 0)),
    ("writeback by a reset", lambda r: r.device.write_status(0)),
]


@pytest.mark.parametrize("change", [each[1] for each in CHANGES], ids=[each[0] for each in CHANGES])
def test_each_change_of_a_field_moves_the_generation(change: Change) -> None:
    """§4.1.4.3.1"""
    r = blk(features=WCE | CACHE)
    if change is CHANGES[2][1]:
        r.device.write_config(WRITEBACK, 1, 0)
    r.device.load_config(0, 8)
    before = r.device.config_generation
    r.device.load_config(0, 8)
    assert r.device.config_generation == before
    change(r)
    r.device.load_config(0, 8)
    assert r.device.config_generation != before


def test_status_is_running() -> None:
    assert blk().device.status == RUNNING


# --- options


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_queues": 0},
        {"num_queues": 1025},
        {"queue_size": 2},
        {"queue_size": 100},
        {"queue_size": 65536},
        {"queue_size": 2, "packed": True},
        {"queue_size": 32769, "packed": True},
        {"logical_block_size": 256},
        {"logical_block_size": 1000},
        {"logical_block_size": 4096},
        {"min_io_size": 100},
        {"opt_io_size": -512},
        {"discard_granularity": 511},
        {"serial": "x" * 21},
        {"serial": "é" * 11},
        {"cyls": 65536},
        {"cyls": 1},
        {"cyls": 1, "heads": 1},
        {"secs": 63},
        {"size_max": -1},
        {"max_discard_seg": 0},
        {"max_write_zeroes_sectors": 1 << 32},
    ],
    ids=str,
)
def test_an_option_out_of_range_is_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r".+ (is|longer) .+"):
        VirtioBlkOptions(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "lengths",
    [
        {"alignment_offset": 512 << 8},
        {"alignment_offset": -512},
        {"alignment_offset": 100},
        {"min_io_size": 512 << 16},
        {"opt_io_size": 512 << 32},
        {"discard_granularity": 512 << 32},
        {"size_max": 1 << 32},
    ],
    ids=str,
)
def test_an_option_that_does_not_fit_its_field_is_refused(lengths: dict[str, int]) -> None:
    """Not an error in the middle of making the device."""
    with pytest.raises(ValueError, match="expected"):
        VirtioBlkOptions(**lengths)  # type: ignore[arg-type]
