"""One access of a guest's, and the file form of a sequence of them.

    device virtio-blk
    step reset
    write common+0x14 1 0x0
    read common+0x14 1
    ram 0x1000000 00ff
    wait

A place is a window of the device (`common`, `pci`, …) and an offset, values are little-endian.  `ram` puts bytes into
guest memory.  `wait` is a quiescent point: both devices come to rest, and all that the guest can see is compared.
`wait 8 0x1012004 0x101200c` says that the records of 8 bytes there may have come in any order.
`loose failed-data 0x1020010 1024 0x1020410` has memory from 0x1020010 on not compared at the next quiescent point where
a request's status, at 0x1020410, is not 0; `failed-data` is the mask under which that is counted.
`loose pio-status 0x100202f 1 50/58` has it not compared where it is 0x50 on our side and 0x58 on theirs (`50|51/58`:
or 0x51 on ours), as
`read ide+0x3 1 outputs 0x5/0x7` does with a register.
What follows a `#` is for people.

`break write_aio A` holds the next request that the event is about (as QEMU's `blkdebug` names it) at the drive of both,
`held A` waits until both have it there if ours has, and else drops the break point; `resume A` lets it go on.
`late A` has theirs go on by itself in a moment, also in a reset that waits for it; ours holds it until `resume A`.

The device comes first, `device NAME` or `device NAME MACHINE`, and then at least one access.  A machine is that of a
script, in JSON: its devices and the sizes of its drives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from guestsim.diff.arena import ARENA, ARENA_SIZE

EVENTS = (
    "read_aio",
    "write_aio",
    "pwritev",
    "pwritev_zero",
    "pwritev_done",
    "flush_to_os",
    "flush_to_disk",
)
"""What a request can be held at: those of QEMU's BlkdebugEvent that a drive without a format has."""


class AccessFileError(ValueError):
    """A file of accesses is wrong; the message says where, and what was expected."""


class FormError(ValueError):
    """One line of it is not as it must be; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Read:
    """A register is read: `size` bytes (1, 2, 4 or 8) at `offset` of a window.

    Where the sides may differ in these values alone, `but` is the mask's name, what ours holds, and theirs (None:
    anything); `as_qemu` is what ours may hold instead under the profile `qemu`.
    """

    window: str
    offset: int
    size: int
    but: tuple[str, int | None, int | None] | None = None
    as_qemu: int | None = None

    def __str__(self) -> str:
        text = f"read {self.window}+{self.offset:#x} {self.size}"
        if self.but is None:
            return text
        mask, *values = self.but
        ours, theirs = ("*" if value is None else f"{value:#x}" for value in values)
        other = "" if self.as_qemu is None else f"|{self.as_qemu:#x}"
        return f"{text} {mask} {ours}{other}/{theirs}"

    def hides(self, ours: int, theirs: int) -> bool:
        """Whether these values are those that are expected."""
        if self.but is None:
            return False
        _, mine, others = self.but
        return others in (None, theirs) and (mine is None or ours in (mine, self.as_qemu))


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


Bytes: TypeAlias = bytes | tuple[bytes, ...] | None
"""What memory holds: this, one of these, or anything."""


@dataclass(frozen=True, slots=True)
class Loose:
    """Memory that is not compared at the next quiescent point, for a `reason` that is a mask's name.

    Where there is a `status`, only if the byte at that address is the same on both sides and not 0; or 0, where
    it is to be `good`.  Where there are `values`, only if this is what our side has, and theirs.
    """

    reason: str
    address: int
    length: int
    status: int | None = None
    good: bool = False
    values: tuple[Bytes, Bytes] | None = None

    def hides(self, ours: bytes, theirs: bytes) -> bool:
        """Whether these bytes of both are those that are expected."""
        if self.values is None:
            return True
        mine, others = self.values
        return _holds(mine, ours) and _holds(others, theirs)

    def __str__(self) -> str:
        text = f"loose {self.reason} {self.address:#x} {self.length}"
        if self.values is not None:
            return f"{text} {'/'.join(map(_hex, self.values))}"
        return text if self.status is None else f"{text} {self.status:#x}" + " good" * self.good


def _holds(value: Bytes, held: bytes) -> bool:
    return value is None or (held in value if isinstance(value, tuple) else held == value)


def _hex(value: Bytes) -> str:
    """Of several `HEX|HEX`; `*` is anything."""
    if value is None:
        return "*"
    return "|".join(one.hex() for one in (value if isinstance(value, tuple) else (value,)))


@dataclass(frozen=True, slots=True)
class Unordered:
    """Records of `size` bytes whose order nothing specifies, and where they are."""

    size: int
    addresses: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """A quiescent point."""

    unordered: Unordered | None = None

    def __str__(self) -> str:
        one = self.unordered
        return "wait" if one is None else " ".join((f"wait {one.size}", *map(hex, one.addresses)))


@dataclass(frozen=True, slots=True)
class Rest:
    """Both come to rest, and nothing is compared: what shows is known to be different, and settled by what follows.

    Theirs has where the register `until` holds what it holds in ours.
    """

    until: Read | None = None

    def __str__(self) -> str:
        return "rest" if self.until is None else f"rest{str(self.until).removeprefix('read')}"


@dataclass(frozen=True, slots=True)
class Break:
    """The next request that `event` is about is held at the drive, at the break point `tag` (QEMU's `blkdebug`)."""

    event: str
    tag: str

    def __str__(self) -> str:
        return f"break {self.event} {self.tag}"


@dataclass(frozen=True, slots=True)
class Held:
    """Both hold a request at the break point, or there is none any more."""

    tag: str

    def __str__(self) -> str:
        return f"held {self.tag}"


@dataclass(frozen=True, slots=True)
class Late:
    """What is held at the break point goes on by itself in a moment on their side: a reset may wait for it there."""

    tag: str

    def __str__(self) -> str:
        return f"late {self.tag}"


@dataclass(frozen=True, slots=True)
class Resume:
    """What is held at the break point goes on."""

    tag: str

    def __str__(self) -> str:
        return f"resume {self.tag}"


Access: TypeAlias = Read | Write | Store | Loose | Wait | Rest | Break | Held | Late | Resume


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


Check: TypeAlias = Callable[[Access], None]
"""Refuses an access that a device does not have, with `FormError`."""


def parse(
    text: str, name: str, device_of: Callable[[str], Check] = lambda _: lambda _: None
) -> tuple[str, list[Step]]:
    """Device and steps of a file's text; AccessFileError names `name`, the line, and what was expected.

    `device_of` is asked once for a device, and what it gives back for each access of the file; both refuse with
    `FormError`.
    """
    device = ""
    check: Check | None = None
    steps: list[Step] = []
    accesses: list[Access] = []
    breaks: set[str] = set()
    number = 1
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        try:
            if check is None or words[0] == "device":
                device = _device(words, device)
                check = device_of(device)
            elif words[0] == "step":
                _close(steps, accesses)
                steps.append(_step(words))
            else:
                access = _access(words)
                check(access)
                _check_break(access, breaks)
                accesses.append(access)
        except FormError as error:
            raise AccessFileError(f"{name}:{number}: {_shown(line)}: {error}") from None
        except (ValueError, IndexError):
            raise AccessFileError(f"{name}:{number}: {_shown(line)}: expected {_FORMS}") from None
    _close(steps, accesses)
    if not any(step.accesses for step in steps):
        wanted = "an access" if device else "a line 'device NAME'"
        raise AccessFileError(f"{name}:{number}: the file ends here, expected {wanted}")
    return device, steps


def _check_break(access: Access, known: set[str]) -> None:
    """FormError where the access is about a break point that none before it has made; `known` are those."""
    if isinstance(access, Break):
        known.add(access.tag)
    elif isinstance(access, Held | Late | Resume) and access.tag not in known:
        raise FormError(f"break point {access.tag}: expected a line 'break EVENT {access.tag}' before it")


def _device(words: Sequence[str], before: str) -> str:
    if words[0] != "device":
        raise FormError("expected a line 'device NAME' before it")
    if before or len(words) < 2:
        raise FormError("expected one device, and its name")
    return " ".join(words[1:])


def _step(words: Sequence[str]) -> Step:
    tags = frozenset(word[1:-1] for word in words[2:] if word[0] == "[" and word[-1] == "]")
    label = " ".join(word for word in words[1:] if word[0] != "[")
    if not label:
        raise FormError("expected step NAME [TAG]…")
    return Step(label, (), tags)


_SHOWN = 80

_FORMS = (
    "device NAME, step NAME, read PLACE SIZE [MASK OURS/THEIRS], write PLACE SIZE VALUE, ram ADDRESS HEX, "
    "loose REASON ADDRESS LENGTH [STATUS [good] or HEX[|HEX]/HEX[|HEX]], rest [PLACE SIZE [MASK OURS/THEIRS]], wait, "
    "wait SIZE ADDRESS…, break EVENT TAG, held TAG, late TAG, resume TAG"
)


def _shown(line: str) -> str:
    """What people need of a line to find it."""
    line = line.strip()
    return repr(line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…")


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
        case ["read", place, size, *expected] if len(expected) in (0, 2):
            return _read(place, size, *expected)
        case ["write", place, size, value]:
            access = Write(*_place(place), _size(size), int(value, 0))
            if not 0 <= access.value < 1 << 8 * access.size:
                raise FormError(f"value {value}: expected one that fits {access.size} bytes")
            return access
        case ["ram", address, data]:
            content = bytes.fromhex(data)
            return Store(_inside(address, len(content)), content)
        case ["loose", reason, address, length, values] if "/" in values:
            ours, theirs = map(_bytes, values.split("/", 1))
            return Loose(reason, _number(address), _number(length), values=(ours, theirs))
        case ["loose", reason, address, length]:
            return Loose(reason, _inside(address, _number(length)), _number(length))
        case ["loose", reason, address, length, status, *good] if good in ([], ["good"]):
            start = _inside(address, _number(length))
            return Loose(reason, start, _number(length), _inside(status, 1), good != [])
        case ["break", event, tag]:
            return Break(_event(event), _tag(tag))
        case ["held", tag]:
            return Held(_tag(tag))
        case ["late", tag]:
            return Late(_tag(tag))
        case ["resume", tag]:
            return Resume(_tag(tag))
        case ["rest"]:
            return Rest()
        case ["rest", place, size, *expected] if len(expected) in (0, 2):
            return Rest(_read(place, size, *expected))
        case ["wait"]:
            return Wait()
        case ["wait", size, *addresses] if addresses:
            return Wait(_unordered(_number(size), addresses))
    raise FormError(f"expected {_FORMS}")


def _read(place: str, size: str, mask: str = "", values: str = "") -> Read:
    if not mask:
        return Read(*_place(place), _size(size))
    mine, _, others = values.partition("/")
    ours, _, other = mine.partition("|")
    held, there = (None if value == "*" else _number(value) for value in (ours, others))
    return Read(*_place(place), _size(size), (mask, held, there), _number(other) if other else None)


def _bytes(text: str) -> Bytes:
    if text == "*":
        return None
    first, *others = map(bytes.fromhex, text.split("|"))
    return (first, *others) if others else first


def _event(text: str) -> str:
    if text not in EVENTS:
        raise FormError(f"event {text}: expected one of {', '.join(EVENTS)}")
    return text


def _tag(text: str) -> str:
    if not text.isalnum():
        raise FormError(f"break point {text}: expected letters and digits")
    return text


def _unordered(size: int, addresses: Sequence[str]) -> Unordered:
    if not size:
        raise FormError("expected records of at least 1 byte")
    return Unordered(size, tuple(_inside(address, size) for address in addresses))


def _inside(address: str, length: int) -> int:
    """The address of `length` bytes of the memory that is compared."""
    start, end = _number(address), ARENA + ARENA_SIZE
    if not ARENA <= start <= start + length <= end:
        raise FormError(f"{length} bytes at {address}: expected memory from {ARENA:#x} to {end - 1:#x}")
    return start


def _place(text: str) -> tuple[str, int]:
    window, _, offset = text.partition("+")
    return window, _number(offset or "0")


def _size(text: str) -> int:
    size = _number(text)
    if size not in (1, 2, 4, 8):
        raise FormError(f"size {text}: expected 1, 2, 4 or 8")
    return size


def _number(text: str) -> int:
    number = int(text, 0)
    if number < 0:
        raise FormError(f"{text}: expected a number from 0 on")
    return number
