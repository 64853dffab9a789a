"""Where a device's code runs: timers, coroutines, workers and file descriptors of one thread.

Block drivers are `async def` and await only what an `IoContext` offers (`sleep`, `wait_for`, `Lock`, `Event`,
`worker`, `readable`, `writable`), so they run on any clock and in any event loop.  `start` steps a coroutine at once:
one that never suspends is finished there and then and costs no task.

Three clocks.  `wall()`: time is the host's.  `virtual()`: when nothing is ready, time jumps to the next timer.
`stepped()`: only `step` moves time.  On the two virtual clocks `worker` runs its function inline, so that a run is the
same every time and no time passes while it runs.

Everything but `post` belongs to the context's own thread.  An `IoThread` is such a thread.
"""

from devmodels.iocontext.context import ClockKind, IoContext, WrongContextError
from devmodels.iocontext.iothread import Hold, IoThread
from devmodels.iocontext.polling import Poller
from devmodels.iocontext.primitives import Cancelled, Coro, Event, Future, Lock, Parkable, Task
from devmodels.iocontext.timers import Timer
from devmodels.iocontext.turns import Turns
from devmodels.iocontext.workers import WorkerShare

__all__ = [
    "Cancelled",
    "ClockKind",
    "Coro",
    "Event",
    "Future",
    "Hold",
    "IoContext",
    "IoThread",
    "Lock",
    "Parkable",
    "Poller",
    "Task",
    "Timer",
    "Turns",
    "WorkerShare",
    "WrongContextError",
]
