"""Defects that show where requests are held at the drives of both: the comparison with a live QEMU finds each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from devmodels.ahci.delivery import Delivery
from devmodels.ata.command import AtaCommand
from devmodels.ata.disk.disk import AtaDisk
from devmodels.ata.disk.requests import AtaRequest
from devmodels.blockbackend.request import Op
from devmodels.scsi.asc import Asc
from devmodels.scsi.constants import Outcome, Status
from devmodels.scsi.nexus import Nexus
from devmodels.scsi.target import ScsiTarget
from devmodels.scsi.unit import LogicalUnit
from devmodels.virtio.device import VirtioDevice
from devmodels.virtio.queue import VirtQueue
from devmodels.virtio.ring import Chain
from guestsim.diff.grammar import ahci, ide, virtio_blk, virtio_scsi
from guestsim.diff.grammar.ata_disk import DISK
from guestsim.diff.grammar.virtio import BringUp
from guestsim.diff.profiles import PROFILES, Profile
from tests.defects import before, given

from .defects import Make, found_among

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("qemu"), pytest.mark.parametrize("profile", PROFILES)]

Wanted = Callable[[AtaCommand], bool]
"""Whether a command is one of those that are meant."""
SCSI_UP = BringUp(virtio_scsi.ALL, (16,) * virtio_scsi.QUEUES, None)
DROPPED: dict[str, tuple[Make, BringUp]] = {
    "virtio-blk": (
        virtio_blk.MODERN.dropped(virtio_blk.HELD, virtio_blk.MODERN.bring_up, virtio_blk.WANTED),
        BringUp(virtio_blk.ALL, (16,) * virtio_blk.QUEUES, None),
    ),
    "virtio-blk-transitional": (
        virtio_blk.MODERN.dropped(virtio_blk.HELD, virtio_blk.legacy_bring_up, virtio_blk.WANTED),
        BringUp(virtio_blk.ALL & 0xFFFF_FFFF, (16,) * virtio_blk.QUEUES, None),
    ),
    "virtio-scsi": (
        virtio_scsi.GENERAL.dropped(virtio_scsi.HELD, virtio_scsi.GENERAL.bring_up, before=virtio_scsi.ready),
        SCSI_UP,
    ),
}


@pytest.mark.parametrize("name", DROPPED)
def test_a_reset_that_never_ends_is_found(
    monkeypatch: pytest.MonkeyPatch, name: str, profile: Profile
) -> None:
    """Where something was held that cannot be taken back."""
    monkeypatch.setattr(VirtioDevice, "settle", lambda *_: None)
    found = found_among(name, profile, *DROPPED[name])
    assert found is not None
    assert "ended" in found.now
    assert found.place.endswith(("device_status", "queue_reset", "queue_enable"))


@pytest.mark.parametrize("name", ["virtio-blk", "virtio-scsi"])
def test_a_request_that_is_used_in_a_queue_that_is_reset_is_found(
    monkeypatch: pytest.MonkeyPatch, name: str, profile: Profile
) -> None:
    use = VirtQueue.finish

    def broken(queue: VirtQueue, used: Sequence[tuple[Chain, int]]) -> None:
        if not queue.resetting:
            use(queue, used)
            return
        queue.drops = False
        use(queue, used)
        queue.flush()
        queue.settle_open()

    monkeypatch.setattr(VirtQueue, "finish", broken)
    found = found_among(name, profile, *DROPPED[name])
    assert found is not None
    assert {"ended", "queue-reset"} <= found.now
    assert found.place.startswith(("queue", "buffers", "interrupt"))


def test_a_logical_unit_reset_that_says_aborted_is_found(
    monkeypatch: pytest.MonkeyPatch, profile: Profile
) -> None:
    def broken(unit: LogicalUnit, over: Callable[[], None], code: Asc = Asc.BUS_DEVICE_RESET) -> None:
        unit.abort(unit.tasks, Outcome.ABORTED, Status.GOOD, over)
        unit.was_reset()
        unit.establish(code)

    monkeypatch.setattr(LogicalUnit, "reset", broken)
    found = found_among("virtio-scsi", profile, virtio_scsi.ended, SCSI_UP)
    assert found is not None
    assert {"in-flight", "tmf:logical_unit_reset"} <= found.now


def test_an_i_t_nexus_reset_that_ends_nothing_is_found(
    monkeypatch: pytest.MonkeyPatch, profile: Profile
) -> None:
    def broken(target: ScsiTarget, nexus: Nexus, over: Callable[[], None]) -> None:
        for unit in target.units.values():
            unit.nexus_lost(nexus)
        over()

    monkeypatch.setattr(ScsiTarget, "_lose", broken)
    monkeypatch.setattr(ScsiTarget, "_reset_all", lambda _target, over, *_: over())  # That is QEMU's.
    found = found_among("virtio-scsi", profile, virtio_scsi.ended, SCSI_UP)
    assert found is not None
    assert {"in-flight", "tmf:i_t_nexus_reset"} <= found.now


def test_queued_commands_that_are_told_of_in_order_are_found(
    monkeypatch: pytest.MonkeyPatch, profile: Profile
) -> None:
    """PxSACT and the FIS say that the lowest tags are over, whichever are."""

    def first(delivery: Delivery) -> None:
        left, lowest = delivery._registers.sact, 0
        for _ in range(delivery.done.bit_count()):
            lowest |= left & -left
            left &= left - 1
        delivery.done = lowest

    before(monkeypatch, Delivery, "_tell_done", first)
    found = found_among("ahci-disk", profile, lambda random: ahci.held_together(random, DISK))
    assert found is not None
    assert "held-together" in found.now


@pytest.mark.parametrize("name", ["ide-disk", "ide-pair", "ahci-disk"])
def test_a_write_that_goes_on_after_a_reset_at_sector_0_is_found(
    monkeypatch: pytest.MonkeyPatch, name: str, profile: Profile
) -> None:
    """CVE-2023-5088: what was written by DMA is not stopped, but its address is."""

    def change(disk: AtaDisk, wanted: Wanted) -> tuple[AtaDisk, Wanted]:
        writes: set[AtaCommand] = set()
        for request in disk.backend.in_flight:
            if isinstance(request, AtaRequest) and request.op is Op.WRITE and wanted(request.command):
                request.offset = 0
                writes.add(request.command)
        return disk, lambda command: wanted(command) and command not in writes

    given(monkeypatch, AtaDisk, "cancel_requests", change)
    make = ahci.interrupted if name.startswith("ahci") else ide.interrupted
    found = found_among(name, profile, lambda random: make(random, DISK))
    assert found is not None
    assert found.kind == "disk"
    assert "interrupted" in found.tags
