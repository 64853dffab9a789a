"""`devmodels-system-x86_64`: the program that stands in for `qemu-system-x86_64` under its qtest clients.

Exit status: 0 when its client has left, at SIGTERM, SIGINT, SIGHUP and `quit`; 1 for a wrong option, with one line, as
QEMU.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from contextlib import suppress
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from devmodels.qtest import quickimports

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from devmodels.qtest.commandline import Launch
    from devmodels.qtest.daemon import Daemon
    from devmodels.qtest.loop import RequestLog


def main() -> None:
    """Entry point."""
    # What a start makes stays: nothing of it is garbage, and a collector would look at all of it again and again.
    gc.disable()
    quickimports.install()
    _import_msgspec()
    _on_signals(_end_at_once)
    status = run(sys.argv[1:])
    sys.stdout.flush()
    # Nothing is left to be done, and whoever waits need not wait for the interpreter.
    os._exit(status)


class _Later(ModuleType):
    """Stands in for a module until something of it is asked for."""

    def __getattr__(self, name: str) -> object:
        if sys.modules.get(self.__name__) is self:
            raise ImportError(f"{self.__name__} is asked for {name} already")
        found: object = getattr(import_module(self.__name__), name)
        return found


def _import_msgspec() -> None:
    """Import it without what its own modules import and do not use at a start, which is a sixth of that start.

    - typing_extensions, where that is installed: it only looks whether there is one, and from Python 3.11 on typing has
      all that it wants of it.
    - platform: uuid wants its `system()`, for which it reads more than that name.
    - msgspec.inspect and textwrap: only for JSON schemas.
    - datetime, which ends with the classes that are in _datetime.

    Whoever imports one of them later has the real one.  A msgspec that cannot do so is imported later, with them.
    """
    platform = _Later("platform")
    vars(platform)["system"] = lambda: os.uname().sysname
    instead: dict[str, ModuleType | None] = {
        "typing_extensions": None,  # What `import` takes for a module that is not there.
        "platform": platform,
        "msgspec.inspect": _Later("msgspec.inspect"),
        "textwrap": _Later("textwrap"),
    }
    with suppress(ImportError):
        instead["datetime"] = import_module("_datetime")
    instead = {name: module for name, module in instead.items() if name not in sys.modules}
    sys.modules.update(instead)  # type: ignore[arg-type]
    try:
        import msgspec  # noqa: F401
    except ImportError:
        pass
    finally:
        for name in instead:
            del sys.modules[name]


def _on_signals(end: Callable[[int, FrameType | None], None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)


def _end_at_once(_number: int, _frame: FrameType | None) -> None:
    """There is nothing yet to be ended in good order."""
    os._exit(0)


def run(arguments: list[str]) -> int:
    """Do it; the exit status."""
    from devmodels.options import OptionError, one_line
    from devmodels.qtest.commandline import parse

    try:
        if any(each.lstrip("-") == "version" for each in arguments):
            sys.stdout.write("devmodels, in place of QEMU emulator version 7.2.0\n")
            return 0
        if _may_want_help(arguments) and (text := _help(arguments)) is not None:
            sys.stdout.write(text)
            return 0
        _launch(parse(arguments))
    except BrokenPipeError:
        return 0
    except OptionError as error:
        sys.stderr.write(f"{os.path.basename(sys.argv[0])}: {one_line(str(error))}\n")
        return 1
    return 0


def _may_want_help(arguments: list[str]) -> bool:
    return any(word in ("-h", "--h") or word.endswith(("help", "?")) for word in arguments)


def _help(arguments: list[str]) -> str | None:
    from devmodels.qtest.helping import help_wanted

    return help_wanted(arguments)


def _log(launch: Launch) -> RequestLog | None:
    """Where requests are written: standard error if nobody says otherwise, as QEMU does."""
    from devmodels.options import OptionError
    from devmodels.qtest.loop import RequestLog

    path = launch.qtest_log
    if launch.qtest is None or path in ("none", "/dev/null"):
        return None
    if path is None:
        return RequestLog(2)
    try:
        return RequestLog(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666))
    except OSError as error:
        raise OptionError(f"-qtest-log {path}: {error.strerror}") from None


def _launch(launch: Launch) -> None:
    if not launch.daemonize and launch.pidfile is None:
        _serve(launch)
        return
    from devmodels.qtest.daemon import Daemon, PidFile

    daemon = Daemon() if launch.daemonize else None
    pidfile = PidFile(launch.pidfile) if launch.pidfile is not None else None

    def end_at_once(number: int, frame: FrameType | None) -> None:
        if pidfile is not None:
            pidfile.remove()
        _end_at_once(number, frame)

    _on_signals(end_at_once)
    try:
        _serve(launch, daemon)
    finally:
        if pidfile is not None:
            pidfile.remove()


def _serve(launch: Launch, daemon: Daemon | None = None) -> None:
    from devmodels.options import OptionError
    from devmodels.qtest.assembling import Assembling
    from devmodels.qtest.channels import Socket
    from devmodels.qtest.control import Control, Entrance
    from devmodels.qtest.loop import Loop, SocketStream, StandardStream

    entrances = [Entrance(each.where, option="-mon") for each in launch.monitors]
    client = Entrance(launch.qtest, option="-qtest") if isinstance(launch.qtest, Socket) else None
    for entrance in (client, *entrances):
        if entrance is not None:
            entrance.wait()
    assembling = Assembling(launch)
    board = assembling.build()
    for warning in assembling.warnings:
        sys.stderr.write(f"{os.path.basename(sys.argv[0])}: warning: {warning}\n")
    loop = Loop(board, _log(launch))
    _on_signals(lambda _number, _frame: loop.stop())
    control = Control(assembling, loop.stop)
    problems: list[str] = []

    def failed(problem: str) -> None:
        problems.append(problem)
        loop.stop()

    try:
        if launch.incoming is not None:
            control.wait_for(launch.incoming, failed)
        for entrance, monitor in zip(entrances, launch.monitors, strict=True):
            control.serve(entrance, monitor)
        if launch.qtest == "stdio":
            loop.attach(StandardStream())
        elif client is not None:
            loop.on_left = client.go_on if client.others_may_come else None
            client.open(board.context, lambda connection: loop.attach(SocketStream(connection)))
        if daemon is not None:
            daemon.ready()
        gc.freeze()
        gc.enable()
        loop.run()
    finally:
        if client is not None:
            client.close()
        control.close()
        board.close()
    if problems:
        raise OptionError(f"-incoming {launch.incoming}: {problems[0]}")
