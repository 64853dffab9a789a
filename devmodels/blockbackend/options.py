"""Options of block nodes: the words of QEMU's `-blockdev`, checked by a schema.

A driver's options are a `NodeOptions` subclass.  What does not fit raises `BlockOptionError`, whose text is one line:
where (`$.cache.direct`), what was given, what was expected.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Literal, TypeVar, get_args

import msgspec

from devmodels.options import OptionError, convert, one_line, shown, types_of

Discard = Literal["ignore", "unmap"]
DetectZeroes = Literal["off", "on", "unmap"]

MAX_SIZE = (1 << 63) - 512
Size = Annotated[int, msgspec.Meta(ge=0, le=MAX_SIZE, description="a number of bytes from 0 to 2**63 - 512")]
NodeName = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,30}$",
        description="a letter and then up to 30 letters, digits, '-', '.', '_'",
    ),
]

NodeRef = Annotated[
    dict[str, object] | str,
    msgspec.Meta(description="the options of a node, or the name of one"),
]
"""An option that is a child; the option's name is the child's."""

N = TypeVar("N", bound="NodeOptions")


class BlockOptionError(OptionError):
    """An option of a node is wrong, or what it names cannot be opened; the text is one line for the user."""


class CacheOptions(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, kw_only=True, frozen=True):
    """`direct`: past the host's page cache (O_DIRECT).  `no-flush`: flushes are not passed on."""

    direct: bool = False
    no_flush: bool = False


class NodeOptions(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, kw_only=True, frozen=True):
    """What every driver takes.

    `discard`: what a discard does to space; `detect-zeroes`: whether a write of nothing but zeroes becomes a request
    to write zeroes (which `unmap` lets free space); `auto-read-only`: an image that cannot be opened for writing is
    read-only; `force-share`: others may write to the image meanwhile; `active`:
    the image is in use, and locked, from the beginning, and not only while a user of the node wants it so;
    `accounting` (ours): statistics of this node are kept.
    """

    driver: str
    node_name: NodeName | None = None
    read_only: bool = False
    auto_read_only: bool = False
    discard: Discard = "ignore"
    detect_zeroes: DetectZeroes = "off"
    cache: CacheOptions = CacheOptions()
    force_share: bool = False
    active: bool = True
    accounting: bool = False


@cache
def child_names(schema: type[msgspec.Struct]) -> tuple[str, ...]:
    """The options that are children, as the user writes them."""
    return tuple(
        name for name, kind in types_of(schema).items() if kind == NodeRef or NodeRef in get_args(kind)
    )


def decode(text: str) -> dict[str, object]:
    """The mapping in a JSON text; BlockOptionError where it is none."""
    try:
        return msgspec.json.decode(text, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise BlockOptionError(
            f"$: {one_line(str(error))}; expected a JSON object of block options"
        ) from None


def check(given: Mapping[str, object], schema: type[N]) -> N:
    """`given` as `schema`; BlockOptionError where it does not fit, or where two options contradict each other."""
    try:
        options = convert(given, schema, what="$")
    except OptionError as error:
        raise BlockOptionError(str(error).replace("$: ", "$.", 1)) from None
    if options.detect_zeroes == "unmap" and options.discard != "unmap":
        raise BlockOptionError('$.detect-zeroes: "unmap" is given; expected with it discard "unmap"')
    if options.force_share and not options.read_only:
        raise BlockOptionError("$.force-share: true is given; expected with it read-only true")
    return options


__all__ = [
    "BlockOptionError",
    "CacheOptions",
    "NodeName",
    "NodeOptions",
    "NodeRef",
    "Size",
    "check",
    "child_names",
    "decode",
    "shown",
]
