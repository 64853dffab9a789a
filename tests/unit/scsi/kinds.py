"""The kinds of logical units there are, each in all its configurations, for tests that are about any of them.

A new kind is one more entry of `KINDS`; `test_hostile` fails as long as a class of units is in none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from devmodels.blockbackend import BlockBackend, BlockNode, open_node
from devmodels.conformance import Profile, ViolationLog
from devmodels.iocontext import IoContext
from devmodels.scsi import LogicalUnit
from devmodels.scsi.absent import AbsentUnit, ReportLunsUnit
from devmodels.scsi.backed import BackedUnit
from devmodels.scsi.disk import Disk, DiskOptions
from devmodels.scsi.disk.commands import COMMANDS as DISK_COMMANDS
from devmodels.scsi.lun import REPORT_LUNS
from devmodels.scsi.mmc import CdDrive
from devmodels.scsi.mmc.commands import COMMANDS as DRIVE_COMMANDS
from devmodels.scsi.table import Command
from devmodels.virtio_scsi.bus import ScsiBus
from devmodels.virtio_scsi.wellknown import WELL_KNOWN_LUN, DomainUnit
from tests.unit.scsi import parameterdata
from tests.unit.scsi.cacheddisk import CachedNode, FailingNode
from tests.unit.scsi.initiator import SIZE, Initiator, World
from tests.unit.scsi.mmc.driveworld import DriveWorld, data_disc, mixed
from tests.unit.scsi.parameterdata import NAME
from tests.unit.scsi.promises import Promises


@dataclass
class Bench:
    """Two initiators of one target; `lun` is where the unit of the kind that is tested is, the first of `units`."""

    context: IoContext
    initiators: Sequence[Initiator]
    lun: int | None
    units: Sequence[LogicalUnit]
    failing: bool = False
    """Whether the disk below fails now and then."""
    deeds: Mapping[str, Callable[[int], None]] = field(default_factory=dict)
    """What the host may do to the unit meanwhile, by name; with a number of any size."""
    promises: Promises | None = None
    """What a disk lets its initiators rely on."""

    @property
    def busy(self) -> bool:
        """Whether a unit still has a task, or a disk a request."""
        return any(
            unit.tasks.tasks or (isinstance(unit, BackedUnit) and unit.backend.in_flight)
            for unit in self.units
        )


Build = Callable[[ExitStack], Bench]
"""Makes a bench with new units; what it opens is closed with the stack."""


@dataclass(frozen=True)
class Kind:
    """One kind: the classes of its units, its commands, its configurations by name.

    `parameters`: by operation code and service action, what makes parameter lists that the command may take.  `deeds`:
    what the host may do to its units.  `runs`: how many the long test takes.
    """

    classes: tuple[type[LogicalUnit], ...]
    commands: Sequence[Command[Any]]
    configurations: Mapping[str, Build]
    parameters: Mapping[tuple[int, int | None], Callable[[Random], bytes]] = field(default_factory=dict)
    deeds: tuple[str, ...] = ()
    runs: int = 450


# --- disks


def _disk(
    stack: ExitStack,
    *,
    medium: type[CachedNode] = CachedNode,
    delayed: bool = False,
    kept: bool = False,
    **options: Any,
) -> Bench:
    """A disk at LUN 0; `delayed`: its requests take a while; `kept`: with a file for what outlives a loss of power."""
    if kept:
        options["state"] = stack.enter_context(TemporaryDirectory()) + "/state"
    below = medium(IoContext.virtual())
    node: BlockNode = below
    if delayed:
        stack.callback(below.close)
        node = open_node(
            {"driver": "delay", "latency-ns": 1000, "file": "medium"}, below.context, {"medium": below}
        )
    world = World(node, wwn=NAME, **options)
    stack.callback(world.close)
    promises = Promises(world.disk, below)
    other = _neighbour(stack, world)
    return Bench(
        world.context,
        (world.first, world.second),
        0,
        [*world.units(), other],
        medium is FailingNode,
        _disk_deeds(world, promises),
        promises,
    )


def _neighbour(stack: ExitStack, world: World) -> Disk:
    """A second disk of the target, at LUN 2, for copies."""
    node = open_node({"driver": "memory", "size": SIZE, "discard": "unmap"}, world.context)
    stack.callback(node.close)
    backend = BlockBackend(node, name="d1", run_state=world.run_state)
    stack.callback(backend.close)
    disk = Disk(backend, DiskOptions(wwn=NAME + 1), violations=world.violations)
    stack.callback(disk.close)
    world.target.add(2, disk)
    return disk


DISK_DEEDS = ("eject", "load", "resize", "stop", "cont", "unplug")


def _disk_deeds(world: World, promises: Promises) -> Mapping[str, Callable[[int], None]]:
    disk, context, target = world.disk, world.context, world.target

    def resize(number: int) -> None:
        size = SIZE - 4096 * (number % 8)
        promises.over()
        context.start(world.backend.resize(size), lambda _result, _error: None)

    def unplug(_number: int) -> None:
        gone: list[bool] = []
        target.remove(0, lambda: gone.append(True))
        context.run_until_idle()
        assert gone, "its tasks have ended"
        target.add(0, disk)

    deeds: tuple[Callable[[int], None], ...] = (
        lambda _: disk.eject(),
        lambda _: disk.load(),
        resize,
        lambda _: world.run_state.stop("paused"),
        lambda _: world.run_state.cont(),
        unplug,
    )
    return dict(zip(DISK_DEEDS, deeds, strict=True))


def _handed_on(stack: ExitStack) -> Bench:
    """A disk whose reservations are those of the logical unit below, where there is none."""
    bench = _disk(stack, reservations="passthrough")
    bench.failing = True
    return bench


def _blocks(logical: int, physical: int, **options: Any) -> Build:
    return partial(_disk, logical_block_size=logical, physical_block_size=physical, **options)


DISK = Kind(
    (Disk,),
    DISK_COMMANDS,
    {
        "512": _disk,
        "512e": _blocks(512, 4096),
        "1024": _blocks(1024, 1024),
        "2048": _blocks(2048, 4096),
        "4096": _blocks(4096, 1 << 20),
        "lenient": partial(_disk, profile=Profile.LENIENT),
        "thick": partial(_disk, thin=False),
        "without DPO and FUA": partial(_disk, dpofua=False, write_cache="off"),
        "removable": partial(_disk, removable=True),
        "read-only": partial(_disk, read_only=True),
        "kept": partial(_disk, kept=True),
        "delayed": partial(_disk, delayed=True, removable=True),
        "a short queue": partial(_disk, delayed=True, queue_depth=2),
        "small limits": partial(_disk, max_io_size=2048, max_unmap_size=2048),
        "reservations handed on": _handed_on,
        "failing": partial(_disk, medium=FailingNode, removable=True),
        "failing, lenient": partial(_disk, medium=FailingNode, profile=Profile.LENIENT),
    },
    parameterdata.DISK,
    DISK_DEEDS,
    # So many that each command succeeds.
    runs=1000,
)


# --- CD drives


def _drive(
    stack: ExitStack, *, medium: str = "mixed", failing: bool = False, delayed: bool = False, **options: Any
) -> Bench:
    """A drive at LUN 0 with a medium: `mixed` tracks, `data`, a `dvd`, a `bd`, or `none`."""
    node: Any
    if medium == "mixed":
        node = {"driver": "cue", "filename": str(mixed(Path(stack.enter_context(TemporaryDirectory()))))}
    elif medium == "data":
        node = FailingNode(IoContext.virtual()) if failing else {"driver": "memory", "size": SIZE}
    else:
        node = {"dvd": data_disc(1_000_000), "bd": data_disc(20_000_000), "none": None}[medium]
    if delayed:
        node = {"driver": "delay", "latency-ns": 1000, "file": node}
    world = DriveWorld(node, **options)
    stack.callback(world.close)
    well_known = world.target.unit(REPORT_LUNS)
    assert well_known is not None
    units = [world.drive, well_known, world.target.absent]
    return Bench(world.context, (world.first, world.second), 0, units, failing)


DRIVE = Kind(
    (CdDrive,),
    DRIVE_COMMANDS,
    {
        "a mixed disc": _drive,
        "a mixed disc, lenient": partial(_drive, conformance=Profile.LENIENT),
        "a mixed disc, delayed": partial(_drive, delayed=True),
        "data": partial(_drive, medium="data"),
        "a DVD": partial(_drive, medium="dvd"),
        "a BD": partial(_drive, medium="bd"),
        "nothing": partial(_drive, medium="none"),
        "slow to load": partial(_drive, load_time=100),
        "a short queue": partial(_drive, delayed=True, queue_depth=2),
        "failing": partial(_drive, medium="data", failing=True),
    },
    parameterdata.DRIVE,
    runs=600,
)


# --- units that no medium stands behind


def _at(lun: int | None, stack: ExitStack) -> Bench:
    world = World()
    stack.callback(world.close)
    unit = world.target.unit(lun) or world.target.absent
    others = [each for each in world.units() if each is not unit]
    return Bench(world.context, (world.first, world.second), lun, [unit, *others])


NOTHING = Kind(
    (AbsentUnit,),
    AbsentUnit.commands,
    {"a LUN without a unit": partial(_at, 7), "a LUN that cannot be": partial(_at, None)},
)
WELL_KNOWN = Kind((ReportLunsUnit,), ReportLunsUnit.commands, {"of a target": partial(_at, REPORT_LUNS)})


def _domain(stack: ExitStack) -> Bench:
    """The well known unit of a virtio SCSI host with three others."""
    context = IoContext.virtual()
    bus = ScsiBus(context, name="vs0", violations=ViolationLog())
    stack.callback(context.close)
    for number, lun in ((0, 0), (0, 300), (255, 16383)):
        bus.add(number, lun, AbsentUnit(context))
    place = bus.find(WELL_KNOWN_LUN)
    assert place is not None
    initiators = [Initiator(place.target, number) for number in (1, 2)]
    return Bench(context, initiators, place.lun, list(place.target.units.values()))


DOMAIN = Kind((DomainUnit,), DomainUnit.commands, {"of a virtio SCSI host": _domain})

KINDS = {"disk": DISK, "drive": DRIVE, "nothing": NOTHING, "well-known": WELL_KNOWN, "domain": DOMAIN}


def classes(base: type[LogicalUnit] = LogicalUnit) -> list[type[LogicalUnit]]:
    """Every class of logical units that answers commands, as far as modules are loaded."""
    out = [base] if "commands" in vars(base) or "inquiry_data" in vars(base) else []
    for each in base.__subclasses__():
        out += classes(each)
    return [each for each in out if each is not LogicalUnit]
