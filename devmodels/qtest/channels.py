"""Character devices, as far as clients come through them: `-chardev`, and the short forms that other options take.

A short form (`stdio`, `null`, `unix:PATH,server=on,wait=off`, `chardev:ID`) is one of QEMU's older way to name a
chardev; `unix:` has options behind it, of which the first one is `path` if it says nothing else.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from devmodels.options import OptionError, shown

FORMS = "expected unix:PATH, perhaps with ,server=on,wait=off, chardev:ID, stdio or null"


NOWHERE = ("null", "vc", "/dev/null")
"""Nobody is at a console on a display that is not there, either."""


class Socket(msgspec.Struct, frozen=True):
    """A UNIX socket by its path, or the file descriptor `fd` that is one; `server`: somebody connects to it there.

    `wait`: the start waits for the first one who does; others may come after it.
    """

    path: str
    server: bool
    fd: int | None = None
    wait: bool = True

    def __str__(self) -> str:
        return self.path if self.fd is None else f"fd={self.fd}"


Channel = Socket | Literal["stdio"] | None
"""Where a chardev leads; None is nowhere."""


class Channels:
    """The chardevs of a command line: `known`, by id.  Each is for one user."""

    def __init__(self) -> None:
        self.known: dict[str, Channel] = {}
        self._used: set[str] = set()

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
            self.known[name] = "stdio"
        elif kind == "socket" and ("path" in settings or "fd" in settings):
            self.known[name] = _socket(settings)
        else:
            raise OptionError(
                "expected socket,path=PATH,id=ID, socket,fd=NUMBER,id=ID, stdio,id=ID or null,id=ID"
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

    def named(self, text: str) -> Channel:
        """What a short form leads to; OptionError."""
        kind, _, rest = text.partition(":")
        if text in NOWHERE:
            return None
        if text == "stdio":
            return "stdio"
        if kind == "chardev" and rest:
            return self.use(rest)
        if kind == "unix" and rest:
            settings = _settings(rest, "path")
            if settings.get("path"):
                return _socket(settings)
        raise OptionError(FORMS)


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
    server = settings.get("server", "off") in ("on", "yes", "true")
    wait = settings.get("wait", "on") in ("on", "yes", "true")
    fd = settings.get("fd")
    if fd is None:
        return Socket(settings["path"], server, wait=wait)
    if "path" in settings:
        raise OptionError("path: given together with fd; expected one of them")
    if not fd.isdecimal():
        raise OptionError(f"fd: {shown(fd)} is given; expected the number of an open socket")
    return Socket("", server, int(fd), wait)
