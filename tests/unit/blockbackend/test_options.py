"""What a user may write, and the one line that says what is wrong with the rest."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.blockbackend import BlockOptionError, open_node
from devmodels.blockbackend.options import NodeOptions
from devmodels.blockbackend.registry import driver, our_own
from devmodels.iocontext import IoContext
from devmodels.options import OptionError

MEMORY = {"driver": "memory", "size": 512}


@pytest.fixture
def context() -> Iterator[IoContext]:
    context = IoContext.virtual()
    yield context
    context.close()


def complaint(options: dict[str, object] | str, context: IoContext) -> str:
    """The text for options that cannot be opened."""
    with pytest.raises(BlockOptionError) as caught:
        open_node(options, context)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, '$.driver: missing; expected one of "'),
        (
            {"driver": "qed"},
            '$.driver: "qed" is given; expected one of "',
        ),
        ({"driver": 7}, '$.driver: 7 is given; expected one of "'),
        ({"driver": "file"}, "$.filename: missing; expected a string"),
        ({"driver": "memory"}, "$.size: missing; expected a number of bytes from 0 to 2**63 - 512"),
        (
            {"driver": "memory", "size": "1G"},
            '$.size: "1G" is given; expected a number of bytes from 0 to 2**63 - 512',
        ),
        (
            {"driver": "memory", "size": -512},
            "$.size: -512 is given; expected a number of bytes from 0 to 2**63 - 512",
        ),
        (
            MEMORY | {"sise": 1},
            "$.sise: no such option; expected one of accounting, active, auto-read-only, cache, detect-zeroes, ",
        ),
        (
            MEMORY | {"cache": {"dirct": True}},
            "$.cache.dirct: no such option; expected one of direct, no-flush",
        ),
        (
            MEMORY | {"cache": {"direct": "yes"}},
            '$.cache.direct: "yes" is given; expected on or off (in JSON: true or false)',
        ),
        (MEMORY | {"cache": 1}, "$.cache: 1 is given; expected an object of direct, no-flush"),
        (MEMORY | {"discard": "on"}, '$.discard: "on" is given; expected one of "ignore", "unmap"'),
        (
            MEMORY | {"node-name": "0day"},
            "$.node-name: \"0day\" is given; expected a letter and then up to 30 letters, digits, '-', '.', '_'",
        ),
        (
            MEMORY | {"detect-zeroes": "unmap"},
            '$.detect-zeroes: "unmap" is given; expected with it discard "unmap"',
        ),
        (MEMORY | {"force-share": True}, "$.force-share: true is given; expected with it read-only true"),
        (
            {"driver": "file", "filename": "x", "aio": "native"},
            '$.aio: "native" is given; expected one of "threads", "sync", "io_uring"',
        ),
        (
            {"driver": "file", "filename": "/no/such"},
            "$.filename: cannot open '/no/such': No such file or directory",
        ),
        ({"driver": "file", "filename": "a\0b"}, "$.filename: cannot open 'a\\x00b': embedded null byte"),
        (
            {"driver": "file", "filename": "/dev/zero"},
            "$.filename: '/dev/zero' is given; expected a regular file",
        ),
        (
            {"driver": "file", "filename": "/proc/version", "read-only": True, "cache": {"direct": True}},
            "$.cache.direct: true is given; the file system of '/proc/version' has no O_DIRECT",
        ),
    ],
)
def test_a_wrong_option_is_named_with_what_was_expected(
    options: dict[str, object], text: str, context: IoContext
) -> None:
    assert complaint(options, context).startswith(text)
    assert complaint(json.dumps(options), context).startswith(text)


@pytest.mark.parametrize("text", ["", "[1]", "{", '"driver"', '{"driver": }', "\udcff", '{"driver"\n: 1 2}'])
def test_what_is_not_a_json_object_is_refused(text: str, context: IoContext) -> None:
    assert complaint(text, context).startswith("$: ")


def test_the_error_is_an_option_error_like_every_other(context: IoContext) -> None:
    assert issubclass(BlockOptionError, OptionError)


DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("name", sorted(our_own()))
def test_every_driver_has_a_page_with_its_options(name: str) -> None:
    common = (DOCS / "blockbackend.md").read_text()
    assert f"[{name}](drivers/{name}.md)" in common
    text = (DOCS / "drivers" / f"{name}.md").read_text()
    own = [field.encode_name for field in msgspec.structs.fields(driver(name).Options)]
    for option in {field.encode_name for field in msgspec.structs.fields(NodeOptions)}:
        assert f"`{option}`" in common
        own.remove(option)
    for option in own:
        assert f"`{option}`" in text


def test_a_fifo_is_refused_at_once(tmp_path: Path, context: IoContext) -> None:
    os.mkfifo(tmp_path / "fifo")
    options: dict[str, object] = {"driver": "file", "filename": str(tmp_path / "fifo")}
    assert "expected a regular file" in complaint(options, context)


def test_more_memory_than_the_host_can_map_is_refused(context: IoContext) -> None:
    assert "no room for it" in complaint({"driver": "memory", "size": 1 << 62}, context)


def test_a_refused_image_is_closed_again(tmp_path: Path, context: IoContext) -> None:
    before = os.listdir("/proc/self/fd")
    for filename in (str(tmp_path), "/dev/zero"):
        complaint({"driver": "file", "filename": filename}, context)
    assert os.listdir("/proc/self/fd") == before


def test_json_and_a_mapping_are_the_same(context: IoContext) -> None:
    text = '{"driver": "null-co", "node-name": "n0", "size": 1000, "read-only": true}'
    for options in (text, json.loads(text)):
        node = open_node(options, context)
        assert (node.node_name, node.size, node.read_only) == ("n0", 1024, True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["size", "node-name", "cache", "discard", "filename", "aio", "latency-ns", "read-only"]
)


@given(
    st.sampled_from(["file", "memory", "null-co", "x"]),
    st.dictionaries(NAMES | st.text(), JSON, max_size=5),
)
def test_whatever_is_given_it_opens_or_one_line_says_why_not(driver: str, options: dict[str, object]) -> None:
    context = IoContext.virtual()
    problem = "$"
    try:
        open_node({**options, "driver": driver}, context).close()
    except BlockOptionError as error:
        problem = str(error)
    assert problem.startswith("$")
    assert "\n" not in problem
    context.close()
