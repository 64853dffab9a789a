"""`info qtree` of the human monitor: buses and devices as a tree, in the form of QEMU's.

Of the devices' properties there are those that say where a device is, its drive, and what its user gave it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from devmodels.assembly.assembly import Assembly
from devmodels.blockbackend.graph import GONE
from devmodels.pci.bridge import PciBridge
from devmodels.pci.bus import RootBus
from devmodels.pci.function import PciFunction
from devmodels.qtest.board import BUSES, Board
from devmodels.qtest.devices import BRIDGES
from devmodels.qtest.pciinfo import address_of, class_name, id_of, path_of

HOSTS = {"pc": ("i440FX-pcihost", "PCI"), "q35": ("q35-pcihost", "PCIE")}
"""What has a board's PCI bus, and that bus's type."""
BUS_TYPES = {"pcie-root-port": "PCIE"}
GIVEN = "/machine/peripheral"
"""Where devices of the command line are, and those that were plugged later."""
PLACES = ("driver", "id", "bus", "drive", "addr")
ONES = (1 << 64) - 1


def text(board: Board) -> str:
    """The tree, from the system bus on."""
    lines = ["bus: main-system-bus", "  type System"]
    if board.name != "none":
        host, kind = HOSTS[board.name]
        lines.append(f'  dev: {host}, id ""')
        lines += _indented(_pci_bus(board, board.machine.bus, BUSES[board.name], kind), 4)
    return "".join(f"{line}\n" for line in lines)


def _indented(lines: Iterator[str], by: int) -> Iterator[str]:
    return (" " * by + line for line in lines)


def _pci_bus(board: Board, bus: RootBus, name: str, kind: str) -> Iterator[str]:
    """The newest device comes first, the chipset last."""
    yield f"bus: {name}"
    yield f"  type {kind}"
    given = [place for place in bus.by_age() if path_of(board, place[2]).startswith(GIVEN)]
    chipset = [place for place in bus.functions() if place not in given]
    for slot, number, function in reversed((*chipset, *given)):
        yield from _indented(_function(board, function, f"{slot:02x}.{number:x}"), 2)


def _function(board: Board, function: PciFunction, place: str) -> Iterator[str]:
    assembly, identity = board.assembly, function.identity
    name = assembly.device_of(function)
    options = {} if name is None else assembly.options[name]
    model = str(options.get("driver", _model(function)))
    yield f'dev: {model}, id "{id_of(board, function)}"'
    yield from _indented(_properties(options), 2)
    yield f"  addr = {place}"
    who = f"{identity.vendor_id:04x}:{identity.device_id:04x}"
    sub = f"{function.header.subsystem_vendor_id:04x}:{function.header.subsystem_id:04x}"
    yield f"  class {class_name(function)}, addr 00:{place}, pci id {who} (sub {sub})"
    for index, bar in sorted(function.bars.items()):
        address, space = address_of(function, bar), "i/o" if bar.kind.is_io else "mem"
        yield f"  bar {index}: {space} at 0x{address & ONES:x} [0x{address + bar.size - 1 & ONES:x}]"
    if isinstance(function, PciBridge):
        kind = BUS_TYPES.get(model, "PCI")
        yield from _indented(_pci_bus(board, function.behind, function.name, kind), 2)
    elif name in assembly.ata_hosts:
        yield from _indented(_ata_buses(assembly, name), 2)
    elif name is not None:
        yield from _indented(_virtio(assembly, name, model), 2)


def _model(function: PciFunction) -> str:
    return next((name for name, who in BRIDGES.items() if who == function.identity), function.name)


def _ata_buses(assembly: Assembly, host: str) -> Iterator[str]:
    buses = assembly.ata_hosts[host].buses
    for bus_name, bus in reversed(assembly.ata_buses.items()):
        if not any(bus is each for each in buses):
            continue
        yield f"bus: {bus_name}"
        yield "  type IDE"
        units = [(name, place) for name, place in assembly.ata_units.items() if place.bus is bus]
        for name, place in reversed(units):
            yield from _indented(_unit(assembly, name, place.driver, unit=place.unit), 2)


def _virtio(assembly: Assembly, name: str, model: str) -> Iterator[str]:
    """A transport's bus, with the device on it, and what that has on a bus of its own."""
    yield "bus: virtio-bus"
    yield "  type virtio-pci-bus"
    yield f'  dev: {model.replace("-pci", "-device")}, id ""'
    if name in assembly.drives:
        yield f"    {_drive(assembly, name)}"
        return
    device = assembly.devices[name].device
    bus_name = next((bus for bus, host in assembly.buses.items() if host is device), f"{name}.0")
    yield f"    bus: {bus_name}"
    yield "      type SCSI"
    units = [(unit, place) for unit, place in assembly.units.items() if place.host is device]
    for unit, place in reversed(units):
        where = {"channel": 0, "scsi-id": place.target, "lun": place.lun}
        yield from _indented(_unit(assembly, unit, place.driver, **where), 6)


def _unit(assembly: Assembly, name: str, driver: str, **where: int) -> Iterator[str]:
    named = assembly.drives[name].qom_path.startswith("/machine/peripheral/")
    yield f'dev: {driver}, id "{name if named else ""}"'
    yield f"  {_drive(assembly, name)}"
    given = assembly.options[name]
    yield from _indented(_properties({key: value for key, value in given.items() if key not in where}), 2)
    yield from _indented(_properties(where), 2)


def _drive(assembly: Assembly, name: str) -> str:
    backend = assembly.drives[name]
    there = backend.inserted and backend.node.options.driver != GONE
    node = backend.node.node_name if there else ""
    return f'drive = "{backend.drive_name or node}"'


def _properties(options: Mapping[str, object]) -> Iterator[str]:
    for name, value in options.items():
        if name not in PLACES:
            yield f"{name} = {_shown(value)}"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value} (0x{value:x})"
    return f'"{value}"'
