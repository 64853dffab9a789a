"""`devmodels serve`: block nodes, exports and monitors on one wall-clock context, until a signal or `quit` ends it."""

from __future__ import annotations

import logging
import select
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Literal

import msgspec

from devmodels.assembly import HostedDevices
from devmodels.assembly.hosted import HOSTED
from devmodels.blockbackend import Graph
from devmodels.blockbackend.permissions import parents_first
from devmodels.cli.blockdev import add_blockdev, add_object
from devmodels.conformance import Profile
from devmodels.events import Events
from devmodels.exports.table import Exports, options_of
from devmodels.iocontext import IoContext
from devmodels.monitor.server import MonitorServer
from devmodels.monitor.world import World
from devmodels.options import OptionError, coerce, convert, decode, one_line, parse_size, shown
from devmodels.runstate import RunState

if TYPE_CHECKING:
    from devmodels.exports.vfio_user_session import Offered
    from devmodels.recording import Recorder
    from devmodels.telemetry.figures import Source
    from devmodels.telemetry.http import HttpServer
    from devmodels.telemetry.stream import TelemetryServer

log = logging.getLogger("devmodels")


class ChardevOptions(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Options of `--chardev`: a listening UNIX socket."""

    backend: Literal["socket"]
    id: str
    path: str
    server: bool = False
    wait: bool = True

    def __post_init__(self) -> None:
        if not self.server or self.wait:
            raise ValueError("server=on,wait=off are the only ones there are")


class MonitorOptions(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Options of `--monitor`: the chardev it is on."""

    chardev: str
    mode: Literal["control"] = "control"


def log_to_stderr(*, verbose: bool) -> None:
    """Log lines of `devmodels` to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("devmodels: %(message)s"))
    logger = logging.getLogger("devmodels")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if verbose else logging.WARNING)


class Signals:
    """SIGINT and SIGTERM as something to read: `fileno` becomes readable when one has come."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        for end in (self._ours, self._theirs):
            end.setblocking(False)
        self._previous_fd = signal.set_wakeup_fd(self._theirs.fileno())
        self._previous = {
            number: signal.signal(number, _ignore) for number in (signal.SIGINT, signal.SIGTERM)
        }

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self._ours.fileno()

    def close(self) -> None:
        """Leave signals as they were."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_fd)
        self._ours.close()
        self._theirs.close()


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """The wake-up descriptor does the work."""


class Server:
    """The daemon: nodes by name, devices and exports by id.  SIGINT and SIGTERM are its own from the beginning.

    One `run_state` is that of all its devices, and `events` are what they tell its monitors.
    """

    def __init__(self, *, poll_max_ns: int, strict: bool) -> None:
        self._signals = Signals()
        self._chardevs: dict[str, ChardevOptions] = {}
        self._monitors: dict[str, MonitorServer] = {}
        self.telemetry: list[TelemetryServer] = []
        self.pages: list[HttpServer] = []
        self.stopping = False
        self.context = IoContext.wall()
        self.context.poll_max_ns = poll_max_ns
        self.events = Events()
        self.run_state = RunState(self.events)
        self._graph = Graph(self.context)
        profile = Profile.STRICT if strict else Profile.LENIENT
        exports = Exports(self._graph, profile=profile, events=self.events, run_state=self.run_state)
        self.hosted = HostedDevices(self._graph, run_state=self.run_state, profile=profile)
        exports.functions = self._function
        self.world = World(
            self._graph,
            events=self.events,
            run_state=self.run_state,
            exports=exports,
            hosted=self.hosted,
            on_quit=self.stop,
        )
        self._strict = strict
        self._recorder: Recorder | None = None
        self.context.watch(self._signals.fileno(), select.EPOLLIN, lambda _events: self.stop())

    def record(self, path: Path, limit: str | None) -> None:
        """Write what happens to every export into a trace; OptionError where that cannot be."""
        from devmodels.recording import Recorder

        size = None if limit is None else parse_size(limit)
        if limit is not None and size is None:
            raise OptionError(f"--record-limit: {shown(limit)} is given; expected a size, 64M say")
        try:
            recorder = self._recorder = Recorder(path, self.context, strict=self._strict, limit=size)
        except OSError as error:
            raise OptionError(f"--record: {path} cannot be written: {error.strerror or error}") from None
        except ValueError as error:
            raise OptionError(f"--record-limit: {error}") from None
        self.context.poll_max_ns = 0
        self._graph.tracer = recorder.tracer
        self.world.exports.recorder = recorder
        self.hosted.one_context = True
        self.hosted.on_added = recorder.watch_function

    def add_object(self, text: str) -> None:
        """Make an object that nodes can name; OptionError where it cannot be."""
        add_object(self._graph, text)

    def add_blockdev(self, text: str) -> None:
        """Open a block node; OptionError where it cannot be."""
        add_blockdev(self._graph, text)

    def add_device(self, text: str) -> None:
        """Make a device that can be exported, or that is on the bus of one; OptionError where it cannot be."""
        what = "--device"
        given = decode(text, None, what=what, implied="driver")
        driver = given.get("driver")
        if isinstance(driver, str) and driver in HOSTED and not text.lstrip().startswith("{"):
            given = coerce(given, HOSTED[driver].kind.options)
        if "id" in given:
            what = f"{what} {shown(given['id'])}"
        try:
            self.hosted.add(given)
        except OptionError as error:
            raise OptionError(f"{what}: {error}") from None

    def _function(self, device: str) -> Offered | None:
        """The PCI function that is called `device`, for an export."""
        from devmodels.exports.vfio_user_session import Offered

        found = self.hosted.function(device)
        if found is None:
            return None
        machine, function = found
        return Offered(machine.machine, function, machine.violations)

    def add_export(self, text: str) -> None:
        """Start an export; OptionError where it cannot be."""
        what = "--export"
        given = decode(text, None, what=what)
        if not text.lstrip().startswith("{"):
            given = coerce(given, options_of(given, what=what))
        self.world.exports.add(given, what=what)

    def add_chardev(self, text: str) -> None:
        """Note where a monitor can listen; OptionError where the text is wrong."""
        what = "--chardev"
        options = decode(text, ChardevOptions, what=what, implied="backend")
        if "id" in options:
            what = f"{what} {shown(options['id'])}"
        checked = convert(options, ChardevOptions, what=what)
        if checked.id in self._chardevs:
            raise OptionError(f"{what}: id: given to two chardevs; expected an id of its own")
        self._chardevs[checked.id] = checked

    def add_monitor(self, text: str) -> None:
        """Start a QMP monitor; OptionError where it cannot be."""
        what = "--monitor"
        checked = convert(
            decode(text, MonitorOptions, what=what, implied="chardev"), MonitorOptions, what=what
        )
        chardev = self._chardevs.get(checked.chardev)
        if chardev is None:
            known = ", ".join(map(shown, sorted(self._chardevs))) or "a chardev, and there is none"
            raise OptionError(f"{what}: chardev: {shown(checked.chardev)} is given; expected {known}")
        if checked.chardev in self._monitors:
            raise OptionError(f"{what}: chardev: {shown(checked.chardev)} has a monitor already")
        try:
            monitor = MonitorServer(chardev.path, self.world)
        except OSError as error:
            reason = error.strerror or error
            raise OptionError(
                f"--chardev {shown(chardev.id)}: path: cannot listen at {chardev.path!r}: {reason}"
            ) from None
        self._monitors[checked.chardev] = monitor

    def _source(self) -> Source:
        """Where figures come from."""
        from devmodels.telemetry.figures import Source

        return Source(
            self.context,
            backends=lambda: [each.backend for each in self.world.attached()],
            nodes=lambda: parents_first(self._graph.nodes.values()),
            run_state=self.run_state,
        )

    def add_telemetry(self, text: str) -> None:
        """Start to tell figures at a socket; OptionError where that cannot be."""
        from devmodels.telemetry.options import TelemetryOptions
        from devmodels.telemetry.stream import TelemetryServer

        what = "--telemetry"
        options = convert(
            decode(text, TelemetryOptions, what=what, implied="path"), TelemetryOptions, what=what
        )
        try:
            server = TelemetryServer(
                options.path, self._source(), interval_ns=options.interval_ns, requests=options.requests
            )
        except OSError as error:
            reason = error.strerror or error
            raise OptionError(f"{what}: path: cannot listen at {options.path!r}: {reason}") from None
        self.telemetry.append(server)

    def add_prometheus(self, text: str) -> None:
        """Start to serve the page for Prometheus; OptionError where that cannot be."""
        from devmodels.telemetry import prometheus
        from devmodels.telemetry.http import HttpServer
        from devmodels.telemetry.options import host_and_port

        what = "--prometheus"
        host, port = host_and_port(text, what=what)
        try:
            server = HttpServer(
                host, port, self.context, prometheus.PATH, partial(prometheus.page, self._source())
            )
        except (OSError, UnicodeError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or one_line(str(error))
            raise OptionError(f"{what}: cannot listen at {text}: {reason}") from None
        self.pages.append(server)

    def run(self) -> None:
        """Serve until SIGINT, SIGTERM or a monitor's `quit`."""
        self.context.have_stand_in()
        while not self.stopping:
            self.context.run_once()

    def stop(self) -> None:
        """Leave `run` after this turn."""
        self.stopping = True

    def close(self) -> None:
        """End every export, let what runs come back, close the nodes."""
        self.context.unwatch(self._signals.fileno())
        for monitor in self._monitors.values():
            monitor.close()
        for telemetry in self.telemetry:
            telemetry.close()
        for page in self.pages:
            page.close()
        self.world.exports.close()
        self.context.run_until_idle()
        if self._recorder is not None:
            self._recorder.close()
        for node in parents_first(self._graph.nodes.values()):
            # What limits or a break point hold goes on.
            node.drain_begin()
        self.context.run_until_idle()
        self.hosted.close()
        self._graph.close()
        self.context.close()
        self._signals.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
