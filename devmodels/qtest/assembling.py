"""From a command line to a board with its nodes and devices, in QEMU's order: objects, nodes, drives, devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from devmodels.blockbackend.options import BlockOptionError
from devmodels.blockbackend.registry import coerce as coerce_node
from devmodels.blockbackend.throttling.limits import ThrottleLimits, check
from devmodels.iocontext import ClockKind, IoContext
from devmodels.iothreads import IoThreadOptions
from devmodels.options import OptionError, coerce, decode
from devmodels.qtest.board import Board
from devmodels.qtest.commandline import Launch
from devmodels.qtest.devices import device_options, text_of_device
from devmodels.qtest.drives import Drive, drive

CD_DRIVERS = ("ide-cd", "ide-hd", "scsi-cd")
"""Who names one of these himself gets no CD drive of the board's."""
CD_PLACE = {"pc": 2, "q35": 2}


class Assembling:
    """A board that is being made, and what later commands (`device_add`, `drive_add`) need to know of the line."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        client = launch.clock == "client"
        context = IoContext(ClockKind.STEPPED if client else ClockKind.WALL)
        self.board = Board(launch.machine, context, ram=launch.ram, clock=client)
        self.drives: dict[str, Drive] = {}
        """By id, as long as nobody has deleted them."""
        self._places: set[tuple[str, int, int]] = set()
        self._number = 0

    def build(self) -> Board:
        """Make everything; OptionError, one line, where something is wrong."""
        launch, board = self.launch, self.board
        if launch.stopped:
            board.assembly.run_state.stop("prelaunch")
        for text in launch.objects:
            with _said("-object", text):
                self._object(text)
        for text in launch.blockdevs:
            with _said("-blockdev", text):
                self._blockdev(text)
        for text in launch.drives:
            with _said("-drive", text):
                self.drive(text)
        given = [text_of_device(text) for text in launch.devices]
        for name, made in list(self.drives.items()):
            with _said("-drive", name):
                self._device_of(made)
        if launch.defaults and not any(each.get("driver") in CD_DRIVERS for each in given):
            self._add_cd()
        for text, options in zip(launch.devices, given, strict=True):
            with _said("-device", text):
                self.device(options)
        board.finish()
        return board

    def _object(self, text: str) -> None:
        if not text.lstrip().startswith("{") and "=" not in text.partition(",")[0]:
            text = f"qom-type={text}"
        options = decode(text, None, what="object")
        if options.get("qom-type") == "iothread":
            options = coerce(options, IoThreadOptions)
        self.board.assembly.add_object(options)

    def _blockdev(self, text: str) -> None:
        options = decode(text, None, what="blockdev", implied="driver")
        if not text.lstrip().startswith("{"):
            options = coerce_node(options)
        self.board.assembly.add_node(options)

    def drive(self, text: str) -> Drive:
        """`-drive` and `drive_add`: open the node, remember the rest."""
        interface = "none" if self.board.name == "none" else "ide"
        made = drive(
            text,
            number=self._number,
            interface=interface,
            taken=self._places,
            snapshot=self.launch.snapshot,
        )
        self._number += 1
        if made.name in self.drives or made.name in self.board.assembly.graph.nodes:
            raise OptionError(f"Duplicate ID '{made.name}' for drive")
        if made.node is not None:
            self.board.assembly.add_node(made.node)
        self.drives[made.name] = made
        return made

    def _device_of(self, made: Drive) -> None:
        """The device that the board gives to a drive with an interface."""
        if made.place is None:
            return
        interface, bus, unit = made.place
        if interface == "virtio":
            self.device({"driver": "virtio-blk-pci", "drive": made.name})
            return
        driver = f"{interface}-{'cd' if made.media == 'cdrom' else 'hd'}"
        options: dict[str, object] = {"driver": driver, "drive": made.name}
        if interface == "scsi":
            options |= {"bus": f"scsi.{bus}", "scsi-id": str(unit)}
        elif self.board.name == "q35":
            options["bus"] = f"ide.{2 * bus + unit}"
        else:
            options |= {"bus": f"ide.{bus}", "unit": str(unit)}
        self.device(options)

    def _add_cd(self) -> None:
        place = CD_PLACE.get(self.board.name)
        if place is None or ("ide", *divmod(place, 2)) in self._places:
            return
        bus, unit = divmod(place, 2)
        where = (
            {"bus": f"ide.{place}"} if self.board.name == "q35" else {"bus": f"ide.{bus}", "unit": str(unit)}
        )
        self.device({"driver": "ide-cd", "id": f"ide{bus}-cd{unit}", **where})

    def device(self, given: Mapping[str, object]) -> str:
        """`-device` and `device_add`: make a device of ours; returns its id."""
        options = device_options(given, self.board, self.launch.globals)
        made = self.drives.get(name) if isinstance(name := options.get("drive"), str) else None
        if made is not None:
            for key, value in made.inherited.items():
                options.setdefault(key, value)
            if made.node is None:
                del options["drive"]
            else:
                options["drive"] = made.node["node-name"]
        name = self.board.assembly.add_device(options)
        if made is not None and made.limits:
            self._limit(name, made)
        return name

    def _limit(self, name: str, made: Drive) -> None:
        limits = dict(made.limits)
        group = limits.pop("group", None)
        checked = check(coerce(limits, ThrottleLimits), where="throttling")
        backend = self.board.assembly.drives[name]
        self.board.assembly.graph.set_io_throttle(backend, checked, str(group) if group else made.name)


@contextmanager
def _said(option: str, text: str) -> Iterator[None]:
    """What is wrong is said of the option that has it."""
    try:
        yield
    except BlockOptionError as error:
        raise OptionError(f"{option} {text}: {str(error).removeprefix('$: ').removeprefix('$.')}") from None
    except OptionError as error:
        raise OptionError(f"{option} {text}: {error}") from None
