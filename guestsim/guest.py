"""A guest: vCPUs that run drivers, their memory, and their interrupt controller.

A vCPU is a coroutine.  It runs until it waits for a condition (`Guest.wait_until`) or for time to pass
(`Guest.sleep`); then the others have their turn, in the order in which they were started, so that a run is the same
every time on a machine whose clock is virtual.  While everybody waits, interrupts are served and the machine goes on.

Time is the machine's.  A wait that lasts too long, or for something that cannot come any more, ends in a
`GuestTimeoutError` that names what was waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, runtime_checkable

from guestsim.errors import DisconnectedError, GuestError, GuestTimeoutError
from guestsim.interrupts import InterruptController
from guestsim.memory import Memory

if TYPE_CHECKING:
    from guestsim.targets import Target

T = TypeVar("T")

SECOND = 1_000_000_000
TIMEOUT_NS = 10 * SECOND
"""How long a driver waits for its device, in machine time, where nothing else is said."""

SETTLE_NS = SECOND // 50
"""How long a guest waits for what may not come, where the machine's clock is real."""


@runtime_checkable
class SteppedClock(Protocol):
    """A target whose time stands still until somebody moves it."""

    def step_clock(self, duration_ns: int) -> None:
        """Move the machine's clock on and run what becomes due."""
        ...


class Wait:
    """What a vCPU waits for: `ready()` turning true before `deadline` (ns; None waits for ever)."""

    __slots__ = ("deadline", "ready", "what")

    def __init__(self, ready: Callable[[], bool], what: str, deadline: int | None) -> None:
        self.ready = ready
        self.what = what
        self.deadline = deadline

    def __await__(self) -> Generator[Wait, None, None]:
        yield self


class VCpu(Generic[T]):
    """One vCPU: a coroutine on its way. `result()` is what it returned, or raises what it raised."""

    __slots__ = ("_coro", "_error", "_result", "finished", "index", "name", "waiting")

    def __init__(self, coro: Coroutine[object, None, T], index: int, name: str) -> None:
        self._coro = coro
        self.index = index
        self.name = name
        self.finished = False
        self.waiting: Wait | None = None
        self._result: T | None = None
        self._error: BaseException | None = None

    def step(self, error: BaseException | None = None) -> None:
        """Run until the next wait, or the end; `error` is raised at the wait."""
        self.waiting = None
        try:
            waiting = self._coro.send(None) if error is None else self._coro.throw(error)
        except StopIteration as stop:
            self.finished = True
            self._result = stop.value
        except Exception as failure:
            self.finished = True
            self._error = failure
        else:
            assert isinstance(waiting, Wait)
            self.waiting = waiting

    def result(self) -> T:
        """What the coroutine returned; raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]

    def close(self) -> None:
        """Give up a coroutine that has not ended."""
        self._coro.close()


class Guest:
    """A guest on `target`. `seed` drives the choices that are made at random (places of scattered buffers)."""

    __slots__ = (
        "_cpus",
        "_current",
        "_io_base",
        "_mmio_base",
        "_running",
        "_stalled",
        "interrupts",
        "memory",
        "target",
        "timeout_ns",
    )

    def __init__(self, target: Target, *, seed: int = 0, timeout_ns: int = TIMEOUT_NS) -> None:
        layout = target.layout
        self.target = target
        self.memory = Memory(target, layout.ram, seed=seed)
        self.interrupts = InterruptController(target)
        self.timeout_ns = timeout_ns
        self._mmio_base = layout.mmio.base
        self._io_base = layout.io.base
        self._cpus: list[VCpu[object]] = []
        self._current: VCpu[object] | None = None
        self._running = False
        self._stalled = False

    @property
    def cpu(self) -> int:
        """The number of the vCPU that is running (0 where none is)."""
        return self._current.index if self._current is not None else 0

    def place_mmio(self, size: int) -> int:
        """A free, naturally aligned range of memory space for a BAR of `size` bytes."""
        base = -(-self._mmio_base // size) * size
        if base + size > self.target.layout.mmio.end:
            raise GuestError(f"no room for a BAR of {size:#x} bytes in memory space")
        self._mmio_base = base + size
        return base

    def place_io(self, size: int) -> int:
        """A free, naturally aligned range of ports for a BAR of `size` bytes."""
        base = -(-self._io_base // size) * size
        if base + size > self.target.layout.io.end:
            raise GuestError(f"no room for a BAR of {size:#x} bytes in I/O space")
        self._io_base = base + size
        return base

    # --- waiting, for code on a vCPU

    async def wait_until(self, ready: Callable[[], bool], what: str, timeout_ns: int | None = None) -> None:
        """Suspend until `ready()`; GuestTimeoutError naming `what` after `timeout_ns` of machine time.

        `ready` is asked between the steps of vCPUs and after interrupts were served; it may touch the device.
        """
        if ready():
            return
        limit = self.timeout_ns if timeout_ns is None else timeout_ns
        await Wait(ready, what, self.target.now_ns() + limit)

    async def sleep(self, duration_ns: int) -> None:
        """Suspend until the machine's clock has gone on by `duration_ns`."""
        until = self.target.now_ns() + duration_ns
        target = self.target
        if isinstance(target, SteppedClock):
            target.step_clock(duration_ns)
            self.interrupts.poll()
        await Wait(lambda: target.now_ns() >= until, f"{duration_ns} ns to pass", None)

    async def settle(self, real_ns: int = SETTLE_NS) -> None:
        """Suspend until nothing happens any more; where only real time could tell, for `real_ns`."""
        self._stalled = False
        until = self.target.now_ns() + real_ns
        await Wait(lambda: self._stalled or self.target.now_ns() >= until, "the machine to settle", None)

    # --- running

    def start(self, coro: Coroutine[object, None, T], name: str | None = None) -> VCpu[T]:
        """Put `coro` on a vCPU of its own; it runs when the guest does."""
        taken = {cpu.index for cpu in self._cpus}
        index = next(number for number in range(len(taken) + 1) if number not in taken)
        cpu: VCpu[T] = VCpu(coro, index, name or f"vCPU {index}")
        self._cpus.append(cpu)  # type: ignore[arg-type]
        return cpu

    def run(self, coro: Coroutine[object, None, T]) -> T:
        """Run `coro` to its end, and the other vCPUs meanwhile; returns its result or raises its error."""
        if self._running:
            coro.close()
            raise GuestError("the guest is running already: code on a vCPU must await, not run")
        cpu = self.start(coro)
        self._loop(cpu)  # type: ignore[arg-type]
        return cpu.result()

    def close(self) -> None:
        """Give up vCPUs that have not ended. The target stays open. Idempotent."""
        for cpu in self._cpus:
            cpu.close()
        self._cpus.clear()

    def _loop(self, main: VCpu[object]) -> None:
        self._running = True
        try:
            while not main.finished:
                if self._step_ready() or self._interrupted():
                    continue
                alive = self._advance()
                if self._interrupted():
                    continue
                self._stalled = not alive
                if not self._any_ready():
                    self._expire(alive)
        finally:
            self._running = False
            if main.waiting is not None and main in self._cpus:
                self._cpus.remove(main)
                main.close()

    def _advance(self) -> bool:
        """Let the machine go on; that it has gone is raised where the first vCPU waits."""
        try:
            return self.target.advance()
        except DisconnectedError as error:
            self._step(next(cpu for cpu in self._cpus if cpu.waiting is not None), error)
            return True

    def _interrupted(self) -> bool:
        """Serve interrupts; what goes wrong in a handler is raised where the first vCPU waits."""
        try:
            return self.interrupts.poll()
        except GuestError as error:
            self._step(next(cpu for cpu in self._cpus if cpu.waiting is not None), error)
            return True

    def _step_ready(self) -> bool:
        stepped = False
        for cpu in tuple(self._cpus):
            try:
                if cpu.waiting is not None and not cpu.waiting.ready():
                    continue
            except GuestError as error:
                self._step(cpu, error)
            else:
                self._step(cpu)
            stepped = True
        return stepped

    def _any_ready(self) -> bool:
        return any(cpu.waiting is None or cpu.waiting.ready() for cpu in self._cpus)

    def _step(self, cpu: VCpu[object], error: BaseException | None = None) -> None:
        self._current = cpu
        try:
            cpu.step(error)
        finally:
            self._current = None
            if cpu.finished:
                self._cpus.remove(cpu)

    def _expire(self, alive: bool) -> None:
        """Nobody could go on: end the first wait whose time is over, or that nothing can end any more."""
        now = self.target.now_ns()
        for cpu in self._cpus:
            wait = cpu.waiting
            if wait is None:
                continue
            if not alive:
                detail = "nothing can happen any more without the guest doing something"
                return self._step(cpu, GuestTimeoutError(wait.what, detail))
            if wait.deadline is not None and now >= wait.deadline:
                return self._step(cpu, GuestTimeoutError(wait.what, "time is over"))
        return None
