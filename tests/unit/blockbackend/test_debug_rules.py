"""blkdebug's rules as a machine, and its configuration files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.blockbackend import Op, Request
from devmodels.blockbackend.debug.config import parse
from devmodels.blockbackend.debug.rules import (
    IO_TYPES,
    Event,
    InjectErrorOptions,
    IoType,
    Rules,
    SetStateOptions,
)
from devmodels.options import OptionError

EVENTS: list[Event] = ["read_aio", "write_aio", "none"]

errors = st.builds(
    InjectErrorOptions,
    event=st.sampled_from(EVENTS),
    state=st.integers(0, 3),
    iotype=st.none() | st.sampled_from(get_args(IoType)),
    errno=st.sampled_from([0, 5, 28]),
    sector=st.integers(0, 9),
    sectors=st.integers(1, 4),
    label=st.none() | st.sampled_from(["a", "b"]),
    once=st.booleans(),
    immediately=st.booleans(),
)
states = st.builds(
    SetStateOptions,
    event=st.sampled_from(EVENTS),
    state=st.integers(0, 3),
    new_state=st.integers(0, 3),
)
requests = st.builds(
    lambda op, sector, count, label: Request(op, sector * 512, count * 512, label=label),
    st.sampled_from(list(IO_TYPES)),
    st.integers(0, 9),
    st.integers(0, 4),
    st.sampled_from(["", "a", "b"]),
)


class Model:
    """QEMU's way of it: a list of all rules for each event, newest first, and a list of the active ones."""

    def __init__(self, inject: Sequence[InjectErrorOptions], change: Sequence[SetStateOptions]) -> None:
        self.state = 1
        self.rules: list[InjectErrorOptions | SetStateOptions] = [*change[::-1], *inject[::-1]]
        self.active: list[InjectErrorOptions] = []

    def event(self, name: str) -> None:
        new_state = self.state
        first = True
        for rule in self.rules:
            if rule.event != name or (rule.state and rule.state != self.state):
                continue
            if isinstance(rule, SetStateOptions):
                new_state = rule.new_state
                continue
            if first:
                self.active = []
                first = False
            self.active.insert(0, rule)
        self.state = new_state

    def check(self, request: Request) -> int:
        touched = range(request.offset // 512, (request.offset + request.length) // 512)
        for rule in self.active:
            wanted = range(rule.sector, rule.sector + rule.sectors)
            usual = rule.iotype is None and request.op is not Op.BLOCK_STATUS
            if (
                not set(wanted).isdisjoint(touched)
                and (usual or rule.iotype == IO_TYPES[request.op])
                and rule.label in (None, request.label)
            ):
                if rule.errno and rule.once:
                    self.active = [each for each in self.active if each is not rule]
                    self.rules = [each for each in self.rules if each is not rule]
                return rule.errno
        return 0


@given(
    st.lists(errors, max_size=5),
    st.lists(states, max_size=4),
    st.lists(st.sampled_from(EVENTS) | requests, max_size=30),
)
def test_rules_do_what_the_model_does(
    inject: list[InjectErrorOptions], change: list[SetStateOptions], steps: list[Event | Request]
) -> None:
    rules, model = Rules(inject, change), Model(inject, change)
    for step in steps:
        if isinstance(step, Request):
            found = rules.check(step)
            assert (0 if found is None else found.errno) == model.check(step)
        else:
            assert rules.event(step, hold=True) == []
            model.event(step)
        assert rules.state == model.state


# --- configuration files

_words = st.text("abcdefgh-_ 019[]#=", max_size=12)
gaps = st.sampled_from(["", "\n", "# a comment\n", "  \n"])


def written(rule: InjectErrorOptions | SetStateOptions, number: int, gap: str) -> str:
    """`rule` as a section."""
    if isinstance(rule, SetStateOptions):
        return f'[set-state]\n{gap}event = "{rule.event}"\nstate="{rule.state}"\nnew_state = "{rule.new_state}"\n'
    lines = [f'[inject-error "rule {number}"]', f'event = "{rule.event}"', f'errno = "{rule.errno:#x}"']
    lines += [f'sector = "{rule.sector}"', f'  sectors = "{rule.sectors}"', f'state = "{rule.state}"']
    lines += [f'once = "{"on" if rule.once else "off"}"']
    lines += [f'immediately = "{"y" if rule.immediately else "no"}"']
    lines += [] if rule.iotype is None else [f'iotype = "{rule.iotype}"']
    lines += [] if rule.label is None else [f'label = "{rule.label}"']
    return gap.join(f"{line}\n" for line in lines)


@given(st.lists(st.tuples(errors | states, gaps), max_size=6))
def test_rules_are_read_as_they_were_written(
    given: list[tuple[InjectErrorOptions | SetStateOptions, str]],
) -> None:
    text = "".join(written(rule, number, gap) for number, (rule, gap) in enumerate(given))
    config = parse(text, "x.conf")
    assert config.errors == [rule for rule, _ in given if isinstance(rule, InjectErrorOptions)]
    assert config.states == [rule for rule, _ in given if isinstance(rule, SetStateOptions)]


settings = st.builds('{} = "{}"'.format, _words, _words)
headings = st.sampled_from(["[inject-error]", "[set-state]"])


@given(st.lists(settings | headings | _words))
def test_any_text_is_rules_or_one_line(lines: list[str]) -> None:
    try:
        parse("\n".join(lines), "x.conf")
    except OptionError as error:
        where, number, text = str(error).split(":", 2)
        assert where == "x.conf"
        assert 1 <= int(number) <= len(lines)
        assert "\n" not in text
        assert "; expected " in text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("\nx", '2: "x" is given; expected a [section] or name = "value"'),
        ('errno = "5"', r'1: "errno = \"5\"" is given; expected first [inject-error] or [set-state]'),
        ("[other]", '1: "[other]" is given; expected [inject-error] or [set-state]'),
        ("[inject-error]\n\n", "1: event: missing; expected one of "),
        ('[inject-error]\nevent = "none"\nerrno = "x"', '3: errno: "x" is given; expected an error number'),
        ('[inject-error]\nevent = "none"\nonce = "5"', '3: once: "5" is given; expected on or off'),
        (
            '[inject-error]\nevent = "none"\nsectors = "5"',
            "3: sectors: 5 is given; expected with it a sector",
        ),
        ('[set-state]\nnew_state = "2"\nevent = "often"', '3: event: "often" is given; expected one of '),
        ('[set-state]\nevent = "none"\nonce = "on"', "3: once: no such option; expected one of "),
        ('[set-state]\nevent = "none"', "1: new_state: missing; expected a 32-bit integer"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, complaint: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse(text, "dir/x.conf")
    assert str(caught.value).startswith(f"dir/x.conf:{complaint}")
