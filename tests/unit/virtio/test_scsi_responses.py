"""Every response that VIRTIO 1.4 §5.6.6 knows, each by a story in which a driver gets it."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable

import pytest

from devmodels.blockbackend import Op
from devmodels.virtio_scsi.layout import ScsiResponse
from tests.unit.virtio.scsirig import (
    ABORT_TASK_SET,
    CLEAR_ACA,
    INQUIRY,
    LOGICAL_UNIT_RESET,
    QUERY_TASK_SET,
    TEST_UNIT_READY,
    ScsiRig,
    lun_of,
    read_10,
    scsi,
)


def ok(r: ScsiRig) -> int:
    return r.send(TEST_UNIT_READY).response


def overrun(r: ScsiRig) -> int:
    """Less room than the allocation length."""
    return r.send(INQUIRY, room=35).response


def bad_target(r: ScsiRig) -> int:
    return r.send(TEST_UNIT_READY, lun=lun_of(200)).response


def _ended_by(r: ScsiRig, function: int) -> int:
    r.run_state.stop("paused")
    command = r.start(read_10(0, 1), room=512)
    r.go()
    r.start_control(struct.pack("<II", 0, function) + lun_of() + bytes(8))
    return r.answer(command).response


def aborted(r: ScsiRig) -> int:
    return _ended_by(r, ABORT_TASK_SET)


def reset(r: ScsiRig) -> int:
    return _ended_by(r, LOGICAL_UNIT_RESET)


def _failed_with(r: ScsiRig, number: int) -> int:
    r.disk.fail[Op.READ] = number
    return r.send(read_10(0, 1), room=512).response


def busy(r: ScsiRig) -> int:
    return _failed_with(r, errno.EBUSY)


def transport_failure(r: ScsiRig) -> int:
    return _failed_with(r, errno.ENOLINK)


def target_failure(r: ScsiRig) -> int:
    return _failed_with(r, errno.EREMOTEIO)


def nexus_failure(r: ScsiRig) -> int:
    return _failed_with(r, errno.EBADE)


def failure(r: ScsiRig) -> int:
    """A header that is cut off."""
    sent = r.place(2, r.readable(bytes(50)), r.writable(108))
    r.go()
    return r.answer(sent).response


def function_succeeded(r: ScsiRig) -> int:
    r.run_state.stop("paused")
    r.start(read_10(0, 1), room=512)
    r.go()
    return r.manage(QUERY_TASK_SET)


def function_rejected(r: ScsiRig) -> int:
    return r.manage(CLEAR_ACA)


def incorrect_lun(r: ScsiRig) -> int:
    return r.manage(QUERY_TASK_SET, lun=lun_of(0, 77))


STORIES: dict[str, Callable[[ScsiRig], int]] = {
    story.__name__: story
    for story in (
        ok,
        overrun,
        aborted,
        bad_target,
        reset,
        busy,
        transport_failure,
        target_failure,
        nexus_failure,
        failure,
        function_succeeded,
        function_rejected,
        incorrect_lun,
    )
}


@pytest.mark.parametrize("response", ScsiResponse, ids=lambda response: response.name)
def test_a_driver_gets_it(response: ScsiResponse) -> None:
    r = scsi()
    r.ready()
    assert STORIES[response.name.removeprefix("VIRTIO_SCSI_S_").lower()](r) == response
