"""The monitor under many more wrong commands than the default tier sends."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.monitor.test_hostile import attempt, requests

pytestmark = pytest.mark.slow


@given(st.lists(requests(), min_size=1, max_size=20))
@settings(max_examples=300, deadline=None)
def test_any_commands(many: list[dict[str, object]]) -> None:
    attempt(many)
