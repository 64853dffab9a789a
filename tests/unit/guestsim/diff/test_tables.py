"""The tables of known differences and masks, and their page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest

from guestsim.diff.access import Loose, Read
from guestsim.diff.devices import DEVICES
from guestsim.diff.entries import NEVER_KNOWN, Known, Shown, ours_is_larger
from guestsim.diff.grammar import virtio_blk
from guestsim.diff.known import KNOWN, known
from guestsim.diff.play import Difference
from guestsim.diff.profiles import BOTH, STRICT
from guestsim.diff.run import random_actions
from guestsim.diff.script_steps import tags_of
from guestsim.script.load import parse
from tools.known_differences import PAGE, page


def test_the_page_is_what_the_tables_say() -> None:
    assert PAGE.read_text() == page(), "python -m tools.known_differences"


def test_every_known_difference_has_a_clause_and_a_device() -> None:
    for one in KNOWN:
        # A command of SBC-4 goes by its name, as in its own table.
        assert re.search(r"§\d|^SBC-4 [A-Z]", one.clause), one.name
        assert set(one.devices) & set(DEVICES), one.name


@pytest.mark.parametrize(
    ("kind", "length", "named"), [(2, "16", True), (3, "16", True), (1, "512", False), (99, "16", False)]
)
def test_a_scsi_command_in_a_script_is_in_the_table(kind: int, length: str, named: bool) -> None:
    text = f"""
name: commands
drives: [{{driver: file, node-name: d0, size: 1M}}]
devices: [{{driver: virtio-blk-pci, drive: d0}}]
steps: [request: {{type: {kind}, data: {{length: {length}, pattern: 0}}, writable: 113}}]
"""
    script, _ = parse(text, "a.guest.yaml")
    now = frozenset(tags_of(script.steps[0]))
    found = Difference("memory", "buffers", "02 at 0x1000", "01 at 0x1000", 0, "request", now, now)
    entry = known("virtio-blk", found)
    assert (entry is not None and entry.name == "SCSI commands of virtio-blk") is named


@pytest.mark.long
def test_every_mask_that_sequences_name_is_in_the_device_table() -> None:
    for device in DEVICES.values():
        named = {mask.name for mask in device.masks}
        for number in range(8):
            for step in device.grammar.lower(random_actions(device, 0, number)):
                assert {one.reason for one in step.accesses if isinstance(one, Loose)} <= named
                assert {one.but[0] for one in step.accesses if isinstance(one, Read) and one.but} <= named


def test_no_entry_excuses_an_exception_of_ours_or_the_end_of_qemu() -> None:
    tags = frozenset().union(*(one.tags | one.now for one in KNOWN))
    for device in DEVICES:
        for kind in NEVER_KNOWN:
            assert known(device, Difference(kind, "buffers", "0x0", "0x1", 1, "any", tags, tags)) is None


def examples() -> Iterator[tuple[Known, Shown, Difference]]:
    """A difference that is one, for each place where each entry of the table shows."""
    for one in KNOWN:
        tags = one.tags | one.now | one.all_now
        for shown in one.shown:
            place = shown.place.replace("?", "0")
            pairs = product(_instances(shown, shown.ours), _instances(shown, shown.theirs))
            found = (Difference(shown.kind, place, *pair, 1, "any", tags, tags) for pair in pairs)
            yield one, shown, next(each for each in found if each.ours != each.theirs and shown.matches(each))


def _instances(shown: Shown, pattern: str) -> Iterator[str]:
    """Values that are as a pattern says: with a relation, some that may be right."""
    fixed = re.sub(r"\[\^?(.)[^]]*\]", r"\1", pattern).replace("?", "7")
    if "*" not in fixed:
        yield fixed
    for number in (2, 3, 6, 7) if shown.relation or shown.ours == shown.theirs else (7,):
        filled = f"{number:x}" if pattern.startswith("0x") else f"{number:02x} 00"
        yield fixed.replace("*", filled)


EXAMPLES = list(examples())
each_example = pytest.mark.parametrize(
    ("one", "shown", "found"),
    EXAMPLES,
    ids=[f"{one.name} {shown.place} {shown.ours}" for one, shown, _ in EXAMPLES],
)


def wrong(shown: Shown, value: str) -> str:
    """A value that neither side has: of another form, and too small where ours is to be larger."""
    if shown.relation is ours_is_larger:
        return "0x1"
    _, at, address = value.partition(" at ")
    return {"register": "0x40", "line": "0b100", "memory": " ".join(["5a"] * 16)}[shown.kind] + at + address


@pytest.mark.long
@each_example
def test_an_entry_is_of_what_it_names(one: Known, shown: Shown, found: Difference) -> None:
    assert shown in one.shown
    for device in one.devices:
        for profile in one.profiles:
            assert one.matches(device, found, profile)


@pytest.mark.long
@each_example
def test_an_entry_is_not_of_the_same_the_other_way_round(one: Known, shown: Shown, found: Difference) -> None:
    """But for one that is about the order of two things, which are there on both sides."""
    swapped = replace(found, ours=found.theirs, theirs=found.ours)
    order = shown.ours == shown.theirs and shown.relation is None
    assert one.matches(one.devices[0], swapped, min(one.profiles)) is order


@each_example
def test_an_entry_is_not_of_other_values_of_ours(one: Known, shown: Shown, found: Difference) -> None:
    other = replace(found, ours=wrong(shown, found.ours))
    assert not one.matches(one.devices[0], other, min(one.profiles))


ANYTHING = frozenset(
    {
        ("diagnostics stay issued", "0x*"),  # The slot of the command.
        ("driver_feature after a reset", "0x*"),  # What the driver has accepted.
        ("types that there are not", "?? *"),  # What the disk holds.
    }
)
"""Entries with a value of QEMU's that may be anything."""


@pytest.mark.long
@each_example
def test_an_entry_is_not_of_other_values_of_qemu(one: Known, shown: Shown, found: Difference) -> None:
    larger = shown.relation is ours_is_larger
    other = replace(found, theirs="0xffff" if larger else wrong(shown, found.theirs))
    anything = (one.name, shown.theirs) in ANYTHING
    assert one.matches(one.devices[0], other, min(one.profiles)) is anything


@each_example
def test_an_entry_is_not_of_another_place(one: Known, shown: Shown, found: Difference) -> None:
    places = (f"{found.place}0", f"x{found.place}", "common.queue_size", "queue 0 available ring")
    for place in places:
        assert not one.matches(one.devices[0], replace(found, place=place), min(one.profiles)), shown
    for kind in {"register", "memory", "line", "disk", "held"} - {found.kind}:
        assert not one.matches(one.devices[0], replace(found, kind=kind), min(one.profiles))


@each_example
def test_an_entry_is_not_of_steps_without_what_it_is_about(
    one: Known, shown: Shown, found: Difference
) -> None:
    for names in (one.tags, one.now, *(frozenset({name}) for name in one.all_now)):
        without = replace(found, tags=found.tags - names, now=found.now - names)
        assert one.matches(one.devices[0], without, min(one.profiles)) is not bool(names), shown
    elsewhere = set(DEVICES) - set(one.devices)
    assert not any(one.matches(device, found, min(one.profiles)) for device in elsewhere)


def test_an_attention_that_is_gone_there_is_so_whatever_the_next_command_ends_with() -> None:
    """Here a parameter list of a wrong length (SPC-4 §6.14: 1Ah)."""
    found = Difference(
        *("memory", "buffers"),
        ours="06 00 00 00 00 0a 00 00 00 00 29 00 00 00 00 00 at 0x10200e4",
        theirs="05 00 00 00 00 0a 00 00 00 00 1a 00 00 00 00 00 at 0x10200e4",
        step=2,
        name="queue 2: scsi:cd-mode-select-10",
        tags=frozenset({"unknown-code"}),
        now=frozenset({"scsi:cd-mode-select-10"}),
    )
    entry = known("virtio-scsi-cd", found, "strict")
    assert entry is not None
    assert entry.name == "attention after an operation code"


def test_an_entry_of_profile_strict_excuses_nothing_under_the_other() -> None:
    one, _, found = next(example for example in EXAMPLES if example[0].name == "VERIFY")
    assert replace(one, profiles=BOTH).matches("virtio-scsi", found, "qemu")
    strict = replace(one, profiles=STRICT)
    assert strict.matches("virtio-scsi", found, "strict")
    assert not strict.matches("virtio-scsi", found, "qemu")


@pytest.mark.long
def test_each_tag_that_an_entry_asks_for_is_one_of_some_step() -> None:
    """Those of scripts alone are named here, and what is too rare to be waited for: aliases of types."""
    scripts = {"polling", "resize", "plug", "unplug", "read-disc-information", "chain"}
    scripts |= {"ata-probe", "ata-reset", "ide-probe", "ide-reset", "slot", "comreset"}
    entries = [(one, one.tags | one.now | one.all_now) for one in KNOWN]
    wanted = frozenset().union(*(tags for _, tags in entries))
    aliases = set(virtio_blk.ALIASES.values())
    wanted -= scripts | aliases | {f"meanwhile:{alias}" for alias in aliases}
    for number in range(600):
        for device in {name for one, tags in entries if tags & wanted for name in one.devices}:
            for step in DEVICES[device].grammar.lower(random_actions(DEVICES[device], 0, number)):
                wanted -= step.tags
        if not wanted:
            break
    assert not wanted
