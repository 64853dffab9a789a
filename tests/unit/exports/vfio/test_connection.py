"""Clients come, reset, leave and break off; what they leave behind is nothing."""

from __future__ import annotations

import errno
import os
import select
import struct
from pathlib import Path

import pytest

from devmodels.exports.vfio_user_session import REFUSALS_LOGGED
from devmodels.protocols.vfio_user import MAX_MESSAGE
from tests.unit.exports.frontend import open_files

from .client import (
    CONFIG,
    DMA_MAP,
    GET_INFO,
    INTX,
    MSIX,
    PAGE,
    READ,
    RESET,
    VERSION,
    WRITE,
    Client,
    Eventfd,
    Shared,
    World,
    access,
    dma_map,
    greeting,
    message,
)
from .function import HOLD, RAISE, SCRATCH
from .function import WRITE as WRITE_MEMORY

# --- reset


def test_a_reset_makes_the_function_as_new(world: World, client: Client) -> None:
    client.set(0, SCRATCH, 5)
    client.set(CONFIG, 0x3C, 0x55, 1)
    assert client.ok(RESET) == b""
    assert world.function.resets == 1
    assert client.word(0, SCRATCH) == 0
    assert client.word(CONFIG, 0x3C, 1) == 0
    assert client.word(CONFIG, 4, 2) == 0


def test_the_answer_to_a_reset_waits_until_it_is_complete(world: World, client: Client) -> None:
    """So does whatever comes after it."""
    world.function.slow_reset = True
    number = client.send(RESET)
    following = client.send(READ, access(0, 0, 4))
    assert client.silent()
    world.function.settle()
    assert client.answer(number, RESET).error == 0
    assert client.answer(following, READ).error == 0


def test_a_reset_has_no_payload(world: World, client: Client) -> None:
    assert client.ask(RESET, b"x").error == errno.EINVAL
    assert world.function.resets == 0


def test_memory_outlives_a_reset(client: Client) -> None:
    shared = client.memory()
    client.ok(RESET)
    client.master()
    client.do(WRITE_MEMORY, address=0, length=1, value=8)
    assert shared.bytes[0] == 8


def test_a_client_may_leave_while_a_reset_waits(world: World) -> None:
    with world.client() as client:
        client.memory()
        world.function.slow_reset = True
        client.send(RESET)
    assert world.server.connected
    world.function.settle()
    assert not world.server.connected
    with world.client() as client:
        assert client.word(CONFIG, 0) == 0x5678_1234


# --- one client after the other


def test_one_client_after_the_other(world: World) -> None:
    before = None
    for value in range(5):
        with world.client() as client:
            assert client.word(0, SCRATCH) == 0
            client.set(0, SCRATCH, value + 1)
            client.memory()
            client.eventfds(MSIX, 4)
            client.eventfds(INTX)
            client.do(RAISE)
        found = set(open_files())
        assert before is None or found == before
        before = found
        assert world.memory.regions == ()
        assert world.function.resets == value + 1


def test_the_next_client_waits_until_the_first_has_gone(world: World) -> None:
    with world.client() as first, world.client(greeted=False) as following:
        following.send(VERSION, greeting({}))
        assert following.silent()
        assert first.word(CONFIG, 0) == 0x5678_1234
        first.close()
        assert following.receive()[1] == VERSION


def test_the_next_client_waits_for_what_the_last_one_left_running(world: World) -> None:
    with world.client() as client:
        client.memory()
        client.do(HOLD, address=0, length=64)
        world.function.slow_reset = True
    assert world.server.connected
    with world.client(greeted=False) as following:
        following.send(VERSION, greeting({}))
        assert following.silent()
        world.function.give_back()
        world.function.settle()
        assert following.receive()[1] == VERSION


def test_the_export_ends_with_its_client(world: World) -> None:
    ended: list[bool] = []
    with world.client() as client:
        client.memory()
        world.function.slow_reset = True
        world.server.close(lambda: ended.append(True))
        assert client.gone()
        assert not ended
        world.function.settle()
        assert ended
    assert not world.path.exists()
    world.server.close(lambda: ended.append(False))
    assert ended == [True]


# --- breaking off, and worse


def test_a_client_that_leaves_in_the_middle_of_a_message(world: World) -> None:
    whole = message(WRITE, access(0, SCRATCH, 4, b"1234"))
    for length in range(1, len(whole)):
        with world.client() as client:
            client.put(whole[:length])
        assert not world.server.connected
    with world.client() as client:
        assert client.word(0, SCRATCH) == 0


def test_a_message_may_come_byte_by_byte(client: Client) -> None:
    for byte in message(WRITE, access(0, SCRATCH, 4, b"1234"), number=9):
        client.put(bytes([byte]))
    assert client.answer(9, WRITE).error == 0
    assert client.read(0, SCRATCH, 4) == b"1234"


def test_several_messages_may_come_at_once(client: Client) -> None:
    """Each is answered in its turn, whatever of them comes with which piece."""
    stream = b"".join(
        message(WRITE, access(0, SCRATCH, 4, bytes((n, 0, 0, 0))), number=n) for n in range(1, 100)
    )
    stream += message(READ, access(0, SCRATCH, 4), number=100)
    client.put(stream[:1001])
    client.put(stream[1001:])
    for number in range(1, 100):
        assert client.answer(number, WRITE).error == 0
    assert client.answer(100, READ).payload[16:] == bytes((99, 0, 0, 0))


def test_descriptors_belong_to_the_message_that_they_were_sent_with(world: World, client: Client) -> None:
    """Messages before it are there when it is read, and one after it."""
    shared = client.own(Shared(PAGE))
    client.run = lambda: None
    client.post(WRITE, access(0, SCRATCH, 4, b"1234"))
    mapping = client.send(DMA_MAP, dma_map(0, PAGE), [shared.fd])
    reading = client.send(READ, access(0, SCRATCH, 4))
    client.run = world.context.run_until_idle
    assert client.answer(mapping, DMA_MAP).error == 0
    assert client.answer(reading, READ).payload[16:] == b"1234"
    client.do(WRITE_MEMORY, address=0, length=1, value=8)
    assert shared.bytes[0] == 8


@pytest.mark.parametrize("size", [0, 1, 15, MAX_MESSAGE + 1, 1 << 31, 0xFFFF_FFFF])
def test_impossible_lengths_end_the_connection(client: Client, size: int) -> None:
    client.put(message(READ, size=size))
    assert client.gone()


@pytest.mark.parametrize("flags", [1, 2, 0xF, 0x31])
def test_what_is_no_command_ends_the_connection(client: Client, flags: int) -> None:
    client.put(message(GET_INFO, struct.pack("<IIII", 16, 0, 0, 0), flags=flags))
    assert client.gone()


def test_other_flags_are_not_looked_at(client: Client) -> None:
    client.put(message(GET_INFO, struct.pack("<IIII", 16, 0, 0, 0), flags=0xFFFF_FFC0, number=3))
    assert client.answer(3, GET_INFO).error == 0


def test_descriptors_in_the_middle_of_a_message_end_the_connection(client: Client) -> None:
    shared = client.own(Shared(PAGE))
    whole = message(DMA_MAP, dma_map(0, PAGE))
    client.put(whole[:8], [shared.fd])
    client.put(whole[8:12], [shared.fd])
    assert client.gone()


def test_descriptors_with_a_messages_payload_are_not_taken(client: Client) -> None:
    """They come with a message's first byte; the map is one without a descriptor."""
    shared = client.own(Shared(PAGE))
    whole = message(DMA_MAP, dma_map(0, PAGE), number=3)
    client.put(whole[:16])
    client.put(whole[16:], [shared.fd])
    assert client.answer(3, DMA_MAP).error == 0


def test_descriptors_that_nobody_wants_are_closed(world: World) -> None:
    before = open_files()
    with world.client() as client:
        fd = client.own(Eventfd())
        assert client.ask(GET_INFO, struct.pack("<IIII", 16, 0, 0, 0), [fd.fd]).error == errno.EINVAL
        assert client.ask(999, b"", [fd.fd] * 16).error == errno.ENOSYS
        inside = set(open_files()) - set(before)
        fd.close()
        assert len(set(open_files()) - set(before)) == len(inside) - 1
    assert open_files() == before


@pytest.mark.long
def test_a_client_that_does_not_listen_holds_up_itself_alone(world: World) -> None:
    """What cannot be sent is kept, and no more is read meanwhile."""
    with world.client() as client:
        client.socket.setblocking(False)
        request = message(READ, access(0, 0, 4096), number=1)
        sent = 0
        for _ in range(10_000):
            try:
                sent += client.socket.send(request)
            except BlockingIOError:
                break
            client.run()
        else:
            pytest.fail("all was read")
        client.run()
        client.socket.setblocking(True)
        answers = sent // len(request)
        for _ in range(answers):
            assert len(client.answer(1, READ).payload) == 16 + 4096


def test_refusals_are_logged_and_then_counted(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with world.client() as client:
        for _ in range(100):
            client.ask(READ, access(9, 0, 4))
    lines = [each.message for each in caplog.records]
    assert sum("refused: REGION_READ" in line for line in lines) == REFUSALS_LOGGED
    assert any("100 commands were refused" in line for line in lines)


def test_a_lone_reader_of_the_socket_finds_nothing_to_do(world: World, client: Client) -> None:
    """No busy loop: nothing is watched for that is always there."""
    client.word(0, 0)
    assert not world.context.ready
    descriptor = world.context.fileno()
    assert select.select([descriptor], [], [], 0)[0] == []
    shared = client.memory()
    client.do(HOLD, address=0, length=64)
    client.send(3, struct.pack("<IIQQ", 24, 0, 0, shared.size))
    client.run()
    assert select.select([descriptor], [], [], 0)[0] == []
    world.function.give_back()
    client.run()


def test_a_socket_that_is_taken(world: World, tmp_path: Path) -> None:
    from devmodels.exports.vfio_user import VfioUserServer

    with pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)):
        VfioUserServer(str(world.path), world.server.offered)
    with pytest.raises(OSError):
        VfioUserServer(str(tmp_path / "no" / "socket"), world.server.offered)
