"""`-device` and `device_add` in QEMU's words: names that QEMU has besides ours, and buses of the board."""

from __future__ import annotations

from collections.abc import Mapping

from devmodels.assembly.assembly import pci_place
from devmodels.assembly.devices import DEVICES
from devmodels.options import OptionError, coerce, decode, shown
from devmodels.pci.function import PciFunction, PciIdentity
from devmodels.qtest import properties
from devmodels.qtest.board import BUSES, Board
from devmodels.qtest.hotplug import STAYING
from devmodels.qtest.numbers import size, whole

ALIASES: dict[str, tuple[str, dict[str, object]]] = {
    "virtio-blk": ("virtio-blk-pci", {}),
    "virtio-scsi": ("virtio-scsi-pci", {}),
    **{
        f"virtio-{kind}-pci-{suffix}": (
            f"virtio-{kind}-pci",
            {"disable-legacy": legacy, "disable-modern": False},
        )
        for kind in ("blk", "scsi")
        for suffix, legacy in (("transitional", "off"), ("non-transitional", "on"))
    },
}
"""Names of QEMU's for devices that have another one here, with what they imply."""

SERIAL = 20
"""So many bytes of a virtio disk's serial number are known to the guest; QEMU takes more."""
SIZES = {"discard_granularity", "logical_block_size", "min_io_size", "opt_io_size", "physical_block_size"}
"""Properties whose numbers may have a suffix; those of all others have none."""
BRIDGES = {
    "pcie-root-port": PciIdentity(0x1B36, 0x000C, 0x060400),
    "pcie-pci-bridge": PciIdentity(0x1B36, 0x000E, 0x060400),
    "pci-bridge": PciIdentity(0x1B36, 0x0001, 0x060400),
    "ioh3420": PciIdentity(0x8086, 0x3420, 0x060400, 2),
    "i82801b11-bridge": PciIdentity(0x8086, 0x244E, 0x060401, 0x92, 0, 0, 0, 0x00A0),
}
"""Bridges to a bus that is called as the device is."""
PORTS = ("pcie-root-port", "ioh3420")
"""Those of them whose bus is PCI Express."""


def text_of_device(text: str) -> dict[str, object]:
    """What `-device` says, with values as strings where it is no JSON."""
    return decode(text, None, what=f"-device {text}", implied="driver")


def device_options(
    given: Mapping[str, object], board: Board, defaults: list[properties.Global]
) -> dict[str, object]:
    """The options of a device of ours; OptionError where there is none such, or where it cannot be on this board."""
    driver = given.get("driver")
    if not isinstance(driver, str):
        raise OptionError("Parameter 'driver' is missing")
    model, implied = ALIASES.get(driver, (driver, {}))
    if model not in DEVICES:
        raise OptionError(f"'{driver}' is not a valid device model name")
    place = DEVICES[model].place
    if place == "mmio" or (place == "pci" and board.name == "none"):
        raise OptionError(f"No '{'PCI' if place == 'pci' else 'virtio-bus'}' bus found for device '{driver}'")
    schema = DEVICES[model].kind.options
    names = set(schema.__struct_encode_fields__)
    options: dict[str, object] = dict(implied)
    properties.apply(options, driver, model, names, defaults)
    for key, each in given.items():
        if key == "bus" and place == "pci":
            check_bus(each, board)
        elif not properties.take(options, model, key, each, names):
            options[key] = each
    if place == "ata":
        if "bus" not in options:
            options["bus"] = _last_bus(board, driver)
        _check_unit(board, options["bus"], options.get("unit"))
    options["driver"] = model
    for key in SIZES & set(options):
        if (number := size(str(options[key]))) is not None:
            options[key] = number
    if model == "virtio-blk-pci" and isinstance(serial := options.get("serial"), str):
        options["serial"] = _known_of_serial(serial)
    return coerce(options, schema, whole)


def _known_of_serial(serial: str) -> str:
    known = serial.encode(errors="surrogateescape")
    return serial if len(known) <= SERIAL else known[:SERIAL].decode(errors="ignore")


def _check_unit(board: Board, bus: object, unit: object) -> None:
    """OptionError where there is no such bus, or where the disk's or drive's place on it is none or is taken.

    Who names no unit is the second one where there is a first.
    """
    found = board.assembly.ata_buses.get(bus) if isinstance(bus, str) else None
    if found is None:
        raise OptionError(f"Bus '{bus}' not found")
    number = (0 in found.units) if unit is None else whole(str(unit))
    if number is None or number < 0:
        return  # Whoever looks at all options says what is expected.
    if number >= found.max_units:
        raise OptionError(f"Can't create IDE unit {number:d}, bus supports only {found.max_units} units")
    if number in found.units:
        raise OptionError(f"IDE unit {number:d} is in use")


def _last_bus(board: Board, driver: object) -> str:
    """Where a disk or a drive goes that names no bus: as on QEMU the newest one, whether or not there is room on it."""
    buses = board.assembly.ata_buses
    if not buses:
        raise OptionError(f"No 'IDE' bus found for device '{driver}'")
    return [*buses][-1]


def check_bus(bus: object, board: Board) -> None:
    """OptionError where the board has no such PCI bus."""
    if bus not in (BUSES[board.name], "pci.0", *board.bridges):
        raise OptionError(f"Bus {shown(bus)} not found; the board's is {BUSES[board.name]}")


def check_hot_plug(driver: str, given: Mapping[str, object], board: Board) -> None:
    """OptionError where a device of that model cannot be plugged while the machine is there."""
    if driver in STAYING:
        raise OptionError("Parameter 'driver' expects a pluggable device type")
    place, bus = DEVICES[driver].place, given.get("bus")
    if place == "ata":
        bus = _last_bus(board, driver) if bus is None else bus
        if bus not in board.assembly.ata_buses:
            raise OptionError(f"Bus '{bus}' not found")
        raise _not_hot(bus)
    if place == "pci":
        own = BUSES.get(board.name)
        if bus is not None and bus != own and bus not in board.bridges:
            raise OptionError(f"Bus '{bus}' not found")
        if own != BUSES["pc"] and bus in (None, own):
            raise _not_hot(own or "pci")
        if given.get("addr") is not None:
            _check_function(driver, given, board)


def _check_function(driver: str, given: Mapping[str, object], board: Board) -> None:
    """OptionError where a slot has a function 0: whoever knows it does not look for others any more; and where it has
    others, and the function 0 that is to come would say that there are none."""
    bridge = board.bridges.get(str(given.get("bus")))
    there = board.machine.bus if bridge is None else bridge.behind
    slot, number = pci_place(there, str(given["addr"]), 0)
    others = [n for at, n, _ in there.functions() if at == slot and n]
    if not number and others and given.get("multifunction") not in (True, "on"):
        raise OptionError(
            f"PCI: {slot:x}.0 indicates single function, but {slot:x}.{others[0]:x} is already populated."
        )
    first = there.at(slot, 0)
    if number and first is not None and there.at(slot, number) is None:
        raise OptionError(
            f"PCI: slot {slot} function 0 already occupied by {_model_of(first, board)},"
            f" new func {driver} cannot be exposed to guest."
        )


def _model_of(function: PciFunction, board: Board) -> str:
    """What QEMU calls it."""
    name = board.assembly.device_of(function)
    if name is not None:
        return str(board.assembly.options[name]["driver"])
    return next(
        (model for model, identity in BRIDGES.items() if function.identity is identity), function.name
    )


def check_hot_unplug(name: str, board: Board) -> None:
    """OptionError where the device or bridge of that id stays as long as the machine is there."""
    assembly = board.assembly
    if name in assembly.ata_units:
        raise _not_hot(assembly.ata_units[name].bus_name)
    own = BUSES.get(board.name, "pci")
    function = board.bridges.get(name) or assembly.function(name)
    if own != BUSES["pc"] and any(each is function for _, _, each in board.machine.bus.functions()):
        raise _not_hot(own)
    if name in assembly.ata_hosts and (driver := assembly.options[name]["driver"]) in STAYING:
        raise OptionError(f"Device '{driver}' does not support hotplugging")


def _not_hot(bus: object) -> OptionError:
    return OptionError(f"Bus '{bus}' does not support hotplugging")
