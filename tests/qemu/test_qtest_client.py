"""The qtest protocol's client against a server made of prepared answers: no QEMU is needed."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from guestsim.targets import TargetError
from guestsim.targets.qtest import QtestClient


@dataclass
class Link:
    """A client and the server's end of its socket."""

    client: QtestClient
    server: socket.socket


@pytest.fixture
def link() -> Iterator[Link]:
    near, far = socket.socketpair()
    with far:
        client = QtestClient(near, lambda: "the server went home", timeout=0.05)
        yield Link(client, far)
        client.close()


def test_a_read_returns_the_value_answered(link: Link) -> None:
    link.server.send(b"OK 0x0000000012345678\n")
    assert link.client.read(0xE000_0000, 4) == 0x12345678
    assert link.server.recv(100) == b"readl 0xe0000000\n"


def test_a_write_names_its_size(link: Link) -> None:
    link.server.send(b"OK\n")
    link.client.write(0x1000, 8, 0xFFFF_FFFF_FFFF_FFFF)
    assert link.server.recv(100) == b"writeq 0x1000 0xffffffffffffffff\n"


def test_ports(link: Link) -> None:
    link.server.send(b"OK 0x00ff\n")
    assert link.client.io_read(0x1F7, 1) == 0xFF
    link.server.send(b"OK\n")
    link.client.io_write(0xCF8, 4, 0x8000_0000)
    assert link.server.recv(100) == b"inb 0x1f7\noutl 0xcf8 0x80000000\n"


def test_interrupts_before_the_answer(link: Link) -> None:
    link.server.send(b"IRQ raise 20\nIRQ raise 16\nIRQ lower 20\nOK 0x01\n")
    assert link.client.read(0, 1) == 1
    assert link.client.irq_high == {16}


def test_interrupts_after_the_answer(link: Link) -> None:
    link.server.send(b"OK 0x01\nIRQ raise 20\nIRQ ra")
    assert link.client.read(0, 1) == 1
    link.server.send(b"ise 21\n")
    link.client.wait(0)
    assert link.client.irq_high == {20, 21}


def test_an_answer_in_pieces_that_is_split_anywhere(link: Link) -> None:
    for piece in (b"IRQ rai", b"se 3", b"\nO", b"K AA"):
        link.server.send(piece)
        link.client.wait(0)
    link.server.send(b"EC\n")
    assert link.client.memory_read(0x1000, 3) == bytes((0, 1, 2))
    assert link.client.irq_high == {3}


def test_waiting_ends_with_an_interrupt(link: Link) -> None:
    link.server.send(b"IRQ raise 20\n")
    start = time.monotonic()
    link.client.wait(5)
    assert link.client.irq_high == {20}
    assert time.monotonic() - start < 5


def test_nothing_is_asked_for_no_bytes(link: Link) -> None:
    assert link.client.memory_read(0, 0) == b""
    link.client.memory_write(0, b"")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"FAIL Unknown command 'readl'\n", "qtest answered \"FAIL Unknown command 'readl'\" to 'readl 0x0'"),
        (b"OK zebra\n", "qtest answered 'zebra' to 'readl 0x0', not a number"),
        (b"OK\n", "qtest answered '' to 'readl 0x0', not a number"),
    ],
)
def test_a_wrong_answer(link: Link, answer: bytes, message: str) -> None:
    link.server.send(answer)
    with pytest.raises(TargetError) as error:
        link.client.read(0, 4)
    assert str(error.value) == message


@pytest.mark.parametrize("answer", [b"OK AAEC\n", b"OK !!!!!!\n", b"OK\n"])
def test_wrong_bulk_data(link: Link, answer: bytes) -> None:
    link.server.send(answer)
    with pytest.raises(TargetError, match="didn't answer 'b64read 0x0 0x4' with 4 bytes in base64"):
        link.client.memory_read(0, 4)


def test_an_answer_to_no_question(link: Link) -> None:
    link.server.send(b"OK 0x01\n")
    with pytest.raises(TargetError, match="qtest said 'OK 0x01' although nothing was asked"):
        link.client.wait(0)


def test_a_server_that_hangs_up(link: Link) -> None:
    link.server.close()
    for _ in range(2):
        with pytest.raises(TargetError, match=r"^the server went home$"):
            link.client.read(0, 4)
    with pytest.raises(TargetError, match=r"^the server went home$"):
        link.client.wait(0)


def test_a_server_that_hangs_up_in_the_middle_of_an_answer(link: Link) -> None:
    link.server.send(b"OK 0x0")
    link.server.shutdown(socket.SHUT_WR)
    with pytest.raises(TargetError, match=r"^the server went home$"):
        link.client.read(0, 4)


def test_a_server_that_hangs_up_while_nothing_is_asked(link: Link) -> None:
    link.server.close()
    with pytest.raises(TargetError, match=r"^the server went home$"):
        link.client.wait(5)


def test_a_late_answer_is_not_taken_for_the_next(link: Link) -> None:
    with pytest.raises(TargetError, match=r"^qtest gave no answer within 0\.05 s$"):
        link.client.read(0, 4)
    with pytest.raises(TargetError, match=r"^qtest gave no answer within 0\.05 s$"):
        link.client.read(4, 4)
