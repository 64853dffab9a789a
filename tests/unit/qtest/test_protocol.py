"""Requests and answers of the qtest protocol."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.machine import Machine
from devmodels.options import OptionError
from devmodels.qtest.numbers import NumberError, number
from devmodels.qtest.protocol import Qtest
from tests.unit.qtest.bench import Client, machine

RAM = 1 << 20


@pytest.fixture(scope="module")
def pc() -> Iterator[Client]:
    with machine("-machine", "pc", "-m", "4M", "-nodefaults") as client:
        yield client


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("0", 0),
        ("10", 10),
        ("0x10", 16),
        ("0XfF", 255),
        ("010", 8),
        ("-1", 2**64 - 1),
        ("0xffffffffffffffff", 2**64 - 1),
    ],
)
def test_numbers_are_strtouls(word: str, value: int) -> None:
    assert number(word.encode()) == value


@pytest.mark.parametrize(
    "word", ["", "x", "0x", "1_0", "0x1_0", "08", "--1", "0x10000000000000000", "1.5", "1e3"]
)
def test_what_is_no_number_is_refused(word: str) -> None:
    with pytest.raises(NumberError):
        number(word.encode())


@given(address=st.integers(0, RAM - 64), size=st.sampled_from("bwlq"), value=st.integers(0, 2**64 - 1))
def test_what_was_written_is_read(pc: Client, address: int, size: str, value: int) -> None:
    length = {"b": 1, "w": 2, "l": 4, "q": 8}[size]
    value &= (1 << 8 * length) - 1
    assert pc.ask(f"write{size} {address:#x} {value}") == "OK"
    assert pc.ask(f"read{size} {address}") == f"OK 0x{value:016x}"
    assert pc.ask(f"read {address:#x} {length:#x}") == f"OK 0x{value.to_bytes(length, 'little').hex()}"


@given(address=st.integers(0, RAM), data=st.binary(min_size=1, max_size=300))
def test_bytes_go_in_and_out(pc: Client, address: int, data: bytes) -> None:
    assert pc.ask(f"write {address:#x} {len(data):#x} 0x{data.hex()}") == "OK"
    assert b64decode(pc.ask(f"b64read {address} {len(data)}").removeprefix("OK ")) == data
    again = bytes(reversed(data))
    assert pc.ask(f"b64write {address} {len(data)} {b64encode(again).decode()}") == "OK"
    assert pc.ask(f"read {address} {len(data)}") == f"OK 0x{again.hex()}"
    assert pc.ask(f"memset {address} {len(data)} 0x1a5") == "OK"
    assert pc.ask(f"read {address} {len(data)}") == f"OK 0x{'a5' * len(data)}"


def test_short_data_ends_in_zeroes(pc: Client) -> None:
    pc.ask("memset 0x100 4 0xff")
    assert pc.ask("write 0x100 0x4 0x0102") == "OK"
    assert pc.ask("read 0x100 0x4") == "OK 0x01020000"


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("endianness", "OK little"),
        ("foo bar", "FAIL Unknown command 'foo'"),
        ("", "FAIL Unknown command ''"),
        ("readl", "FAIL Missing argument"),
        ("readl zero", "FAIL 'zero' is no number of 64 bits"),
        ("write 0 1 0x", "ERR invalid argument size"),
        ("write 0 1 0xgg", "FAIL expected data as 0x and hexadecimal digits"),
        ("b64write 0 3 abcde", "FAIL expected data in base64"),
        ("read 0 0", "FAIL expected a length of 1 at least"),
        ("read 0 0x100000000000", "FAIL 17592186044416 bytes: expected at most 1073741824"),
        ("inb 0x10000", "FAIL there is no port 0x10000"),
        ("irq_intercept_in nobody", "FAIL Unknown device"),
        ("memset 0x0 0x0 0x0", "OK"),
        ("readl 0xe0000000", "OK 0x0000000000000000"),
        ("read 0x3ffffe 4", "OK 0x00000000"),
        ("inl 0x300", "OK 0xffffffff"),
        ("inb 0x300", "OK 0x00ff"),
        ("readq 0xfffffffffffffff8", "OK 0x0000000000000000"),
        ("readq 0xfffffffffffffffc", "FAIL 8 bytes at 0xfffffffffffffffc go beyond the 64-bit address space"),
    ],
)
def test_answers(pc: Client, line: str, answer: str) -> None:
    assert pc.ask(line) == answer


@given(
    lines=st.lists(st.sampled_from(["writel 0 1", "readl 0", "endianness", "bad"]), min_size=1),
    data=st.data(),
)
def test_requests_may_come_in_any_pieces(pc: Client, lines: list[str], data: st.DataObject) -> None:
    text = "".join(f"{line}\n" for line in lines).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        assert pc.board.qtest.feed(text[start:end])
    assert pc.told().count("\n") == len(lines)


@given(line=st.binary(max_size=60).filter(lambda line: b"\n" not in line))
def test_no_line_breaks_it(pc: Client, line: bytes) -> None:
    answer = pc.board.qtest.answer(line)
    assert answer.startswith((b"OK", b"FAIL", b"ERR"))
    assert answer.endswith(b"\n")
    assert answer.count(b"\n") == 1


def test_a_long_line(pc: Client) -> None:
    data = bytes(range(256)) * 700
    assert pc.ask(f"write 0x100000 {len(data)} 0x{data.hex()}") == "OK"
    assert pc.ask(f"read 0x100000 {len(data)}") == f"OK 0x{data.hex()}"


def test_many_bytes_of_nothing_are_few_accesses(pc: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    accesses: list[int] = []
    read, write = Machine.read, Machine.write

    def counted_read(machine: Machine, address: int, size: int) -> int:
        accesses.append(address)
        return read(machine, address, size)

    def counted_write(machine: Machine, address: int, size: int, value: int) -> None:
        accesses.append(address)
        write(machine, address, size, value)

    monkeypatch.setattr(Machine, "read", counted_read)
    monkeypatch.setattr(Machine, "write", counted_write)
    start, length = 0x3F_FFFC, 0x10000
    assert pc.ask(f"memset {start:#x} {length:#x} 0x5a") == "OK"
    assert pc.ask(f"read {start:#x} {length:#x}") == f"OK 0x{'5a' * 4}{'00' * (length - 4)}"
    assert pc.ask("read 0xfffffffffffffff0 16") == f"OK 0x{'00' * 16}"
    assert pc.ask(f"read {0xFEBF_0000:#x} {length:#x}") == f"OK 0x{'00' * length}"
    assert len(accesses) < 100


def test_a_defect_of_a_device_is_no_answer(pc: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(port: int, size: int) -> int:
        raise IndexError(f"{size} bytes at {port:#x}: a table of a device's")

    board = pc.board
    monkeypatch.setattr(type(board.space), "io_read", lambda _self, port, size: broken(port, size))
    conversation = Qtest(board.space, board.interrupts, None)
    with pytest.raises(IndexError):
        conversation.answer(b"inb 0x1f7")
    assert conversation.answer(b"inb") == b"FAIL Missing argument\n"


@pytest.mark.parametrize("ways", [("in", "in"), ("in", "out"), ("out", "in"), ("out", "out")])
def test_the_first_device_that_is_intercepted_stays_the_one(ways: tuple[str, str]) -> None:
    first, second = ways
    with machine("-M", "pc", "-nodefaults", "-device", "virtio-scsi-pci,id=s0") as client:
        assert client.ask(f"irq_intercept_{first} ioapic anything") == "OK"
        assert client.ask(f"irq_intercept_{second} ioapic") == "OK"
        assert client.ask(f"irq_intercept_{second} peripheral/s0") == "FAIL IRQ intercept already enabled"
        told = "IRQ raise 5\n" if first == "in" else ""
        assert client.ask("set_irq_in ioapic unnamed-gpio-in 5 1") == f"{told}OK"


@pytest.mark.parametrize("path", ["s0", "peripheral/s0", "/machine/peripheral/s0"])
def test_devices_without_lines_of_their_own_can_be_intercepted(path: str) -> None:
    with machine("-M", "pc", "-nodefaults", "-device", "virtio-scsi-pci,id=s0") as client:
        assert client.ask(f"irq_intercept_out {path}") == "OK"
        assert client.ask("irq_intercept_in ioapic") == "FAIL IRQ intercept already enabled"
        assert client.ask("irq_intercept_out 0") == "FAIL Unknown device"


@pytest.mark.parametrize(("text", "index"), [("0x1", 1), ("01", 1), ("3", 3)])
def test_numbers_of_drives_are_written_as_in_c(text: str, index: int) -> None:
    with machine(
        "-M", "pc", "-nodefaults", "-drive", f"if=ide,file=null-co://,format=raw,index={text}"
    ) as client:
        (drive,) = client.assembling.drives.values()
        assert drive.place == ("ide", *divmod(index, 2))


@pytest.mark.parametrize("text", ["1k", "abc", "-1", "4294967296", "1_0"])
def test_what_is_no_number_is_one_line(text: str) -> None:
    expected = f'index: "{text}" is given; expected a number'
    with (
        pytest.raises(OptionError, match=expected),
        machine("-drive", f"if=ide,file=null-co://,index={text}"),
    ):
        pass
    disk = ["-drive", "if=none,id=d,file=null-co://,format=raw", "-device", f"ide-hd,drive=d,lcyls={text}"]
    with pytest.raises(OptionError, match=expected.replace("index", "lcyls")), machine(*disk):
        pass
