"""From a command line to a board with its nodes and devices, in QEMU's order: objects, nodes, drives, devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Literal

from devmodels.assembly.assembly import pci_place
from devmodels.assembly.devices import DEVICES
from devmodels.blockbackend.options import BlockOptionError
from devmodels.blockbackend.registry import coerce as coerce_node
from devmodels.blockbackend.throttling.limits import ThrottleLimits, check
from devmodels.iocontext import ClockKind, IoContext
from devmodels.iothreads import IoThreadOptions
from devmodels.options import OptionError, coerce, convert, decode, id_taken, shown
from devmodels.qtest import properties
from devmodels.qtest.board import BUSES, Board
from devmodels.qtest.commandline import Launch
from devmodels.qtest.devices import ALIASES, BRIDGES, PORTS, check_bus, device_options, text_of_device
from devmodels.qtest.drives import WITHOUT_DEVICE, Drive, drive
from devmodels.qtest.numbers import option_number, whole

CD_DRIVERS = ("ide-cd", "ide-hd", "scsi-cd")
"""Who names one of these himself gets no CD drive of the board's."""
WITHOUT_MEDIUM = ("ide-cd", "scsi-cd")
GEOMETRY = ("lcyls", "lheads", "lsecs")
"""What firmware is told of a disk: nothing of the disk itself."""
CD_PLACE = 2
"""Which one of a board's IDE disks and drives it is."""
PER_BUS = {"pc": {"ide": 2, "scsi": 7}, "q35": {"ide": 1, "scsi": 7}, "none": {"ide": 2, "scsi": 7}}
"""How many units a board's buses have."""


class Assembling:
    """A board that is being made, and what later commands (`device_add`, `drive_add`) need to know of the line."""

    def __init__(self, launch: Launch, *, without_unmodelled: bool = False) -> None:
        self.launch = launch
        self.left_out: list[str] = []
        """The models of the line that there are not here, with `without_unmodelled`; else such a line is refused."""
        self._without_unmodelled = without_unmodelled
        self._left_ids: set[str] = set()
        """What they are called."""
        client = launch.clock == "client"
        context = IoContext(ClockKind.STEPPED if client else ClockKind.WALL)
        self.board = Board(launch.machine, context, ram=launch.ram, clock=client)
        self.drives: dict[str, Drive] = {}
        """By id, as long as nobody has deleted them."""
        self.uses: dict[str, str] = {}
        """Which of them a device has, by its id."""
        self._places: set[tuple[str, int, int]] = set()
        self._unnamed = {"pci": 0, "pcie": 0}
        """How many bridges have no id, by the kind of the bus behind them."""
        self._ages = count()
        self.ages: dict[tuple[Literal["drive", "device"], str], int] = {}
        """The order of drives, and of devices over none; a device whose drive is deleted has the place of that."""
        self.warnings: list[str] = []
        """What is to be said of a line that is no error."""

    def build(self) -> Board:
        """Make everything; OptionError, one line, where something is wrong."""
        launch, board = self.launch, self.board
        if launch.stopped:
            board.assembly.run_state.stop("prelaunch")
        if launch.globals:
            properties.check_own(board, launch.globals)
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
        drives = list(self.drives.items())
        for name, made in drives:
            with _said("-drive", name):
                self._device_of(made)
        if launch.defaults and not any(each.get("driver") in CD_DRIVERS for each in given):
            self._add_cd()
        if launch.defaults or launch.vga or launch.network:
            from devmodels.qtest.placeholders import add_boards_own  # clients mostly have -nodefaults

            add_boards_own(board, launch, [each.get("driver") for each in given])
        for text, options in zip(launch.devices, given, strict=True):
            with _said("-device", text):
                if not self._leave_out(options) and not self._placeholder(options):
                    self.device(options)
        for name, made in drives:
            with _said("-drive", name):
                self._virtio_of(made)
        if launch.globals:
            from devmodels.qtest.unmodelled import warnings  # few lines have one

            self.warnings += warnings(board, launch.globals)
        board.finish()
        return board

    def _placeholder(self, options: dict[str, object]) -> bool:
        """Whether it is a device of which there is no more here than its PCI function; that is made."""
        driver = options.get("driver")
        if driver in DEVICES or driver in BRIDGES or driver in ALIASES:
            return False
        from devmodels.qtest.placeholders import add_given, model_of  # few lines have one

        model = model_of(driver)
        if model is not None:
            add_given(self.board, model, options)
        return model is not None

    def _leave_out(self, options: dict[str, object]) -> bool:
        """Whether it is a device that is not modelled, or hangs on one; of one on PCI the slot is taken."""
        driver, bus = options.get("driver"), options.get("bus")
        if not self._without_unmodelled or not isinstance(driver, str):
            return False
        from devmodels.qtest.placeholders import LOOKS, add_given, model_of
        from devmodels.qtest.unmodelled import PCI, SCSI_HOSTS, UNITS, find

        hangs = isinstance(bus, str) and (bus in self._left_ids or bus.rpartition(".")[0] in self._left_ids)
        ours = driver in DEVICES or driver in BRIDGES or driver in ALIASES or model_of(driver) in LOOKS
        if driver in UNITS:
            buses = self.board.assembly.buses
            if not hangs and (SCSI_HOSTS.isdisjoint(self.left_out) or (bus in buses if bus else buses)):
                return False
        elif ours:
            if not hangs:
                return False
            if driver in DEVICES or driver in ALIASES:
                raise OptionError(f"Bus {shown(bus)} is of a device that is not modelled here")
        else:
            found = find(driver)
            if found is None:
                return False
            driver = found.name
            if found.bus == PCI and not hangs:
                if found.looks is None:
                    raise OptionError(
                        f"'{driver}' is not modelled, and what its PCI header holds is not known here"
                    )
                add_given(self.board, driver, options, found.looks)
        self.left_out.append(driver)
        if isinstance(name := options.get("id"), str):
            self._left_ids.add(name)
        return True

    def _object(self, text: str) -> None:
        if not text.lstrip().startswith("{") and "=" not in text.partition(",")[0]:
            text = f"qom-type={text}"
        options = decode(text, None, what="object")
        if options.get("qom-type") == "iothread":
            options = coerce(options, IoThreadOptions, whole)
            if self.launch.clock == "client":
                self.iothread(options)
                return
        elif options.get("qom-type") == "throttle-group":
            # As properties the limits are called so; what is not on a line has them as one object.
            limits = {key: options.pop(key) for key in list(options) if key.startswith("x-")}
            if limits:
                named = {key.removeprefix("x-"): each for key, each in limits.items()}
                options["limits"] = coerce(named, ThrottleLimits, whole)
        self.board.assembly.add_object(options)

    def iothread(self, options: Mapping[str, object]) -> None:
        """An iothread by name: all queues are worked on in the machine's own thread, whose clock is the client's."""
        thread = convert(options, IoThreadOptions, what="iothread")
        if thread.id in self.board.threads:
            raise OptionError(id_taken(thread.id))
        self.board.threads[thread.id] = thread

    def _blockdev(self, text: str) -> None:
        options = decode(text, None, what="blockdev", implied="driver")
        if not text.lstrip().startswith("{"):
            options = coerce_node(options, whole)
        self._add_node(options)

    def _add_node(self, options: Mapping[str, object]) -> None:
        """Open a node; while the machine's state is to come, somebody else has its image."""
        resting = {"active": False} if self.launch.incoming is not None else {}
        self.board.assembly.add_node({**resting, **options})

    def drive(self, text: str) -> Drive:
        """`-drive` and `drive_add`: open the node, remember the rest."""
        interface = "none" if self.board.name == "none" else "ide"
        made = drive(
            text,
            per_bus=PER_BUS[self.board.name],
            interface=interface,
            taken=self._places,
            snapshot=self.launch.snapshot,
        )
        _checked(made.limits)
        if made.name in self.drives or made.name in self.board.assembly.graph.nodes:
            raise OptionError(f"Duplicate ID '{made.name}' for drive")
        if made.node is not None:
            self._add_node(made.node)
        self.drives[made.name] = made
        self.ages["drive", made.name] = next(self._ages)
        return made

    def _device_of(self, made: Drive) -> None:
        """The device that the board gives to a drive with an interface."""
        interface, bus, unit = made.place
        if interface == "virtio" or interface in WITHOUT_DEVICE:
            if self.board.name == "none" and interface in ("floppy", "pflash"):
                raise _no_place(made)
            return
        assembly = self.board.assembly
        if f"{interface}.{bus}" not in (assembly.ata_buses if interface == "ide" else assembly.buses):
            raise _no_place(made)
        driver = f"{interface}-{'cd' if made.media == 'cdrom' else 'hd'}"
        options: dict[str, object] = {"driver": driver, "drive": made.name}
        if interface == "scsi":
            options |= {"bus": f"scsi.{bus}", "scsi-id": str(unit)}
        elif self.board.name == "q35":
            options["bus"] = f"ide.{bus}"
        else:
            options |= {"bus": f"ide.{bus}", "unit": str(unit)}
        if interface == "scsi":
            self.device(options)
        else:
            with self.board.own_devices():
                self.device(options)

    def _virtio_of(self, made: Drive) -> None:
        """The same of one with `if=virtio`, which to QEMU is one `-device` more, and the last."""
        if made.place[0] == "virtio":
            self.device({"driver": "virtio-blk-pci", "drive": made.name})

    def _add_cd(self) -> None:
        if (
            self.board.name == "none"
            or ("ide", *divmod(CD_PLACE, PER_BUS[self.board.name]["ide"])) in self._places
        ):
            return
        self._device_of(self.drive(f"if=ide,index={CD_PLACE},media=cdrom"))

    def device(self, given: Mapping[str, object]) -> str:
        """`-device` and `device_add`: make a device of ours; returns its id."""
        if given.get("driver") in BRIDGES:
            return self._bridge(given)
        geometry = tuple(option_number(key, given.get(key, 0)) for key in GEOMETRY)
        known = {key: value for key, value in given.items() if key not in GEOMETRY}
        options = device_options(known, self.board, self.launch.globals)
        if options.get("iothread") in self.board.threads:
            del options["iothread"]
        drive_name = options.get("drive")
        made = self.drives.get(drive_name) if isinstance(drive_name, str) else None
        if made is not None:
            if made.name in self.uses.values():
                raise OptionError(f"Drive '{made.name}' is already in use by another block device")
            self._inherit(options, made)
        assembly, bridge = self.board.assembly, self.board.bridges.get(str(given.get("bus")))
        if bridge is not None:
            assembly.pci_bus = bridge.behind
        try:
            name = assembly.add_device(options)
        finally:
            assembly.pci_bus = assembly.machine.bus
        if any(geometry):
            self.board.geometries[name] = (geometry[0], geometry[1], geometry[2])
        if made is None:
            self.ages["device", name] = next(self._ages)
        else:
            self.uses[name] = made.name
            assembly.drives[name].drive_name = made.name
            if made.limits:
                self._limit(name, made)
        return name

    def _inherit(self, options: dict[str, object], made: Drive) -> None:
        """A device over a drive has what was said of the drive, unless it says otherwise itself."""
        schema = DEVICES[str(options["driver"])].kind.options
        for key, value in made.inherited.items():
            if key in schema.__struct_encode_fields__:
                options.setdefault(key, value)
        if made.node is not None:
            options["drive"] = made.node["node-name"]
        elif options["driver"] in WITHOUT_MEDIUM:
            del options["drive"]
        else:
            raise OptionError("Device needs media, but drive is empty")

    def forget(self, device: str, *, keep_drive: bool = False) -> None:
        """A device has gone: so has its drive, if `-drive` or `drive_add` made it, unless that is to be kept."""
        self.board.geometries.pop(device, None)
        self.ages.pop(("device", device), None)
        drive_name = self.uses.pop(device, None)
        if drive_name is not None and not keep_drive:
            self.delete(drive_name)

    def delete(self, name: str) -> None:
        """Delete a drive; a device that has it loses its medium."""
        made, age = self.drives.pop(name), self.ages.pop(("drive", name))
        self._places.discard(made.place)
        assembly = self.board.assembly
        for device in [device for device, used in self.uses.items() if used == name]:
            del self.uses[device]
            self.ages["device", device] = age
            if device in assembly.drives:
                assembly.drives[device].drive_name = ""
        graph = assembly.graph
        if made.node is not None and made.node["node-name"] in graph.nodes:
            graph.delete(str(made.node["node-name"]), force=True)

    def _bridge(self, given: Mapping[str, object]) -> str:
        """A bridge, and the bus behind it: a root port's has one slot."""
        from devmodels.pci.bridge import PciBridge

        board, model = self.board, str(given["driver"])
        if board.name == "none":
            raise OptionError(f"No 'PCI' bus found for device '{model}'")
        name = given.get("id", None) or self._name_of_bus(model)
        if not isinstance(name, str) or name in board.bridges or board.assembly.has(name):
            raise OptionError(f"id: {shown(name)} is given; expected a name for the bridge that nobody has")
        check_bus(given.get("bus", "pci.0"), board)
        above = board.bridges.get(str(given.get("bus")))
        bus = board.machine.bus if above is None else above.behind
        first = 1 if above is None else 0
        addr = given.get("addr")
        slot, number = pci_place(bus, None if addr is None else str(addr), first)
        bridge = PciBridge(BRIDGES[model], board.machine.outbox, name=name)
        try:
            bus.plug(bridge, slot, number)
        except ValueError as error:
            raise OptionError(str(error)) from None
        board.bridges[name] = bridge
        return name

    def _name_of_bus(self, model: str) -> str:
        """What the bus behind a bridge is called that has no id; who asks for the board's own gets that."""
        kind = "pcie" if model in PORTS else "pci"
        name = f"{kind}.{self._unnamed[kind]}"
        self._unnamed[kind] += 1
        return f"{name} behind {model}" if name == BUSES[self.board.name] else name

    def _limit(self, name: str, made: Drive) -> None:
        backend = self.board.assembly.drives[name]
        group = str(made.limits.get("group") or made.name)
        self.board.assembly.graph.set_io_throttle(backend, _checked(made.limits), group)


def _no_place(made: Drive) -> OptionError:
    return OptionError("machine type does not support if={},bus={},unit={}".format(*made.place))


def _checked(limits: Mapping[str, object]) -> ThrottleLimits:
    """The limits of a drive, of which a group's name is none; OptionError."""
    of_drive = {key: value for key, value in limits.items() if key != "group"}
    return check(coerce(of_drive, ThrottleLimits, whole), where="throttling")


@contextmanager
def _said(option: str, text: str) -> Iterator[None]:
    """What is wrong is said of the option that has it."""
    try:
        yield
    except BlockOptionError as error:
        raise OptionError(f"{option} {text}: {str(error).removeprefix('$: ').removeprefix('$.')}") from None
    except OptionError as error:
        raise OptionError(f"{option} {text}: {error}") from None
