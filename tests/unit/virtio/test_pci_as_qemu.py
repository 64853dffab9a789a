"""Registers and messages of a virtio function under profile `qemu`, where QEMU 7.2's has them otherwise."""

from __future__ import annotations

import pytest

from devmodels.conformance import Profile
from tests.unit.virtio.dut import Mode
from tests.unit.virtio.pcirig import NO_VECTOR, PciRig

MOST_QUEUES = 1024


def mapped(profile: Profile = Profile.QEMU) -> PciRig:
    """Its registers can be reached."""
    rig = PciRig(profile=profile)
    rig.map_bars()
    return rig


@pytest.mark.parametrize(("profile", "selected"), [(Profile.QEMU, 1), (Profile.STRICT, MOST_QUEUES)])
def test_a_number_above_1023_selects_no_other_queue(profile: Profile, selected: int) -> None:
    rig = mapped(profile)
    rig.set("queue_select", 1)
    rig.set("queue_select", MOST_QUEUES)
    assert rig.get("queue_select") == selected
    assert (rig.get("queue_size"), rig.get("queue_notify_off")) == ((8, 1) if selected == 1 else (0, 0))


@pytest.mark.parametrize(("profile", "offset"), [(Profile.QEMU, 1023), (Profile.STRICT, 0)])
def test_a_queue_that_is_not_there_has_fields(profile: Profile, offset: int) -> None:
    rig = mapped(profile)
    rig.set("queue_select", 1023)
    assert rig.get("queue_size") == 0
    assert rig.get("queue_notify_off") == offset
    assert rig.get("queue_msix_vector") == (NO_VECTOR if offset else 0)
    assert (rig.get("queue_enable"), rig.get("queue_reset")) == (0, 0)


def test_fields_of_a_queue_that_is_not_there_hold_what_is_written_until_a_reset() -> None:
    rig = mapped()
    rig.set("queue_select", 2)
    rig.set("queue_size", 4)
    rig.set("queue_msix_vector", 1)
    rig.set("queue_desc", 0x1_0000_2000)
    rig.set("queue_enable", 1)
    assert (rig.get("queue_size"), rig.get("queue_msix_vector")) == (0, 1)
    assert (rig.get("queue_desc"), rig.get("queue_enable")) == (0x1_0000_2000, 1)
    rig.set("queue_reset", 1)
    assert (rig.get("queue_reset"), rig.get("queue_enable")) == (0, 0)
    assert (rig.get("queue_msix_vector"), rig.get("queue_desc")) == (NO_VECTOR, 0x1_0000_2000)
    rig.set("device_status", 0)
    assert rig.get("queue_select") == 0
    rig.set("queue_select", 2)
    assert rig.get("queue_desc") == 0


def test_what_is_written_to_a_queue_that_is_not_there_is_saved() -> None:
    rig = mapped()
    rig.set("queue_select", 2)
    rig.set("queue_msix_vector", 1)
    other = mapped()
    other.function.restore(rig.function.save())
    assert (other.get("queue_select"), other.get("queue_msix_vector")) == (2, 1)


@pytest.mark.parametrize(("profile", "pending"), [(Profile.QEMU, 0), (Profile.STRICT, 2)])
@pytest.mark.parametrize("vector", [0, NO_VECTOR, 1], ids=["another", "none", "the same"])
def test_a_message_is_forgotten_that_nothing_is_mapped_to_any_more(
    profile: Profile, pending: int, vector: int
) -> None:
    rig = mapped(profile)
    rig.enable_msix(masked=True)
    rig.set("queue_msix_vector", 1)
    rig.function.notify_used(0)
    msix = rig.function.msix
    assert msix is not None
    assert msix.pending.bits == 2
    rig.set("queue_msix_vector", vector)
    assert msix.pending.bits == pending


@pytest.mark.parametrize("other", ["config_msix_vector", "queue_msix_vector"])
def test_a_message_stays_where_something_else_is_mapped_to_it(other: str) -> None:
    rig = mapped()
    rig.enable_msix(masked=True)
    rig.set("queue_msix_vector", 1)
    rig.set("queue_select", 2)
    rig.set(other, 1)
    rig.function.notify_used(0)
    msix = rig.function.msix
    assert msix is not None
    rig.set("queue_select", 0)
    rig.set("queue_msix_vector", 0)
    assert msix.pending.bits == 2
    rig.set("queue_select", 2)
    rig.set(other, NO_VECTOR)
    assert msix.pending.bits == 0


RUNNING, NOT_OK = 0xF, 0xB


@pytest.mark.parametrize(("profile", "status"), [(Profile.QEMU, NOT_OK), (Profile.STRICT, RUNNING)])
def test_without_bus_mastering_driver_ok_is_gone_for_good(profile: Profile, status: int) -> None:
    rig = PciRig(profile=profile)
    rig.start()
    rig.bus_master(False)
    assert rig.get("device_status") == status
    rig.bus_master(True)
    assert rig.get("device_status") == status
    rig.expose()
    rig.notify(0)
    assert rig.used() == 1


@pytest.mark.parametrize(("profile", "used"), [(Profile.QEMU, 0), (Profile.STRICT, 1)])
def test_nobody_looks_for_buffers_when_there_is_bus_mastering_again(profile: Profile, used: int) -> None:
    rig = PciRig(profile=profile)
    rig.start()
    rig.bus_master(False)
    rig.expose()
    rig.notify(0)
    rig.bus_master(True)
    assert rig.used() == used
    rig.notify(0)
    assert rig.used() == 1 - used


@pytest.mark.parametrize(("profile", "used"), [(Profile.QEMU, 0), (Profile.STRICT, 1)])
def test_what_is_done_without_bus_mastering_is_never_given_back(profile: Profile, used: int) -> None:
    rig = PciRig(profile=profile)
    rig.start()
    rig.device.mode = Mode.LATER
    rig.expose()
    rig.notify(0)
    rig.device.idle()
    rig.bus_master(False)
    rig.device.complete(rig.device.waiting[0])
    rig.device.idle()
    rig.bus_master(True)
    assert rig.used() == used
    assert not rig.device.queues[0].in_flight


@pytest.mark.parametrize(("profile", "messages"), [(Profile.QEMU, []), (Profile.STRICT, [1])])
@pytest.mark.parametrize("masked", [False, True], ids=["sent", "unmasked"])
def test_a_message_without_bus_mastering_is_lost(profile: Profile, messages: list[int], masked: bool) -> None:
    rig = mapped(profile)
    rig.enable_msix(masked=masked)
    rig.set("queue_msix_vector", 1)
    if masked:
        rig.function.notify_used(0)
    rig.bus_master(False)
    if masked:
        _, _, table = rig.msix()
        rig.machine.write(table + 16 + 12, 4, 0)
    else:
        rig.function.notify_used(0)
    rig.bus_master(True)
    assert rig.messages == messages
    assert rig.function.msix is not None
    assert rig.function.msix.pending.bits == 0
