"""vCPUs: their order, what they wait for, and what happens when it doesn't come."""

from __future__ import annotations

import pytest

from guestsim.errors import GuestCheckError, GuestError, GuestTimeoutError
from guestsim.guest import SECOND, Guest
from guestsim.targets.inprocess import InProcessTarget

from .fakes import FakeTarget


def test_vcpus_take_turns_in_the_order_of_their_start() -> None:
    guest = Guest(FakeTarget())
    said: list[str] = []

    async def talk(name: str) -> None:
        for turn in range(3):
            said.append(f"{name}{turn}")
            await guest.sleep(1)

    async def main() -> None:
        cpus = [guest.start(talk(name)) for name in "ab"]
        await guest.wait_until(lambda: all(cpu.finished for cpu in cpus), "both")

    guest.run(main())
    assert said == ["a0", "b0", "a1", "b1", "a2", "b2"]


def test_a_vcpu_knows_its_number() -> None:
    guest = Guest(FakeTarget())

    async def number() -> int:
        return guest.cpu

    async def main() -> list[int]:
        cpus = [guest.start(number()) for _ in range(3)]
        await guest.wait_until(lambda: all(cpu.finished for cpu in cpus), "all")
        return [guest.cpu, *(cpu.result() for cpu in cpus)]

    assert guest.run(main()) == [0, 1, 2, 3]


def test_a_wait_that_is_over_before_it_begins_touches_nothing() -> None:
    target = FakeTarget()

    async def main() -> None:
        await guest.wait_until(lambda: True, "nothing")

    guest = Guest(target)
    guest.run(main())
    assert target.now == 0


def test_a_wait_ends_in_machine_time_with_the_name_of_what_did_not_come() -> None:
    target = FakeTarget()
    guest = Guest(target)

    async def main() -> None:
        await guest.wait_until(lambda: False, "the cows", timeout_ns=5_000_000)

    with pytest.raises(GuestTimeoutError, match="the cows") as caught:
        guest.run(main())
    assert caught.value.what == "the cows"
    assert 5_000_000 <= target.now <= 6_000_000


def test_a_wait_for_what_cannot_come_ends_at_once() -> None:
    target = FakeTarget()
    target.alive = False
    guest = Guest(target)

    async def main() -> None:
        await guest.wait_until(lambda: False, "the cows")

    with pytest.raises(GuestTimeoutError, match="nothing can happen any more"):
        guest.run(main())
    assert target.now == target.tick


def test_a_vcpu_may_go_on_after_a_time_out() -> None:
    guest = Guest(FakeTarget())

    async def main() -> str:
        with pytest.raises(GuestTimeoutError):
            await guest.wait_until(lambda: False, "the cows", timeout_ns=1)
        return "went on"

    assert guest.run(main()) == "went on"


def test_what_a_vcpu_raises_reaches_the_caller_and_the_guest_stays_usable() -> None:
    guest = Guest(FakeTarget())

    async def fails() -> None:
        raise GuestError("no")

    async def works() -> int:
        return 7

    with pytest.raises(GuestError, match="no"):
        guest.run(fails())
    assert guest.run(works()) == 7


def test_running_inside_a_vcpu_is_refused() -> None:
    guest = Guest(FakeTarget())

    async def inner() -> None:
        pass

    async def outer() -> None:
        guest.run(inner())

    with pytest.raises(GuestError, match="running already"):
        guest.run(outer())


def test_an_error_in_a_handler_ends_the_wait_it_interrupted() -> None:
    target = FakeTarget()
    guest = Guest(target)

    def handler() -> None:
        raise GuestCheckError("X §1", "the device lies")

    async def main() -> None:
        vector = guest.interrupts.allocate(handler, "test")
        target.messages[vector] = 1
        await guest.wait_until(lambda: False, "an answer")

    with pytest.raises(GuestCheckError, match="the device lies"):
        guest.run(main())


@pytest.mark.parametrize("clock", ["virtual", "stepped"])
def test_sleep_moves_the_machines_clock_by_exactly_that(clock: str) -> None:
    with InProcessTarget(clock=clock) as target:
        guest = Guest(target)
        before = target.now_ns()
        guest.run(guest.sleep(3 * SECOND))
        assert target.now_ns() == before + 3 * SECOND


def test_settling_ends_when_nothing_is_left() -> None:
    with InProcessTarget() as target:
        guest = Guest(target)
        target.assembly.context.call_at(SECOND, lambda: None)
        guest.run(guest.settle(real_ns=5 * SECOND))
        assert target.now_ns() == SECOND


def test_bars_get_places_of_their_own_naturally_aligned() -> None:
    guest = Guest(FakeTarget())
    places = [(guest.place_mmio(size), size) for size in (0x1000, 0x4000, 0x100, 0x1000)]
    assert all(base % size == 0 for base, size in places)
    ends = [base + size for base, size in places]
    assert all(base >= end for (base, _), end in zip(places[1:], ends, strict=False))
    assert guest.place_io(0x80) == 0xC000
    with pytest.raises(GuestError, match="no room"):
        guest.place_io(0x1000)
