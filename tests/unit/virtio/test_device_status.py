"""Device status and feature negotiation, VIRTIO 1.4 §2.1, §2.2 and §3.1: every step, legal or not, is answered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.iocontext import IoContext
from devmodels.memory import GuestMemory
from devmodels.virtio.device import VirtioDevice
from tests.unit.virtio.dut import (
    ACKNOWLEDGE,
    DRIVER,
    DRIVER_OK,
    FAILED,
    FEATURES_OK,
    NEEDS_RESET,
    RUNNING,
    TestDevice,
)
from tests.unit.virtio.model import EVENT_IDX, INDIRECT_DESC, VERSION_1

SUSPEND = 16
STATUS = "VIRTIO 1.4 §2.1.1"
SEQUENCE = "VIRTIO 1.4 §3.1.1"
FEATURES = "VIRTIO 1.4 §2.2.1"
RESET = "VIRTIO 1.4 §4.1.4.3.2"
KNOWN = ACKNOWLEDGE | DRIVER | DRIVER_OK | FEATURES_OK | FAILED


def device(features: int = VERSION_1) -> TestDevice:
    """A device to which the driver has written `features`, nothing else."""
    made = TestDevice(GuestMemory(), features=VERSION_1 | EVENT_IDX | INDIRECT_DESC)
    made.driver_features = features
    return made


def clauses(of: TestDevice) -> list[str]:
    return [each.clause for each in of.violations.recent]


STEPS = [
    ("the usual way", [1, 3, 11, 15], 15, []),
    ("all at once", [15], 15, []),
    ("the same again", [1, 1, 3, 3], 3, []),
    ("no ACKNOWLEDGE", [2], 2, [SEQUENCE]),
    ("FEATURES_OK without DRIVER", [1, 9], 9, [SEQUENCE]),
    ("DRIVER_OK without FEATURES_OK", [1, 3, 7], 3, [SEQUENCE]),
    ("a bit cleared", [1, 3, 1], 3, [STATUS]),
    ("all bits but a new one cleared", [1, 3, 8], 11, [STATUS]),
    ("DRIVER_OK cleared", [15, 11], 15, [STATUS]),
    ("SUSPEND, which is not offered", [15, 31], 15, [STATUS]),
    ("an undefined bit", [33], 1, [STATUS]),
    ("NEEDS_RESET by the driver", [15, 79], 15, [STATUS]),
    ("FAILED", [1, 3, 131], 131, []),
    ("onward after FAILED", [1, 3, 131, 139], 139, [STATUS]),
    ("reset after FAILED", [1, 3, 131, 0, 1], 1, []),
    ("reset", [15, 0], 0, []),
    ("everything", [255], 1 | 2 | 4 | 8 | 128, [STATUS, STATUS]),
]


@pytest.mark.parametrize(("writes", "status", "wrong"), [s[1:] for s in STEPS], ids=[s[0] for s in STEPS])
def test_status_after_each_sequence(writes: list[int], status: int, wrong: list[str]) -> None:
    d = device()
    for value in writes:
        d.write_status(value)
        d.driver_features = VERSION_1
    assert (int(d.status), clauses(d)) == (status, wrong)


@given(st.lists(st.integers(0, 255), max_size=12))
def test_no_sequence_leads_to_a_state_that_does_not_exist(writes: list[int]) -> None:
    d = device()
    for value in writes:
        before = int(d.status)
        d.write_status(value)
        after = int(d.status)
        assert after & ~KNOWN == 0
        assert after == 0 if value == 0 else after & before == before
        assert not after & DRIVER_OK or after & FEATURES_OK
        assert not after & FEATURES_OK or d.driver_features & VERSION_1


def test_the_driver_does_not_clear_needs_reset_by_not_knowing_of_it() -> None:
    d = device()
    d.write_status(RUNNING)
    d.needs_reset()
    d.write_status(RUNNING | FAILED)
    assert d.status == RUNNING | FAILED | NEEDS_RESET
    assert clauses(d) == []


def test_needs_reset_is_announced_once_and_only_to_a_running_driver() -> None:
    """§2.1.2"""
    d = device()
    d.write_status(ACKNOWLEDGE | DRIVER)
    d.needs_reset()
    assert d.status & NEEDS_RESET
    assert d.notifications.config == 0
    d = device()
    d.write_status(RUNNING)
    d.needs_reset()
    d.needs_reset()
    assert d.notifications.config == 1


@pytest.mark.parametrize(
    ("features", "clause"),
    [
        (0, "VIRTIO 1.4 §6.1"),
        (EVENT_IDX, "VIRTIO 1.4 §6.1"),
        (VERSION_1 | 1 << 3, FEATURES),
        (VERSION_1 | 1 << 70, FEATURES),
    ],
)
def test_features_that_cannot_be_are_not_accepted(features: int, clause: str) -> None:
    d = device(features)
    d.write_status(ACKNOWLEDGE)
    d.write_status(ACKNOWLEDGE | DRIVER)
    d.write_status(ACKNOWLEDGE | DRIVER | FEATURES_OK)
    assert d.status == ACKNOWLEDGE | DRIVER
    assert clauses(d) == [clause]


def test_the_driver_may_try_again_with_fewer_features() -> None:
    d = device(VERSION_1 | 1 << 3)
    d.write_status(ACKNOWLEDGE | DRIVER)
    d.write_status(ACKNOWLEDGE | DRIVER | FEATURES_OK)
    d.write_features(0, select=0)
    d.write_status(ACKNOWLEDGE | DRIVER | FEATURES_OK)
    assert d.status == ACKNOWLEDGE | DRIVER | FEATURES_OK


def test_any_valid_subset_is_accepted_again_after_a_reset() -> None:
    """§2.2.2"""
    for features in (VERSION_1, VERSION_1 | EVENT_IDX, VERSION_1 | EVENT_IDX | INDIRECT_DESC):
        d = device(features)
        d.write_status(RUNNING)
        d.write_status(0)
        assert d.driver_features == 0
        d.negotiate(features)


@pytest.mark.parametrize(("select", "shift"), [(0, 0), (1, 32), (2, 64), (3, 96), (7, 224)])
def test_feature_words_are_selected(select: int, shift: int) -> None:
    d = device(0)
    d.write_status(ACKNOWLEDGE | DRIVER)
    d.write_features(0x8000_0001, select=select)
    assert d.driver_features == 0x8000_0001 << shift
    d.write_features(0x10, select=select)
    assert d.driver_features == 0x10 << shift
    assert clauses(d) == []


@pytest.mark.parametrize("select", [8, 9, 0xFFFF_FFFF])
def test_features_far_beyond_are_ignored(select: int) -> None:
    d = device(0)
    d.write_status(ACKNOWLEDGE | DRIVER)
    d.write_features(0, select=select)
    assert clauses(d) == []
    d.write_features(1, select=select)
    assert d.driver_features == 0
    assert clauses(d) == [FEATURES]


def test_features_are_final_after_features_ok() -> None:
    d = device()
    d.write_status(ACKNOWLEDGE | DRIVER | FEATURES_OK)
    d.write_features(EVENT_IDX, select=0)
    assert d.driver_features == VERSION_1
    assert clauses(d) == [SEQUENCE]


def test_features_before_driver_are_out_of_sequence() -> None:
    d = device(0)
    d.write_status(ACKNOWLEDGE)
    d.write_features(1, select=1)
    assert clauses(d) == [SEQUENCE]
    assert d.driver_features == VERSION_1


@pytest.mark.parametrize("left_out", ["read_config", "write_config", "handle"])
def test_a_type_of_device_says_what_it_does_with_its_configuration_and_its_buffers(left_out: str) -> None:
    methods = {name: vars(TestDevice)[name] for name in ("read_config", "write_config", "handle")}
    del methods[left_out]
    half: type[VirtioDevice] = type("Half", (VirtioDevice,), {**methods, "DEVICE_ID": 63, "CONFIG_SIZE": 0})
    with pytest.raises(TypeError, match=left_out):
        half(
            name="half",
            context=IoContext.virtual(),
            memory=GuestMemory(),
            features=VERSION_1,
            num_queues=1,
            queue_size=8,
        )
