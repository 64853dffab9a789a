"""Which drivers there are: our own by the table below, others by the entry points `devmodels.blockdrivers`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from devmodels import options as user_options
from devmodels.blockbackend.node import BlockNode
from devmodels.blockbackend.options import BlockOptionError, child_names, shown

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINTS = "devmodels.blockdrivers"

_OUR_OWN = {
    "blkdebug": "blkdebug:BlkdebugNode",
    "blklogwrites": "blklogwrites:BlklogwritesNode",
    "blkverify": "blkverify:BlkverifyNode",
    "copy-on-read": "copy_on_read:CopyOnReadNode",
    "cue": "cue:CueNode",
    "delay": "delay:DelayNode",
    "file": "file:FileNode",
    "host_device": "host_device:HostDeviceNode",
    "iscsi": "iscsi.node:IscsiNode",
    "memory": "memory:MemoryNode",
    "null-co": "null:NullNode",
    "overlay": "overlay:OverlayNode",
    "preallocate": "preallocate:PreallocateNode",
    "raw": "raw:RawNode",
    "throttle": "throttle:ThrottleNode",
    "volatile-cache": "volatile_cache:VolatileCacheNode",
}
"""Driver name to module and class; a driver is imported when it is first wanted."""


def our_own() -> dict[str, type[BlockNode]]:
    """The drivers that come with the package, by name."""
    return {name: driver(name) for name in _OUR_OWN}


@cache
def driver(name: str) -> type[BlockNode]:
    """The class of driver `name`; BlockOptionError where there is none, or where it cannot be loaded."""
    if name in _OUR_OWN:
        module, _, kind = _OUR_OWN[name].partition(":")
        return getattr(import_module(f"devmodels.blockbackend.drivers.{module}"), kind)  # type: ignore[no-any-return]
    for entry in _entries():
        if entry.name == name:
            try:
                found = entry.load()
            except Exception as error:
                raise BlockOptionError(
                    f"$.driver: {shown(name)} is given; {entry.value} cannot be loaded: {error!r}"
                ) from None
            if isinstance(found, type) and issubclass(found, BlockNode):
                return found
            raise BlockOptionError(f"$.driver: {shown(name)} is given; {entry.value} is not a BlockNode")
    raise BlockOptionError(f"$.driver: {shown(name)} is given; expected {_expected()}")


def driver_of(given: Mapping[str, object]) -> type[BlockNode]:
    """The class that a node's options ask for; BlockOptionError where there is none."""
    if "driver" not in given:
        raise BlockOptionError(f"$.driver: missing; expected {_expected()}")
    name = given["driver"]
    if not isinstance(name, str):
        raise BlockOptionError(f"$.driver: {shown(name)} is given; expected {_expected()}")
    return driver(name)


def coerce(
    given: Mapping[str, object], number: user_options.ParseNumber = user_options.parse_size
) -> dict[str, object]:
    """Strings of `key=value` options as the types that the node's driver, and those of its children, want.

    What cannot be is left for `open_node` to refuse.
    """
    try:
        schema = driver_of(given).Options
    except BlockOptionError:
        return dict(given)
    out = user_options.coerce(given, schema, number)
    for name in child_names(schema):
        child = given.get(name)
        if isinstance(child, Mapping):
            out[name] = coerce(child, number)
    return out


def _expected() -> str:
    names = sorted({*_OUR_OWN, *(entry.name for entry in _entries())})
    return "one of " + ", ".join(f'"{name}"' for name in names)


def _entries() -> list[EntryPoint]:
    from importlib.metadata import entry_points  # slow to import, and seldom wanted

    return list(entry_points(group=ENTRY_POINTS))
