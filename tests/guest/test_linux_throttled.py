"""A stock Linux on a disk in a throttle group: fio in the guest gets what the group's limits allow."""

from __future__ import annotations

import pytest

from .backends import devmodels_serve
from .conftest import Check, needed
from .vm import GuestRun, run_guest

pytestmark = pytest.mark.guest

MIB = 1 << 20
IOPS, BPS = 250, 10_000_000
"""So little that a guest gets there on any host, whatever else that does."""

LOADS = {
    "reads-4k": ("iops", IOPS, "--rw=randread --bs=4k"),
    "mixed-4k": ("iops", IOPS, "--rw=randrw --bs=4k"),
    "reads-64k": ("bw", BPS, "--rw=randread --bs=64k"),
    "writes-128k": ("bw", BPS, "--rw=randwrite --bs=128k"),
}
"""What fio does, and which of the two limits it meets."""


@pytest.fixture(scope="module")
def throttled(tmp_path_factory: pytest.TempPathFactory) -> GuestRun:
    folder = tmp_path_factory.mktemp("throttled")
    image = folder / "disk.img"
    image.write_bytes(bytes(64 * MIB))
    expected = "".join(f"{name} {what} {much} {fio}\n" for name, (what, much, fio) in LOADS.items())
    more = ("--object", f"throttle-group,id=g0,limits.iops-total={IOPS},limits.bps-total={BPS}")
    over = {"driver": "throttle", "throttle-group": "g0"}
    with needed(), devmodels_serve(image, folder, queues=2, more=more, over=over) as backend:
        return run_guest(
            "throttled.sh", backend, files={"expected": expected.encode()}, cpus=2, queues=2, timeout=150
        )


@pytest.mark.parametrize("item", LOADS)
def test_guest_gets_what_the_limits_allow(throttled: GuestRun, check: Check, item: str) -> None:
    check(throttled, item)
