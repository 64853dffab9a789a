"""Timers, sleeping coroutines, cancellation and the virtual clocks against a list that is searched each time."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from devmodels.iocontext import Cancelled, IoContext, Task, Timer


@dataclass
class Due:
    """Something the model expects: at `when`, in order of `number`; `sleeps` lists what a coroutine does after."""

    when: int
    number: int
    name: str
    sleeps: list[int]


class Clocks(RuleBasedStateMachine):
    """One stepped context; the model holds what is due in a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.context = IoContext.stepped()
        self.now = 0
        self.count = 0
        self.due: list[Due] = []
        self.seen: list[tuple[str, int]] = []
        self.expected: list[tuple[str, int]] = []
        self.timers: dict[str, Timer] = {}
        self.tasks: dict[str, Task[None]] = {}

    def teardown(self) -> None:
        self.context.close()

    def name(self) -> str:
        self.count += 1
        return f"n{self.count}"

    def expect(self, when: int, name: str, sleeps: list[int]) -> None:
        self.due.append(Due(when, len(self.due) + self.count * 1000, name, sleeps))

    @rule(delay=st.integers(-5, 50))
    def add_timer(self, delay: int) -> None:
        name = self.name()
        self.timers[name] = self.context.call_at(
            self.now + delay, lambda: self.seen.append((name, self.context.now_ns()))
        )
        self.expect(self.now + delay, name, [])

    @precondition(lambda self: self.timers)
    @rule(data=st.data())
    def cancel_timer(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.timers)))
        self.timers[name].cancel()
        self.due = [due for due in self.due if due.name != name]

    @rule(sleeps=st.lists(st.integers(1, 30), min_size=1, max_size=4))
    def add_coroutine(self, sleeps: list[int]) -> None:
        name = self.name()

        async def work() -> None:
            for duration in sleeps:
                await self.context.sleep(duration)
                self.seen.append((name, self.context.now_ns()))

        def done(result: None, error: BaseException | None) -> None:
            assert error is None or isinstance(error, Cancelled)

        task = self.context.start(work(), done)
        assert task is not None
        self.tasks[name] = task
        self.expect(self.now + sleeps[0], name, sleeps[1:])

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def cancel_coroutine(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.tasks)))
        self.tasks[name].cancel()
        self.context.run_until_idle()
        self.run_model(self.now)
        self.due = [due for due in self.due if due.name != name]

    @rule(duration=st.integers(0, 60))
    def step(self, duration: int) -> None:
        self.context.step(duration)
        self.run_model(self.now + duration)
        self.now += duration

    def run_model(self, end: int) -> None:
        """Let the model's clock run to `end`."""
        now = self.now
        while True:
            ready = [due for due in self.due if due.when <= end]
            if not ready:
                return
            first = min(ready, key=lambda due: max(due.when, now))
            now = max(now, first.when)
            for due in [due for due in self.due if max(due.when, now) == now and due.when <= now]:
                self.due.remove(due)
                self.expected.append((due.name, now))
                if due.sleeps:
                    self.expect(now + due.sleeps[0], due.name, due.sleeps[1:])

    @invariant()
    def each_ran_at_its_instant(self) -> None:
        # Within one instant timers run before the coroutines that they wake: order is compared between instants.
        assert sorted(self.seen, key=lambda entry: entry[1]) == self.seen
        assert sorted(self.seen) == sorted(self.expected)
        assert self.context.now_ns() == self.now

    @invariant()
    def nothing_is_left_that_is_not_expected(self) -> None:
        deadline = self.context.deadline()
        assert deadline == min((due.when for due in self.due), default=None)


TestClocks = Clocks.TestCase
TestClocks.settings = settings(max_examples=settings().max_examples // 2)
