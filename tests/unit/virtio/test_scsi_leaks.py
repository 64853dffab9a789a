"""What a virtio SCSI host borrows for a command it gives back, however the command ends."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable

import pytest

from devmodels.blockbackend.request import Op
from devmodels.iocontext import Event
from tests.unit.virtio.plain import Kind
from tests.unit.virtio.scsirig import (
    INQUIRY,
    LOGICAL_UNIT_RESET,
    REQUEST,
    ScsiRig,
    Sent,
    lun_of,
    read_10,
    scsi,
    write_10,
)

NOWHERE = 0x8000_0000_0000_0000
RESPONSE = 12 + 96


def header(cdb: bytes) -> bytes:
    return lun_of() + bytes(11) + cdb.ljust(32, b"\0")


def failed_by_the_disk(rig: ScsiRig) -> Sent:
    rig.disk.fail[Op.READ] = errno.EIO
    return rig.start(read_10(0, 2), room=1024)


def data_half_in_memory(rig: ScsiRig) -> Sent:
    writable = [*rig.writable(RESPONSE + 512), (NOWHERE, 512)]
    return rig.place(REQUEST, rig.readable(header(read_10(0, 2))), writable)


def payload_half_in_memory(rig: ScsiRig) -> Sent:
    readable = [*rig.readable(header(write_10(0, 2)) + bytes(512)), (NOWHERE, 512)]
    return rig.place(REQUEST, readable, rig.writable(RESPONSE))


def both_ways_and_the_second_half_in_memory(rig: ScsiRig) -> Sent:
    readable = rig.readable(header(write_10(0, 1)) + bytes(512))
    return rig.place(REQUEST, readable, [*rig.writable(RESPONSE + 7), (NOWHERE, 512)])


def response_half_in_memory(rig: ScsiRig) -> Sent:
    writable = [*rig.writable(7), (NOWHERE, RESPONSE - 7), *rig.writable(512)]
    return rig.place(REQUEST, rig.readable(header(read_10(0, 1))), writable)


def beyond_the_disk(rig: ScsiRig) -> Sent:
    return rig.start(read_10(0xFFFF_FFFF, 2), room=1024)


def overrun(rig: ScsiRig) -> Sent:
    return rig.start(write_10(0, 4), bytes(512))


def no_such_command(rig: ScsiRig) -> Sent:
    return rig.start(b"\xff" * 16, bytes(512), room=512)


def no_such_target(rig: ScsiRig) -> Sent:
    return rig.start(read_10(0, 1), room=512, lun=lun_of(9))


def no_such_unit(rig: ScsiRig) -> Sent:
    return rig.start(INQUIRY, room=36, lun=lun_of(0, 9))


def aborted_while_it_runs(rig: ScsiRig) -> Sent:
    rig.disk.gate = gate = Event(rig.device.context)
    sent = rig.start(read_10(0, 2), room=1024)
    rig.go()
    rig.start_control(struct.pack("<II", 0, LOGICAL_UNIT_RESET) + lun_of() + bytes(8))
    gate.set()
    rig.disk.gate = None
    return sent


def aborted_while_it_is_held(rig: ScsiRig) -> Sent:
    rig.run_state.stop("paused")
    sent = rig.start(write_10(0, 2), bytes(1024))
    rig.go()
    rig.start_control(struct.pack("<II", 0, LOGICAL_UNIT_RESET) + lun_of() + bytes(8))
    rig.run_state.cont()
    return sent


def read(rig: ScsiRig) -> Sent:
    return rig.start(read_10(0, 2), room=1024)


ENDS = [
    failed_by_the_disk,
    data_half_in_memory,
    payload_half_in_memory,
    both_ways_and_the_second_half_in_memory,
    response_half_in_memory,
    beyond_the_disk,
    overrun,
    no_such_command,
    no_such_target,
    no_such_unit,
    aborted_while_it_runs,
    aborted_while_it_is_held,
    read,
]


@pytest.mark.long
@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("start", ENDS, ids=lambda start: start.__name__)
def test_nothing_stays_mapped_after_a_command(kind: Kind, start: Callable[[ScsiRig], Sent]) -> None:
    rig = scsi(kind=kind)
    before = rig.held
    for _ in range(3):
        rig.ready()
        sent = start(rig)
        rig.go()
        assert sent.length is not None
        assert not rig.device.queues[REQUEST].in_flight
    assert rig.held == before
