"""Either ring, all feature combinations, driven at random against the model of the specification."""

from __future__ import annotations

from hypothesis import settings

from tests.unit.virtio.machine import PackedRingMachine, RingMachine

often = settings(max_examples=settings().max_examples, stateful_step_count=40)
TestSplitRing = RingMachine.TestCase
TestSplitRing.settings = often
TestPackedRing = PackedRingMachine.TestCase
TestPackedRing.settings = often
