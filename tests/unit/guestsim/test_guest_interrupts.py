"""The guest's interrupt controller."""

from __future__ import annotations

import pytest

from guestsim.errors import GuestError
from guestsim.interrupts import InterruptController

from .fakes import FakeTarget


def test_messages_reach_their_handlers_and_are_counted() -> None:
    target = FakeTarget()
    controller = InterruptController(target)
    seen: list[str] = []
    first = controller.allocate(lambda: seen.append("first"), "first")
    second = controller.allocate(lambda: seen.append("second"), "second")
    target.messages.update({second: 3, first: 1})
    assert controller.poll()
    assert sorted(seen) == ["first", "second"]
    assert controller.counts == {first: 1, second: 3}
    assert not controller.poll()


def test_a_message_for_nobody_is_a_stray() -> None:
    target = FakeTarget()
    controller = InterruptController(target)
    vector = controller.allocate(lambda: None, "device")
    controller.free(vector)
    target.messages[vector] = 2
    assert controller.poll()
    assert controller.stray == {vector: 2}


def test_a_vector_given_back_takes_its_old_messages_with_it() -> None:
    target = FakeTarget()
    controller = InterruptController(target)
    calls: list[int] = []
    other = controller.allocate(lambda: calls.append(0), "other")
    vector = controller.allocate(lambda: calls.append(1), "device")
    target.messages.update({vector: 1, other: 1})
    controller.free(vector)
    assert controller.allocate(lambda: calls.append(2), "next") == vector
    controller.poll()
    assert calls == [0]
    assert not controller.stray


def test_a_line_calls_everybody_on_it_while_it_is_high() -> None:
    target = FakeTarget()
    controller = InterruptController(target)
    calls: list[str] = []

    def quiet() -> bool:
        calls.append("not me")
        return False

    def asked() -> bool:
        calls.append("me")
        target.lines.clear()
        return True

    controller.connect(4, 1, quiet)
    controller.connect(4, 1, asked)
    target.lines.add((4, 1))
    assert controller.poll()
    assert not controller.poll()
    assert calls == ["not me", "me"]
    controller.disconnect(4, 1, asked)
    target.lines.add((4, 1))
    assert not controller.poll()


def test_an_input_outside_pci_has_one_handler() -> None:
    target = FakeTarget()
    controller = InterruptController(target)
    calls: list[int] = []

    def asked() -> bool:
        calls.append(5)
        target.lines.clear()
        return True

    controller.connect_irq(5, asked)
    target.lines.add((5, 0))
    assert controller.poll()
    assert not controller.poll()
    assert calls == [5]
    with pytest.raises(GuestError, match="interrupt 5"):
        controller.connect_irq(5, asked)
    controller.disconnect_irq(5)
    target.lines.add((5, 0))
    assert not controller.poll()
