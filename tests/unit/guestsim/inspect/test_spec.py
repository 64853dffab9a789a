"""Virtqueues as users name them."""

from __future__ import annotations

import pytest

from guestsim.drivers.layouts import Feature
from guestsim.inspect.spec import SpecError, parse_virtqueue
from guestsim.inspect.state import Virtqueue


def test_a_split_ring() -> None:
    assert parse_virtqueue("desc=0x1000,driver=0x2000,device=12288,size=256") == Virtqueue(
        0x1000, 0x2000, 0x3000, 256
    )


def test_features_and_kind() -> None:
    queue = parse_virtqueue("desc=0,driver=2,device=4,size=1,features=event_idx+INDIRECT_DESC,type=blk")
    assert queue.features == frozenset({Feature.EVENT_IDX, Feature.INDIRECT_DESC})
    assert queue.kind == "blk"


def test_no_features_are_features_too() -> None:
    assert parse_virtqueue("desc=0,driver=2,device=4,size=1,features=none").features == frozenset()
    assert parse_virtqueue("desc=0,driver=2,device=4,size=1").features is None


@pytest.mark.parametrize("text", ["desc=16,size=3,packed", "desc=16,size=3,features=ring_packed"])
def test_a_packed_ring_needs_its_descriptors_only(text: str) -> None:
    queue = parse_virtqueue(text)
    assert (queue.packed, queue.driver, queue.device, queue.size) == (True, None, None, 3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected desc=0x"),
        ("desc=0,size=4", "driver and device missing"),
        ("desc=0,driver=2,device=4,size=4,colour=red", "'colour=red': expected desc="),
        ("desc=0,driver=2,device=4,size=four", "size='four', expected a number"),
        ("desc=-1,driver=2,device=4,size=4", "desc='-1', expected 0 to 2"),
        ("desc=0,driver=2,device=4,size=0", "size 0, expected 1 to 32768"),
        ("desc=0,driver=2,device=4,size=65536", "size 65536, expected 1 to 32768"),
        ("desc=0,desc=1,driver=2,device=4,size=4", "desc is given twice"),
        (
            "desc=0,driver=2,device=4,size=4,features=fast",
            "feature 'fast', expected none or some of notify_on_empty,",
        ),
        ("desc=0,driver=2,device=4,size=4,type=net", "type='net', expected blk or other"),
    ],
)
def test_what_is_no_virtqueue_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(SpecError, match=says) as refused:
        parse_virtqueue(text)
    assert "\n" not in str(refused.value)
