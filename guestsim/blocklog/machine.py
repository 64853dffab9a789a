"""Where a log is replayed: a guest with a driver on any target, or a backend of ours over a node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from devmodels.blockbackend import BlockBackend, Graph
from devmodels.blockbackend import registry as nodes
from devmodels.cli.blockdev import add_blockdev, add_object
from devmodels.iocontext import IoContext
from devmodels.options import OptionError, coerce, decode
from devmodels.virtio_blk.mmio import VirtioBlkMmioOptions
from devmodels.virtio_blk.pci import VirtioBlkPciOptions
from guestsim.drivers.virtio_blk import VirtioBlk
from guestsim.guest import Guest
from guestsim.script.load import Source
from guestsim.script.needs import TargetSpec
from guestsim.script.schema import MachinePart, Script
from guestsim.script.world import World

DEVICE = "virtio-blk-pci"
_NAME = "io0"

_SCHEMAS: dict[object, type[msgspec.Struct]] = {
    "virtio-blk-pci": VirtioBlkPciOptions,
    "virtio-blk-device": VirtioBlkMmioOptions,
}


@contextmanager
def open_backend(
    blockdevs: Sequence[str], objects: Sequence[str], *, virtual: bool
) -> Iterator[BlockBackend]:
    """A backend over the last of the nodes; OptionError or OSError where an option is wrong."""
    context = IoContext.virtual() if virtual else IoContext.wall()
    graph = Graph(context)
    try:
        for text in objects:
            add_object(graph, text)
        for text in blockdevs:
            add_blockdev(graph, text)
        backend = BlockBackend(list(graph.nodes.values())[-1], name=_NAME)
        try:
            backend.activate()
            yield backend
            context.run(backend.inactivate())
        finally:
            backend.close()
    finally:
        graph.close()
        context.close()


@contextmanager
def open_guest(
    spec: TargetSpec, blockdevs: Sequence[str], device: str, *, virtual: bool
) -> Iterator[tuple[Guest, VirtioBlk]]:
    """A guest on a target with its driver of the one device, not probed yet.

    OptionError, ScriptError or TargetError where an option is wrong.
    """
    drives = [_blockdev(text) for text in blockdevs]
    script = Script(
        name="io",
        machine=MachinePart(clock="virtual" if virtual else "wall"),
        drives=drives,
        devices=[_device(device, drives)],
        steps=[],
    )
    with World(script, Source("guestsim io"), spec) as world:
        yield world.guest, world.driver()


def _blockdev(text: str) -> dict[str, object]:
    options = decode(text, None, what="--blockdev")
    return options if text.lstrip().startswith("{") else nodes.coerce(options)


def _device(text: str, drives: list[dict[str, object]]) -> dict[str, object]:
    what = "--device"
    options = decode(text, None, what=what, implied="driver")
    schema = _SCHEMAS.get(options.get("driver"))
    if schema is None:
        raise OptionError(f"{what}: driver: expected one of {', '.join(map(str, _SCHEMAS))}")
    if not text.lstrip().startswith("{"):
        options = coerce(options, schema)
    options.setdefault("id", _NAME)
    if drives:
        options.setdefault("drive", drives[-1].get("node-name"))
    return options
