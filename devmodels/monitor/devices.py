"""Devices come and go: `device_add`, `device_del`, `device-list-properties`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import UNSET, UnsetType, field

from devmodels.assembly.devices import DEVICES
from devmodels.monitor.command import Arguments, CommandError, Options, device_not_found, identifier, strings
from devmodels.monitor.world import World
from devmodels.virtio.pci import VirtioPci

if TYPE_CHECKING:
    from devmodels.assembly.assembly import Assembly

_NOT_HOT = ("virtio-blk-device", "virtio-scsi-device")
"""What has a place that guests are told of by firmware."""
_WITHOUT_DRIVE = ("scsi-cd", "ide-cd")
"""What may have an empty tray."""
_NO_PROPERTIES = ("driver", "id", "bus")


class DeviceBase(Arguments, frozen=True):
    """What every device has."""

    driver: str
    bus: str | None = None
    id: str | None = None


DeviceOptions = Annotated[Mapping[str, object], Options(DeviceBase)]


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
    """Make a device and plug it: a guest finds it where it looks again at its bus.

    Of devices that other programs' machines have, that is one on the bus of another.
    """
    known = check_new(world, options)
    if world.assembly is not None:
        world.assembly.add_device(known)
    else:
        assert world.hosted is not None
        world.hosted.add(known)


def check_new(world: World, options: Mapping[str, object]) -> dict[str, object]:
    """The options that a new device is made with; CommandError where there can be none such."""
    strings(options, "driver", "id", "bus", "drive")
    identifier(options, "id")
    driver, name = options.get("driver"), options.get("id")
    if driver is None:
        raise CommandError("Parameter 'driver' is missing")
    if not isinstance(driver, str) or driver not in DEVICES:
        raise CommandError(f"'{driver}' is not a valid device model name")
    if driver in _NOT_HOT:
        raise CommandError("Bus 'virtio-mmio-bus' does not support hotplugging")
    if world.assembly is None and DEVICES[driver].place == "pci":
        raise CommandError("Bus 'pci' does not support hotplugging")
    if isinstance(name, str) and world.machine_of(name) is not None:
        raise CommandError(f"Duplicate device ID '{name}'")
    names = DEVICES[driver].kind.options.__struct_fields__
    if "drive" in names and not ("drive" not in options and driver in _WITHOUT_DRIVE):
        _check_drive(world, driver, options.get("drive"))
    if DEVICES[driver].place == "ata":
        _check_port(world, options)
    return {key: value for key, value in options.items() if key != "bus" or "bus" in names}


def _check_drive(world: World, driver: str, drive: object) -> None:
    if drive is None:
        raise CommandError("drive property not set")
    if drive not in world.graph.nodes:
        model = "virtio-blk-device" if driver == "virtio-blk-pci" else driver
        raise CommandError(f"Property '{model}.drive' can't find value '{drive}'")


def _check_port(world: World, options: Mapping[str, object]) -> None:
    """Ports see what comes and goes; cables have what they had when the machine was switched on."""
    from devmodels.ata.units import find_place

    buses = {name: bus for assembly in world.machines() for name, bus in assembly.ata_buses.items()}
    bus, unit = options.get("bus"), options.get("unit")
    try:
        name, _ = find_place(
            buses, bus if isinstance(bus, str) else None, unit if isinstance(unit, int) else None
        )
    except ValueError as error:
        raise CommandError(str(error)) from None
    if not buses[name].hot_pluggable:
        raise CommandError(f"Bus '{name}' does not support hotplugging")


async def device_del(world: World, arguments: DeviceDel) -> None:
    """Begin to take a device out; the event DEVICE_DELETED says when it has gone."""
    name, path = find(world, arguments.id)
    assembly = world.machine_of(name)
    assert assembly is not None
    if name in assembly.units:
        place = assembly.units[name]
        target = place.host.bus.targets.get(place.target)
        unplugged = target is None or place.lun not in target.units
        going = {name: path}
    elif name in assembly.ata_units:
        spot = assembly.ata_units[name]
        if not spot.bus.hot_pluggable:
            raise CommandError(f"Bus '{spot.bus_name}' does not support hotplugging")
        unplugged = spot.bus.units.get(spot.unit) is not spot.device
        going = {name: path}
    else:
        if world.assembly is None:
            raise CommandError("Bus 'pci' does not support hotplugging")
        function = assembly.function(name)
        if function is None:
            raise CommandError("Bus 'virtio-mmio-bus' does not support hotplugging")
        unplugged = all(each is not function for _, each in assembly.machine.bus.walk())
        going = {child: world.find(child).backend.qom_path for child in on_its_buses(assembly, name)}
        if isinstance(function, VirtioPci) and name in assembly.paths:
            path = f"{path}/virtio-backend"
        going[name] = path
    if unplugged:
        raise CommandError(f"Device {name} is already in the process of unplug")
    world.context.start(assembly.remove_device(name), partial(_gone, world, going))


def on_its_buses(assembly: Assembly, name: str) -> list[str]:
    """The disks and drives on the buses of the host `name`, in the order in which they go with it, as QEMU's do."""
    host = assembly.ata_hosts.get(name)
    if host is not None:
        places = list(assembly.ata_units.items())
        return [unit for bus in host.buses for unit, place in places if place.bus is bus]
    device = assembly.devices.get(name)
    if device is None:
        return []
    return [unit for unit, place in reversed(assembly.units.items()) if place.host is device.device]


def find(world: World, name: str) -> tuple[str, str]:
    """Id and path of the device that a command calls `name`; DeviceNotFound where there is none."""
    for assembly in world.machines():
        for device, path in assembly.paths.items():
            if name in (device, path):
                return device, path
    each = world.by_id(name)
    if world.machine_of(each.name) is None:
        raise device_not_found(name)
    return each.name, each.backend.qom_path


def _gone(world: World, going: Mapping[str, str], _result: None, error: BaseException | None) -> None:
    if error is not None:
        raise error
    for name, path in going.items():
        device = path.removesuffix("/virtio-backend")
        if device != path:
            world.events.emit("DEVICE_DELETED", {"path": path})
        own = {"device": name} if device.startswith("/machine/peripheral/") else {}
        world.events.emit("DEVICE_DELETED", {**own, "path": device})


async def device_list_properties(_world: World, arguments: DeviceListProperties) -> list[ModelProperty]:
    """What `device_add` takes for a model."""
    model = DEVICES.get(arguments.typename)
    if model is None:
        raise device_not_found(arguments.typename)
    return properties(model.kind.options)


def properties(options: type[msgspec.Struct]) -> list[ModelProperty]:
    """Those of a model with such options."""
    return [
        ModelProperty(
            item.encode_name,
            _type(item.type),
            UNSET if item.required or item.default is None else msgspec.to_builtins(item.default),
        )
        for item in msgspec.structs.fields(options)
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
