"""Character devices, as far as clients come through them: `-chardev`, and the short forms that other options take.

A short form (`stdio`, `null`, `unix:PATH,server=on,wait=off`, `tcp:HOST:PORT`, `telnet:HOST:PORT`, `chardev:ID`) is one
of QEMU's older way to name a chardev; `unix:`, `tcp:` and `telnet:` have options behind them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from devmodels.options import OptionError, shown

FORMS = (
    "expected unix:PATH, tcp:HOST:PORT or telnet:HOST:PORT, perhaps with ,server=on,wait=off, "
    "chardev:ID, stdio or null"
)


NOWHERE = ("null", "vc", "/dev/null")
"""Nobody is at a console on a display that is not there, either."""


MAX_PORT = 0xFFFF
SETTINGS = (
    "path",
    "fd",
    "host",
    "port",
    "server",
    "wait",
    "telnet",
    "delay",
    "nodelay",
    "ipv4",
    "ipv6",
    "mux",
)
"""Of a socket; the last ones say nothing of it that matters here."""


class Socket(msgspec.Struct, frozen=True):
    """A UNIX socket by its path, TCP's by host and port, or the file descriptor `fd` that is one.

    `server`: somebody connects to it there.  `wait`: the start waits for the first one who does; others may come after
    it.  `telnet`: who connects speaks telnet.
    """

    path: str
    server: bool
    fd: int | None = None
    wait: bool = True
    address: tuple[str, int] | None = None
    telnet: bool = False

    def __str__(self) -> str:
        if self.address is not None:
            return "{}:{}".format(*self.address)
        return self.path if self.fd is None else f"fd={self.fd}"

    @property
    def filename(self) -> str:
        """What QEMU calls it, but for whether somebody is there."""
        if self.address is not None:
            name = f"{'telnet' if self.telnet else 'tcp'}:{self}"
        else:
            name = f"unix:{self.path if self.server else ''}"
        return f"{name},server=on" if self.server else name


Channel = Socket | Literal["stdio"] | None
"""Where a chardev leads; None is nowhere."""


class Monitor(msgspec.Struct, frozen=True):
    """A monitor: QMP, `pretty` or not, or the human one."""

    where: Socket | Literal["stdio"]
    human: bool = False
    pretty: bool = False


class Channels:
    """The chardevs of a command line: `known`, by id.  Each is for one user."""

    def __init__(self) -> None:
        self.known: dict[str, Channel] = {}
        self._used: set[str] = set()
        self.stdio = False
        """Whether one of them is standard input and output."""

    def add(self, text: str) -> None:
        """`-chardev`; OptionError."""
        settings = _settings(text, "backend")
        kind, name = settings.pop("backend", ""), settings.pop("id", "")
        if not name:
            raise OptionError("id: missing; expected one by which the chardev can be named")
        if name in self.known:
            raise OptionError(f"Duplicate ID '{name}' for chardev")
        if kind == "null":
            self.known[name] = None
        elif kind == "stdio":
            self.known[name] = self._standard()
        elif kind == "socket" and not settings.keys().isdisjoint(("path", "fd", "port")):
            self.known[name] = _socket(settings)
        else:
            raise OptionError(
                "expected socket,path=PATH,id=ID, socket,host=HOST,port=PORT,id=ID, socket,fd=NUMBER,id=ID, "
                "stdio,id=ID or null,id=ID"
            )

    def use(self, name: str) -> Channel:
        """Where the chardev `name` leads, for whoever has it alone from now on; OptionError."""
        if name not in self.known:
            known = ", ".join(self.known) or "none"
            raise OptionError(f"chardev {shown(name)} not found; the chardevs are: {known}")
        if name in self._used:
            raise OptionError(f"chardev {shown(name)} is in use already")
        self._used.add(name)
        return self.known[name]

    def named(self, text: str, name: str) -> Channel:
        """What a short form leads to, which is a chardev `name`, if it is none already; OptionError."""
        kind, _, rest = text.partition(":")
        if kind == "chardev" and rest:
            return self.use(rest)
        if name in self.known:
            raise OptionError(f"Duplicate ID '{name}' for chardev")
        self.known[name] = self._short(text)
        self._used.add(name)
        return self.known[name]

    def _short(self, text: str) -> Channel:
        kind, _, rest = text.partition(":")
        if text in NOWHERE:
            return None
        if text == "stdio":
            return self._standard()
        if kind == "unix" and rest:
            settings = _settings(rest, "path")
            if settings.get("path"):
                return _socket(settings)
        if kind in ("tcp", "telnet"):
            settings = {"telnet": "on" if kind == "telnet" else "off", **_settings(rest, "address")}
            host, colon, port = settings.pop("address", "").rpartition(":")
            if colon:
                return _socket({**settings, "host": host, "port": port})
        raise OptionError(FORMS)

    def _standard(self) -> Literal["stdio"]:
        if self.stdio:
            raise OptionError("cannot use stdio by multiple character devices")
        self.stdio = True
        return "stdio"


def _settings(text: str, implied: str) -> dict[str, str]:
    """`key=value,…`; the first may be a value of `implied`, and a word alone says on, or off after "no"."""
    settings: dict[str, str] = {}
    for number, piece in enumerate(text.replace(",,", "\0").split(",")):
        key, equals, value = piece.replace("\0", ",").partition("=")
        if equals:
            settings[key] = value
        elif not number:
            settings[implied] = key
        elif key.startswith("no"):
            settings[key.removeprefix("no")] = "off"
        else:
            settings[key] = "on"
    return settings


def _socket(settings: dict[str, str]) -> Socket:
    for key in settings:
        if key not in SETTINGS:
            raise OptionError(f"Invalid parameter {key!r}")
    server, wait, telnet = (
        settings.get(key, default) in ("on", "yes", "true")
        for key, default in (("server", "off"), ("wait", "on"), ("telnet", "off"))
    )
    fd, port = settings.get("fd"), settings.get("port")
    given = [key for key in ("path", "fd", "port") if key in settings]
    if len(given) > 1:
        raise OptionError(f"{given[0]}: given together with {given[1]}; expected one of them")
    if port is not None:
        if not port.isdecimal() or int(port) > MAX_PORT:
            raise OptionError(f"port: {shown(port)} is given; expected a number up to {MAX_PORT}")
        host = settings.get("host", "").removeprefix("[").removesuffix("]")
        return Socket("", server, wait=wait, address=(host, int(port)), telnet=telnet)
    if fd is None:
        return Socket(settings["path"], server, wait=wait, telnet=telnet)
    if not fd.isdecimal():
        raise OptionError(f"fd: {shown(fd)} is given; expected the number of an open socket")
    return Socket("", server, int(fd), wait, telnet=telnet)
