"""QMP as QEMU's machines have it: what a daemon's monitor has not, or has otherwise.

Drives of `-drive` go by their ids in `query-block` and wherever a command names a device; PCI devices go when the guest
lets them; `query-machines` and `qom-list-types` tell what there is, with no more members than clients of 7.2 know.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from math import inf
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from devmodels.assembly.devices import DEVICES
from devmodels.blockbackend import BlockNode
from devmodels.blockbackend.graph import GONE
from devmodels.monitor import block, devices, info, machine, medium, objects, stats, threads
from devmodels.monitor.block import BlockResize
from devmodels.monitor.command import Arguments, CommandError, Options, Run
from devmodels.monitor.human import HumanMonitorCommand
from devmodels.monitor.info import BlockDeviceInfo, BlockInfo, QueryNamedBlockNodes
from devmodels.monitor.threads import IOThreadInfo
from devmodels.monitor.world import World
from devmodels.options import OptionError
from devmodels.qtest.devices import ALIASES, BRIDGES, check_hot_plug, check_hot_unplug
from devmodels.qtest.drives import medium_node
from devmodels.qtest.queries import Queries

if TYPE_CHECKING:
    from devmodels.qtest.assembling import Assembling
    from devmodels.qtest.migration import Migration

T = TypeVar("T")
MACHINES = (("none", None), ("pc-i440fx-7.2", "pc"), ("pc-q35-7.2", "q35"))


def full_name(board: str) -> str:
    """What QEMU 7.2 calls the machine that a board is."""
    return next(name for name, alias in MACHINES if board in (name, alias))


class MachineInfo(msgspec.Struct, rename="kebab"):
    """What there is of a machine type."""

    name: str
    numa_mem_supported: bool
    deprecated: bool
    hotpluggable_cpus: bool
    cpu_max: int
    alias: str | UnsetType = UNSET


class TypeInfo(msgspec.Struct):
    """A type."""

    name: str


class ListTypes(Arguments, frozen=True):
    """Types that are of another type; `abstract` ones too."""

    implements: str | None = None
    abstract: bool = False


async def query_machines(_world: World) -> list[MachineInfo]:
    """The boards."""
    return [MachineInfo(name, False, False, False, 1, alias or UNSET) for name, alias in MACHINES]


async def qom_list_types(_world: World, _arguments: ListTypes) -> list[TypeInfo]:
    """The devices."""
    return [TypeInfo(name) for name in (*DEVICES, *ALIASES, *BRIDGES)]


class Commands:
    """The commands of one machine."""

    def __init__(self, assembling: Assembling, world: World, migration: Migration) -> None:
        self._assembling = assembling
        self._board = assembling.board
        self._world = world
        self._migration = migration
        self._watch_devices()
        if self._board.hotplug is not None:
            self._board.hotplug.take_out = self._take_out

    def table(self) -> dict[str, Run]:
        """By name."""
        return {
            "block_resize": self.block_resize,
            **Queries(self._assembling).table(),
            "blockdev-change-medium": self.blockdev_change_medium,
            "blockdev-remove-medium": self.blockdev_remove_medium,
            "cont": self._migration.cont,
            "device_add": self.device_add,
            "device_del": self.device_del,
            "human-monitor-command": self.human_monitor_command,
            "migrate": self._migration.migrate,
            "migrate-incoming": self._migration.migrate_incoming,
            "object-add": self.object_add,
            "object-del": self.object_del,
            "qom-list-types": qom_list_types,
            "query-block": self.query_block,
            "query-blockstats": self.query_blockstats,
            "query-iothreads": self.query_iothreads,
            "query-machines": query_machines,
            "query-migrate": self._migration.query_migrate,
            "query-named-block-nodes": self.query_named_block_nodes,
            "system_reset": self.system_reset,
        }

    def _watch_devices(self) -> None:
        """Commands may call a device by its drive."""
        self._world.aliases = {drive: device for device, drive in self._assembling.uses.items()}

    # --- devices

    async def blockdev_remove_medium(self, world: World, arguments: medium.RemoveMedium) -> None:
        """What was in the tray is nobody's then: as in QEMU, others may have its image."""
        nodes = {name: node for name, node in world.graph.nodes.items() if node.parents}
        await medium.blockdev_remove_medium(world, arguments)
        for name, node in nodes.items():
            if not node.parents and world.graph.nodes.get(name) is node:
                await world.graph.set_active(name, False)

    async def blockdev_change_medium(self, world: World, arguments: medium.ChangeMedium) -> None:
        """Put another medium in, by a file name as `-drive` has it."""
        read_only = arguments.read_only_mode != "read-write"
        node = medium_node(arguments.filename, arguments.format, read_only=read_only)
        try:
            await medium.change(world, arguments, node)
        except OptionError as error:
            found = re.search(r"cannot open .*: (.*)$", str(error))
            why = str(error) if found is None else f"Could not open '{arguments.filename}': {found[1]}"
            raise CommandError(why) from None

    async def device_add(
        self, world: World, options: Annotated[Mapping[str, object], Options(devices.DeviceBase)]
    ) -> None:
        """Make a device and plug it."""
        driver, bus = options.get("driver"), options.get("bus")
        if not isinstance(driver, str):
            raise CommandError("Parameter 'driver' is missing")
        model, _ = ALIASES.get(driver, (driver, {}))
        if model not in DEVICES:
            raise CommandError(f"'{driver}' is not a valid device model name")
        if not isinstance(bus, str | None):
            raise CommandError("Invalid parameter type for 'bus', expected: string")
        check_hot_plug(model, options, self._board)
        if isinstance(name := options.get("id"), str) and world.machine_of(name) is not None:
            raise CommandError(f"Duplicate device ID '{name}'")
        made = self._assembling.device(options)
        if self._board.hotplug is not None and DEVICES[model].place == "pci":
            self._board.hotplug.added(made)
        self._watch_devices()

    async def device_del(self, world: World, arguments: devices.DeviceDel) -> None:
        """Ask the guest to let a PCI device go; take any other one out."""
        is_bridge = arguments.id in self._board.bridges
        name = arguments.id if is_bridge else devices.find(world, arguments.id)[0]
        check_hot_unplug(name, self._board)
        hotplug = self._board.hotplug
        slot = None if hotplug is None else hotplug.slot_of(name)
        if hotplug is None or slot is None:
            await self._delete(name)
            return
        hotplug.ask(slot, name)

    def _take_out(self, name: str) -> None:
        """The guest has let it go."""
        self._world.context.start(self._delete(name))

    async def _delete(self, name: str) -> None:
        """Take a device out, with what is on its buses; what was known of them is forgotten when they have gone.

        As on QEMU the drives of those on an HBA's stay.
        """
        assembly = self._board.assembly
        host, below = name in assembly.ata_hosts, devices.on_its_buses(assembly, name)
        await devices.device_del(self._world, devices.DeviceDel(name))

        def forget() -> None:
            for each in (*below, name):
                self._assembling.forget(each, keep_drive=host)
            self._watch_devices()

        if self._world.machine_of(name) is None:
            forget()
            return

        def gone(event: str, _data: Mapping[str, object]) -> None:
            if event == "DEVICE_DELETED" and self._world.machine_of(name) is None:
                self._world.events.remove_listener(gone)
                forget()

        self._world.events.add_listener(gone)

    async def system_reset(self, world: World) -> None:
        """Reset the machine; what guests were asked to let go goes."""
        await machine.system_reset(world)
        if self._board.hotplug is not None:
            self._board.hotplug.reset()
        if self._board.fw_cfg is not None:
            self._board.fw_cfg.reset()

    # --- drives

    async def block_resize(self, world: World, arguments: BlockResize) -> None:
        """Give a node another size; a drive that no device has is one, too."""
        drive = self._assembling.drives.get(arguments.device or "")
        if drive is not None and drive.node is not None and drive.name not in self._world.aliases:
            arguments = BlockResize(size=arguments.size, node_name=str(drive.node["node-name"]))
        await block.block_resize(world, arguments)

    async def query_block(self, world: World) -> list[BlockInfo]:
        """Drives by their ids, in use or not, and devices over nodes of `-blockdev`."""
        aged = [(self._age(each.name), info.block_info(each)) for each in world.attached()]
        for name, node in self._unused():
            inserted = UNSET if node is None else info.node_info(node)
            told = BlockInfo(name, "unknown", True, False, inserted)
            aged.append((self._assembling.ages["drive", name], told))
        found = _by_age(aged)
        for told in found:
            if told.inserted is not UNSET and told.inserted.drv == GONE:
                told.inserted = told.io_status = UNSET
            elif told.inserted is not UNSET:
                _as_it_was(told.inserted)
        return found

    async def query_blockstats(
        self, world: World, arguments: stats.QueryBlockstats
    ) -> list[stats.BlockStatsInfo]:
        """The same drives, or all nodes."""
        found = await stats.query_blockstats(world, arguments)
        if arguments.query_nodes:
            return found
        now, ages = world.context.now_ns(), self._assembling.ages
        aged = [(self._age(each.name), told) for each, told in zip(world.attached(), found, strict=True)]
        aged += [(ages["drive", name], stats.unused(node, name, now)) for name, node in self._unused()]
        return _by_age(aged)

    def _unused(self) -> list[tuple[str, BlockNode | None]]:
        """Drives that no device has, with their nodes where they have a medium."""
        used = set(self._assembling.uses.values())
        there = [(name, made.node) for name, made in self._assembling.drives.items() if name not in used]
        return [
            (name, None if node is None else self._world.node(str(node["node-name"]))) for name, node in there
        ]

    def _age(self, device: str) -> float:
        """When the drive that a device has came, or where it never had one the device itself; exports are last."""
        drive, ages = self._assembling.uses.get(device), self._assembling.ages
        return ages.get(("device", device), inf) if drive is None else ages["drive", drive]

    async def query_named_block_nodes(
        self, world: World, arguments: QueryNamedBlockNodes
    ) -> list[BlockDeviceInfo]:
        """Every node, the newest first."""
        return [_as_it_was(each) for each in await info.query_named_block_nodes(world, arguments)]

    # --- iothreads that are nothing but names

    async def query_iothreads(self, world: World) -> list[IOThreadInfo]:
        """All work is done in the one thread that there is."""
        names = sorted(self._board.threads.items())
        there = [IOThreadInfo(name, os.getpid(), each.poll_max_ns, 0, 0, 0) for name, each in names]
        return there + await threads.query_iothreads(world)

    async def object_add(self, world: World, options: objects.ObjectOptions) -> None:
        """An iothread, as the command line's are; anything else as everywhere."""
        if options.get("qom-type") == "iothread" and self._assembling.launch.clock == "client":
            self._assembling.iothread(options)
        else:
            await objects.object_add(world, options)

    async def object_del(self, world: World, arguments: objects.ObjectDel) -> None:
        """Drop an object."""
        if self._board.threads.pop(arguments.id, None) is None:
            await objects.object_del(world, arguments)

    async def human_monitor_command(self, world: World, arguments: HumanMonitorCommand) -> str:
        """A line of the human monitor's."""
        from devmodels.qtest.human import HumanMonitor  # for those only that use it

        return await HumanMonitor(self._assembling, world, self._drive_of_qemu_io).line(
            arguments.command_line
        )

    def _drive_of_qemu_io(self, line: str) -> str:
        """A name of a drive that a device has is the drive, as the device uses it, before it is a node's."""
        before, found, rest = line.strip().partition(" ")
        name = rest.lstrip().partition(" ")[0]
        if not found or name not in self._world.aliases or not self._world.run_state.running:
            return line
        return f"{before} -d {rest}"


def _as_it_was(told: BlockDeviceInfo) -> BlockDeviceInfo:
    """Without members that QEMU 7.2 does not have."""
    told.active = told.children = UNSET
    return told


def _by_age(aged: list[tuple[float, T]]) -> list[T]:
    return [told for _, told in sorted(aged, key=itemgetter(0))]
