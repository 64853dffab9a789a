"""Those who work for a context beside its own thread: workers, and the kernel by way of io_uring."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from devmodels.iocontext.primitives import Future
from devmodels.iocontext.workers import Workers, WorkerShare

if TYPE_CHECKING:
    from devmodels.iocontext.context import IoContext
    from devmodels.iocontext.standin import Job
    from devmodels.iocontext.uring import Uring

T = TypeVar("T")


class Helpers:
    """`context`'s; each is there when it is first asked for.  `out` is how many jobs have not come back."""

    __slots__ = ("_context", "_uring", "out", "workers")

    def __init__(self, context: IoContext) -> None:
        self._context = context
        self.workers: Workers | None = None
        self._uring: Uring | None = None
        self.out = 0

    @property
    def busy(self) -> bool:
        """Whether they have something of ours."""
        return bool(self.out or (self._uring is not None and self._uring.busy))

    @property
    def stuck(self) -> bool:
        """Whether jobs wait that one more worker could begin."""
        return self.workers is not None and self.workers.stuck

    def look(self) -> None:
        """Look after the workers."""
        if self.workers is not None and self.workers.jobs:
            self.workers.look()

    def have_workers(self) -> Workers:
        """The workers."""
        if self.workers is None:
            self.workers = Workers(self._context.descriptors.wake)
        return self.workers

    def uring(self) -> Uring:
        """The io_uring; OSError where the host has none."""
        if self._uring is None:
            from devmodels.iocontext.uring import Uring

            self._uring = Uring(self._context)
        return self._uring

    async def work(self, function: Callable[[], T], share: WorkerShare | None) -> T:
        """Have a worker run `function`, as one of `share`, and return its result."""
        context = self._context
        workers = self.have_workers()
        future: Future[T] = Future(context)
        posted = context.posted
        jobs = workers.jobs

        def job() -> None:
            try:
                result = function()
            except BaseException as error:
                failure = error
                posted.append(lambda: self._failed(future, failure))
            else:
                posted.append(lambda: self._done(future, result))
            if share is not None:
                share.leave(jobs)

        self.out += 1
        if share is None or share.enter(job):
            workers.submit(job, watched=context.running)
        return await future

    def _done(self, future: Future[T], result: T) -> None:
        self.out -= 1
        future.set_result(result)

    def _failed(self, future: Future[T], error: BaseException) -> None:
        self.out -= 1
        future.set_error(error)

    def to_worker(self, job: Job) -> None:
        """A worker does a `job` that is out already."""
        posted = self._context.posted

        def work() -> None:
            job.work()
            posted.append(lambda: self.job_over(job))

        self.have_workers().submit(work, watched=self._context.running)

    def job_over(self, job: Job) -> None:
        """A `job` that was out has been done."""
        self.out -= 1
        job.over()

    def close(self) -> None:
        """Stop them; what they were given is finished."""
        if self.workers is not None:
            self.workers.close()
        if self._uring is not None:
            self._uring.close()
