"""Devices of a daemon for other programs' machines: each PCI function is alone in a machine of its own here.

What is on a function's bus (a disk on its SCSI bus) is in its machine.  The machine's memory is empty until whoever
hosts the function brings some; nodes, the run state and the context are the daemon's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import count

from devmodels.assembly.assembly import Assembly
from devmodels.assembly.devices import DEVICES
from devmodels.blockbackend import BlockBackend, Graph
from devmodels.conformance import Profile, ViolationLog
from devmodels.memory import GuestMemory, memory_name
from devmodels.options import OptionError, convert, shown
from devmodels.pci.function import PciFunction
from devmodels.runstate import RunState

HOSTED = {name: each for name, each in DEVICES.items() if each.place != "mmio"}
"""What can be a device here: on PCI, or on the bus of such a one."""


class HostedDevices:
    """PCI functions and what is on their buses; `machines` by the id of the function."""

    def __init__(self, graph: Graph, *, run_state: RunState, profile: Profile) -> None:
        self._graph = graph
        self._run_state = run_state
        self._profile = profile
        self._anonymous = count()
        self.machines: dict[str, Assembly] = {}
        self.one_context = False
        """Whether iothreads mean nothing for devices that are made from now on: they are recorded."""
        self.on_added: Callable[[Assembly], None] | None = None
        """Hears of each function's machine when it is there, with nothing on its buses yet."""

    def backends(self) -> Iterator[BlockBackend]:
        """The devices' ways to their nodes."""
        for machine in self.machines.values():
            yield from machine.drives.values()

    def function(self, device: str) -> tuple[Assembly, PciFunction] | None:
        """The function with that id, and its machine."""
        machine = self.machines.get(device)
        if machine is None:
            return None
        function = machine.function(device)
        assert function is not None
        return machine, function

    def add(self, options: Mapping[str, object]) -> str:
        """Make a device, as `-device` does; returns its id.  OptionError where it cannot be."""
        driver = options.get("driver")
        found = HOSTED.get(driver) if isinstance(driver, str) else None
        if found is None:
            raise OptionError(f"driver: {shown(driver)} is given; expected {', '.join(map(shown, HOSTED))}")
        name = options.get("id")
        if isinstance(name, str) and any(machine.has(name) for machine in self.machines.values()):
            raise OptionError(f"id: {shown(name)} is taken")
        if found.place in ("bus", "ata"):
            return self._machine_of(options, ata=found.place == "ata").add_device(options)
        if not isinstance(name, str) or not name:
            raise OptionError("id: missing; expected one, by which the device can be exported")
        kind = found.kind
        # Nothing is left of it where the options are wrong.
        converted = convert(options, kind.options, what=f"device {driver}")
        fault = kind.hosted_fault(converted)
        if fault is not None:
            raise OptionError(f"device {driver}: {fault}")
        machine = Assembly(
            memory=GuestMemory(name=memory_name(name)),
            context=self._graph.context,
            violations=ViolationLog(self._profile),
            on_message=None,
            on_intx=None,
            on_irq=None,
            graph=self._graph,
            run_state=self._run_state,
            one_context=self.one_context,
            name=name,
            anonymous=self._anonymous,
        )
        machine.add_device(options)
        self.machines[name] = machine
        if self.on_added is not None:
            self.on_added(machine)
        return name

    def _machine_of(self, options: Mapping[str, object], *, ata: bool) -> Assembly:
        """The machine with the bus that a device is to be on: the one that is named, or the first one with a place."""
        bus = options.get("bus")
        of_ata = [(name, each) for each in self.machines.values() for name in each.ata_buses]
        of_scsi = [(name, each) for each in self.machines.values() for name in each.buses]
        buses, others = (of_ata, of_scsi) if ata else (of_scsi, of_ata)
        fitting = [(name, machine) for name, machine in buses if bus in (None, name)]
        for name, machine in fitting:
            place = machine.ata_buses.get(name)
            if place is None or len(place.units) < place.max_units:
                return machine
        if fitting:
            return fitting[0][1]
        kind, other = ("IDE", "SCSI") if ata else ("SCSI", "IDE")
        known = ", ".join(shown(name) for name, _ in buses) or "none"
        given = "missing" if bus is None else f"{shown(bus)} is given"
        if any(name == bus for name, _ in others):
            given = f"{shown(bus)} is one of {other} devices"
        raise OptionError(f"bus: {given}; the buses of {kind} devices are: {known}")

    def close(self) -> None:
        """Give the machines up; the nodes stay."""
        for machine in self.machines.values():
            machine.close()
