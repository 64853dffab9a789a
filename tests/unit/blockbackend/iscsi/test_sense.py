"""Sense data: read whatever its form, and made an errno as QEMU does."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.blockbackend.drivers.iscsi.retrying import Act, judge
from devmodels.blockbackend.drivers.iscsi.sense import Sense, errno_of, parse
from devmodels.blockbackend.drivers.iscsi.task import Task
from devmodels.scsi.asc import Asc
from devmodels.scsi.constants import SenseKey
from devmodels.scsi.sense import Sense as Built

keys = st.sampled_from(SenseKey)
codes = st.one_of(st.sampled_from(Asc).map(int), st.integers(0, 0xFFFF))
senses = st.builds(
    Built,
    keys,
    codes,
    information=st.none() | st.integers(0, 2**64 - 1),
    command_specific=st.none() | st.integers(0, 2**32 - 1),
    deferred=st.booleans(),
    ili=st.booleans(),
)


@given(senses, st.booleans())
def test_what_a_target_builds_is_read(built: Built, descriptors: bool) -> None:
    found = parse(built.build(descriptors=descriptors))
    assert found == Sense(built.key, built.code, built.deferred)
    assert str(found)


@given(st.binary(max_size=300))
def test_anything_is_sense_data_or_not(data: bytes) -> None:
    found = parse(data)
    if found is None:
        assert not data or data[0] & 0x7F not in (0x70, 0x71, 0x72, 0x73)
        return
    assert 0 <= found.key < 16
    assert 0 <= found.code < 1 << 16
    assert errno_of(found) in errno.errorcode


@given(st.integers(0, 15), codes, st.booleans())
def test_every_sense_is_an_errno_or_a_reason_to_try_again(key: int, code: int, deferred: bool) -> None:
    """The table of the driver's page, the other way round."""
    number = errno_of(Sense(key, code, deferred))
    if deferred:
        assert number == errno.EIO
    elif key in (0, 1, 6):
        assert number == errno.EAGAIN
    elif key == 0xB:
        assert number == errno.ECANCELED
    elif key not in (2, 5, 7):
        assert number == errno.EIO
    else:
        told = {
            errno.EINVAL: (0x1A00, 0x2000, 0x2400, 0x2600),
            errno.ENOSPC: (0x2100, 0x2707),
            errno.ENOTSUP: (0x2500,),
            errno.ENOMEDIUM: (0x3A00, 0x3A01, 0x3A02),
            errno.EACCES: (0x2700,),
            errno.EINPROGRESS: (0x0401,),
            errno.ENOTCONN: (0x0402,),
        }
        assert number == next((name for name, those in told.items() if code in those), errno.EIO)


@given(st.integers(0, 255), st.binary(max_size=40))
def test_whatever_a_command_ends_with_something_follows(status: int, data: bytes) -> None:
    task = Task(bytes(6))
    task.status, task.sense = status, data
    verdict = judge(task)
    assert (verdict.act is Act.DONE) is (verdict.error is None)
    if verdict.error is not None:
        assert verdict.error.errno not in (0, errno.EAGAIN, None)


@pytest.mark.parametrize(
    ("status", "sense", "act"),
    [
        (0x00, b"", Act.DONE),
        (0x04, b"", Act.DONE),
        (0x08, b"", Act.LATER),
        (0x28, b"", Act.LATER),
        (0x18, b"", Act.FAIL),
        (0x02, b"", Act.FAIL),
        (0x02, Built(SenseKey.UNIT_ATTENTION, Asc.POWER_ON).build(descriptors=False), Act.AGAIN),
        (0x02, Built(SenseKey.RECOVERED_ERROR, 0x1701).build(descriptors=True), Act.DONE),
        (0x02, Built(SenseKey.NOT_READY, Asc.BECOMING_READY).build(descriptors=True), Act.LATER),
        (0x02, Built(SenseKey.NOT_READY, Asc.MEDIUM_NOT_PRESENT).build(descriptors=True), Act.FAIL),
        (
            0x02,
            Built(SenseKey.RECOVERED_ERROR, Asc.WRITE_ERROR, deferred=True).build(descriptors=True),
            Act.FAIL,
        ),
    ],
)
def test_what_is_tried_again(status: int, sense: bytes, act: Act) -> None:
    task = Task(bytes(6))
    task.status, task.sense = status, sense
    assert judge(task).act is act
