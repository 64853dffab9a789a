"""The command line, in QEMU's syntax: which options there are, and what each says of the machine.

Options begin with one dash or two.  What has no meaning for a machine without a processor is taken and ignored; what is
not known is refused (docs/qtest.md lists both).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from devmodels.options import OptionError, decode, parse_keyval, shown
from devmodels.qtest.board import DEFAULT_RAM, BoardName
from devmodels.qtest.channels import Channel, Channels, Monitor
from devmodels.qtest.numbers import size

MACHINES: dict[str, BoardName] = {"none": "none", "pc": "pc", "q35": "q35"}
"""The boards by name; versions of QEMU's (pc-i440fx-7.2, pc-q35-7.2) are found by their beginnings."""
VERSIONED: dict[str, BoardName] = {"pc-i440fx-": "pc", "pc-q35-": "q35"}
IGNORED_WITH_VALUE = """
    L action append audio audiodev bios boot compat cpu D d display fsdev fw_cfg gdb icount initrd k kernel mem-path msg
    name numa overcommit parallel rotate rtc run-with sandbox seed serial smbios smp spice tpmdev trace usbdevice uuid
    vnc watchdog-action
"""
IGNORED = """
    enable-kvm full-screen mem-prealloc no-acpi no-fd-bootchk no-hpet no-reboot no-shutdown no-user-config nographic
    only-migratable s singlestep usb win2k-hack
"""
RAM_UNIT = 8192
"""Sizes of RAM are rounded up to it."""
OBJECTS_IGNORED = ("memory-backend-ram", "memory-backend-memfd", "memory-backend-file", "rng-random")
MONITOR_OBJECTS = ("monitor-qmp", "monitor-hmp")
"""What newer QEMUs have for `-mon`, and their clients say instead of it."""
SHORT_DRIVES = {
    **{f"hd{letter}": f"index={at},media=disk" for at, letter in enumerate("abcd")},
    **{f"fd{letter}": f"if=floppy,index={at}" for at, letter in enumerate("ab")},
    "cdrom": "index=2,media=cdrom",
    "pflash": "if=pflash",
}
WITHOUT_OPTION = "hda"
"""What an image is that stands on the line alone."""


class Launch(msgspec.Struct):
    """What the command line says."""

    machine: BoardName = "pc"
    ram: int = DEFAULT_RAM
    clock: Literal["client", "host"] = "client"
    qtest: Channel = None
    qtest_log: str | None = None
    defaults: bool = True
    stopped: bool = False
    snapshot: bool = False
    objects: list[str] = msgspec.field(default_factory=list)
    blockdevs: list[str] = msgspec.field(default_factory=list)
    drives: list[str] = msgspec.field(default_factory=list)
    devices: list[str] = msgspec.field(default_factory=list)
    globals: list[tuple[str, str, str]] = msgspec.field(default_factory=list)
    channels: Channels = msgspec.field(default_factory=Channels)
    monitors: list[Monitor] = msgspec.field(default_factory=list)
    compat: int = 0
    """How many of them are by a short form."""
    incoming: str | None = None
    daemonize: bool = False
    pidfile: str | None = None
    vga: str | None = None
    network: bool = False
    """Whether the line names any network, so that the board gives no card of its own."""
    nics: list[dict[str, str]] = msgspec.field(default_factory=list)
    net_nics: list[dict[str, str]] = msgspec.field(default_factory=list)
    """Cards of `-nic`, and of `-net nic`: what is said of them."""


def parse(arguments: list[str]) -> Launch:
    """What `arguments` say; OptionError, one line, where they are wrong."""
    launch = Launch()
    late: list[tuple[str, str]] = []
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("-"):
            _apply(_VALUES[WITHOUT_OPTION], launch, f"-{WITHOUT_OPTION}", argument)
            continue
        name = argument.removeprefix("-").removeprefix("-")
        if name in IGNORED.split():
            continue
        if name in _SWITCHES:
            _SWITCHES[name](launch)
            continue
        if name not in _VALUES and name not in IGNORED_WITH_VALUE.split() and name not in _LATE:
            raise OptionError(f"{argument}: invalid option")
        value = next(rest, None)
        if value is None:
            raise OptionError(f"{argument}: requires an argument")
        if name in _LATE:
            # Of -qtest the last one counts.
            late = [each for each in late if name != "qtest" or each[0] != name]
            late.append((name, value))
        elif name in _VALUES:
            _apply(_VALUES[name], launch, argument, value)
    for name, value in late:
        _apply(_LATE[name], launch, f"-{name}", value)
    if launch.daemonize and launch.channels.stdio:
        raise OptionError("cannot use stdio with -daemonize")
    return launch


def _apply(option: Callable[[Launch, str], None], launch: Launch, argument: str, value: str) -> None:
    try:
        option(launch, value)
    except OptionError as error:
        raise OptionError(f"{argument} {value}: {error}") from None


# --- options with a value


def _machine(launch: Launch, text: str) -> None:
    first, _, more = text.partition(",")
    key, equals, value = first.partition("=")
    if not equals:
        _set_machine(launch, first)
    else:
        _machine_property(launch, key, value)
    # As reports have it: a comma at the end says nothing.
    more = more.removesuffix(",")
    for key, given in parse_keyval(more).items() if more else ():
        _machine_property(launch, key, str(given))


def _machine_property(launch: Launch, key: str, value: str) -> None:
    if key == "type":
        _set_machine(launch, value)
    elif key == "accel":
        _accel(launch, value)
    elif key.replace("_", "-") not in OTHER_PROPERTIES:
        raise OptionError(f"Property '.{key}' not found")


def _set_machine(launch: Launch, name: str) -> None:
    found = MACHINES.get(name) or next(
        (VERSIONED[start] for start in VERSIONED if name.startswith(start)), None
    )
    if found is None:
        raise OptionError(f"unsupported machine type {shown(name)}; the machines are: {', '.join(MACHINES)}")
    launch.machine = found


def _accel(launch: Launch, text: str) -> None:
    """The client owns the clock under the qtest accelerator; elsewhere time goes on by itself, as in QEMU."""
    launch.clock = "client" if text.partition(",")[0].partition(":")[0] == "qtest" else "host"


def _memory(launch: Launch, text: str) -> None:
    """MiB where no unit is given; a fraction needs one, 0 is what there is without the option."""
    given = text.partition(",")[0].removeprefix("size=")
    number = size(f"{given}M" if given[-1:].isdigit() and "." not in given else given)
    if number is None:
        raise OptionError(f"expected a size, 128 (MiB) or 1G say; {shown(given)} is given")
    launch.ram = -(-number // RAM_UNIT) * RAM_UNIT or DEFAULT_RAM


def _qtest(launch: Launch, text: str) -> None:
    launch.qtest = launch.channels.named(text, "qtest")


def _mon(launch: Launch, text: str) -> None:
    settings = decode(text, None, what="-mon", implied="chardev")
    mode = settings.get("mode", "readline")
    if mode not in ("control", "readline"):
        raise OptionError(f"mode: {shown(mode)} is given; expected control or readline")
    _monitor_of(launch, settings, human=mode == "readline")


def _monitor_of(launch: Launch, settings: Mapping[str, object], *, human: bool) -> None:
    """One on a chardev that is named."""
    name = settings.get("chardev")
    if not isinstance(name, str):
        raise OptionError("chardev: missing; expected the id of one")
    is_pretty = settings.get("pretty") in ("on", True)
    if is_pretty and human:
        raise OptionError("'pretty' is not compatible with HMP monitors")
    _add_monitor(launch, launch.channels.use(name), human=human, pretty=is_pretty)


def _compat(launch: Launch, text: str) -> Channel:
    """A monitor's channel by its short form; they are numbered in the order of the line."""
    launch.compat += 1
    return launch.channels.named(text, f"compat_monitor{launch.compat - 1}")


def _qmp(launch: Launch, text: str) -> None:
    if text != "none":
        _add_monitor(launch, _compat(launch, text))


def _qmp_pretty(launch: Launch, text: str) -> None:
    if text != "none":
        _add_monitor(launch, _compat(launch, text), pretty=True)


def _monitor(launch: Launch, text: str) -> None:
    if text != "none":
        _add_monitor(launch, _compat(launch, text), human=True)


def _add_monitor(launch: Launch, channel: Channel, *, human: bool = False, pretty: bool = False) -> None:
    if channel is not None:
        launch.monitors.append(Monitor(channel, human, pretty))


def _global(launch: Launch, text: str) -> None:
    name, equals, value = text.partition("=")
    driver, dot, key = name.partition(".")
    if equals and dot and driver and key:
        launch.globals.append((driver, key, value))
        return
    settings: Mapping[str, object] = parse_keyval(text)
    found = [settings.get(key) for key in ("driver", "property", "value")]
    if not all(isinstance(each, str) for each in found):
        raise OptionError("expected DRIVER.PROPERTY=VALUE")
    launch.globals.append((str(found[0]), str(found[1]), str(found[2])))


def _object(launch: Launch, text: str) -> None:
    kind: object = text.partition(",")[0].removeprefix("qom-type=")
    if text.startswith("{"):
        kind = decode(text, None, what="-object").get("qom-type")
    if kind in MONITOR_OBJECTS:
        _monitor_of(
            launch, decode(text, None, what="-object", implied="qom-type"), human=kind == "monitor-hmp"
        )
    elif kind not in OBJECTS_IGNORED:
        launch.objects.append(text)


def _short_drive(name: str) -> Callable[[Launch, str], None]:
    def add(launch: Launch, path: str) -> None:
        launch.drives.append(f"file={path.replace(',', ',,')},{SHORT_DRIVES[name]}")

    return add


def _log(launch: Launch, path: str) -> None:
    launch.qtest_log = path


def _pidfile(launch: Launch, path: str) -> None:
    launch.pidfile = path


def _incoming(launch: Launch, text: str) -> None:
    launch.incoming = text


def _vga(launch: Launch, text: str) -> None:
    launch.vga = text.partition(",")[0]


def _net(launch: Launch, text: str) -> None:
    """Of networks only their cards are something here."""
    launch.network = True
    kind, settings = _network(text)
    if kind == "nic":
        launch.net_nics.append(settings)


def _nic(launch: Launch, text: str) -> None:
    launch.network = True
    kind, settings = _network(text)
    if "addr" in settings:
        raise OptionError("Invalid parameter 'addr'")
    if kind != "none":
        launch.nics.append(settings)


def _netdev(launch: Launch, _text: str) -> None:
    launch.network = True


def _network(text: str) -> tuple[str, dict[str, str]]:
    """Type and settings; some, as `hostfwd`, may be there several times."""
    first, _, more = text.partition(",")
    settings: dict[str, str] = {}
    for part in (more if "=" not in first else text).split(","):
        key, _, value = part.partition("=")
        settings[key] = value
    return settings.get("type", "") if "=" in first else first, settings


_VALUES: dict[str, Callable[[Launch, str], None]] = {
    "M": _machine,
    "accel": _accel,
    "blockdev": lambda launch, text: launch.blockdevs.append(text),
    "chardev": lambda launch, text: launch.channels.add(text),
    "device": lambda launch, text: launch.devices.append(text),
    "drive": lambda launch, text: launch.drives.append(text),
    "global": _global,
    "incoming": _incoming,
    "m": _memory,
    "machine": _machine,
    "net": _net,
    "netdev": _netdev,
    "nic": _nic,
    "pidfile": _pidfile,
    "qtest-log": _log,
    "vga": _vga,
    **{name: _short_drive(name) for name in SHORT_DRIVES},
}
_LATE: dict[str, Callable[[Launch, str], None]] = {
    "qtest": _qtest,
    "mon": _mon,
    "qmp": _qmp,
    "qmp-pretty": _qmp_pretty,
    "monitor": _monitor,
    "object": _object,
}
"""Who may name a chardev that comes later on the line."""
OTHER_PROPERTIES = frozenset(
    [
        "acpi",
        "confidential-guest-support",
        "default-bus-bypass-iommu",
        "dump-guest-core",
        "firmware",
        "fd-bootchk",
        "graphics",
        "hpet",
        "i8042",
        "kernel-irqchip",
        "kernel-irqchip-split",
        "max-ram-below-4g",
        "mem-merge",
        "memory-backend",
        "memory-encryption",
        "nvdimm",
        "pic",
        "pit",
        "sata",
        "smbus",
        "smm",
        "suppress-vmdesc",
        "usb",
        "vmport",
    ]
)
"""Properties of QEMU's machines that say nothing of what is here."""


# --- options without one


def _daemonize(launch: Launch) -> None:
    launch.daemonize = True


def _nodefaults(launch: Launch) -> None:
    launch.defaults = False


def _stopped(launch: Launch) -> None:
    launch.stopped = True


def _snapshot(launch: Launch) -> None:
    launch.snapshot = True


_SWITCHES: dict[str, Callable[[Launch], None]] = {
    "S": _stopped,
    "daemonize": _daemonize,
    "nodefaults": _nodefaults,
    "snapshot": _snapshot,
}


def option_names() -> tuple[list[str], list[str]]:
    """Switches, and options with a value: those that say something."""
    return sorted(_SWITCHES), sorted([*_VALUES, *_LATE])
