"""IoThread: a thread of its own with an IoContext of its own, beside the context of those who made it.

What belongs to its context is used on its thread only.  Where somebody else has to, they `hold` the thread: it stands
still between two callbacks, and whoever holds it owns its context meanwhile.  The thread itself never waits for
anybody, so nobody can wait for each other.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from functools import partial
from types import TracebackType

from devmodels import logs
from devmodels.iocontext.context import ClockKind, IoContext

logger = logs.logger(__name__)


class IoThread:
    """A thread that runs `context` until `close`.

    `home` is the context of those who made it, on the wall clock: `home.run_until_idle` waits for this thread too.
    `poll_max_ns` bounds its busy polling.  An error of what runs there is logged and counted; the thread
    goes on.
    """

    def __init__(self, name: str, home: IoContext, *, poll_max_ns: int = 0) -> None:
        if home.kind is not ClockKind.WALL:
            raise ValueError(
                f"iothread {name!r}: a {home.kind.value} clock is one thread's; expected the wall clock"
            )
        # From now on there is another thread that could take what nobody owns for its own.
        home.assert_owner()
        self.name = name
        self.home = home
        self.context = IoContext.wall()
        self.context.poll_max_ns = poll_max_ns
        self.context.have_stand_in()
        self.users: list[str] = []
        """Who has queues here, by name."""
        self.errors = 0
        """How many errors there were."""
        self._begun = threading.Event()
        self._depth = 0
        self._owner: int | None = None
        """Which thread has the context while nobody holds it: this one, or who stands in for it."""
        self._go_on = threading.Lock()
        """Whoever holds the thread has it, and lets go of it for the thread to go on."""
        self._closing = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"iothread-{name}", daemon=True)
        self._thread.start()
        self._begun.wait()
        home.threads.append(self)

    @property
    def ident(self) -> int | None:
        """The thread's number, as `threading.get_ident` has it there."""
        return self._thread.ident

    @property
    def native_id(self) -> int:
        """The thread's number, as the host has it."""
        return self._thread.native_id or 0

    def _run(self) -> None:
        context = self.context
        context.adopt()
        self._begun.set()
        while not self._closing:
            try:
                context.run_once()
            except BaseException:
                # Who holds a thread that has ended would wait for ever.
                self.errors += 1
                logger.exception("iothread %r: an error of what runs there", self.name)

    # --- held

    def __enter__(self) -> None:
        """Hold the thread; nests."""
        context = self.context
        if not self._depth and not self._closed:
            self.home.assert_owner()
            stands, go_on = threading.Lock(), threading.Lock()
            stands.acquire()
            go_on.acquire()
            context.post(partial(_stand_still, stands, go_on))
            try:
                stands.acquire()
            except BaseException:
                # A signal's: the thread will stand still for nobody.
                go_on.release()
                raise
            self._go_on = go_on
            self._owner = context.owner
            context.adopt()
        self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if not self._depth and not self._closed:
            self.context.owner = self._owner
            self._go_on.release()

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._closed

    @property
    def held(self) -> bool:
        """Whether somebody holds it."""
        return self._depth > 0

    def settle(self) -> None:
        """Return when the thread has done all that it can: what others had given it, what its descriptors told, what
        workers were doing for it, and what followed from that."""
        if self._closed or self._depth:
            return
        self.home.assert_owner()
        done = threading.Semaphore(0)
        context = self.context

        def look() -> None:
            if context.ready or context.look_at_descriptors() or context.wait_for_workers():
                context.call_soon(look)
            else:
                done.release()

        context.post(look)
        done.acquire()

    def close(self) -> None:
        """End the thread, what is ready there, or with its workers, done.  Its context is the caller's then, and is
        closed.  Idempotent."""
        if self._closed:
            return
        if self._depth:
            raise RuntimeError(f"iothread {self.name!r} is held")
        self.settle()
        self._closing = True
        self.context.post(_nothing)
        self._thread.join()
        self._closed = True
        self.context.adopt()
        self.context.close()
        self.home.threads.remove(self)


class Hold:
    """`with hold:` holds several threads.  Nests; nothing where there are none."""

    __slots__ = ("threads",)

    def __init__(self, threads: Iterable[IoThread] = ()) -> None:
        self.threads = tuple(dict.fromkeys(threads))

    def __enter__(self) -> None:
        for number, thread in enumerate(self.threads):
            try:
                thread.__enter__()
            except BaseException:
                for other in self.threads[:number]:
                    other.__exit__(None, None, None)
                raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for thread in self.threads:
            thread.__exit__(kind, error, trace)


def _stand_still(stands: threading.Lock, go_on: threading.Lock) -> None:
    """On the thread: tell that it stands still, and wait until it may go on."""
    stands.release()
    go_on.acquire()


def _nothing() -> None:
    """It only wakes the thread."""
