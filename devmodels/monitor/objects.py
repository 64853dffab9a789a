"""QEMU's tree of objects, as far as there is one: what `--object` makes below /objects, devices below /machine.

`object-add`, `object-del`, `qom-get`, `qom-set`, `qom-list`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec

from devmodels.blockbackend.graph import KINDS
from devmodels.blockbackend.throttling import ThrottleGroup, ThrottleLimits
from devmodels.iothreads import IoThreadOptions
from devmodels.monitor.command import Arguments, CommandError, Options, device_not_found, identifier, strings
from devmodels.monitor.world import Attached, World
from devmodels.options import id_taken
from devmodels.secretobjects import SecretOptions
from devmodels.virtio.pci import VirtioPci


class _ObjectOptions(Arguments, frozen=True):
    qom_type: str
    id: str


class ThrottleGroupOptions(_ObjectOptions, frozen=True):
    """A throttle group."""

    limits: ThrottleLimits = ThrottleLimits()


ObjectOptions = Annotated[
    Mapping[str, object],
    Options(
        _ObjectOptions,
        "qom-type",
        lambda: {
            "iothread": IoThreadOptions,
            "secret": SecretOptions,
            "throttle-group": ThrottleGroupOptions,
        },
    ),
]


class ObjectDel(Arguments, frozen=True):
    """An object that nobody uses."""

    id: str


class QomPath(Arguments, frozen=True):
    """An object: `/objects/t0`, `/machine/peripheral/v0`, or its last part."""

    path: str


class QomGet(Arguments, frozen=True):
    """A property of an object."""

    path: str
    property: str


class QomSet(Arguments, frozen=True):
    """What a property of an object is to be."""

    path: str
    property: str
    value: Any


class ObjectPropertyInfo(msgspec.Struct):
    """A property; `type` is `child<…>` for what is below."""

    name: str
    type: str


async def object_add(world: World, options: ObjectOptions) -> None:
    """Make an object."""
    strings(options, "qom-type", "id")
    kind, name = options.get("qom-type"), options.get("id")
    for member in ("qom-type", "id"):
        if member not in options:
            raise CommandError(f"Parameter '{member}' is missing")
    identifier(options, "id")
    if isinstance(kind, str) and kind not in KINDS:
        raise CommandError(f"Parameter 'qom-type' does not accept value '{kind}'")
    graph = world.graph
    if any(name in there for there in (graph.objects, graph.iothreads.by_id, graph.secrets.by_id)):
        raise CommandError(id_taken(name))
    graph.object_add(options)


async def object_del(world: World, arguments: ObjectDel) -> None:
    """Drop an object."""
    name = arguments.id
    group, thread = world.graph.objects.get(name), world.graph.iothreads.by_id.get(name)
    if group is None and thread is None and name not in world.graph.secrets.by_id:
        raise CommandError(f"object '{name}' not found")
    if (group is not None and group.members) or (thread is not None and thread.users):
        raise CommandError(f"object '{name}' is in use, can not be deleted")
    world.graph.delete_object(name)


async def qom_list(world: World, arguments: QomPath) -> list[ObjectPropertyInfo]:
    """What an object has."""
    found = _find(world, arguments.path)
    own = [ObjectPropertyInfo("type", "string")]
    own += [ObjectPropertyInfo(name, each.kind) for name, each in found.properties.items()]
    return own + [ObjectPropertyInfo(name, f"child<{each.kind}>") for name, each in found.children.items()]


async def qom_get(world: World, arguments: QomGet) -> Any:
    """A property's value."""
    found = _find(world, arguments.path)
    if arguments.property == "type":
        return found.kind
    return _property(found, arguments.property).get()


async def qom_set(world: World, arguments: QomSet) -> None:
    """Give a property a value: the limits of a group, the drive of a device."""
    found = _find(world, arguments.path)
    if arguments.property == "type":
        raise CommandError(f"Property '{found.kind}.type' is not writable")
    await _property(found, arguments.property).set(arguments.value)


# --- the tree


class _Property(msgspec.Struct, frozen=True):
    kind: str
    get: Callable[[], object]
    set: Callable[[object], Any]
    """Gives a coroutine."""


class _Object(msgspec.Struct, frozen=True):
    kind: str
    children: Mapping[str, _Object] = msgspec.field(default_factory=dict)
    properties: Mapping[str, _Property] = msgspec.field(default_factory=dict)


def _find(world: World, path: str) -> _Object:
    """The object at an absolute path, or the only one whose path ends so; DeviceNotFound where there is none."""
    parts = [part for part in path.split("/") if part]
    root = _tree(world)
    if path.startswith("/"):
        here: _Object | None = root
        for part in parts:
            here = None if here is None else here.children.get(part)
        found = [] if here is None else [here]
    else:
        found = _ending(root, parts) if parts else []
    if not found:
        raise device_not_found(path)
    if len(found) > 1:
        raise CommandError(f"Path '{path}' is ambiguous")
    return found[0]


def _ending(here: _Object, parts: list[str]) -> list[_Object]:
    found, end = [], here
    for part in parts:
        if part not in end.children:
            break
        end = end.children[part]
    else:
        found.append(end)
    for child in here.children.values():
        found += _ending(child, parts)
    return found


def _property(found: _Object, name: str) -> _Property:
    if name not in found.properties:
        raise CommandError(f"Property '{found.kind}.{name}' not found")
    return found.properties[name]


def _tree(world: World) -> _Object:
    objects = {name: _group(group) for name, group in world.graph.objects.items()}
    objects |= {name: _Object("iothread") for name in world.graph.iothreads.by_id}
    objects |= {name: _Object("secret") for name in world.graph.secrets.by_id}
    children = {"objects": _Object("container", objects)}
    if world.machines():
        places: dict[str, dict[str, _Object]] = {"peripheral": {}, "peripheral-anon": {}}
        for each in world.attached():
            _, _, place, *rest = each.backend.qom_path.split("/") if each.backend.qom_path else ("",) * 3
            if rest:
                places.setdefault(place, {})[rest[0]] = _device(world, each, has_backend=len(rest) > 1)
        for machine in world.machines():
            for name, path in machine.paths.items():
                _, _, place, own = path.split("/")
                if name in machine.ata_hosts:
                    driver = machine.options[name]["driver"]
                    places.setdefault(place, {})[own] = _Object(str(driver))
                    continue
                on_pci = isinstance(machine.devices[name], VirtioPci)
                places[place][own] = _Object("virtio-scsi-pci" if on_pci else "virtio-scsi-device")
        containers = {name: _Object("container", inside) for name, inside in places.items()}
        children["machine"] = _Object(world.machine_type, containers)
    return _Object("container", children)


def _group(group: ThrottleGroup) -> _Object:
    async def configure(value: object) -> None:
        if not isinstance(value, Mapping):
            raise CommandError("Invalid parameter type for 'limits', expected: object")
        # As in QEMU, those that are not given stay.
        group.set_limits(value, where="limits")

    return _Object(
        "throttle-group",
        properties={"limits": _Property("ThrottleLimits", lambda: group.limits, configure)},
    )


def _device(world: World, each: Attached, *, has_backend: bool) -> _Object:
    machine = world.machine_of(each.name)
    assert machine is not None

    async def lead(value: object) -> None:
        if not isinstance(value, str):
            raise CommandError("Invalid parameter type for 'drive', expected: string")
        if value not in world.graph.nodes:
            raise CommandError(f"Property '{model}.drive' can't find value '{value}'")
        await machine.set_drive(each.name, value)

    unit = machine.units.get(each.name) or machine.ata_units.get(each.name)
    model = unit.driver if unit is not None else "virtio-blk-device"
    drive = {
        "drive": _Property("str", lambda: each.backend.node.node_name if each.backend.inserted else "", lead)
    }
    if not has_backend:
        return _Object(model, properties=drive)
    return _Object(
        "virtio-blk-pci", {"virtio-backend": _Object("virtio-blk-device", properties=drive)}, drive
    )
