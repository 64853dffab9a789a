"""Where a log is replayed: a guest with a driver on any target, or a backend of ours over a node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from devmodels.blockbackend import BlockBackend, Graph
from devmodels.blockbackend import registry as nodes
from devmodels.cli.blockdev import add_blockdev, add_object
from devmodels.iocontext import IoContext
from devmodels.options import OptionError, coerce, decode
from devmodels.virtio_blk.mmio import VirtioBlkMmioOptions
from devmodels.virtio_blk.pci import VirtioBlkPciOptions
from guestsim.drivers.virtio_blk import VirtioBlk, find
from guestsim.guest import Guest
from guestsim.script.load import Source
from guestsim.script.needs import TargetSpec
from guestsim.script.schema import Script
from guestsim.script.world import World
from guestsim.targets import OptionsError
from guestsim.targets.inprocess import InProcessTarget

DEVICE = "virtio-blk-pci"
_NAME = "io0"

_OPTIONS = {"objects": "--object", "drives": "--blockdev", "devices": "--device"}

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
        disk = str(decode(blockdevs[-1], None, what="--blockdev")["node-name"])
        backend = BlockBackend(graph[disk], name=_NAME)
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
    spec: TargetSpec,
    blockdevs: Sequence[str],
    device: str,
    *,
    objects: Sequence[str] = (),
    virtual: bool = False,
    record: Path | None = None,
) -> Iterator[tuple[Guest, VirtioBlk]]:
    """A guest on a target with its driver of the one device, not probed yet.

    `objects`, `virtual` and `record` are for machines of ours.  OptionError, ScriptError or TargetError where an option
    is wrong.
    """
    drives = [_blockdev(text) for text in blockdevs]
    devices = [_device(device, drives)]
    if spec.name != "devmodels":
        script = Script(name="io", drives=drives, devices=devices, steps=[])
        with World(script, Source("guestsim io"), spec) as world:
            yield world.guest, world.blk()
        return
    try:
        machine = InProcessTarget(
            objects=[_object(text) for text in objects],
            blockdevs=drives,
            devices=devices,
            clock="virtual" if virtual else "wall",
        )
    except OptionsError as error:
        raise OptionError(f"{_OPTIONS[error.kind]}: {str(error).removeprefix('$.')}") from None
    with machine:
        if record is not None:
            machine.record(record)
        guest = Guest(machine)
        yield guest, VirtioBlk(guest, find(guest)[0])


def _object(text: str) -> dict[str, object]:
    return decode(text, None, what="--object", implied="qom-type")


def _blockdev(text: str) -> dict[str, object]:
    options = decode(text, None, what="--blockdev")
    if "node-name" not in options:
        raise OptionError("--blockdev: node-name: missing; expected a name to refer to it")
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
