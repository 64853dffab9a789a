"""Any order of what initiators may do, and of some of what they may not."""

from __future__ import annotations

from hypothesis import settings

from .machine import IscsiMachine

TestIscsi = IscsiMachine.TestCase
TestIscsi.settings = settings(max_examples=6, stateful_step_count=20, deadline=None)
