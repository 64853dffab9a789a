from __future__ import annotations

from devmodels.conformance import KEPT, MAX_BYTES, Profile, Violation, ViolationLog


def test_a_violation_reads_as_place_what_clause_and_bytes() -> None:
    violation = Violation("VIRTIO 1.4 §2.7.5", "next is 9 of 8", "vd0 queue 0", b"\x09\x00")
    assert str(violation) == "vd0 queue 0: next is 9 of 8 (VIRTIO 1.4 §2.7.5) [09 00]"


def test_a_violation_without_bytes_shows_none() -> None:
    assert str(Violation("ATA §1", "no", "hda")) == "hda: no (ATA §1)"


def test_a_report_is_kept_counted_and_passed_on() -> None:
    seen: list[Violation] = []
    log = ViolationLog(on_violation=seen.append)
    log.report("A §1", "first", "x", b"12")
    log.report("A §1", "second", "x")
    log.report("B §2", "third", "y")
    assert [v.summary for v in log.recent] == ["first", "second", "third"]
    assert seen == list(log.recent)
    assert log.counts == {"A §1": 2, "B §2": 1}
    assert log.total == 3


def test_a_flood_is_bounded_but_counted() -> None:
    log = ViolationLog()
    for number in range(KEPT + 10):
        log.report("A §1", str(number), "x", bytes(1000))
    assert len(log.recent) == KEPT
    assert log.recent[-1].summary == str(KEPT + 9)
    assert log.counts["A §1"] == log.total == KEPT + 10
    assert all(len(v.data) == MAX_BYTES for v in log.recent)


def test_distinct_clauses_do_not_grow_without_bound() -> None:
    log = ViolationLog()
    for number in range(5000):
        log.report(f"A §{number}", "", "x")
    assert log.total == 5000
    assert len(log.counts) <= 1024


def test_clear_forgets_everything() -> None:
    log = ViolationLog()
    log.report("A §1", "first", "x")
    log.clear()
    assert not log.recent
    assert not log.counts
    assert log.total == 0


def test_only_the_strict_profile_is_strict() -> None:
    assert ViolationLog().strict
    assert ViolationLog(Profile.STRICT).strict
    assert not ViolationLog(Profile.LENIENT).strict
