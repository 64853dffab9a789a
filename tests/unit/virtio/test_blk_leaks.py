"""What a virtio block device borrows for a request it gives back, however the request ends."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from devmodels.blockbackend.request import Op
from tests.unit.virtio.blkrig import FLUSH, GET_ID, IN, OUT, BlkRig, Sent, blk, header
from tests.unit.virtio.plain import Kind

NOWHERE = 0x8000_0000_0000_0000


def failed_by_the_disk(rig: BlkRig) -> Sent:
    rig.disk.fail[Op.READ] = errno.EIO
    return rig.start(IN, 0, room=1024)


def data_half_in_memory(rig: BlkRig) -> Sent:
    return rig.place(rig.readable(header(IN)), [*rig.writable(512), (NOWHERE, 512), *rig.writable(1)])


def payload_half_in_memory(rig: BlkRig) -> Sent:
    return rig.place([*rig.readable(header(OUT) + bytes(512)), (NOWHERE, 512)], rig.writable(1))


def answer_half_in_memory(rig: BlkRig) -> Sent:
    return rig.place(rig.readable(header(GET_ID)), [*rig.writable(7), (NOWHERE, 13), *rig.writable(1)])


def refused_half_in_memory(rig: BlkRig) -> Sent:
    return rig.place(rig.readable(header(99)), [*rig.writable(7), (NOWHERE, 13), *rig.writable(1)])


def status_outside_memory(rig: BlkRig) -> Sent:
    return rig.place(rig.readable(header(IN)), [*rig.writable(512), (NOWHERE, 1)])


def beyond_the_disk(rig: BlkRig) -> Sent:
    return rig.start(OUT, 1 << 40, bytes(1024))


def flushed(rig: BlkRig) -> Sent:
    return rig.start(FLUSH)


def read(rig: BlkRig) -> Sent:
    return rig.start(IN, 0, room=1024)


ENDS = [
    failed_by_the_disk,
    data_half_in_memory,
    payload_half_in_memory,
    answer_half_in_memory,
    refused_half_in_memory,
    status_outside_memory,
    beyond_the_disk,
    flushed,
    read,
]


@pytest.mark.long
@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("start", ENDS, ids=lambda start: start.__name__)
def test_nothing_stays_mapped_after_a_request(kind: Kind, start: Callable[[BlkRig], Sent]) -> None:
    rig = blk(kind=kind)
    before = rig.held
    for _ in range(3):
        sent = start(rig)
        rig.go()
        assert sent.length is not None
    assert rig.held == before
