"""Requests of a virtio block device under profile `qemu` that QEMU 7.2's answers, or counts, in its own way."""

from __future__ import annotations

import errno

import pytest

from devmodels.blockbackend.accounting import Kind
from devmodels.blockbackend.request import Op
from devmodels.conformance import Profile
from tests.unit.virtio.blkrig import (
    DISCARD,
    FLUSH,
    IOERR,
    OK,
    UNSUPP,
    WRITE_ZEROES,
    BlkRig,
    blk,
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
