"""One access of a guest's, and the file form of a sequence of them.

    device virtio-blk
    step reset
    write common+0x14 1 0x0
    read common+0x14 1
    ram 0x1000000 00ff
    wait

A place is a window of the device (`common`, `pci`, …) and an offset, values are little-endian.  `ram` puts bytes into
guest memory.  `wait` is a quiescent point: both devices come to rest, and all that the guest can see is compared.
`wait 0x1012004 8 14 3 16` says that of the 16 records of 8 bytes there, three from number 14 on (the last one is
number 0 again) may have come in any order.  `loose failed-data 0x1020010 1024
0x1020410` has memory from 0x1020010 on not compared at the next quiescent point where a request's status, at
0x1020410, is not 0; `failed-data` is the mask under which that is counted.  What follows a `#` is for people.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from guestsim.diff.arena import ARENA, ARENA_SIZE


class AccessFileError(ValueError):
    """A file of accesses is wrong; the message says where, and what was expected."""


@dataclass(frozen=True, slots=True)
class Read:
    """A register is read: `size` bytes (1, 2, 4 or 8) at `offset` of a window."""

    window: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"read {self.window}+{self.offset:#x} {self.size}"


@dataclass(frozen=True, slots=True)
class Write:
    """A register is written: `size` bytes (1, 2, 4 or 8) at `offset` of a window."""

    window: str
    offset: int
    size: int
    value: int

    def __str__(self) -> str:
        return f"write {self.window}+{self.offset:#x} {self.size} {self.value:#x}"


@dataclass(frozen=True, slots=True)
class Store:
    """Bytes are put into guest memory."""

    address: int
    data: bytes

    def __str__(self) -> str:
        return f"ram {self.address:#x} {self.data.hex()}"


@dataclass(frozen=True, slots=True)
class Loose:
    """Memory that is not compared at the next quiescent point, for a `reason` that is a mask's name.

    Where there is a `status`, only if the byte at that address is the same on both sides and not 0; or 0, where
    it is to be `good`.
    """

    reason: str
    address: int
    length: int
    status: int | None = None
    good: bool = False

    def __str__(self) -> str:
        text = f"loose {self.reason} {self.address:#x} {self.length}"
        return text if self.status is None else f"{text} {self.status:#x}" + " good" * self.good


@dataclass(frozen=True, slots=True)
class Unordered:
    """`count` records of `size` bytes whose order nothing specifies: from `first` on in a ring of `places`."""

    address: int
    size: int
    first: int
    count: int
    places: int

    @property
    def addresses(self) -> list[int]:
        """Where they are."""
        return [
            self.address + self.size * ((self.first + number) % self.places) for number in range(self.count)
        ]


@dataclass(frozen=True, slots=True)
class Wait:
    """A quiescent point."""

    unordered: Unordered | None = None

    def __str__(self) -> str:
        one = self.unordered
        if one is None:
            return "wait"
        return f"wait {one.address:#x} {one.size} {one.first} {one.count} {one.places}"


@dataclass(frozen=True, slots=True)
class Rest:
    """Both come to rest, and nothing is compared: what shows is known to be different, and settled by what follows.

    Theirs has where the register `until` holds what it holds in ours.
    """

    until: Read | None = None

    def __str__(self) -> str:
        return "rest" if self.until is None else str(self.until).replace("read", "rest")


Access: TypeAlias = Read | Write | Store | Loose | Wait | Rest


@dataclass(frozen=True, slots=True)
class Step:
    """What the guest does at a time, in accesses.  `tags` say what is special about it."""

    name: str
    accesses: tuple[Access, ...]
    tags: frozenset[str] = frozenset()


def lines(device: str, steps: Iterable[Step]) -> Iterator[str]:
    """The file form, line by line."""
    yield f"device {device}"
    for step in steps:
        yield " ".join(("step", step.name, *(f"[{tag}]" for tag in sorted(step.tags))))
        yield from map(str, step.accesses)


def parse(text: str, name: str) -> tuple[str, list[Step]]:
    """Device and steps of a file's text; AccessFileError names `name` and the line."""
    device = ""
    steps: list[Step] = []
    accesses: list[Access] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        try:
            if words[0] == "device":
                (device,) = words[1:]
            elif words[0] == "step":
                _close(steps, accesses)
                tags = frozenset(word[1:-1] for word in words[2:] if word[0] == "[" and word[-1] == "]")
                label = " ".join(word for word in words[1:] if word[0] != "[")
                steps.append(Step(label, (), tags))
            else:
                accesses.append(_access(words))
        except (ValueError, IndexError) as error:
            raise AccessFileError(f"{name}:{number}: {line.strip()!r}: {_expected(error)}") from None
    if not device:
        raise AccessFileError(f"{name}: expected a line 'device NAME'")
    _close(steps, accesses)
    return device, steps


_FORMS = (
    "device NAME, step NAME, read PLACE SIZE, write PLACE SIZE VALUE, ram ADDRESS HEX, "
    "loose REASON ADDRESS LENGTH [STATUS [good]], rest [PLACE SIZE], wait, "
    "wait ADDRESS SIZE FIRST COUNT PLACES"
)


def _expected(error: Exception) -> str:
    return str(error) if isinstance(error, _FormError) else f"expected {_FORMS}"


class _FormError(ValueError):
    pass


def _close(steps: list[Step], accesses: list[Access]) -> None:
    """Give the last step its accesses; those before any step are one of their own."""
    if accesses and not steps:
        steps.append(Step("accesses", ()))
    if steps:
        last = steps[-1]
        steps[-1] = Step(last.name, (*last.accesses, *accesses), last.tags)
    accesses.clear()


def _access(words: Sequence[str]) -> Access:
    match words:
        case ["read", place, size]:
            return Read(*_place(place), _size(size))
        case ["write", place, size, value]:
            access = Write(*_place(place), _size(size), int(value, 0))
            if not 0 <= access.value < 1 << 8 * access.size:
                raise _FormError(f"value {value}: expected one that fits {access.size} bytes")
            return access
        case ["ram", address, data]:
            return Store(*_inside(address, bytes.fromhex(data)))
        case ["loose", reason, address, length]:
            return Loose(reason, _number(address), _number(length))
        case ["loose", reason, address, length, status, *good] if good in ([], ["good"]):
            return Loose(reason, _number(address), _number(length), _number(status), good != [])
        case ["rest"]:
            return Rest()
        case ["rest", place, size]:
            return Rest(Read(*_place(place), _size(size)))
        case ["wait"]:
            return Wait()
        case ["wait", *numbers] if len(numbers) == 5:
            records = Unordered(*map(_number, numbers))
            if not records.places or records.count > records.places:
                raise _FormError(
                    f"{records.count} records: expected no more than the {records.places} places"
                )
            return Wait(records)
    raise _FormError(f"expected {_FORMS}")


def _inside(address: str, data: bytes) -> tuple[int, bytes]:
    if not ARENA <= _number(address) <= ARENA + ARENA_SIZE - len(data):
        raise _FormError(f"{address}: expected memory from {ARENA:#x} to {ARENA + ARENA_SIZE - 1:#x}")
    return _number(address), data


def _place(text: str) -> tuple[str, int]:
    window, _, offset = text.partition("+")
    return window, _number(offset or "0")


def _size(text: str) -> int:
    size = _number(text)
    if size not in (1, 2, 4, 8):
        raise _FormError(f"size {text}: expected 1, 2, 4 or 8")
    return size


def _number(text: str) -> int:
    number = int(text, 0)
    if number < 0:
        raise _FormError(f"{text}: expected a number from 0 on")
    return number
