"""Migration to another instance over a UNIX socket: the whole machine's state, in the form of our snapshots.

One side sends a header, eight bytes and the length in eight more, then what the board holds beside its devices, and the
snapshot.  The other one answers when it has taken it, with a zero byte, or with what is wrong, in a line.  Disks are
shared: the side that has sent lets go of its images before the other one takes them, and takes them back where that has
failed.  A clock that is the client's is set forward to where it was there.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from devmodels.iocontext import ClockKind
from devmodels.monitor.command import Arguments, CommandError
from devmodels.monitor.world import World
from devmodels.options import OptionError, shown
from devmodels.qtest.hotplug import BUSES, SLOTS
from devmodels.qtest.interrupts import INPUTS
from devmodels.unixlistener import listen, remove

if TYPE_CHECKING:
    from collections.abc import Callable

    from devmodels.qtest.board import Board

HEADER = struct.Struct("<8sQ")
MAGIC = b"DMSTATE5"
TAKEN = b"\0"
"""The answer of who has taken the state."""
MAX_STATE = 1 << 36
MAX_TIME = 1 << 63
CHUNK = 1 << 20
TIMEOUT = 30.0
WAITING, MOVED = "inmigrate", "postmigrate"


class Migrate(Arguments, frozen=True):
    """`uri`: unix:PATH, where the other side listens."""

    uri: str
    detach: bool = True
    blk: bool = False
    inc: bool = False
    resume: bool = False


class MigrateIncoming(Arguments, frozen=True):
    """`uri`: unix:PATH, where to listen."""

    uri: str


class MigrationInfo(msgspec.Struct, rename="kebab", omit_defaults=True):
    """How far it is; nothing where none was asked for."""

    status: str | None = None
    error_desc: str | None = None


class Held(msgspec.Struct, array_like=True):
    """What a board holds beside its devices.

    CMOS memory and the byte that is selected there, the item of `fw_cfg` (-1: none) and how far it was read; the
    client's clock in ns (-1: the host's); inputs that the client has forced; of hot-plug the bus that is selected,
    slots with something new, and devices that wait to be ejected.
    """

    cmos: bytes
    byte: int
    item: int
    at: int
    clock: int
    forced: list[tuple[int, bool]]
    bus: int
    up: list[int]
    waiting: list[str]

    @classmethod
    def of(cls, board: Board) -> Held:
        """What a board holds."""
        cmos, config, hotplug = board.cmos, board.fw_cfg, board.hotplug
        item, at = (-1, 0) if config is None else (config.selected, config.at)
        bus, up, waiting = 0, list[int](), list[str]()
        if hotplug is not None:
            bus, up, waiting = hotplug.selected, sorted(hotplug.up), hotplug.waiting
        clock = board.context.now_ns() if board.context.kind is ClockKind.STEPPED else -1
        return cls(
            bytes(cmos.bytes), cmos.selected, item, at, clock, board.interrupts.forced, bus, up, waiting
        )

    def judge(self, board: Board) -> None:
        """SnapshotError where a board cannot hold this."""
        from devmodels.snapshot import SnapshotError

        size, hotplug = len(board.cmos.bytes), board.hotplug
        if len(self.cmos) != size or not 0 <= self.byte < size or not 0 <= self.at < MAX_STATE:
            raise SnapshotError("what firmware's devices hold does not fit")
        if not -1 <= self.clock < MAX_TIME:
            raise SnapshotError("the time is none")
        if not all(0 <= line < INPUTS for line, _ in self.forced):
            raise SnapshotError("inputs are forced that are not there")
        for name in self.waiting:
            if hotplug is None or hotplug.slot_of(name) is None:
                raise SnapshotError(f"device {shown(name)} waits to be ejected, and is not there")
        if not 0 <= self.bus < 1 << 32 or not all(0 <= slot < SLOTS * BUSES for slot in self.up):
            raise SnapshotError("what was plugged does not fit")

    def set_clock(self, board: Board) -> None:
        """Time goes on from where it was, unless the board's own is further."""
        context = board.context
        if context.kind is ClockKind.STEPPED:
            context.step(max(0, self.clock - context.now_ns()))

    def put(self, board: Board) -> None:
        """A board holds this now."""
        board.interrupts.forced = self.forced
        if board.hotplug is not None:
            board.hotplug.selected, board.hotplug.up = self.bus, set(self.up)
            for name in self.waiting:
                slot = board.hotplug.slot_of(name)
                assert slot is not None
                board.hotplug.ask(slot, name)
        cmos, config = board.cmos, board.fw_cfg
        cmos.bytes[:], cmos.selected = self.cmos, self.byte
        if config is not None:
            config.selected, config.at = self.item, self.at


class Migration:
    """A machine that goes to another place, or comes from one."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._assembly = board.assembly
        self._context = board.context
        self._status: str | None = None
        self._error: str | None = None
        self._runs_on = False
        """Whether the machine that goes was running."""
        self._listener: socket.socket | None = None
        self._path = ""
        self._going: socket.socket | None = None
        self._coming: socket.socket | None = None
        self._data = bytearray()
        self.on_failure: Callable[[str], None] = lambda _: None
        """Called where the state that was to come could not be taken; the machine is good for nothing then."""

    # --- running on

    async def cont(self, world: World) -> None:
        """`cont` of a machine that waits is for its state to decide; one that has gone takes its images back first."""
        from devmodels.monitor import machine

        state = self._assembly.run_state
        if not state.running and state.reason == WAITING:
            return
        if self._going is not None:
            self._runs_on = True
            return
        if not state.running and state.reason == MOVED:
            try:
                self._set_active(True)
            except OSError as error:
                self._set_active(False)
                raise CommandError(f"images cannot be taken back: {error.strerror or error}") from None
        await machine.cont(world)

    # --- going

    async def migrate(self, world: World, arguments: Migrate) -> None:
        """Send the state and stop."""
        from devmodels.monitor.machine import stop
        from devmodels.snapshot import save_snapshot

        state = self._assembly.run_state
        if self._going is not None:
            raise CommandError("There's a migration process in progress")
        if arguments.resume:
            raise CommandError("Cannot resume if there is no paused migration")
        if state.reason == WAITING and not state.running:
            raise CommandError("Guest is waiting for an incoming migration")
        path = _path(arguments.uri)
        if path is None:
            self._status, self._error = "failed", None
            raise CommandError("Parameter 'uri' expects a valid migration protocol")
        self._going = socket.socket(socket.AF_UNIX)
        self._going.settimeout(TIMEOUT)
        try:
            self._going.connect(path)
        except OSError as error:
            self._went(f"Failed to connect to '{path}': {error.strerror or error}")
            return
        self._runs_on = state.running
        data = msgspec.msgpack.encode((Held.of(self._board), save_snapshot(self._assembly)))
        await stop(world)
        self._set_active(False)
        self._status, self._error = "active", None
        try:
            self._going.sendall(HEADER.pack(MAGIC, len(data)))
            self._going.sendall(data)
        except OSError as error:
            self._failed(error.strerror or str(error))
        else:
            self._context.watch(self._going.fileno(), select.EPOLLIN, self._answered)

    def _answered(self, _events: int) -> None:
        """The other side has taken it, or says why not, or is no more."""
        assert self._going is not None
        self._context.unwatch(self._going.fileno())
        try:
            answer = self._going.recv(CHUNK)
        except OSError as error:
            self._failed(error.strerror or str(error))
            return
        if answer == TAKEN:
            self._went(None)
            self._assembly.run_state.reason = MOVED
        else:
            self._failed(
                answer.decode(errors="replace") or "the other side has ended before it had the state"
            )

    def _failed(self, error: str) -> None:
        """The machine is here still, and runs on."""
        self._set_active(True)
        if self._runs_on:
            self._assembly.run_state.cont()
        self._went(error)

    def _went(self, error: str | None) -> None:
        """It is over, here."""
        assert self._going is not None
        self._going.close()
        self._going = None
        self._status, self._error = ("failed", error) if error else ("completed", None)

    async def query_migrate(self, _world: World) -> MigrationInfo:
        """How far it is."""
        return MigrationInfo(self._status, self._error)

    def _set_active(self, active: bool) -> None:
        for node in self._assembly.graph.nodes.values():
            if active:
                node.activate(node, write=not node.read_only)
            else:
                node.inactivate(node)

    # --- coming

    async def migrate_incoming(self, _world: World, arguments: MigrateIncoming) -> None:
        """Listen, where the command line said that the address comes later."""
        if self._assembly.run_state.reason != WAITING or self._listener is not None:
            raise CommandError("'-incoming' was not specified on the command line")
        try:
            self.listen(arguments.uri)
        except OptionError as error:
            raise CommandError(str(error)) from None

    def wait(self, uri: str) -> None:
        """The machine stands still until its state comes; OptionError where `uri` cannot be listened at."""
        state = self._assembly.run_state
        state.running, state.reason = False, WAITING
        if uri != "defer":
            self.listen(uri)

    def listen(self, uri: str) -> None:
        """Take one connection at `uri`."""
        try:
            path = _path(uri)
            if path is None:
                raise CommandError(f"unknown migration protocol: {uri}")
            self._path = path
            with suppress(FileNotFoundError):
                # As QEMU does, whatever is there.
                os.unlink(self._path)
            self._listener = listen(self._path)
        except (OSError, CommandError) as error:
            raise OptionError(str(getattr(error, "strerror", None) or error)) from None
        self._context.watch(self._listener.fileno(), select.EPOLLIN, self._accept)

    def _accept(self, _events: int) -> None:
        assert self._listener is not None
        self._coming, _ = self._listener.accept()
        self._coming.setblocking(False)
        self._stop_listening()
        self._context.watch(self._coming.fileno(), select.EPOLLIN, self._receive)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._context.unwatch(self._listener.fileno())
            self._listener.close()
            self._listener = None
            remove(self._path)

    def _receive(self, _events: int) -> None:
        assert self._coming is not None
        try:
            data = self._coming.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._data += data
        if len(self._data) >= HEADER.size:
            magic, length = HEADER.unpack_from(self._data)
            if magic != MAGIC or length > MAX_STATE:
                self._arrive(None, "what came is no machine's state")
            elif len(self._data) >= HEADER.size + length:
                self._arrive(bytes(self._data[HEADER.size : HEADER.size + length]), "")
            elif not data:
                self._arrive(None, "the state ends early")
        elif not data:
            self._arrive(None, "the state ends early")

    def _arrive(self, data: bytes | None, error: str) -> None:
        from devmodels.snapshot import SnapshotError, restore_snapshot

        assert self._coming is not None
        self._context.unwatch(self._coming.fileno())
        self._data.clear()
        if data is not None:
            try:
                held, snapshot = msgspec.msgpack.decode(data, type=tuple[Held, bytes])
                held.judge(self._board)
                self._set_active(True)
                held.set_clock(self._board)
                restore_snapshot(self._assembly, snapshot)
                held.put(self._board)
            except (msgspec.DecodeError, UnicodeError, RecursionError, SnapshotError, OSError) as problem:
                error = str(problem)
        self._status, self._error = ("failed", error) if error else ("completed", None)
        with self._coming, suppress(OSError):
            self._coming.sendall(error.encode(errors="replace") if error else TAKEN)
        if error:
            self.on_failure(error)

    def close(self) -> None:
        """Wait no longer."""
        self._stop_listening()
        if self._going is not None:
            self._context.unwatch(self._going.fileno())
            self._went("the machine has ended")


def _path(uri: str) -> str | None:
    """The path of unix:PATH; None where it is nothing such."""
    kind, _, path = uri.partition(":")
    return path if kind == "unix" and path else None
