"""The split ring, all feature combinations, driven at random against the model of the specification."""

from __future__ import annotations

from hypothesis import settings

from tests.unit.virtio.machine import RingMachine

TestSplitRing = RingMachine.TestCase
TestSplitRing.settings = settings(max_examples=3 * settings().max_examples, stateful_step_count=40)
