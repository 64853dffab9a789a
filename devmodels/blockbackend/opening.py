"""From options to a node: the registry of drivers."""

from __future__ import annotations

from collections.abc import Mapping

from devmodels.blockbackend import options as block_options
from devmodels.blockbackend.drivers.file import FileNode
from devmodels.blockbackend.drivers.memory import MemoryNode
from devmodels.blockbackend.drivers.null import NullNode
from devmodels.blockbackend.node import BlockNode
from devmodels.blockbackend.options import BlockOptionError
from devmodels.iocontext import IoContext

DRIVERS: dict[str, type[BlockNode]] = {"file": FileNode, "memory": MemoryNode, "null-co": NullNode}
"""Driver name to class; `driver` in a node's options is looked up here."""


def open_node(options: Mapping[str, object] | str, context: IoContext) -> BlockNode:
    """Open the node that `options` describe: a mapping, or the same as JSON text, as QEMU's `-blockdev` takes them.

    Raises BlockOptionError, whose text is one line, where an option is wrong or what it names cannot be opened.
    """
    given = block_options.decode(options) if isinstance(options, str) else options
    names = ", ".join(f'"{name}"' for name in sorted(DRIVERS))
    if "driver" not in given:
        raise BlockOptionError(f"$.driver: missing; expected one of {names}")
    name = given["driver"]
    driver = DRIVERS.get(name) if isinstance(name, str) else None
    if driver is None:
        raise BlockOptionError(f"$.driver: {block_options.shown(name)} is given; expected one of {names}")
    return driver.open(block_options.check(given, driver.Options), context)
