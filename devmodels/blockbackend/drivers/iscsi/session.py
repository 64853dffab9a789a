"""A session with a target: commands are kept while connections come and go.

    CONNECTING → READY → (LEAVING →) WAITING → CONNECTING …      CLOSED from anywhere

A connection that is lost takes its session with it (error recovery level 0); the same initiator port logs in anew,
which ends at the target what was left there (RFC 7143 §6.3.5).  Then what had not been answered is issued once more, in
order, and what must not be issued twice fails.  While there is no session commands wait, as long as `Patience` says.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections import deque
from collections.abc import Callable
from enum import Enum

import msgspec

from devmodels.blockbackend.drivers.iscsi.connection import SECOND, Connection
from devmodels.blockbackend.drivers.iscsi.establishing import Newcomer, Way, establish
from devmodels.blockbackend.drivers.iscsi.silence import Silence
from devmodels.blockbackend.drivers.iscsi.task import Task
from devmodels.iocontext import Cancelled, Future, IoContext, Timer
from devmodels.iocontext import Task as Coroutine

log = logging.getLogger("devmodels.iscsi")

MAX_ISSUES = 2
"""A command whose connection is lost so many times fails."""

ABORT_NS = 5 * SECOND
"""How long ABORT TASK may take; a connection where it takes longer is given up."""

MAX_WAIT_NS = 30 * SECOND
"""Longest pause between two tries to connect."""

LEAVE_NS = 3 * SECOND
"""How long a logout may take."""


class State(Enum):
    """Where a session is."""

    CONNECTING = "connecting"
    READY = "ready"
    LEAVING = "the target has asked for a logout: nothing new is issued"
    WAITING = "waiting to connect again"
    CLOSED = "closed"


class Patience(msgspec.Struct, frozen=True):
    """How long things may take, in ns.  `command`: one command (0: for ever).  `keep`: how long commands wait for a
    session (0: they fail at once)."""

    command: int = 0
    keep: int = 120 * SECOND


class Session:
    """Commands for one logical unit.  `way`: how it is reached.

    `attention(sense)` is told what the unit says unasked.
    """

    def __init__(
        self,
        context: IoContext,
        way: Way,
        lun: int,
        patience: Patience,
        attention: Callable[[bytes], None],
        *,
        name: str = "",
    ) -> None:
        self.context = context
        self.state = State.WAITING
        self.sessions = 0
        """How many sessions there have been."""
        self._way = way
        self._lun = lun
        self._patience = patience
        self._attention = attention
        self._name = name
        self._connection: Connection | None = None
        self._pending: deque[Task] = deque()
        self._doomed: list[tuple[Task, OSError]] = []
        """Tasks that fail as soon as the target can have nothing of them any more."""
        self._failures = 0
        self._given_up = False
        self._connecting: Coroutine[Connection] | None = None
        self._retry: Timer | None = None
        self._expiry: Timer | None = None
        self._silence: Silence | None = None
        self._leaving: Timer | None = None
        self._arriving: Newcomer | None = None
        self._counted = False

    def __repr__(self) -> str:
        return f"<Session {self._name} {self.state.name}, {len(self._pending)} waiting>"

    # --- for whoever uses it

    async def open(self) -> None:
        """Log in for the first time; OSError or LoginFailedError where that does not succeed."""
        self.state = State.CONNECTING
        self._count(True)
        try:
            connection = await self._establish()
        except BaseException:
            self.close()
            raise
        if self.closed:
            connection.close()
            raise OSError(errno.ECONNRESET, "the session is closed")
        self._begin(connection)

    async def execute(self, task: Task) -> None:
        """Have a command executed: `task` has its status then; OSError where there will be none."""
        if self.closed:
            raise OSError(errno.ENOTCONN, "the session is closed")
        if self._given_up:
            raise OSError(errno.ETIMEDOUT, "the target is not there")
        task.future = Future(self.context)
        self._pending.append(task)
        self._pump()
        try:
            await task.future
        except Cancelled:
            self.cancel(lambda each: each is task)
            with contextlib.suppress(OSError):
                await task.future
            raise

    @property
    def closed(self) -> bool:
        """Whether it has ended for good."""
        return self.state is State.CLOSED

    def cancel(self, wanted: Callable[[Task], bool]) -> None:
        """End `wanted` tasks with ECANCELED: at once where they wait, else when the target has ended them."""
        for task in [each for each in self._pending if wanted(each)]:
            self._pending.remove(task)
            task.finish(OSError(errno.ECANCELED, "cancelled"))
        if self._connection is not None:
            for task in [each for each in self._connection.tasks.values() if wanted(each)]:
                self._abort(task, OSError(errno.ECANCELED, "cancelled"))

    def move(self, context: IoContext) -> None:
        """Everything happens on `context` from now on; tasks that are there nevertheless fail."""
        connection = self._connection
        if connection is not None and connection.tasks:
            # Nobody is to hear there of what was asked here.
            connection.close()
            self._connection = None
            self.state = State.WAITING
            self._doomed += [(task, _gone("it is done elsewhere now")) for task in connection.tasks.values()]
        self._fail_all(errno.ECONNRESET, "it is done elsewhere now")
        self._count(False)
        self.context = context
        self._stop_timers()
        if self._connection is not None:
            self._connection.move(context)
            self._silence = Silence(context, self._connection)
        if self.state in (State.CONNECTING, State.WAITING):
            self._stop_connecting()
            self.state = State.WAITING
            self._expire_later()
            self._connect_in(0)
        elif self.state is State.LEAVING:
            self._leave()

    def close(self) -> None:
        """Log out, as far as that goes without waiting.  Idempotent."""
        if self.state is State.CLOSED:
            return
        self.state = State.CLOSED
        self._stop_connecting()
        self._stop_timers()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.logout()
            connection.close()
            self._doomed += [(task, _gone("the node is closed")) for task in connection.tasks.values()]
        self._fail_all(errno.ECONNRESET, "the node is closed")
        self._count(False)

    def _stop_timers(self) -> None:
        if self._silence is not None:
            self._silence.stop()
        for timer in (self._expiry, self._leaving):
            if timer is not None:
                timer.cancel()
        self._silence = self._expiry = self._leaving = None

    # --- commands

    def _pump(self) -> None:
        """Issue what waits, as far as the target takes it."""
        connection = self._connection
        waits = False
        if connection is not None and self.state is State.READY:
            pending = self._pending
            while pending and connection.window_open:
                self._issue(connection, pending.popleft())
            # With its window closed, and no task to answer, a target may not say by itself when it is open.
            waits = bool(pending)
            if (waits or connection.tasks) and self._silence is not None:
                self._silence.listen()
        self._count(
            waits or self._connecting is not None or bool(connection is not None and connection.tasks)
        )

    def _issue(self, connection: Connection, task: Task) -> None:
        connection.issue(task)
        if self._patience.command:
            due = self.context.now_ns() + self._patience.command
            task.timer = self.context.call_at(due, lambda: self._late(task))

    def _count(self, awaited: bool) -> None:
        """Whether the context is to wait for what the target says."""
        if self._way.transport.outside and awaited is not self._counted:
            self._counted = awaited
            self.context.awaited += 1 if awaited else -1

    def idle(self) -> None:
        """What had come has been dealt with."""
        connection = self._connection
        if connection is None:
            return
        if not connection.tasks:
            if self._silence is not None:
                self._silence.stop()
            if self.state is State.LEAVING and self._leaving is not None:
                self._leaving.cancel()
                self._leave()
        self._pump()

    def _abort(self, task: Task, error: OSError) -> None:
        """Have a task ended that has been issued; it fails with `error`."""
        connection = self._connection
        if task.aborting or connection is None:
            return
        task.abort_error = error
        connection.abort(task)
        due = self.context.now_ns() + ABORT_NS
        if task.timer is not None:
            task.timer.cancel()

        def late() -> None:
            if not task.over and connection is self._connection:
                connection.give_up("ABORT TASK is not answered")

        task.timer = self.context.call_at(due, late)

    def _late(self, task: Task) -> None:
        """A command has taken too long."""
        task.timer = None
        if not task.over:
            self._abort(task, OSError(errno.ETIMEDOUT, "the target has not answered in time"))

    # --- connections come and go

    async def _establish(self) -> Connection:
        return await establish(self.context, self._way, self._lun, self)

    def _begin(self, connection: Connection) -> None:
        """There is a session."""
        self._arriving = None
        self.state = State.READY
        self._connection = connection
        self._silence = Silence(self.context, connection)
        self.sessions += 1
        self._given_up = False
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        self._end_doomed()
        log.info("%s: session %d with the target", self._name, self.sessions)
        if connection.closed:
            self.connection_ended("the target has closed the connection")
        self._pump()

    def connection_ended(self, reason: str, wait_ns: int = 0) -> None:
        """The session has gone."""
        connection, self._connection = self._connection, None
        if connection is None or self.state is State.CLOSED:
            return
        log.warning("%s: %s", self._name, reason)
        self._stop_timers()
        again: list[Task] = []
        for task in connection.tasks.values():
            if task.aborting:
                assert task.abort_error is not None
                self._doomed.append((task, task.abort_error))
            elif task.once or task.issued >= MAX_ISSUES:
                self._doomed.append((task, _gone(reason)))
            else:
                again.append(task)
            if task.timer is not None:
                task.timer.cancel()
                task.timer = None
        for task in again:
            task.begin()
        self._pending.extendleft(reversed(again))
        self._expire_later()
        self.state = State.WAITING
        self._connect_in(max(self._pause(), min(wait_ns, MAX_WAIT_NS)))

    def _expire_later(self) -> None:
        """How long what waits will wait for a session."""
        if not self._patience.keep:
            self._give_up()
        elif not self._given_up:
            due = self.context.now_ns() + self._patience.keep
            self._expiry = self.context.call_at(due, self._give_up)

    def _pause(self) -> int:
        """How long to wait before the next try: none for the first after a session that did something."""
        self._failures += 1
        return 0 if self._failures == 1 else min(SECOND << min(self._failures - 2, 10), MAX_WAIT_NS)

    def worked(self) -> None:
        """A command has succeeded: the target is as it should be."""
        self._failures = 0

    def _connect_in(self, wait_ns: int) -> None:
        self._count(False)
        self._retry = self.context.call_at(self.context.now_ns() + wait_ns, self._connect)

    def _connect(self) -> None:
        self._retry = None
        self.state = State.CONNECTING
        self._count(True)
        # It may be over at once.
        self._connecting = self.context.start(self._establish(), self._connected)
        if self.state is not State.CONNECTING:
            self._connecting = None
            self._pump()

    def _connected(self, connection: Connection | None, error: BaseException | None) -> None:
        if isinstance(error, Cancelled):
            return
        self._connecting = None
        if error is None:
            assert connection is not None
            self._begin(connection)
            return
        if not isinstance(error, Exception):
            raise error
        log.warning("%s: cannot connect again: %s", self._name, reason_of(error))
        self.state = State.WAITING
        self._connect_in(self._pause())

    def _stop_connecting(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        arriving, self._arriving = self._arriving, None
        if arriving is not None:
            arriving.close()

    def arriving(self, newcomer: Newcomer) -> None:
        """There is a socket, where there may yet be a session."""
        self._arriving = newcomer

    def _give_up(self) -> None:
        """The target has been away for too long: what waits fails, and so does what comes, until it is there again."""
        self._expiry = None
        self._given_up = True
        self._fail_all(errno.ETIMEDOUT, "the target is not there")

    def _fail_all(self, code: int, reason: str) -> None:
        self._end_doomed()
        pending, self._pending = self._pending, deque()
        for task in pending:
            task.finish(OSError(code, reason))

    def _end_doomed(self) -> None:
        doomed, self._doomed = self._doomed, []
        for task, error in doomed:
            task.finish(error)

    # --- what the target says by itself

    def attention(self, sense: bytes) -> None:
        """The unit tells something."""
        self._attention(sense)

    def asked_to_leave(self, seconds: int) -> None:
        """Let what runs end, log out, and come again (RFC 7143 §11.9.1)."""
        connection = self._connection
        if connection is None or self.state is not State.READY:
            return
        log.info("%s: the target asks for a logout within %d s", self._name, seconds)
        self.state = State.LEAVING
        if not connection.tasks:
            self._leave()
            return
        due = self.context.now_ns() + seconds * SECOND // 2
        self._leaving = self.context.call_at(due, self._leave)

    def _leave(self) -> None:
        """Log out, whatever runs."""
        connection = self._connection
        assert connection is not None
        connection.logout()
        due = self.context.now_ns() + LEAVE_NS
        self._leaving = self.context.call_at(due, lambda: connection.give_up("the logout is not answered"))


def reason_of(error: BaseException) -> str:
    """Why there is no session, in words."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _gone(reason: str) -> OSError:
    return OSError(errno.ECONNRESET, reason)
