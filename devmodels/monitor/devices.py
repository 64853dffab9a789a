"""Devices come and go: `device_add`, `device_del`, `device-list-properties`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import UNSET, UnsetType, field

from devmodels.monitor.command import Arguments, CommandError, Options, device_not_found, identifier, strings
from devmodels.monitor.world import World
from devmodels.virtio.pci import VirtioPci
from devmodels.virtio_blk.mmio import VirtioBlkMmioOptions
from devmodels.virtio_blk.pci import VirtioBlkPciOptions

MODELS: dict[str, type[msgspec.Struct]] = {
    "virtio-blk-device": VirtioBlkMmioOptions,
    "virtio-blk-pci": VirtioBlkPciOptions,
}
_NO_PROPERTIES = ("driver", "id", "bus")


class _DeviceOptions(Arguments, frozen=True):
    driver: str
    bus: str | None = None
    id: str | None = None


DeviceOptions = Annotated[Mapping[str, object], Options(_DeviceOptions)]


class DeviceDel(Arguments, frozen=True):
    """A device, by its id or path."""

    id: str


class DeviceListProperties(Arguments, frozen=True):
    """A device's model."""

    typename: str


class ModelProperty(msgspec.Struct):
    """A property that `device_add` takes."""

    name: str
    type: str
    default_value: Any | UnsetType = field(name="default-value", default=UNSET)


async def device_add(world: World, options: DeviceOptions) -> None:
    """Make a device and plug it: a guest finds it where it looks again at its bus."""
    assert world.assembly is not None
    strings(options, "driver", "id", "bus", "drive")
    identifier(options, "id")
    driver, name, drive = options.get("driver"), options.get("id"), options.get("drive")
    if driver is None:
        raise CommandError("Parameter 'driver' is missing")
    if driver not in MODELS:
        raise CommandError(f"'{driver}' is not a valid device model name")
    if driver == "virtio-blk-device":
        raise CommandError("Bus 'virtio-mmio-bus' does not support hotplugging")
    if name in world.assembly.devices:
        raise CommandError(f"Duplicate device ID '{name}'")
    if drive is None:
        raise CommandError("drive property not set")
    if drive not in world.graph.nodes:
        raise CommandError(f"Property 'virtio-blk-device.drive' can't find value '{drive}'")
    world.assembly.add_device({key: value for key, value in options.items() if key != "bus"})


async def device_del(world: World, arguments: DeviceDel) -> None:
    """Begin to take a device out; the event DEVICE_DELETED says when it has gone."""
    assembly = world.assembly
    assert assembly is not None
    each = world.find(arguments.id)
    if each.name not in assembly.devices:
        raise device_not_found(arguments.id)
    transport = assembly.devices[each.name]
    if not isinstance(transport, VirtioPci):
        raise CommandError("Bus 'virtio-mmio-bus' does not support hotplugging")
    if all(function is not transport for _, _, function in assembly.machine.bus.functions()):
        raise CommandError(f"Device {each.name} is already in the process of unplug")
    path = each.backend.qom_path
    world.context.start(assembly.remove_device(each.name), partial(_gone, world, each.name, path))


def _gone(world: World, name: str, path: str, _result: None, error: BaseException | None) -> None:
    if error is not None:
        raise error
    device = path.removesuffix("/virtio-backend")
    world.events.emit("DEVICE_DELETED", {"path": path})
    own = {"device": name} if device.startswith("/machine/peripheral/") else {}
    world.events.emit("DEVICE_DELETED", {**own, "path": device})


async def device_list_properties(_world: World, arguments: DeviceListProperties) -> list[ModelProperty]:
    """What `device_add` takes for a model."""
    schema = MODELS.get(arguments.typename)
    if schema is None:
        raise device_not_found(arguments.typename)
    return [
        ModelProperty(
            item.encode_name,
            _type(item.type),
            UNSET if item.required or item.default is None else msgspec.to_builtins(item.default),
        )
        for item in msgspec.structs.fields(schema)
        if item.encode_name not in _NO_PROPERTIES
    ]


def _type(kind: object) -> str:
    """A property's type as QEMU calls it."""
    kinds = [each for each in get_args(kind) if each is not type(None)] if not isinstance(kind, type) else []
    if get_origin(kind) is Literal:
        return "OnOffAuto" if set(get_args(kind)) == {"on", "off", "auto"} else "str"
    if len(kinds) == 1:
        return _type(kinds[0])
    names: dict[object, str] = {bool: "bool", int: "int", str: "str"}
    return names.get(kind, "list" if get_origin(kind) is tuple else "struct")
