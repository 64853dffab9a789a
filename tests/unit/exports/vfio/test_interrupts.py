"""Interrupts: INTx with its mask, MSI, MSI-X, each by eventfds; and what the client itself triggers."""

from __future__ import annotations

import errno
import os

import pytest

from .client import (
    BOOL,
    CONFIG,
    ERR,
    EVENTFD,
    INTX,
    MASK,
    MSI,
    MSIX,
    NONE,
    REQ,
    RESET,
    SET_IRQS,
    TRIGGER,
    UNMASK,
    Client,
    Eventfd,
    World,
    irq_set,
)
from .function import LOWER, MSIX_BAR, RAISE, VECTORS
from .function import MSI as SEND_MSI
from .function import MSIX as SEND_MSIX

PBA = 16 * VECTORS


def capability(client: Client, wanted: int) -> int:
    offset = client.word(CONFIG, 0x34, 1)
    while offset and client.word(CONFIG, offset, 1) != wanted:
        offset = client.word(CONFIG, offset + 1, 1)
    assert offset
    return offset


def msix_on(client: Client, bits: int = 0x8000) -> None:
    client.set(CONFIG, capability(client, 0x11) + 2, bits, 2)


def msi_on(client: Client, *, vectors: int = VECTORS, data: int = 0x40) -> int:
    at = capability(client, 0x05)
    client.set(CONFIG, at + 4, 0xFEE0_0000)
    client.set(CONFIG, at + 12, data, 2)
    client.set(CONFIG, at + 2, 1 | (vectors.bit_length() - 1) << 4, 2)
    return at


# --- INTx


def test_intx_masks_itself_and_comes_again_while_it_is_wanted(client: Client) -> None:
    (intx,) = client.eventfds(INTX)
    client.do(RAISE)
    assert intx.take() == 1
    client.do(RAISE)
    client.do(LOWER)
    client.do(RAISE)
    assert intx.take() == 0
    client.irqs(NONE | UNMASK, INTX)
    assert intx.take() == 1
    client.do(LOWER)
    client.irqs(NONE | UNMASK, INTX)
    assert intx.take() == 0
    client.do(RAISE)
    assert intx.take() == 1


def test_intx_can_be_masked(client: Client) -> None:
    (intx,) = client.eventfds(INTX)
    client.irqs(NONE | MASK, INTX)
    client.do(RAISE)
    assert intx.take() == 0
    client.irqs(BOOL | UNMASK, INTX, data=b"\0")
    assert intx.take() == 0
    client.irqs(BOOL | UNMASK, INTX, data=b"\1")
    assert intx.take() == 1


def test_intx_that_is_wanted_already_is_told_to_a_new_eventfd(client: Client) -> None:
    client.do(RAISE)
    (first,) = client.eventfds(INTX)
    assert first.take() == 1
    (second,) = client.eventfds(INTX)
    assert (first.take(), second.take()) == (0, 1)


def test_intx_is_unmasked_by_an_eventfd(client: Client) -> None:
    """As a kernel does it that delivers the interrupt (resampling)."""
    (intx,) = client.eventfds(INTX)
    again = client.own(Eventfd())
    client.ok(SET_IRQS, irq_set(EVENTFD | UNMASK, INTX, 0, 1), [again.fd])
    client.do(RAISE)
    assert intx.take() == 1
    for _ in range(3):
        os.eventfd_write(again.fd, 1)
        client.run()
        assert intx.take() == 1
    client.do(LOWER)
    os.eventfd_write(again.fd, 1)
    client.run()
    assert intx.take() == 0
    client.ok(SET_IRQS, irq_set(EVENTFD | UNMASK, INTX, 0, 1))
    client.do(RAISE)
    assert intx.take() == 1
    os.eventfd_write(again.fd, 1)
    client.run()
    assert intx.take() == 0


def test_intx_that_is_given_up_leaves_nothing_behind(client: Client) -> None:
    """No mask, and no descriptor that would take one away."""
    client.eventfds(INTX)
    again = client.own(Eventfd())
    client.ok(SET_IRQS, irq_set(EVENTFD | UNMASK, INTX, 0, 1), [again.fd])
    client.irqs(NONE | MASK, INTX)
    client.irqs(NONE | TRIGGER, INTX, count=0)
    (intx,) = client.eventfds(INTX)
    client.do(RAISE)
    assert intx.take() == 1
    os.eventfd_write(again.fd, 1)
    client.run()
    assert intx.take() == 0


def test_intx_is_off_while_messages_are_on(client: Client) -> None:
    (intx,) = client.eventfds(INTX)
    msix_on(client)
    client.do(RAISE)
    assert intx.take() == 0
    msix_on(client, 0)
    assert intx.take() == 1


def test_interrupt_disable_holds_intx(client: Client) -> None:
    (intx,) = client.eventfds(INTX)
    client.set(CONFIG, 4, 0x407, 2)
    client.do(RAISE)
    assert intx.take() == 0
    assert client.word(CONFIG, 6, 2) & 8
    client.set(CONFIG, 4, 0x007, 2)
    assert intx.take() == 1


# --- MSI-X


def test_vectors_that_are_given_up_are_masked_no_more(client: Client) -> None:
    client.eventfds(MSIX, VECTORS)
    msix_on(client)
    client.irqs(NONE | MASK, MSIX, 0, VECTORS)
    client.irqs(NONE | TRIGGER, MSIX, count=0)
    fds = client.eventfds(MSIX, VECTORS)
    client.do(SEND_MSIX, value=1)
    assert [each.take() for each in fds] == [0, 1, 0, 0]


def test_each_msix_vector_has_its_eventfd(client: Client) -> None:
    fds = client.eventfds(MSIX, VECTORS)
    msix_on(client)
    for vector in (0, 3, 3, 1):
        client.do(SEND_MSIX, value=vector)
    assert [each.take() for each in fds] == [1, 1, 0, 2]


def test_nothing_is_signalled_while_msix_is_off(client: Client) -> None:
    (fd,) = client.eventfds(MSIX)
    client.do(SEND_MSIX, value=0)
    msix_on(client)
    assert fd.take() == 0


def test_a_vector_without_an_eventfd_is_pending(client: Client) -> None:
    """QEMU switches MSI-X on and then gives eventfds, as its guest uses vectors."""
    msix_on(client)
    client.ok(SET_IRQS, irq_set(EVENTFD | TRIGGER, MSIX, 0, 1))
    client.do(SEND_MSIX, value=2)
    client.do(SEND_MSIX, value=2)
    assert client.word(MSIX_BAR, PBA, 8) == 1 << 2
    (fd,) = client.eventfds(MSIX, start=2)
    assert fd.take() == 1
    assert client.word(MSIX_BAR, PBA, 8) == 0


def test_a_masked_vector_is_pending(client: Client) -> None:
    fds = client.eventfds(MSIX, VECTORS)
    msix_on(client)
    client.irqs(BOOL | MASK, MSIX, 0, 4, b"\0\1\0\1")
    for vector in range(VECTORS):
        client.do(SEND_MSIX, value=vector)
    assert [each.take() for each in fds] == [1, 0, 1, 0]
    assert client.word(MSIX_BAR, PBA, 8) == 0b1010
    client.irqs(NONE | UNMASK, MSIX, 3)
    assert [each.take() for each in fds] == [0, 0, 0, 1]
    assert client.word(MSIX_BAR, PBA, 8) == 0b0010


def test_the_function_mask_holds_all(client: Client) -> None:
    fds = client.eventfds(MSIX, VECTORS)
    msix_on(client, 0xC000)
    client.do(SEND_MSIX, value=1)
    assert fds[1].take() == 0
    msix_on(client)
    assert fds[1].take() == 1


def test_a_function_that_may_not_master_the_bus_signals_nothing(client: Client) -> None:
    (fd,) = client.eventfds(MSIX)
    msix_on(client)
    client.set(CONFIG, 4, 3, 2)
    client.do(SEND_MSIX, value=0)
    assert fd.take() == 0
    client.master()
    assert fd.take() == 1


def test_eventfds_are_taken_back(client: Client) -> None:
    fds = client.eventfds(MSIX, VECTORS)
    msix_on(client)
    client.ok(SET_IRQS, irq_set(EVENTFD | TRIGGER, MSIX, 1, 2))
    for vector in range(VECTORS):
        client.do(SEND_MSIX, value=vector)
    assert [each.take() for each in fds] == [1, 0, 0, 1]
    client.irqs(NONE | TRIGGER, MSIX, 0, 0)
    for vector in range(VECTORS):
        client.do(SEND_MSIX, value=vector)
    assert [each.take() for each in fds] == [0] * 4
    assert client.word(MSIX_BAR, PBA, 8) == 0b1111


def test_an_eventfd_is_exchanged(client: Client) -> None:
    (first,) = client.eventfds(MSIX)
    msix_on(client)
    (second,) = client.eventfds(MSIX)
    client.do(SEND_MSIX, value=0)
    assert (first.take(), second.take()) == (0, 1)


# --- MSI


def test_each_msi_message_has_its_eventfd(client: Client) -> None:
    fds = client.eventfds(MSI, VECTORS)
    msi_on(client)
    for vector in (0, 3, 3, 1):
        client.do(SEND_MSI, value=vector)
    assert [each.take() for each in fds] == [1, 1, 0, 2]


def test_messages_are_folded_into_those_that_are_granted(client: Client) -> None:
    fds = client.eventfds(MSI, VECTORS)
    msi_on(client, vectors=2, data=0x4F)
    for vector in range(VECTORS):
        client.do(SEND_MSI, value=vector)
    assert [each.take() for each in fds] == [2, 2, 0, 0]


def test_an_msi_message_that_cannot_be_told_is_told_later(client: Client) -> None:
    msi_on(client)
    client.do(SEND_MSI, value=1)
    fds = client.eventfds(MSI, VECTORS)
    assert [each.take() for each in fds] == [0, 1, 0, 0]
    client.irqs(NONE | MASK, MSI, 0, VECTORS)
    client.do(SEND_MSI, value=2)
    assert fds[2].take() == 0
    client.irqs(NONE | UNMASK, MSI, 0, VECTORS)
    assert [each.take() for each in fds] == [0, 0, 1, 0]


def test_the_guests_own_mask_bits_hold_messages(client: Client) -> None:
    fds = client.eventfds(MSI, VECTORS)
    at = msi_on(client)
    client.set(CONFIG, at + 16, 0b0100)
    client.do(SEND_MSI, value=2)
    assert fds[2].take() == 0
    assert client.word(CONFIG, at + 20) == 0b0100
    client.set(CONFIG, at + 16, 0)
    assert fds[2].take() == 1


def test_a_message_is_no_write_to_memory(client: Client) -> None:
    """Whatever its address is: the client delivers it."""
    shared = client.memory(0xFEE0_0000)
    fds = client.eventfds(MSI, VECTORS)
    msi_on(client)
    client.do(SEND_MSI, value=0)
    assert fds[0].take() == 1
    assert not any(shared.bytes[:64])


# --- by the client itself, and at a reset


@pytest.mark.parametrize(("index", "count"), [(INTX, 1), (MSI, VECTORS), (MSIX, VECTORS), (ERR, 1)])
def test_a_client_can_trigger_interrupts(client: Client, index: int, count: int) -> None:
    fds = client.eventfds(index, count)
    client.irqs(NONE | TRIGGER, index, 0, count)
    assert [each.take() for each in fds] == [1] * count
    client.irqs(BOOL | TRIGGER, index, 0, count, b"\0" * (count - 1) + b"\1")
    assert [each.take() for each in fds] == [0] * (count - 1) + [1]


def test_eventfds_outlive_a_reset(client: Client) -> None:
    fds = client.eventfds(MSIX, VECTORS)
    msix_on(client)
    client.ok(RESET)
    client.master()
    msix_on(client)
    client.do(SEND_MSIX, value=3)
    assert [each.take() for each in fds] == [0, 0, 0, 1]


def test_a_full_eventfd_holds_nobody_up(client: Client) -> None:
    """Not even one that would block."""
    full = client.own(Eventfd(os.EFD_CLOEXEC))
    os.eventfd_write(full.fd, (1 << 64) - 2)
    client.ok(SET_IRQS, irq_set(EVENTFD | TRIGGER, MSIX, 0, 1), [full.fd])
    msix_on(client)
    for _ in range(3):
        client.do(SEND_MSIX, value=0)
    assert full.take() == (1 << 64) - 2


# --- what is wrong

WRONG = {
    "no action": irq_set(NONE, MSIX, 0, 1),
    "no data": irq_set(TRIGGER, MSIX, 0, 1),
    "two actions": irq_set(NONE | MASK | UNMASK, MSIX, 0, 1),
    "two kinds of data": irq_set(NONE | BOOL | MASK, MSIX, 0, 1, b"\1"),
    "unknown flags": irq_set(NONE | TRIGGER | 64, MSIX, 0, 1),
    "unknown kind": irq_set(NONE | TRIGGER, 5, 0, 1),
    "unknown kind disabled": irq_set(NONE | TRIGGER, 5, 0, 0),
    "too many": irq_set(NONE | MASK, MSIX, 0, VECTORS + 1),
    "beyond the end": irq_set(NONE | MASK, MSIX, VECTORS, 1),
    "far beyond the end": irq_set(NONE | TRIGGER, MSIX, 3, 0xFFFF_FFFF),
    "none there": irq_set(NONE | TRIGGER, REQ, 0, 1),
    "errors masked": irq_set(NONE | MASK, ERR, 0, 1),
    "none from a start": irq_set(NONE | TRIGGER, MSIX, 1, 0),
    "none masked": irq_set(NONE | MASK, MSIX, 0, 0),
    "none by booleans": irq_set(BOOL | TRIGGER, MSIX, 0, 0),
    "too few booleans": irq_set(BOOL | TRIGGER, MSIX, 0, 2, b"\1"),
    "too many booleans": irq_set(BOOL | TRIGGER, MSIX, 0, 1, b"\1\1"),
    "data without need": irq_set(NONE | TRIGGER, MSIX, 0, 1, b"\1"),
    "argsz": irq_set(NONE | TRIGGER, MSIX, 0, 0, argsz=19),
    "short": irq_set(NONE | TRIGGER, MSIX, 0, 0)[:-1],
    "nothing": b"",
}


@pytest.mark.parametrize("payload", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_set_irqs_is_refused(client: Client, payload: bytes) -> None:
    (fd,) = client.eventfds(MSIX)
    assert client.ask(SET_IRQS, payload).error == errno.EINVAL
    msix_on(client)
    client.do(SEND_MSIX, value=0)
    assert fd.take() == 1


def test_descriptors_have_to_fit(world: World, client: Client) -> None:
    fds = [Eventfd() for _ in range(17)]
    numbers = [each.fd for each in fds]
    pipe = os.pipe()
    for payload, given in (
        (irq_set(EVENTFD | TRIGGER, MSIX, 0, 2), numbers[:1]),
        (irq_set(EVENTFD | TRIGGER, MSIX, 0, 1), numbers[:2]),
        (irq_set(NONE | TRIGGER, MSIX, 0, 1), numbers[:1]),
        (irq_set(BOOL | TRIGGER, MSIX, 0, 1, b"\1"), numbers[:1]),
        (irq_set(EVENTFD | TRIGGER, MSIX, 0, 1), [pipe[1]]),
        (irq_set(EVENTFD | UNMASK, INTX, 0, 1), [pipe[1]]),
    ):
        assert client.ask(SET_IRQS, payload, given).error == errno.EINVAL
    for action in (MASK, UNMASK):
        assert client.ask(SET_IRQS, irq_set(EVENTFD | action, MSIX, 0, 1), numbers[:1]).error == errno.ENOTSUP
    assert client.ask(SET_IRQS, irq_set(EVENTFD | MASK, INTX, 0, 1), numbers[:1]).error == errno.ENOTSUP
    client.send(SET_IRQS, irq_set(EVENTFD | TRIGGER, MSIX, 0, 1), numbers)
    assert client.gone()
    for each in fds:
        each.close()
    for end in pipe:
        os.close(end)
