"""Which limits may be given together, and what is said of the others."""

from __future__ import annotations

import pytest

from devmodels.blockbackend.options import BlockOptionError
from devmodels.blockbackend.throttling import ThrottleLimits
from devmodels.blockbackend.throttling.limits import MAX_VALUE, check

NAMES = [f"{unit}-{of}" for unit in ("iops", "bps") for of in ("total", "read", "write")]
each = pytest.mark.parametrize("name", NAMES)


def problem(**given: object) -> str:
    with pytest.raises(BlockOptionError) as caught:
        check({name.replace("_", "-"): value for name, value in given.items()})
    return str(caught.value)


def test_enabled() -> None:
    assert not ThrottleLimits().enabled
    for name in NAMES:
        assert check({name: 150}).enabled
        assert not check({name: 0}).enabled


@each
def test_is_valid(name: str) -> None:
    check({name: 0})
    check({name: 1, f"{name}-max": 1})
    with pytest.raises(BlockOptionError, match=rf"\$\.{name}: -1 is given; expected a number from 0"):
        check({name: -1})


@pytest.mark.parametrize("unit", ["iops", "bps"])
def test_conflicting_config(unit: str) -> None:
    total, read, write = (f"{unit}-{of}" for of in ("total", "read", "write"))
    check({total: 1})
    check({read: 1, write: 1})
    for others in ({read: 1}, {write: 1}, {read: 1, write: 1}):
        with pytest.raises(BlockOptionError) as caught:
            check({total: 1, **others})
        assert str(caught.value) == f"$.{total}: 1 is given; expected either it or {read} and {write}"


@each
def test_ranges(name: str) -> None:
    check({name: MAX_VALUE, f"{name}-max": MAX_VALUE})
    check({name: 1, f"{name}-max": 2, f"{name}-max-length": MAX_VALUE // 2})
    for wrong in (
        {name: MAX_VALUE + 1},
        {name: 1, f"{name}-max": MAX_VALUE + 1},
        {name: 1, f"{name}-max": 1, f"{name}-max-length": 0},
        {name: 1, f"{name}-max": 3, f"{name}-max-length": MAX_VALUE // 2},
        {name: 1, f"{name}-max": MAX_VALUE, f"{name}-max-length": 2},
    ):
        with pytest.raises(BlockOptionError):
            check(wrong)


@each
def test_max_is_missing_limit(name: str) -> None:
    for wrong, said in (
        ({f"{name}-max": 100}, f"$.{name}-max: 100 is given; expected with it {name}"),
        ({name: 100, f"{name}-max": 30}, f"$.{name}-max: 30 is given; expected at least {name}, 100"),
        (
            {name: 100, f"{name}-max-length": 2},
            f"$.{name}-max-length: 2 is given; expected with it {name}-max",
        ),
    ):
        with pytest.raises(BlockOptionError) as caught:
            check(wrong)
        assert str(caught.value) == said


def test_iops_size_is_missing_limit() -> None:
    assert problem(iops_size=4096) == "$.iops-size: 4096 is given; expected with it a limit of operations"
    assert check({"iops-size": 4096, "iops-read": 5}).iops_size == 4096


def test_an_unknown_name_is_told() -> None:
    assert problem(iops=3).startswith("$.iops: no such option; expected one of bps-read, ")
