"""The human monitor's commands, as `human-monitor-command` does them: a table, and what each prints.

Names, arguments, help and answers have the form of QEMU's (its manual's chapter "QEMU Monitor"); the work is done by
the commands of QMP.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from devmodels.monitor import human
from devmodels.monitor.command import CommandError, text_of
from devmodels.monitor.table import commands
from devmodels.monitor.world import World
from devmodels.options import OptionError
from devmodels.qtest import humaninfo, qtree
from devmodels.qtest.assembling import Assembling
from devmodels.qtest.devices import text_of_device

Words = Mapping[str, str]
"""Arguments by name; flags are there, as empty texts, where they were given."""
INTERFACE_NUMBERS = {"ide": 1, "scsi": 2, "floppy": 3, "pflash": 4, "virtio": 7}
"""What QEMU's error texts call interfaces of drives."""
LIMITS = ("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr")
EXPECTED = {"B": "block device name", "F": "filename", "s": "string"}
"""What is said of a missing argument, by its kind."""
INVALID = {"o": "invalid size", "l": "invalid number"}
"""The same of numbers, whether missing or wrong."""
MEBI = {"": 20, "B": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50, "E": 60}
"""Powers of two that a size is a multiple of; without a suffix it is in MiB."""


class HumanCommand(NamedTuple):
    """A command: its arguments as `name:kind`, with `?` behind where it may be left out, and `-f` for flags.

    Kinds: B a block device, F a file, s a word, l a number, o a size, S the rest of the line.
    """

    run: Run
    arguments: str
    parameters: str
    help: str


class Malformed(Exception):
    """The line is not what the command takes; the text says what is wrong."""


class HumanMonitor:
    """The human monitor of one machine."""

    def __init__(self, assembling: Assembling, world: World, qemu_io: Callable[[str], str]) -> None:
        self._assembling = assembling
        self._world = world
        self._qemu_io_line = qemu_io

    async def line(self, text: str) -> str:
        """Do what a line says; what it prints has the monitor's line ends."""
        return (await self._line(text.rstrip())).replace("\n", "\r\n")

    async def _line(self, text: str) -> str:
        name, rest = _word(text.lstrip())
        if name == "qemu-io":
            return (await self._qemu_io(text.lstrip())).replace("\r\n", "\n")
        table = COMMANDS
        if name == "info" and rest:
            name, rest = _word(rest)
            table = INFO
        # As it was written, with the blanks before it.
        shown = text.removesuffix(rest).rstrip()
        found = find(table, name)
        if found is None:
            return f"unknown command: '{shown}'\n" if name else ""
        names, command = found
        try:
            return await command.run(self, _parse(command.arguments, rest))
        except Malformed as error:
            return f'{_prefixed(names, error)}\nTry "help {shown}" for more information\n'
        except (CommandError, OptionError, OSError) as error:
            return f"Error: {text_of(error)}\n"

    async def qmp(self, name: str, **arguments: object) -> object:
        """What a command of QMP answers."""
        given = {key.replace("_", "-"): value for key, value in arguments.items()}
        answer = await commands(self._world)[name](self._world, given)
        return msgspec.to_builtins(answer)

    async def silent(self, name: str, **arguments: object) -> str:
        """Do a command of QMP's, and print nothing."""
        await self.qmp(name, **arguments)
        return ""

    async def _qemu_io(self, text: str) -> str:
        if len(text.split()) == 1:
            return 'qemu-io: block device name expected\nTry "help qemu-io" for more information\n'
        given = human.HumanMonitorCommand(command_line=self._qemu_io_line(text))
        return await human.human_monitor_command(self._world, given)

    # --- devices

    async def device_add(self, words: Words) -> str:
        """`device_add DRIVER,…`, as on the command line."""
        options = text_of_device(words["options"]) if words.get("options") else {}
        await commands(self._world)["device_add"](self._world, options)
        return ""

    async def device_del(self, words: Words) -> str:
        """`device_del ID`."""
        return await self.silent("device_del", id=words["id"])

    # --- drives

    async def drive_add(self, words: Words) -> str:
        """`drive_add ADDRESS OPTIONS`: the address is nobody's any more."""
        try:
            made = self._assembling.drive(words["options"])
        except (OptionError, OSError) as error:
            return f"{text_of(error)}\n"
        if made.place[0] != "none":
            self._assembling.delete(made.name)
            return f"Can't hot-add drive to type {INTERFACE_NUMBERS[made.place[0]]}\n"
        return "OK\n"

    async def drive_del(self, words: Words) -> str:
        """Delete a drive; a device that has it loses its medium."""
        name = words["device"]
        if name not in self._assembling.drives:
            return f"Device '{name}' not found\n"
        self._assembling.delete(name)
        self._world.aliases = {drive: device for device, drive in self._assembling.uses.items()}
        return ""

    async def eject(self, words: Words) -> str:
        """`eject DRIVE`."""
        return await self.silent("eject", device=self._drive(words), force="-f" in words)

    async def change(self, words: Words) -> str:
        """`change DRIVE FILE`."""
        more: dict[str, object] = {key: words[key] for key in ("format", "read-only-mode") if key in words}
        given = {"device": self._drive(words), "filename": words["filename"], "force": "-f" in words, **more}
        await self.qmp("blockdev-change-medium", **given)
        return ""

    async def block_resize(self, words: Words) -> str:
        """`block_resize DRIVE SIZE`."""
        return await self.silent("block_resize", device=words["device"], size=_size(words["size"]))

    async def throttle(self, words: Words) -> str:
        """`block_set_io_throttle DRIVE BPS BPS_RD BPS_WR IOPS IOPS_RD IOPS_WR`."""
        limits = {name: int(words[name]) for name in LIMITS}
        given: dict[str, object] = {"device": words["device"], "group": words["device"], **limits}
        await commands(self._world)["block_set_io_throttle"](self._world, given)
        return ""

    # --- going elsewhere

    async def migrate(self, words: Words) -> str:
        """`migrate URI`: nobody waits for its end here, asked for (-d) or not."""
        await self.qmp(
            "migrate", uri=words["uri"], blk="-b" in words, inc="-i" in words, resume="-r" in words
        )
        return "" if "-d" in words else DETACHED

    def _drive(self, words: Words) -> str:
        """A drive by its own name, not by its device's."""
        name = words["device"]
        if name not in self._assembling.drives:
            raise CommandError(f"Device '{name}' not found")
        return name

    # --- what there is

    async def help(self, words: Words) -> str:
        """`help`, `help COMMAND`, `help info TOPIC`."""
        name, rest = _word(words.get("command", ""))
        if name == "info" and rest:
            return _help(INFO, rest.split()[0], "info ")
        return _help(COMMANDS, name, "")

    async def info(self, _words: Words) -> str:
        """`info` alone."""
        return _help(INFO, "", "info ")

    async def info_block(self, words: Words) -> str:
        """`info block [-n] [-v] [DEVICE]`."""
        nodes, verbose = "-n" in words, "-v" in words
        if nodes:
            return humaninfo.nodes(await self.qmp("query-named-block-nodes"), verbose=verbose)
        return humaninfo.block(await self.qmp("query-block"), words.get("device"), verbose=verbose)

    async def info_jobs(self, _words: Words) -> str:
        """`info block-jobs`: there are none here."""
        return "No active jobs\n"

    async def info_name(self, _words: Words) -> str:
        """`info name`: it has none."""
        return ""

    async def info_qtree(self, _words: Words) -> str:
        """`info qtree`."""
        return qtree.text(self._assembling.board)

    async def info_version(self, _words: Words) -> str:
        """`info version`."""
        assert self._world.stands_for is not None
        return ".".join(map(str, self._world.stands_for)) + "\n"


Run = Callable[[HumanMonitor, Words], Awaitable[str]]
Table = Mapping[str, HumanCommand]
_M = HumanMonitor


def _does(name: str) -> Run:
    """A command that is one of QMP's without arguments."""
    return lambda monitor, _words: monitor.silent(name)


def _tells(query: str, printed: Callable[[Any], str]) -> Run:
    """A topic that is the answer of a query of QMP's, `printed`."""

    async def run(monitor: HumanMonitor, _words: Words) -> str:
        return printed(await monitor.qmp(query))

    return run


COMMANDS: Table = {
    "block_resize": HumanCommand(
        _M.block_resize, "device:B size:o", "device size", "give a drive another size"
    ),
    "block_set_io_throttle": HumanCommand(
        _M.throttle,
        " ".join(("device:B", *(f"{name}:l" for name in LIMITS))),
        " ".join(("device", *LIMITS)),
        "limit what a drive does in a second",
    ),
    "change": HumanCommand(
        _M.change,
        "device:B -f filename:F format:s? read-only-mode:s?",
        "device [-f] filename [format [read-only-mode]]",
        "put another medium into a drive (-f: even where the guest has locked it)",
    ),
    "cont|c": HumanCommand(_does("cont"), "", "", "let the machine run on"),
    "device_add": HumanCommand(
        _M.device_add, "options:S?", "driver[,prop=value][,...]", "plug a device, in the words of -device"
    ),
    "device_del": HumanCommand(_M.device_del, "id:s", "device", "take a device out"),
    "drive_add": HumanCommand(
        _M.drive_add, "-n address:s options:s", "[-n] address options", "add a drive, in the words of -drive"
    ),
    "drive_del": HumanCommand(_M.drive_del, "device:B", "device", "take a drive away from its device"),
    "eject": HumanCommand(
        _M.eject,
        "-f device:B",
        "[-f] device",
        "take a drive's medium out (-f: even where the guest has locked it)",
    ),
    "help|?": HumanCommand(_M.help, "command:S?", "[cmd]", "what there is, or what a command takes"),
    "info": HumanCommand(_M.info, "", "[subcommand]", "what the machine is and does"),
    "migrate": HumanCommand(
        _M.migrate,
        "-d -b -i -r uri:s",
        "[-d] [-b] [-i] [-r] uri",
        "hand the machine over to one that waits at unix:PATH (-d: without a word that nobody waits for its end)",
    ),
    "quit|q": HumanCommand(_does("quit"), "", "", "end the program"),
    "stop|s": HumanCommand(_does("stop"), "", "", "let the machine stand still"),
    "system_powerdown": HumanCommand(_does("system_powerdown"), "", "", "press the machine's power button"),
    "system_reset": HumanCommand(_does("system_reset"), "", "", "reset the machine"),
}
"""By their names; `qemu-io` is besides, whose line is its own."""
INFO: Table = {
    "block": HumanCommand(
        _M.info_block,
        "-n -v device:B?",
        "[-n] [-v] [device]",
        "drives, or nodes (-n); with their images (-v)",
    ),
    "block-jobs": HumanCommand(_M.info_jobs, "", "", "jobs of the block layer"),
    "blockstats": HumanCommand(
        _tells("query-blockstats", humaninfo.blockstats), "", "", "what drives have done"
    ),
    "chardev": HumanCommand(_tells("query-chardev", humaninfo.chardevs), "", "", "connections"),
    "iothreads": HumanCommand(_tells("query-iothreads", humaninfo.iothreads), "", "", "threads of devices"),
    "migrate": HumanCommand(
        _tells("query-migrate", humaninfo.migrate), "", "", "how far handing the machine over is"
    ),
    "name": HumanCommand(_M.info_name, "", "", "the machine's name"),
    "pci": HumanCommand(_tells("query-pci", humaninfo.pci), "", "", "functions on the PCI buses"),
    "qtree": HumanCommand(_M.info_qtree, "", "", "buses and devices"),
    "status": HumanCommand(_tells("query-status", humaninfo.status), "", "", "whether the machine runs"),
    "version": HumanCommand(_M.info_version, "", "", "the version of QEMU that this stands in for"),
}
DETACHED = "terminal does not allow synchronous migration, continuing detached\n"
QEMU_IO = '[-d] [device] "[command]"', "do a command of qemu-io's on a drive or node (-d: on a device)"


def find(table: Table, name: str) -> tuple[str, HumanCommand] | None:
    """A command with all its names, by one of them."""
    return next(((names, each) for names, each in table.items() if name in names.split("|")), None)


def _word(text: str) -> tuple[str, str]:
    first, _, rest = text.partition(" ")
    return first, rest.strip()


def _prefixed(names: str, error: Malformed) -> str:
    text = str(error)
    return text if text.startswith("invalid") else f"{names}: {text}"


def _parse(arguments: str, rest: str) -> dict[str, str]:
    """The arguments of a line; Malformed."""
    kinds = arguments.split()
    words: dict[str, str] = {}
    flags = [kind for kind in kinds if kind.startswith("-")]
    for at, kind in enumerate(kinds):
        if kind in flags:
            rest = _flags(rest, kinds[at:], flags, words)
            continue
        name, _, what = kind.partition(":")
        if not rest:
            if what.endswith("?"):
                continue
            raise Malformed(INVALID.get(what) or f"{EXPECTED[what[0]]} expected")
        if what[0] == "S":
            words[name], rest = rest, ""
            continue
        words[name], rest = _quoted(rest)
        if what == "o":
            _size(words[name])
        elif what == "l" and not re.fullmatch(r"-?[0-9]+", words[name]):
            raise Malformed(INVALID[what])
    if rest:
        raise Malformed("extraneous characters at the end of line")
    return words


def _flags(rest: str, kinds: list[str], known: list[str], words: dict[str, str]) -> str:
    """Take flags off the beginning; `kinds` are those that can still come."""
    while rest.startswith("-") and kinds[0] not in words:
        flag, after = _word(rest)
        if flag not in known:
            raise Malformed(f"unsupported option {flag[:2]}")
        words[flag], rest = "", after
    return rest


def _quoted(rest: str) -> tuple[str, str]:
    """A word, or what stands between quotation marks, and what comes after it."""
    if not rest.startswith('"'):
        return _word(rest)
    closing = re.match(r'"((?:[^"\\]|\\.)*)"', rest)
    if closing is None:
        raise Malformed("unterminated string")
    return shlex.split(closing[0])[0], rest[closing.end() :].strip()


def _size(text: str) -> int:
    number = re.fullmatch(r"(\d+(?:\.\d+)?)([BKMGTPE]?)", text, re.IGNORECASE)
    if number is None:
        raise Malformed(INVALID["o"])
    return int(float(number[1]) * 2 ** MEBI[number[2].upper()])


def _help(table: Table, name: str, before: str) -> str:
    """One line for each command, or for the one of that name."""
    rows = {names: (each.parameters, each.help) for names, each in table.items()}
    if table is COMMANDS:
        rows = dict(sorted((rows | {"qemu-io": QEMU_IO}).items()))
    if name:
        rows = {names: row for names, row in rows.items() if name in names.split("|")}
        if not rows:
            return f"unknown command: '{before}{name}'\n"
    return "".join(f"{before}{names} {row[0]} -- {row[1]}\n" for names, row in rows.items())
