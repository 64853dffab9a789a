"""LUN addressing methods (SAM-5 §4.7)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.scsi import format_lun, parse_lun
from devmodels.scsi.lun import EXTENDED_LIMIT, REPORT_LUNS


@pytest.mark.parametrize(
    ("data", "lun"),
    [
        ("0005 0000 0000 0000", 5),
        ("4005 0000 0000 0000", 5),
        ("7fff 0000 0000 0000", 0x3FFF),
        ("d201 0203 0000 0000", 0x010203),
        ("e201 0203 0405 0000", 0x0102030405),
        ("c101 0000 0000 0000", REPORT_LUNS),
        ("0105 0000 0000 0000", None),
        ("8005 0000 0000 0000", None),
        ("0005 0001 0000 0000", None),
        ("c102 0000 0000 0001", None),
        ("ffff ffff ffff ffff", None),
    ],
)
def test_each_method(data: str, lun: int | None) -> None:
    assert parse_lun(bytes.fromhex(data)) == lun


@given(st.integers(0, EXTENDED_LIMIT - 1))
def test_what_is_written_is_read(lun: int) -> None:
    assert len(format_lun(lun)) == 8
    assert parse_lun(format_lun(lun)) == lun


@given(st.binary(min_size=8, max_size=8))
def test_any_eight_bytes(data: bytes) -> None:
    lun = parse_lun(data)
    assert lun is None or lun >= 0


def test_one_that_is_too_large() -> None:
    with pytest.raises(ValueError, match="expected at most"):
        format_lun(EXTENDED_LIMIT)


def test_a_well_known_one() -> None:
    assert format_lun(REPORT_LUNS) == bytes.fromhex("c101 0000 0000 0000")
