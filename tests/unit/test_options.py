"""Options of a user: what fits is taken, what does not is one line with where, what, and what instead."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.options import OptionError, coerce, convert, decode, parse_keyval, types_of


class Inner(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, frozen=True):
    kind: Literal["unix", "tcp"]
    deep_name: str = ""


class Outer(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, frozen=True, kw_only=True):
    name: str
    count: Annotated[int, msgspec.Meta(ge=0, le=9)] = 0
    limit: int | None = None
    on_air: bool = False
    inner: Inner | None = None
    colour: Annotated[str, msgspec.Meta(pattern="^#", description="a colour such as #fff")] = "#000"

    def __post_init__(self) -> None:
        if self.name == "nobody":
            raise ValueError("name: nobody is given; expected somebody")


def refusal(given: dict[str, object]) -> str:
    with pytest.raises(OptionError) as caught:
        convert(given, Outer, what="--thing")
    return str(caught.value)


def test_what_fits_is_taken() -> None:
    found = convert({"name": "x", "inner": {"kind": "tcp"}, "limit": 3}, Outer, what="--thing")
    assert (found.name, found.limit, found.inner) == ("x", 3, Inner("tcp"))


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"name": 3}, "name: 3 is given; expected a string"),
        ({"name": "x", "limit": "y"}, 'limit: "y" is given; expected an integer'),
        ({"name": "x", "limit": 1.5}, "limit: 1.5 is given; expected an integer"),
        ({"name": "x", "count": 10}, "count: 10 is given; expected an integer from 0 to 9"),
        ({"name": "x", "colour": "red"}, 'colour: "red" is given; expected a colour such as #fff'),
        (
            {"name": "x", "on-air": "maybe"},
            'on-air: "maybe" is given; expected on or off (in JSON: true or false)',
        ),
        ({"name": "x", "inner": "y"}, 'inner: "y" is given; expected an object of kind, deep-name'),
        (
            {"name": "x", "inner": {"kind": "usb"}},
            'inner.kind: "usb" is given; expected one of "unix", "tcp"',
        ),
        ({"name": "x", "inner": {}}, 'inner.kind: missing; expected one of "unix", "tcp"'),
        ({}, "name: missing; expected a string"),
        (
            {"name": "x", "on_air": True},
            "on_air: no such option; expected one of colour, count, inner, limit, name, on-air",
        ),
        (
            {"name": "x", "inner": {"kind": "tcp", "port": 1}},
            "inner.port: no such option; expected one of deep-name, kind",
        ),
        ({"name": "x", "inner": {"kind": "\udcff"}}, "inner.kind: '\\udcff' is given; expected UTF-8"),
        ({"name": "nobody"}, "name: nobody is given; expected somebody"),
        ({"name": ["a\nb" * 40]}, f'name: {chr(91)}"{"a" + chr(92) + "nb"}'),
    ],
)
def test_what_does_not_fit_is_one_line(given: dict[str, object], line: str) -> None:
    text = refusal(given)
    assert text.startswith(f"--thing: {line}")
    assert "\n" not in text
    assert len(text) < 200


def test_json_is_taken_as_it_is() -> None:
    assert decode('{"count": 3, "on-air": true}', Outer, what="--thing") == {"count": 3, "on-air": True}


@pytest.mark.parametrize("text", ["{", '{"a": }', "{} {}", '{"a": 1', '{"name": "\udcff"}'])
def test_broken_json_is_one_line(text: str) -> None:
    with pytest.raises(OptionError, match=r"^--thing: .*; expected a JSON object$"):
        decode(text, Outer, what="--thing")


def test_pairs_become_what_the_schema_wants() -> None:
    found = decode("name=7,count=0x8,limit=64k,on-air=on,inner.kind=unix", Outer, what="--thing")
    assert found == {"name": "7", "count": 8, "limit": 65536, "on-air": True, "inner": {"kind": "unix"}}


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("10", 10), ("010", 10), ("0x1f", 31), ("3k", 3072), ("1M", 1 << 20), ("2G", 2 << 30)],
)
def test_numbers(text: str, number: int) -> None:
    assert coerce({"limit": text}, Outer) == {"limit": number}


@pytest.mark.parametrize("text", ["", "-1", "1.5", "12x", "0x", "k", " 1", "1 "])
def test_what_is_no_number_stays_a_string(text: str) -> None:
    assert coerce({"limit": text}, Outer) == {"limit": text}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("abc", '"abc" is given; expected key=value'),
        ("=x", '"=x" is given; expected key=value'),
        ("a=1,", '"" is given; expected key=value'),
        ("a=1,a=2", "a: given twice"),
        ("a=1,a.b=2", "a.b: a has a value already"),
        ("a.b=1,a=2", "a: given twice"),
    ],
)
def test_broken_pairs_are_one_line(text: str, line: str) -> None:
    with pytest.raises(OptionError) as caught:
        decode(text, Outer, what="--thing")
    assert str(caught.value) == f"--thing: {line}"


def test_two_commas_are_one_in_a_value() -> None:
    assert parse_keyval("file=a,,b,other=,,") == {"file": "a,b", "other": ","}


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.text(max_size=20), min_size=1))
def test_any_values_come_through_pairs_unchanged(values: dict[str, str]) -> None:
    values = {key: value.replace("\0", "") for key, value in values.items()}
    text = ",".join(f"{key}={value.replace(',', ',,')}" for key, value in values.items())
    assert parse_keyval(text) == values


@given(st.text(max_size=60))
def test_any_text_is_taken_or_refused_in_one_line(text: str) -> None:
    line = "--thing: "
    try:
        convert(decode(text, Outer, what="--thing"), Outer, what="--thing")
    except OptionError as error:
        line = str(error)
    assert line.startswith("--thing: ")
    assert "\n" not in line


# --- lists


class Shelf(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, frozen=True):
    boxes: list[Inner] | None = None
    colours: tuple[Literal["red", "blue"], ...] = ()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            {"boxes": [{"kind": "tcp"}, {"kind": 7}]},
            'boxes[1].kind: 7 is given; expected one of "unix", "tcp"',
        ),
        ({"boxes": [{}]}, 'boxes[0].kind: missing; expected one of "unix", "tcp"'),
        ({"boxes": [{"kind": "tcp", "x": 1}]}, "boxes[0].x: no such option; expected one of deep-name, kind"),
        ({"boxes": [1]}, "boxes[0]: 1 is given; expected an object of kind, deep-name"),
        ({"boxes": {}}, "boxes: {} is given; expected a list"),
        ({"colours": ["red", "green"]}, 'colours[1]: "green" is given; expected one of "red", "blue"'),
    ],
)
def test_what_does_not_fit_in_a_list_is_named_by_its_number(given: dict[str, object], text: str) -> None:
    with pytest.raises(OptionError) as caught:
        convert(given, Shelf, what="--shelf")
    assert str(caught.value).startswith(f"--shelf: {text}")


def test_numbered_keys_are_a_list() -> None:
    text = "boxes.0.kind=tcp,boxes.1.kind=unix,boxes.1.deep-name=x,colours.0=red"
    assert coerce(parse_keyval(text), Shelf) == {
        "boxes": [{"kind": "tcp"}, {"kind": "unix", "deep-name": "x"}],
        "colours": ["red"],
    }
    with pytest.raises(
        OptionError, match=r'^--shelf: boxes: \{"1":\{"kind":"tcp"\}\} is given; expected a list$'
    ):
        convert(coerce(parse_keyval("boxes.1.kind=tcp"), Shelf), Shelf, what="--shelf")


class Base(msgspec.Struct):
    """An option, and one that the schema below has otherwise."""

    same: int = 0
    other: int | str = 0


class Special(Base):
    """The same schema, but for one option."""

    other: str = ""
    more: list[int] = []


def test_a_schema_keeps_its_types_when_one_that_inherits_from_it_was_used_first() -> None:
    assert convert({"same": 1, "other": "x", "more": [2]}, Special, what="s") == Special(1, "x", [2])
    assert types_of(Special) == {"same": int, "other": str, "more": list[int]}
    assert types_of(Base) == {"same": int, "other": int | str}
    assert convert({"other": 2}, Base, what="b") == Base(0, 2)
