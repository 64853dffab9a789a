"""The client's memory: mapped and unmapped, with a descriptor and without one."""

from __future__ import annotations

import errno
import os
import struct
from contextlib import suppress

import pytest

from devmodels.exports import vfio_user_channel
from devmodels.protocols.vfio_user import MAX_DMA_MAPS

from .client import (
    DMA_MAP,
    DMA_READ,
    DMA_UNMAP,
    DMA_WRITE,
    NO_REPLY,
    PAGE,
    PROPOSAL,
    READ,
    WRITE,
    WRITE_MULTI,
    Client,
    Shared,
    World,
    access,
    dma_map,
    dma_unmap,
    elsewhere,
    message,
)
from .function import COMMAND, FAILED, GIVE_BACK, HOLD, LENGTH, SCRATCH
from .function import READ as READ_MEMORY
from .function import WRITE as WRITE_MEMORY


def failed(client: Client) -> bool:
    return client.word(0, LENGTH) == FAILED


# --- with a descriptor


def test_the_function_reads_and_writes_the_clients_memory(client: Client) -> None:
    shared = client.memory(0x10000)
    shared.bytes[100:104] = b"data"
    client.do(READ_MEMORY, address=0x10064, length=4)
    assert client.read(0, SCRATCH, 4) == b"data"
    client.do(WRITE_MEMORY, address=0x10FFE, length=4, value=0xEE)
    assert shared.bytes[0xFFD:0x1003] == b"\0\xee\xee\xee\xee\0"


def test_a_region_is_any_part_of_a_file(client: Client) -> None:
    shared = client.own(Shared())
    client.ok(DMA_MAP, dma_map(0, 2 * PAGE, offset=3 * PAGE), [shared.fd])
    client.ok(DMA_MAP, dma_map(2 * PAGE, PAGE, offset=0), [shared.fd])
    client.do(WRITE_MEMORY, address=0, length=3 * PAGE, value=1)
    assert [each for each in range(64) if shared.bytes[each * PAGE]] == [0, 3, 4]


def test_what_is_not_mapped_is_not_there(client: Client) -> None:
    client.memory(0x10000, PAGE)
    for address, length in ((0, 1), (0xFFFF, 2), (0x10FFF, 2), ((1 << 64) - 1, 1), ((1 << 64) - 1, 2)):
        client.do(READ_MEMORY, address=address, length=length)
        assert failed(client)
        client.do(WRITE_MEMORY, address=address, length=length)
        assert failed(client)


def test_read_only_memory_is_not_written(client: Client) -> None:
    shared = client.own(Shared())
    shared.bytes[:4] = b"rom!"
    file = os.open(f"/proc/self/fd/{shared.fd}", os.O_RDONLY)
    client.ok(DMA_MAP, dma_map(0, PAGE, flags=1), [file])
    os.close(file)
    client.do(READ_MEMORY, address=0, length=4)
    assert client.read(0, SCRATCH, 4) == b"rom!"
    client.do(WRITE_MEMORY, address=0, length=4)
    assert failed(client)
    assert shared.bytes[:4] == b"rom!"


def test_memory_goes_and_comes(client: Client) -> None:
    shared = client.memory(0, 4 * PAGE)
    assert client.ok(DMA_UNMAP, dma_unmap(0, 4 * PAGE)) == dma_unmap(0, 4 * PAGE)
    client.do(WRITE_MEMORY, address=0, length=1)
    assert failed(client)
    client.ok(DMA_MAP, dma_map(0x5000, PAGE, offset=PAGE), [shared.fd])
    client.do(WRITE_MEMORY, address=0x5000, length=1, value=7)
    assert shared.bytes[PAGE] == 7


def test_all_memory_goes_at_once(client: Client) -> None:
    for page in range(10):
        client.memory(page * PAGE, PAGE)
    assert client.ok(DMA_UNMAP, dma_unmap(0, 0, flags=2)) == dma_unmap(0, 0, flags=2)
    for page in range(10):
        client.do(WRITE_MEMORY, address=page * PAGE, length=1)
        assert failed(client)
    client.memory(0, PAGE)
    assert client.ok(DMA_UNMAP, dma_unmap(0, 0, flags=2))
    assert client.ok(DMA_UNMAP, dma_unmap(0, 0, flags=2))


def test_pipelined_maps_keep_their_descriptors(client: Client) -> None:
    """QEMU sends all its regions before it awaits the first answer."""
    files = [client.own(Shared(PAGE)) for _ in range(30)]
    run, client.run = client.run, lambda: None
    numbers = [client.send(DMA_MAP, dma_map(n * PAGE, PAGE), [each.fd]) for n, each in enumerate(files)]
    client.run = run
    for number in numbers:
        assert client.answer(number, DMA_MAP).error == 0
    for n, each in enumerate(files):
        client.do(WRITE_MEMORY, address=n * PAGE, length=1, value=n + 1)
        assert each.bytes[0] == n + 1


BAD = {
    "empty": (dma_map(0, 0), errno.EINVAL),
    "address not of a page": (dma_map(0x800, PAGE), errno.EINVAL),
    "size not of pages": (dma_map(0, PAGE + 8), errno.EINVAL),
    "beyond 2**64": (dma_map((1 << 64) - PAGE, 2 * PAGE), errno.EINVAL),
    "neither readable nor writable": (dma_map(0x100000, PAGE, flags=0), errno.EINVAL),
    "flags that nobody knows": (dma_map(0x100000, PAGE, flags=7), errno.EINVAL),
    "argsz": (dma_map(0x100000, PAGE, argsz=31), errno.EINVAL),
    "short": (dma_map(0x100000, PAGE)[:-1], errno.EINVAL),
    "the same": (dma_map(0x40000, 2 * PAGE), errno.EEXIST),
    "inside": (dma_map(0x41000, PAGE), errno.EEXIST),
    "around": (dma_map(0x3F000, 4 * PAGE), errno.EEXIST),
    "over the end": (dma_map(0x41000, 2 * PAGE), errno.EEXIST),
    "over the beginning": (dma_map(0x3F000, 2 * PAGE), errno.EEXIST),
}


@pytest.mark.parametrize(("payload", "error"), BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("shared", [True, False])
def test_regions_that_cannot_be(client: Client, payload: bytes, error: int, shared: bool) -> None:
    there = client.memory(0x40000, 2 * PAGE)
    assert client.ask(DMA_MAP, payload, [there.fd] if shared else []).error == error
    client.do(WRITE_MEMORY, address=0x40000, length=2 * PAGE, value=3)
    assert set(there.bytes[:]) == {3}


def test_files_that_cannot_be_mapped(client: Client) -> None:
    """One that ends too early would kill the process that touches it."""
    small = client.own(Shared(PAGE))
    ends = os.pipe()
    locked = os.open(f"/proc/self/fd/{small.fd}", os.O_RDONLY)
    for payload, fd in (
        (dma_map(0, 2 * PAGE), small.fd),
        (dma_map(0, PAGE, offset=1), small.fd),
        (dma_map(0, PAGE, offset=(1 << 64) - PAGE), small.fd),
        (dma_map(0, PAGE, offset=(1 << 64) - 8), small.fd),
        (dma_map(0, 1 << 60), small.fd),
        (dma_map(0, PAGE), ends[0]),
        (dma_map(0, PAGE), client.socket.fileno()),
        (dma_map(0, PAGE), locked),
    ):
        assert client.ask(DMA_MAP, payload, [fd]).error == errno.EINVAL
    assert client.ask(DMA_MAP, dma_map(0, PAGE), [small.fd, small.fd]).error == errno.EINVAL
    assert client.ask(DMA_MAP, dma_map(0, PAGE), [small.fd]).error == 0
    os.close(locked)
    for end in ends:
        os.close(end)


@pytest.mark.parametrize("command", [READ_MEMORY, WRITE_MEMORY])
def test_memory_that_is_cut_off_ends_its_connection_alone(
    world: World, caplog: pytest.LogCaptureFixture, command: int
) -> None:
    with world.client() as client:
        cut = client.memory(0, 4 * PAGE)
        os.ftruncate(cut.fd, 0)
        client.post(WRITE, access(0, 0, 16, struct.pack("<QII", PAGE, 8, 1)))
        client.post(WRITE, access(0, COMMAND, 4, command.to_bytes(4, "little")))
        assert client.gone()
    assert "a file with its memory has become too short" in caplog.text
    with world.client() as client:
        there = client.memory()
        client.do(WRITE_MEMORY, address=0, length=4, value=7)
        assert there.bytes[:5] == b"\x07\x07\x07\x07\0"


@pytest.mark.long
def test_there_is_a_most_of_regions(client: Client) -> None:
    for page in range(MAX_DMA_MAPS):
        client.post(DMA_MAP, dma_map(page * PAGE, PAGE))
    assert client.ask(DMA_MAP, dma_map(MAX_DMA_MAPS * PAGE, PAGE)).error == errno.ENOSPC
    client.ok(DMA_UNMAP, dma_unmap(0, PAGE))
    client.ok(DMA_MAP, dma_map(MAX_DMA_MAPS * PAGE, PAGE))


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        (dma_unmap(0x40000, PAGE), errno.ENOENT),
        (dma_unmap(0x41000, PAGE), errno.ENOENT),
        (dma_unmap(0, 0), errno.ENOENT),
        (dma_unmap(0x40000, 2 * PAGE, flags=1), errno.EINVAL),
        (dma_unmap(0x40000, 2 * PAGE, flags=2), errno.EINVAL),
        (dma_unmap(0, 0, flags=3), errno.EINVAL),
        (dma_unmap(0x40000, 2 * PAGE, argsz=23), errno.EINVAL),
        (dma_unmap(0x40000, 2 * PAGE)[:-1], errno.EINVAL),
    ],
)
def test_what_cannot_be_unmapped(client: Client, payload: bytes, error: int) -> None:
    shared = client.memory(0x40000, 2 * PAGE)
    assert client.ask(DMA_UNMAP, payload).error == error
    client.do(WRITE_MEMORY, address=0x40000, length=1, value=1)
    assert shared.bytes[0] == 1


@pytest.mark.parametrize("unmap", [dma_unmap(0, 64 * PAGE), dma_unmap(0, 0, flags=2)])
def test_unmapping_waits_for_transfers(world: World, client: Client, unmap: bytes) -> None:
    """The next message waits, too; what is new is refused."""
    shared = client.memory()
    client.do(HOLD, address=0, length=64)
    client.do(HOLD, address=PAGE, length=64)
    number = client.send(DMA_UNMAP, unmap)
    following = client.send(READ, access(0, 0, 4))
    assert client.silent()
    world.function.give_back()
    assert client.silent()
    world.function.give_back()
    assert client.answer(number, DMA_UNMAP).payload == unmap
    assert client.answer(following, READ).error == 0
    assert set(shared.bytes[:64]) == {1}


def test_a_client_may_leave_while_its_unmapping_waits(world: World) -> None:
    with world.client() as client:
        client.memory()
        client.do(HOLD, address=0, length=64)
        client.send(DMA_UNMAP, dma_unmap(0, 64 * PAGE))
    assert not world.server.connected
    world.function.give_back()
    with world.client() as client:
        assert client.memory()


# --- without a descriptor


class Keeping:
    """A client that keeps its memory to itself; `asked` are the places that it was asked for."""

    def __init__(self, client: Client, size: int = 16 * PAGE) -> None:
        self.client = client
        self.bytes = bytearray(size)
        self.asked: list[tuple[int, int, int]] = []
        client.ok(DMA_MAP, dma_map(0, size))

    def serve(self, number: int, command: int, payload: bytes, *, error: int = 0) -> None:
        """Answer one of the server's commands."""
        address, count = struct.unpack_from("<QQ", payload)
        self.asked.append((command, address, count))
        answer = payload[:16]
        if command == DMA_READ:
            answer += self.bytes[address : address + count]
        else:
            assert command == DMA_WRITE
            self.bytes[address : address + count] = payload[16:]
        self.reply(number, command, answer, error=error)

    def reply(self, number: int, command: int, payload: bytes, *, error: int = 0) -> None:
        flags = 0x21 if error else 1
        payload = b"" if error else payload
        self.client.put(struct.pack("<HHIII", number, command, 16 + len(payload), flags, error) + payload)

    def until(self, wanted: int, *, error: int = 0) -> bytes:
        """Serve until the answer to our own command comes."""
        while True:
            number, command, flags, _, payload = self.client.receive()
            if flags & 1:
                assert command == wanted
                return payload
            self.serve(number, command, payload, error=error)

    def do(self, command: int, *, error: int = 0, **registers: int) -> None:
        """As the client's; the write's answer comes first."""
        for name, value in registers.items():
            place, size = {"address": (0, 8), "length": (8, 4), "value": (12, 4)}[name]
            self.client.set(0, place, value, size)
        self.client.set(0, COMMAND, command)
        self.client.send(READ, access(0, 0, 4))
        self.until(READ, error=error)


@pytest.fixture
def keeping(world: World, client: Client) -> object:
    client.run = lambda: None
    with elsewhere(world.context):
        yield Keeping(client)


def test_memory_that_is_kept_is_asked_for(keeping: Keeping) -> None:
    keeping.bytes[100:104] = b"data"
    keeping.do(READ_MEMORY, address=100, length=4)
    assert keeping.client.read(0, SCRATCH, 4) == b"data"
    keeping.do(WRITE_MEMORY, address=4000, length=200, value=9)
    assert keeping.bytes[3999:4201] == b"\0" + b"\x09" * 200 + b"\0"
    assert keeping.asked == [(DMA_READ, 100, 4), (DMA_WRITE, 4000, 200)]


def test_a_transfer_is_asked_for_at_its_end(keeping: Keeping) -> None:
    keeping.do(HOLD, address=0, length=100)
    assert keeping.asked == []
    keeping.do(GIVE_BACK)
    assert keeping.asked == [(DMA_WRITE, 0, 100)]
    assert keeping.bytes[:101] == b"\x01" * 100 + b"\0"


def test_what_comes_in_between_waits_its_turn(keeping: Keeping) -> None:
    """Nobody waits for the other: commands that were sent ahead, several transfers, one order."""
    client = keeping.client
    for value in range(1, 6):
        client.post(WRITE, access(0, 0, 16, struct.pack("<QII", 100 * value, 50, value)))
        client.post(WRITE, access(0, COMMAND, 4, WRITE_MEMORY.to_bytes(4, "little")))
        client.post(WRITE, access(0, SCRATCH, 1, bytes([value])))
    client.send(READ, access(0, SCRATCH, 1))
    assert keeping.until(READ)[16:] == b"\x05"
    assert keeping.asked == [(DMA_WRITE, 100 * value, 50) for value in range(1, 6)]
    assert [keeping.bytes[100 * value] for value in range(1, 6)] == [1, 2, 3, 4, 5]


def test_several_writes_are_answered_before_they_ask(keeping: Keeping) -> None:
    """Their client waits for its answer first."""
    keeping.bytes[:4] = b"data"
    keeping.client.set(0, LENGTH, 4)
    write = access(0, COMMAND, 4, READ_MEMORY.to_bytes(8, "little"))
    number = keeping.client.send(WRITE_MULTI, struct.pack("<Q", 1) + write)
    assert keeping.client.answer(number, WRITE_MULTI) == (0, struct.pack("<Q", 1))
    keeping.client.send(READ, access(0, SCRATCH, 4))
    assert keeping.until(READ)[16:] == b"data"


def test_who_leaves_before_its_answer_has_written_nothing(world: World) -> None:
    """The function is the next client's then."""
    with world.client() as client:
        client.ok(DMA_MAP, dma_map(0, PAGE))
        client.run = lambda: None
        for _ in range(3):
            client.put(message(WRITE, access(0, SCRATCH, 4, b"\xff" * 4)))
        client.socket.close()
        world.context.run_until_idle()
    assert world.function.accesses == []
    with world.client() as client:
        assert client.word(0, SCRATCH) == 0


def test_a_refused_transfer_is_lost_and_nothing_more(keeping: Keeping) -> None:
    keeping.bytes[:4] = b"data"
    keeping.do(READ_MEMORY, address=0, length=4, error=errno.EFAULT)
    assert keeping.client.read(0, SCRATCH, 4) == bytes(4)
    keeping.do(WRITE_MEMORY, address=0, length=4, value=1, error=errno.EFAULT)
    keeping.do(READ_MEMORY, address=0, length=4)
    assert len(keeping.asked) == 3


def test_no_more_is_asked_for_than_the_client_takes(world: World) -> None:
    with world.client(greeted=False) as client:
        client.greet({**PROPOSAL, "max_data_xfer_size": 1000})
        client.master()
        client.run = lambda: None
        with elsewhere(world.context):
            keeping = Keeping(client)
            keeping.do(WRITE_MEMORY, address=0, length=2500, value=5)
            keeping.do(READ_MEMORY, address=1, length=2001)
            assert keeping.asked == [
                *[(DMA_WRITE, at, count) for at, count in ((0, 1000), (1000, 1000), (2000, 500))],
                *[(DMA_READ, at, count) for at, count in ((1, 1000), (1001, 1000), (2001, 1))],
            ]
            assert client.read(0, SCRATCH, 2001) == b"\x05" * 2001


def asked(client: Client) -> tuple[int, int, bytes]:
    """The next command of the server's."""
    while True:
        number, command, flags, _, payload = client.receive()
        if not flags & 1:
            return number, command, payload


def begun(keeping: Keeping) -> tuple[int, int, bytes]:
    """A transfer of the function's that waits for its answer."""
    keeping.client.set(0, LENGTH, 4)
    keeping.client.post(WRITE, access(0, COMMAND, 4, READ_MEMORY.to_bytes(4, "little")))
    return asked(keeping.client)


def test_a_client_that_changes_its_memory_first_answers_then(keeping: Keeping) -> None:
    """QEMU does: while its memory changes, nobody answers for it."""
    client = keeping.client
    keeping.bytes[:4] = b"data"
    number, command, payload = begun(keeping)
    for change, what in (
        (DMA_MAP, dma_map(32 * PAGE, PAGE)),
        (DMA_UNMAP, dma_unmap(32 * PAGE, PAGE)),
        (DMA_UNMAP, dma_unmap(0, 16 * PAGE)),
        (DMA_MAP, dma_map(0, 8 * PAGE)),
    ):
        assert client.answer(client.send(change, what), change) == (0, what if change == DMA_UNMAP else b"")
    keeping.serve(number, command, payload)
    client.send(READ, access(0, SCRATCH, 4))
    assert keeping.until(READ)[16:] == b"data"
    keeping.do(READ_MEMORY, address=8 * PAGE, length=4)
    assert failed(client), "unmapped"
    keeping.do(READ_MEMORY, address=0, length=4)
    assert keeping.asked[-1] == (DMA_READ, 0, 4)


@pytest.mark.parametrize(
    "wrong",
    [
        "another id",
        "another command",
        "too short",
        "too long",
        "half",
        "nothing",
        "a command without end",
        "silence",
    ],
)
def test_a_client_that_does_not_answer_as_it_should(
    world: World, keeping: Keeping, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    """Its connection ends, or what it says is nothing; the next client is served."""
    monkeypatch.setattr(vfio_user_channel, "ANSWER_SECONDS", 0.05)
    client = keeping.client
    number, command, payload = begun(keeping)
    ends = True
    if wrong == "another id":
        keeping.reply(number + 1, command, payload + b"1234")
    elif wrong == "another command":
        keeping.reply(number, DMA_WRITE, payload + b"1234")
    elif wrong in ("too short", "too long"):
        ends = False
        keeping.reply(
            number,
            command,
            payload + b"1234"[: 3 if wrong == "too short" else 4] + b"x" * (wrong == "too long"),
        )
    elif wrong == "half":
        client.put(struct.pack("<HHIII", number, command, 36, 1, 0) + payload)
    elif wrong == "a command without end":
        client.put(message(WRITE, bytes(16), flags=NO_REPLY, size=1 << 20))
    elif wrong == "nothing":
        client.socket.close()
        return
    if not ends:
        assert client.read(0, SCRATCH, 4) == bytes(4)
        return
    assert client.gone()


def test_a_client_that_floods_instead_of_answering(world: World, keeping: Keeping) -> None:
    begun(keeping)
    flood = message(READ, access(0, 0, 4), flags=NO_REPLY) * 1000
    with suppress(OSError):
        for _ in range(200):
            keeping.client.socket.sendall(flood)
    assert keeping.client.gone()


def test_a_client_that_sends_descriptors_instead_of_answering(world: World, keeping: Keeping) -> None:
    begun(keeping)
    file = keeping.client.own(Shared(PAGE))
    with suppress(OSError):
        for page in range(10000):
            keeping.client.put(message(DMA_MAP, dma_map(page * PAGE, PAGE), flags=NO_REPLY), [file.fd])
    assert keeping.client.gone()
