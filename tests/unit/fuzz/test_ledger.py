"""What a driver knows of its disk after a power cut, where it is kept."""

from __future__ import annotations

import pytest

from fuzz.ring.ledger import SECTOR, Ledger

NEW = b"n" * SECTOR
OLD = b"o" * SECTOR


def medium(*sectors: bytes) -> bytes:
    return b"".join(sectors)


def test_what_nobody_changed_is_there() -> None:
    ledger = Ledger(medium(OLD, OLD))
    ledger.check_stable(medium(OLD, OLD))
    with pytest.raises(AssertionError, match="sector 1 was acknowledged"):
        ledger.check_stable(medium(OLD, NEW))


def test_of_a_write_that_is_on_its_way_nothing_is_known() -> None:
    ledger = Ledger(medium(OLD, OLD, OLD))
    ledger.begun(range(1, 9))
    for found in (OLD, NEW):
        ledger.check_stable(medium(OLD, found, found))
    ledger.check_stable(medium(OLD, OLD, NEW))
    with pytest.raises(AssertionError, match="sector 0"):
        ledger.check_stable(medium(NEW, OLD, NEW))


def test_a_write_is_stable_after_a_flush_that_began_after_it() -> None:
    ledger = Ledger(medium(OLD, OLD))
    ledger.begun(range(1, 2))
    early = ledger.promised()
    ledger.written(1, NEW, stable=False)
    ledger.flushed(early)
    ledger.check_stable(medium(OLD, OLD))
    ledger.flushed(ledger.promised())
    ledger.check_stable(medium(OLD, NEW))
    with pytest.raises(AssertionError, match="sector 1"):
        ledger.check_stable(medium(OLD, OLD))


def test_what_changed_since_a_flush_began_is_not_stable_by_it() -> None:
    ledger = Ledger(medium(OLD))
    ledger.begun(range(1))
    ledger.written(0, NEW, stable=False)
    promised = ledger.promised()
    ledger.begun(range(1))
    ledger.written(0, OLD, stable=False)
    ledger.flushed(promised)
    ledger.check_stable(NEW)
    ledger.check_stable(OLD)


def test_a_write_may_be_stable_at_once() -> None:
    ledger = Ledger(medium(OLD, OLD))
    ledger.begun(range(2))
    ledger.written(0, NEW + NEW, stable=True)
    ledger.check_stable(medium(NEW, NEW))
    with pytest.raises(AssertionError, match="sector 0"):
        ledger.check_stable(medium(OLD, NEW))


def test_a_disk_keeps_all_of_its_sectors() -> None:
    with pytest.raises(AssertionError, match="sector 1"):
        Ledger(medium(OLD, OLD)).check_stable(OLD)
    with pytest.raises(AssertionError, match="sector 2 was written"):
        Ledger(medium(OLD, OLD)).written(2, NEW, stable=True)
