"""The ledger: what a sector may hold, by the rules alone; and against the rules applied without any short cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guestsim.powercut.ledger import SECTOR, Act, Kind, Ledger, describe, stamp

SECTORS = 4


def names(ledger: Ledger, sector: int = 0) -> set[str]:
    """What a sector may hold."""
    return {describe(content, sector) for content in ledger.legal(sector)}


def done(ledger: Ledger, kind: Kind, first: int = 0, count: int = 1) -> Act:
    act = ledger.begin(kind, first, 0 if kind is Kind.FLUSH else count)
    assert ledger.end(act, ok=True) == []
    return act


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(SECTORS)


def test_a_told_write_is_volatile_until_a_flush(ledger: Ledger) -> None:
    done(ledger, Kind.WRITE)
    assert names(ledger) == {"write 0", "write 1"}
    done(ledger, Kind.FLUSH)
    assert names(ledger) == {"write 1"}
    assert names(ledger, 1) == {"write 0"}


def test_a_flush_covers_what_was_told_before_it_was_sent(ledger: Ledger) -> None:
    early = ledger.begin(Kind.WRITE, 0, 1)
    flush = ledger.begin(Kind.FLUSH)
    ledger.end(early, ok=True)
    ledger.end(flush, ok=True)
    assert names(ledger) == {"write 0", "write 1"}


def test_a_flush_that_is_under_way_covers_nothing(ledger: Ledger) -> None:
    done(ledger, Kind.WRITE)
    flush = ledger.begin(Kind.FLUSH)
    assert names(ledger) == {"write 0", "write 1"}
    ledger.end(flush, ok=False)
    assert names(ledger) == {"write 0", "write 1"}


def test_what_is_under_way_may_be_there(ledger: Ledger) -> None:
    ledger.begin(Kind.WRITE, 0, 1)
    failed = ledger.begin(Kind.ZERO, 0, 1)
    ledger.end(failed, ok=False)
    done(ledger, Kind.FLUSH)
    assert names(ledger) == {"write 0", "write 1", "zeroes"}


def test_what_failed_does_not_come_later(ledger: Ledger) -> None:
    failed = ledger.begin(Kind.WRITE, 0, 1)
    ledger.end(failed, ok=False)
    done(ledger, Kind.WRITE)
    done(ledger, Kind.FLUSH)
    assert names(ledger) == {"write 2"}


def test_of_two_at_the_same_time_either_may_be_the_last(ledger: Ledger) -> None:
    both = [ledger.begin(Kind.WRITE, 0, 1) for _ in range(2)]
    for act in both:
        ledger.end(act, ok=True)
    done(ledger, Kind.FLUSH)
    assert names(ledger) == {"write 1", "write 2"}


def test_what_came_after_the_stable_one_may_be_there(ledger: Ledger) -> None:
    done(ledger, Kind.WRITE)
    done(ledger, Kind.FLUSH)
    done(ledger, Kind.WRITE)
    done(ledger, Kind.ZERO)
    assert names(ledger) == {"write 1", "write 3", "zeroes"}


def test_write_through_is_stable_at_once(ledger: Ledger) -> None:
    ledger.set_writeback(False)
    done(ledger, Kind.WRITE)
    assert names(ledger) == {"write 1"}
    done(ledger, Kind.ZERO)
    assert names(ledger) == {"zeroes"}


def test_switching_the_cache_off_makes_nothing_stable(ledger: Ledger) -> None:
    done(ledger, Kind.WRITE)
    under_way = ledger.begin(Kind.WRITE, 1, 1)
    ledger.set_writeback(False)
    ledger.end(under_way, ok=True)
    assert names(ledger) == {"write 0", "write 1"}
    assert names(ledger, 1) == {"write 0", "write 2"}


def test_a_write_during_which_the_cache_was_on_is_volatile(ledger: Ledger) -> None:
    ledger.set_writeback(False)
    write = ledger.begin(Kind.WRITE, 0, 1)
    ledger.set_writeback(True)
    ledger.set_writeback(False)
    ledger.end(write, ok=True)
    assert names(ledger) == {"write 0", "write 1"}


def test_a_discard_may_have_been_carried_out_or_not(ledger: Ledger) -> None:
    done(ledger, Kind.DISCARD)
    done(ledger, Kind.FLUSH)
    assert names(ledger) == {"write 0", "zeroes"}
    done(ledger, Kind.WRITE)
    done(ledger, Kind.FLUSH)
    assert names(ledger) == {"write 3"}


def test_a_secure_erase_is_stable(ledger: Ledger) -> None:
    done(ledger, Kind.WRITE)
    done(ledger, Kind.ERASE)
    assert names(ledger) == {"zeroes"}


def test_an_image_is_held_against_it(ledger: Ledger) -> None:
    done(ledger, Kind.WRITE, 0, 2)
    done(ledger, Kind.FLUSH)
    done(ledger, Kind.ZERO, 2, 1)
    good = stamp(1, 0) + stamp(1, 1) + bytes(SECTOR) + stamp(0, 3)
    assert ledger.check(good) == []
    torn = stamp(1, 2)[:64] + stamp(0, 2)[64:]
    bad = stamp(0, 0) + stamp(1, 2) + torn + b"\xee" * SECTOR
    assert list(map(str, ledger.check(bad))) == [
        "sector 0 holds write 0, expected write 1 (stable)",
        "sector 1 holds write 1 of sector 2, expected write 1 (stable)",
        "sector 2 holds a torn sector: write 1, write 0, expected write 0 (stable) or zeroes (told)",
        "sector 3 holds something that nobody wrote, expected write 0 (stable)",
    ]


def test_a_read_finds_the_last_that_was_told_or_what_is_under_way(ledger: Ledger) -> None:
    done(ledger, Kind.WRITE)
    ledger.begin(Kind.ZERO, 0, 1)
    read = ledger.begin(Kind.READ, 0, 1)
    ledger.begin(Kind.WRITE, 0, 1)
    assert {describe(content, 0) for content in read.legal[0]} == {"write 1", "zeroes", "write 4"}
    (found,) = ledger.end(read, ok=True, data=stamp(0, 0))
    assert str(found) == "sector 0 holds write 0 for #3 read 0+1, expected write 1 or write 4 or zeroes"


def test_a_unit_is_there_or_not(ledger: Ledger) -> None:
    done(ledger, Kind.WRITE, 0, 3)
    done(ledger, Kind.WRITE, 1, 1)
    whole = [stamp(1, 0) + stamp(2, 1) + stamp(1, 2), stamp(0, 0) + stamp(0, 1) + stamp(1, 2)]
    for three in whole:
        assert ledger.check_units(three + stamp(0, 3), 2) == []
    late = stamp(1, 0) + stamp(2, 1) + bytes(SECTOR) + stamp(0, 3)
    done(ledger, Kind.DISCARD, 2, 1)
    assert ledger.check_units(late, 4) == []
    torn = stamp(1, 0) + stamp(0, 1) + stamp(0, 2) + stamp(0, 3)
    assert ledger.check(torn) == []
    (found,) = ledger.check_units(torn, 2)
    assert (
        str(found) == "sector 1 holds write 0, though sector 0 holds write 1, expected write 1 or a later one"
    )


def test_the_story_of_some_requests(ledger: Ledger) -> None:
    first = done(ledger, Kind.WRITE)
    done(ledger, Kind.WRITE, 2)
    done(ledger, Kind.FLUSH)
    ledger.set_writeback(False)
    assert list(ledger.story([first])) == [
        "    2  #1 write 0+1 submitted on queue 0",
        "    3  #1 done",
        "    6  #3 flush submitted on queue 0",
        "    7  #3 done",
        "    8  write cache off",
    ]


# --- any history, against the rules as they stand

EVENTS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(
                [Kind.WRITE, Kind.WRITE, Kind.ZERO, Kind.DISCARD, Kind.ERASE, Kind.FLUSH, Kind.READ]
            ),
            st.integers(0, SECTORS - 1),
            st.integers(1, SECTORS),
        ),
        st.tuples(st.just("end"), st.integers(0, 9), st.booleans()),
        st.tuples(st.just("mode"), st.booleans(), st.none()),
    ),
    max_size=25,
)


@given(EVENTS)
def test_any_history(events: list[tuple[object, int, object]]) -> None:
    ledger = Ledger(SECTORS)
    modes = [(0, True)]
    answers: dict[Act, int] = {}
    over: dict[Act, int] = {ledger.acts[0]: 1}
    for what, first, more in events:
        if isinstance(what, Kind):
            count = 0 if what is Kind.FLUSH else min(int(str(more)), SECTORS - first)
            ledger.begin(what, 0 if what is Kind.FLUSH else first, count)
        elif what == "mode":
            ledger.set_writeback(bool(first))
            modes.append((ledger.now, bool(first)))
        elif ledger.under_way:
            act = ledger.under_way[first % len(ledger.under_way)]
            ok = first != 9
            data = b"".join(sorted(legal)[0] for legal in act.legal.values())
            assert ledger.end(act, ok=ok, data=data) == []
            over[act] = ledger.now
            if ok:
                answers[act] = ledger.now
    changes = [act for act in ledger.acts if act.kind not in (Kind.READ, Kind.FLUSH)]
    stable = [act for act in changes if is_stable(act, answers, modes, ledger)]
    for sector in range(SECTORS):
        here = [act for act in changes if act.first <= sector < act.end]
        expected = {
            act.content(sector)
            for act in here
            if not any(
                sector in range(other.first, other.end) and over.get(act, 1 << 60) < other.begun
                for other in stable
                if other is not act
            )
        }
        assert set(ledger.legal(sector)) == expected


def is_stable(act: Act, answers: dict[Act, int], modes: list[tuple[int, bool]], ledger: Ledger) -> bool:
    """VIRTIO 1.4 §5.2.6.2, as it stands there."""
    if act.number == 0:
        return True
    if act not in answers or act.kind is Kind.DISCARD:
        return False
    if act.kind is Kind.ERASE:
        return True
    told = answers[act]
    before = [on for moment, on in modes if moment < act.begun][-1]
    during = [on for moment, on in modes if act.begun < moment < told]
    if not before and not any(during) and not during:
        return True
    flushes = [one for one in answers if one.kind is Kind.FLUSH]
    return any(told < flush.begun for flush in flushes)
