"""virtio-blk and virtio-scsi with either ring, and the rings themselves."""

from __future__ import annotations

from fuzz.target import Run
from fuzz.targets.of_hypothesis import machine_of, property_of


def blk() -> Run:
    """Requests of any kind and framing against a model of the disk; chains that are nonsense."""
    return property_of(
        "tests.unit.virtio.test_blk_properties",
        "test_requests_one_by_one",
        "test_requests_of_one_doorbell_act_in_turn",
        "test_chains_that_are_nonsense_do_no_harm",
    )


def scsi() -> Run:
    """Commands, control requests and event buffers, units that come and go."""
    return property_of(
        "tests.unit.virtio.test_scsi_properties",
        "test_whatever_is_sent_comes_back_and_nothing_else_is_written",
        "test_a_well_formed_command_has_a_well_formed_answer",
    )


def split_ring() -> Run:
    """One split ring, with all that a driver must not do to it."""
    from tests.unit.virtio.machine import RingMachine

    return machine_of(RingMachine)


def packed_ring() -> Run:
    """The same for a packed one."""
    from tests.unit.virtio.machine import PackedRingMachine

    return machine_of(PackedRingMachine)
