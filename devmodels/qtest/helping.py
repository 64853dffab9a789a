"""What `-help`, `-machine help`, `-device help` and `-device NAME,help` print: read from the tables in force."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from msgspec import UNSET

from devmodels.assembly.devices import DEVICES
from devmodels.options import OptionError, shown
from devmodels.qtest.commandline import IGNORED, IGNORED_WITH_VALUE, MACHINES, option_names
from devmodels.qtest.devices import ALIASES, BRIDGES
from devmodels.qtest.placeholders import LOOKS

if TYPE_CHECKING:
    from devmodels.monitor.devices import ModelProperty

_BOARDS = {
    "none": "empty machine",
    "pc": "host bridge, PIIX3 and IDE (default)",
    "q35": "host bridge, ICH9 and AHCI",
}
_BUSES = {"pci": "PCI", "bus": "SCSI", "ata": "IDE"}
_WHERE_HELP_IS = {"M": "machine", "machine": "machine", "device": "device"}


def help_wanted(arguments: list[str]) -> str | None:
    """The text that is asked for; None where none is.  OptionError for a device that there is not."""
    before = ""
    for argument in arguments:
        name = argument.lstrip("-")
        if argument != name and name in ("h", "help"):
            return "".join(f"{line}\n" for line in _options())
        option = _WHERE_HELP_IS.get(before.lstrip("-")) if before.startswith("-") else None
        if option is not None and (lines := _of(option, argument)) is not None:
            return "".join(f"{line}\n" for line in lines)
        before = argument
    return None


def _of(option: str, value: str) -> Iterator[str] | None:
    first, _, more = value.partition(",")
    if first in ("help", "?"):
        return _machines() if option == "machine" else _devices()
    if option == "device" and more in ("help", "?"):
        return _properties(first.removeprefix("driver="))
    return None


def _options() -> Iterator[str]:
    yield "usage: devmodels-system-x86_64 [options]"
    yield "A PC without a processor, for clients of QEMU's qtest protocol; options begin with one dash or two."
    yield ""
    switches, values = option_names()
    yield from (f"-{name} VALUE" for name in values)
    yield from (f"-{name}" for name in ("help", "version", *switches))
    yield ""
    yield "taken and ignored: " + " ".join(
        f"-{name}" for name in sorted(IGNORED.split() + IGNORED_WITH_VALUE.split())
    )
    yield "-machine help, -device help and -device NAME,help say what there is."


def _machines() -> Iterator[str]:
    yield "Supported machines are:"
    yield from (f"{name:<20} {_BOARDS[name]}" for name in MACHINES)


def _devices() -> Iterator[str]:
    for each in DEVICES.values():
        if each.place in _BUSES:
            names = ", ".join(alias for alias, (model, _) in ALIASES.items() if model == each.name)
            yield f'name "{each.name}", bus {_BUSES[each.place]}' + (f", also as {names}" if names else "")
    yield from (f'name "{name}", bus PCI' for name in BRIDGES)
    yield from (f'name "{name}", bus PCI, takes its slot only' for name in LOOKS)


def _properties(device: str) -> Iterator[str]:
    from devmodels.monitor.devices import properties

    model, implied = ALIASES.get(device, (device, {}))
    if model not in DEVICES:
        raise OptionError(f"-device {device},help: '{device}' is not a valid device model name")
    return _told(device, properties(DEVICES[model].kind.options), implied)


def _told(device: str, known: Iterable[ModelProperty], implied: Mapping[str, object]) -> Iterator[str]:
    yield f"{device} options:"
    for one in sorted(known, key=lambda one: one.name):
        default = implied.get(one.name, one.default_value)
        said = "" if default is UNSET else f" (default: {shown(default)})"
        yield f"  {one.name + '=<' + one.type + '>':<30}{said}".rstrip()
