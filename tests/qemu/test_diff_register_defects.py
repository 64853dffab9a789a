"""Defects of what a virtio driver does with registers and ranges: the comparison with a live QEMU finds each."""

from __future__ import annotations

import struct
from collections.abc import Callable

import msgspec
import pytest

from devmodels.pci.function import PciFunction
from devmodels.pci.msix import MsixCapability
from devmodels.virtio_blk import device as blk
from devmodels.virtio_blk import ranges
from devmodels.virtio_scsi.device import VirtioScsi
from guestsim.diff.grammar import virtio_blk, virtio_scsi
from guestsim.diff.grammar.virtio import BringUp
from guestsim.diff.profiles import PROFILES, Profile
from tests.defects import Defect, answers

from .defects import Make, found_among

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("qemu"), pytest.mark.parametrize("profile", PROFILES)]


# --- ranges (VIRTIO 1.4 §5.2.6.2)

SEGMENT = struct.Struct("<QII")
UP = BringUp(virtio_blk.ALL, (16,) * virtio_blk.QUEUES, None)


def _flags(monkeypatch: pytest.MonkeyPatch, seen: int) -> None:
    """Of a segment's flags only these bits are looked at."""

    def change(data: bytes) -> bytes:
        return b"".join(
            SEGMENT.pack(sector, count, flags & seen) for sector, count, flags in SEGMENT.iter_unpack(data)
        )

    answers(monkeypatch, ranges, "gather", change)


def reserved_flags_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    _flags(monkeypatch, 1)


def the_highest_flag_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    _flags(monkeypatch, 0x7FFF_FFFF)


def unmap_is_taken_in_a_discard(monkeypatch: pytest.MonkeyPatch) -> None:
    _flags(monkeypatch, 0xFFFF_FFFE)


def _limits(monkeypatch: pytest.MonkeyPatch, sectors: int, segments: int) -> None:
    answers(monkeypatch, ranges, "_limits", lambda most: (most[0] + sectors, most[1] + segments))


def a_sector_too_many_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    _limits(monkeypatch, 1, 0)


def the_most_sectors_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _limits(monkeypatch, -1, 0)


def a_segment_too_many_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where one is taken at most, whatever the limit is."""
    _limits(monkeypatch, 0, 1)
    answers(monkeypatch, blk, "habits_of", lambda habits: msgspec.structs.replace(habits, one_range=False))


@pytest.mark.parametrize(
    "put",
    [
        reserved_flags_are_taken,
        the_highest_flag_is_taken,
        unmap_is_taken_in_a_discard,
        a_sector_too_many_is_taken,
        the_most_sectors_are_refused,
        a_segment_too_many_is_taken,
    ],
)
def test_a_wrong_range_that_is_taken_is_found(
    monkeypatch: pytest.MonkeyPatch, put: Defect, profile: Profile
) -> None:
    put(monkeypatch)
    found = found_among("virtio-blk", profile, virtio_blk.alone(virtio_blk.ranges), UP)
    assert found is not None
    assert found.kind != "raised"
    assert found.now & {"discard", "write-zeroes"}


# --- messages (PCI 3.0 §6.8.3)


def no_message_when_the_function_is_not_masked_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MsixCapability, "release_all", lambda _: None)


def no_message_when_the_vector_is_not_masked_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MsixCapability, "release", lambda *_: None)


def masks_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(msix: MsixCapability, vector: int) -> None:
        if msix.enable and vector < msix.vectors:
            msix._send(msix._entries[vector])

    monkeypatch.setattr(MsixCapability, "notify", broken)


def _release(monkeypatch: pytest.MonkeyPatch, may: Callable[[MsixCapability], object]) -> None:
    def broken(msix: MsixCapability, vector: int) -> None:
        entry = msix._entries[vector]
        if msix.pending.bits >> vector & 1 and not entry.mask and may(msix):
            msix.pending.bits &= ~(1 << vector)
            msix._send(entry)

    monkeypatch.setattr(MsixCapability, "release", broken)


def a_message_without_bus_mastering(monkeypatch: pytest.MonkeyPatch) -> None:
    def send(function: PciFunction, address: int, data: int) -> None:
        if function._host is not None:
            function._host.post(address, data)

    _release(monkeypatch, lambda msix: not msix.function_mask)
    monkeypatch.setattr(PciFunction, "send_message", send)


def a_message_although_the_function_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    _release(monkeypatch, lambda msix: msix.function.bus_master)


def a_message_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    release = MsixCapability.release

    def broken(msix: MsixCapability, vector: int) -> None:
        bits = msix.pending.bits
        release(msix, vector)
        msix.pending.bits = bits

    monkeypatch.setattr(MsixCapability, "release", broken)


@pytest.mark.parametrize("name", ["virtio-blk", "virtio-blk-transitional", "virtio-scsi"])
@pytest.mark.parametrize(
    "put",
    [
        no_message_when_the_function_is_not_masked_any_more,
        no_message_when_the_vector_is_not_masked_any_more,
        masks_are_not_looked_at,
        a_message_without_bus_mastering,
        a_message_although_the_function_is_masked,
        a_message_is_sent_again,
    ],
)
def test_a_message_that_is_not_held_back_or_not_sent_then_is_found(
    monkeypatch: pytest.MonkeyPatch, name: str, put: Defect, profile: Profile
) -> None:
    make: dict[str, Make] = {
        "virtio-blk": virtio_blk.MODERN.pending(
            virtio_blk.alone(virtio_blk.read), virtio_blk.MODERN.bring_up
        ),
        "virtio-blk-transitional": virtio_blk.MODERN.pending(
            virtio_blk.alone(virtio_blk.read), virtio_blk.legacy_bring_up
        ),
        "virtio-scsi": virtio_scsi.GENERAL.pending(
            virtio_scsi.alone(virtio_scsi.read), virtio_scsi.GENERAL.bring_up
        ),
    }
    put(monkeypatch)
    found = found_among(name, profile, make[name])
    assert found is not None
    assert found.kind != "raised"
    assert any(tag.startswith("held-back:") for tag in found.now)


# --- sizes of a SCSI host (VIRTIO 1.4 §5.6.4)


@pytest.mark.parametrize("name", ["virtio-scsi", "virtio-scsi-cd"])
def test_sizes_that_outlive_a_reset_are_found(
    monkeypatch: pytest.MonkeyPatch, name: str, profile: Profile
) -> None:
    reset = VirtioScsi.device_was_reset

    def broken(device: VirtioScsi) -> None:
        sizes = device.framing.sense_size, device.framing.cdb_size
        reset(device)
        device._set_sizes(*sizes)

    monkeypatch.setattr(VirtioScsi, "device_was_reset", broken)
    found = found_among(name, profile, virtio_scsi.sizes_again)
    assert found is not None
    assert found.kind != "raised"
    assert found.place in ("device+0x14", "device+0x18")
