"""What a driver does, in messages: which, in what order, with what in them; and what comes back as interrupts."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from guestsim.drivers.layouts import Feature
from guestsim.drivers.transport import Interrupts
from guestsim.drivers.virtio import FeaturesRefusedError, NeedsResetError
from guestsim.drivers.virtio_blk import VirtioBlk
from guestsim.errors import GuestCheckError, GuestError
from guestsim.guest import Guest
from guestsim.targets.vhost_device import VhostTransport
from guestsim.targets.vhost_memory import VhostMemory
from guestsim.targets.vhost_messages import Protocol, Request
from guestsim.targets.vhost_user import VhostUserTarget

from .backends import CAPACITY, CONFIG, F_PROTOCOL, F_VERSION_1, HEADER, REPLY_ACK, Recorder, serving

ALL = sum(Protocol) & ~(Protocol.LOG_SHMFD | Protocol.INBAND_NOTIFICATIONS)
PACKED = 1 << Feature.RING_PACKED
F_MQ = 1 << 12


@contextmanager
def driving(
    folder: Path, back: Recorder, *, packed: bool = False
) -> Iterator[tuple[VirtioBlk, VhostUserTarget]]:
    with serving(folder / "s", back), VhostUserTarget({"vd0": str(folder / "s")}) as target:
        guest = Guest(target)
        yield VirtioBlk(guest, VhostTransport(guest, target, "vd0", queue_size=64, packed=packed)), target
        guest.close()
    back.close()


def state(payload: bytes) -> tuple[int, ...]:
    return struct.unpack("<II", payload)


def test_the_order_of_a_start(tmp_path: Path) -> None:
    back = Recorder()
    with driving(tmp_path, back) as (driver, target):
        driver.guest.run(driver.probe(indirect=False))
        (queue,) = driver.queues
        addresses = [target.memory.user(address, 1) for address in queue.addresses]
        requests = back.requests()
        assert driver.capacity == CAPACITY * 512
    assert requests == [
        Request.GET_FEATURES,
        Request.GET_PROTOCOL_FEATURES,
        Request.SET_PROTOCOL_FEATURES,
        Request.SET_OWNER,
        Request.GET_FEATURES,
        Request.SET_FEATURES,
        Request.SET_MEM_TABLE,
        Request.SET_VRING_NUM,
        Request.SET_VRING_BASE,
        Request.SET_VRING_ADDR,
        Request.SET_VRING_ERR,
        Request.SET_VRING_CALL,
        Request.SET_VRING_KICK,
        Request.SET_VRING_ENABLE,
    ]
    assert state(back.payload(Request.SET_VRING_NUM)) == (0, 64)
    assert state(back.payload(Request.SET_VRING_BASE)) == (0, 0)
    assert state(back.payload(Request.SET_VRING_ENABLE)) == (0, 1)
    index, flags, descriptor, used, available, _ = struct.unpack(
        "<IIQQQQ", back.payload(Request.SET_VRING_ADDR)
    )
    assert (index, flags) == (0, 0)
    assert [descriptor, available, used] == addresses


def test_memory_as_one_table_or_region_by_region(tmp_path: Path) -> None:
    expected = [(one.guest, one.size, one.user, one.offset) for one in VhostMemory(64 << 20).regions]
    for number, protocol in enumerate(
        (REPLY_ACK | CONFIG, REPLY_ACK | CONFIG | Protocol.CONFIGURE_MEM_SLOTS)
    ):
        back = Recorder(protocol=protocol)
        folder = tmp_path / str(number)
        folder.mkdir()
        with driving(folder, back) as (driver, _):
            driver.guest.run(driver.probe())
            driver.guest.run(driver.reset())
            driver.guest.run(driver.probe())
        tables = [(p, n) for request, p, n in back.record if request == Request.SET_MEM_TABLE]
        slots = [(p, n) for request, p, n in back.record if request == Request.ADD_MEM_REG]
        if protocol & Protocol.CONFIGURE_MEM_SLOTS:
            assert not tables
            assert [struct.unpack_from("<QQQQ", payload, 8) for payload, _ in slots] == expected
            assert [fds for _, fds in slots] == [1, 1]
        else:
            assert not slots
            ((payload, fds),) = tables
            assert fds == 2
            assert struct.unpack_from("<II", payload) == (2, 0)
            assert list(struct.iter_unpack("<QQQQ", payload[8:])) == expected


@pytest.mark.parametrize(
    ("protocol", "wanted", "unwanted"),
    [
        (0, (), (Request.SET_STATUS, Request.RESET_DEVICE)),
        (Protocol.RESET_DEVICE, (Request.RESET_DEVICE,), (Request.SET_STATUS,)),
        (Protocol.RESET_DEVICE | Protocol.STATUS, (Request.SET_STATUS,), (Request.RESET_DEVICE,)),
    ],
)
def test_a_reset(tmp_path: Path, protocol: int, wanted: tuple[int, ...], unwanted: tuple[int, ...]) -> None:
    back = Recorder(protocol=protocol | REPLY_ACK | CONFIG)
    with driving(tmp_path, back) as (driver, _):
        driver.guest.run(driver.probe())
        begun = len(back.record)
        driver.guest.run(driver.reset())
    requests = back.requests()[begun:]
    assert requests[:2] == [Request.SET_VRING_ENABLE, Request.GET_VRING_BASE]
    assert state(back.payload(Request.SET_VRING_ENABLE)) == (0, 0)
    assert [one in requests for one in wanted] == [True] * len(wanted)
    assert not any(one in requests for one in unwanted)


def test_a_back_end_of_the_plainest_kind(tmp_path: Path) -> None:
    """Without REPLY_ACK nothing is acknowledged."""
    back = Recorder(protocol=CONFIG)
    with driving(tmp_path, back) as (driver, _):
        driver.guest.run(driver.probe())
        driver.guest.run(driver.reset())
    assert Request.GET_VRING_BASE in back.requests()


def test_the_protocols_own_features_are_not_the_drivers(tmp_path: Path) -> None:
    own = 1 << 26 | F_PROTOCOL | 1 << Feature.NOTIFICATION_DATA | PACKED
    back = Recorder(features=own | F_VERSION_1 | F_MQ)
    with driving(tmp_path, back) as (driver, _):
        driver.guest.run(driver.probe(features={Feature.VERSION_1}))
        assert driver.device.offered == {Feature.VERSION_1, 12}
        assert driver.device.features == {Feature.VERSION_1}
        with pytest.raises(FeaturesRefusedError):
            driver.guest.run(driver.probe(force={Feature.RING_PACKED}))
        with pytest.raises(FeaturesRefusedError):
            driver.guest.run(driver.probe(force={127}))
    sent = struct.unpack("<Q", back.payload(Request.SET_FEATURES))[0]
    assert sent == F_VERSION_1 | F_PROTOCOL


@pytest.mark.parametrize("protocol", [0, Protocol.STATUS])
def test_a_refusal_of_features_shows_in_the_status(tmp_path: Path, protocol: int) -> None:
    back = Recorder(protocol=protocol | REPLY_ACK | CONFIG)
    back.refused = {Request.SET_FEATURES}
    with driving(tmp_path, back) as (driver, _), pytest.raises(FeaturesRefusedError):
        driver.guest.run(driver.probe())


def test_a_packed_ring_begins_with_both_wrap_counters_set(tmp_path: Path) -> None:
    back = Recorder(features=F_PROTOCOL | F_VERSION_1 | PACKED)
    with driving(tmp_path, back, packed=True) as (driver, _):
        driver.guest.run(driver.probe())
        assert Feature.RING_PACKED in driver.device.features
        assert state(back.payload(Request.SET_VRING_BASE)) == (0, 0x8000_8000)
        back.base = 0x0005_0005
        driver.guest.run(driver.reset())
        driver.guest.run(driver.probe())
        back.base = 0x8005_0005
        with pytest.raises(GuestCheckError, match="had not been given back"):
            driver.guest.run(driver.reset())
        driver.guest.run(driver.reset())


def test_a_ring_that_stops_with_requests_is_found_out(tmp_path: Path) -> None:
    back = Recorder()
    with driving(tmp_path, back) as (driver, _):
        driver.guest.run(driver.probe())
        back.base = 3
        with pytest.raises(
            GuestCheckError, match=r"GET_VRING_BASE was answered while buffers of ring 0 had not"
        ):
            driver.guest.run(driver.reset())
        driver.guest.run(driver.probe())


def test_an_area_for_requests_in_flight_goes_there_and_back(tmp_path: Path) -> None:
    back = Recorder(protocol=REPLY_ACK | CONFIG | Protocol.INFLIGHT_SHMFD | Protocol.MQ)
    before = len(os.listdir("/proc/self/fd"))
    with driving(tmp_path, back) as (driver, _):
        driver.guest.run(driver.probe())
        # However small its driver's rings are: another one of them may be larger.
        driver.guest.run(driver.probe(queue_size=8))
    asked = [payload for request, payload, _ in back.record if request == Request.GET_INFLIGHT_FD]
    given = [(p, n) for request, p, n in back.record if request == Request.SET_INFLIGHT_FD]
    assert [struct.unpack("<QQHH", payload) for payload in asked] == [(0, 0, 2, 64)] * 2
    assert [(struct.unpack_from("<QQHH", payload), fds) for payload, fds in given] == [
        ((4096, 0, 2, 128), 1)
    ] * 2
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("more", [-8, -1, 1, 100])
def test_a_configuration_of_another_length_is_an_error(tmp_path: Path, more: int) -> None:
    back = Recorder()
    back.configuration = lambda payload: (payload + bytes(100))[: len(payload) + more]
    with driving(tmp_path, back) as (driver, _):
        driver.guest.run(driver.probe())
        with pytest.raises(GuestCheckError, match="answered with a payload of"):
            assert driver.capacity


# --- what comes back


def test_interrupts_are_counted(tmp_path: Path) -> None:
    back = Recorder()
    with driving(tmp_path, back) as (driver, _):
        driver.guest.run(driver.probe())
        for number in (1, 3):
            os.eventfd_write(back.fds[Request.SET_VRING_CALL], number)
            driver.guest.run(driver.guest.settle(1_000_000))
        assert driver.device.queue_interrupts == 2
        assert sum(driver.guest.interrupts.counts.values()) == 4


def test_who_polls_gives_no_call_descriptor(tmp_path: Path) -> None:
    back = Recorder()
    with driving(tmp_path, back) as (driver, _):
        driver.guest.run(driver.probe(interrupts=Interrupts.POLLING))
    ((payload, fds),) = [(p, n) for request, p, n in back.record if request == Request.SET_VRING_CALL]
    assert (struct.unpack("<Q", payload), fds) == ((0x100,), 0)


def test_a_notification_is_a_signal(tmp_path: Path) -> None:
    back = Recorder()
    with driving(tmp_path, back) as (driver, _):
        driver.guest.run(driver.probe())
        driver.queues[0].notify()
        assert os.eventfd_read(back.fds[Request.SET_VRING_KICK]) == 1


def test_an_error_descriptor_means_needs_reset(tmp_path: Path) -> None:
    back = Recorder()
    with driving(tmp_path, back) as (driver, _):
        driver.guest.run(driver.probe())
        os.eventfd_write(back.fds[Request.SET_VRING_ERR], 1)
        with pytest.raises(NeedsResetError):
            driver.guest.run(driver.device.wait_for(lambda: False, "nothing"))
        assert driver.device.config_changes == 1
        back.base = 9
        driver.guest.run(driver.probe())
        assert not driver.device.sees_needs_reset()


def test_a_configuration_change_is_an_interrupt(tmp_path: Path) -> None:
    back = Recorder(protocol=REPLY_ACK | CONFIG | Protocol.BACKEND_REQ)
    with driving(tmp_path, back) as (driver, _):
        driver.guest.run(driver.probe())
        assert driver.capacity == CAPACITY * 512
        back.configuration = lambda payload: payload[:12] + struct.pack("<Q", 77) + payload[20:]
        channel = socket.socket(fileno=os.dup(back.fds[Request.SET_BACKEND_REQ_FD]))
        with channel:
            channel.sendall(HEADER.pack(2, 1, 0))
            driver.guest.run(driver.device.wait_for(lambda: driver.device.config_changes == 1, "a change"))
        assert driver.capacity == 77 * 512


def test_a_back_end_without_the_queue_is_told_so(tmp_path: Path) -> None:
    back = Recorder()
    with driving(tmp_path, back) as (driver, _), pytest.raises(GuestError, match="has no queue 1"):
        driver.device.setup_queue(1)


@pytest.mark.parametrize("packed", [False, True])
def test_a_ring_lies_in_one_region(tmp_path: Path, packed: bool) -> None:
    border = 16 << 20
    back = Recorder(features=F_PROTOCOL | F_VERSION_1 | PACKED)
    with driving(tmp_path, back, packed=packed) as (driver, _):
        transport = driver.device.transport
        transport.write_features(1 << 32 | (PACKED if packed else 0))
        with pytest.raises(GuestError, match="expected a place in one region of memory"):
            transport.enable_queue(0, 64, (border - 1008, 0x200000, 0x210000))
        transport.enable_queue(0, 64, (border - 1024, border, border + 0x1000))
