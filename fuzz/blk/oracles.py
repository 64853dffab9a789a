"""What must hold of a device whatever its driver does; each is a class that can be seen to fail (tests/unit/fuzz).

    Shadow        nothing is written outside writable buffers, the rings' device parts and what else was allowed
    Written       the first `used.len` bytes of a buffer were written, and all of them
    Entered       no handler of the device is entered again while it is at work
    Bounded       a doorbell takes no buffer that was not made available, and ends
    Ledger        what was acknowledged as stable is stable, and what was written is what is read

That a head comes back once, and none that is not out, the driver's models look at (`collect`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from devmodels.iocontext import IoContext
from devmodels.memory import GuestMemory
from devmodels.virtio.device import VirtioDevice
from tests.unit.virtio.model import Vector
from tests.unit.virtio.plain import PlainMemory

TURNS = 2000
"""Of the context for one doorbell: a request takes a few."""
SECTOR = 512


class Shadow:
    """A copy of guest memory, in which only the driver writes."""

    def __init__(self, plain: PlainMemory) -> None:
        self._plain = plain
        self._expected = plain.copy()

    def driver_wrote(self) -> None:
        """What is there now is what the driver knows of."""
        self._expected = self._plain.copy()

    def check(self, allowed: Iterable[Vector]) -> None:
        """Since then, the device has written within `allowed` alone."""
        pairs = list(zip(self._plain.blocks, self._expected.blocks, strict=True))
        for address, length in allowed:
            for found, expected in pairs:
                first, end = max(address, found.base), min(address + length, found.end)
                if first < end:
                    place = slice(first - found.base, end - found.base)
                    expected.data[place] = found.data[place]
        for found, expected in pairs:
            if found.data != expected.data:
                at = next(at for at, byte in enumerate(found.data) if byte != expected.data[at])
                raise AssertionError(f"the device has written at {found.base + at:#x}")


class Written:
    """What the device has written, in order: it is a dirty log of guest memory."""

    def __init__(self, memory: GuestMemory) -> None:
        self._spans: list[tuple[int, int]] = []
        memory.observe(dirty_log=self)

    def mark(self, address: int, length: int) -> None:
        """The device has written there."""
        self._spans.append((address, address + length))

    @property
    def now(self) -> int:
        """What `since` is of a buffer that is given out now: what was written before does not count for it."""
        return len(self._spans)

    def check(self, vectors: Sequence[Vector], used: int, since: int) -> None:
        """The first `used` bytes of `vectors` have been written since then."""
        room = sum(length for _, length in vectors)
        assert used <= room, f"used.len is {used} of {room} bytes"
        spans = sorted(self._spans[since:])
        for address, length in vectors:
            at, end = address, address + min(length, used)
            used -= end - address
            for first, last in spans:
                if first <= at < last:
                    at = last
            assert at >= end, f"used.len covers {at:#x}, which was not written"


class Entered:
    """No one of the `guarded` methods of a thing is entered while it is at work itself."""

    def __init__(self, thing: object, *names: str) -> None:
        self._inside: set[str] = set()
        for name in names:
            setattr(thing, name, self._guarded(name, getattr(thing, name)))

    def _guarded(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any, **more: Any) -> Any:
            assert name not in self._inside, f"{name} was entered within {name}"
            self._inside.add(name)
            try:
                return method(*arguments, **more)
            finally:
                self._inside.discard(name)

        return guarded


class Bounded:
    """How many buffers the device takes, and how many turns it goes on for."""

    def __init__(self, device: VirtioDevice, context: IoContext) -> None:
        self._context = context
        self._left = 0
        handle = device.handle

        def counted(queue: Any, chains: Sequence[Any]) -> None:
            self._left -= len(chains)
            assert self._left >= 0, "more buffers were taken than were made available"
            handle(queue, chains)

        setattr(device, "handle", counted)  # noqa: B010

    def made_available(self, count: int) -> None:
        """So many more may be taken."""
        self._left += count

    def begun(self) -> None:
        """The queue is new: what was not taken is lost."""
        self._left = 0

    def settle(self) -> None:
        """Let the device go on until it rests."""
        for _ in range(TURNS):
            if not self._context.turn():
                return
        raise AssertionError(f"the device does not rest after {TURNS} turns")


class Ledger:
    """What a driver may rely on: sectors by what was last acknowledged in them, None where that is not known."""

    def __init__(self, content: bytes) -> None:
        self._known: dict[int, bytes | None] = {
            at // SECTOR: bytes(content[at : at + SECTOR]) for at in range(0, len(content), SECTOR)
        }
        self._stable = dict(self._known)

    def begun(self, sectors: range) -> None:
        """These are about to be changed: until that is acknowledged, nothing is known of them."""
        for sector in sectors:
            if sector in self._known:
                self._known[sector] = self._stable[sector] = None

    def written(self, sector: int, data: bytes, *, stable: bool) -> None:
        """A write was acknowledged, and nothing else was on its way to these sectors."""
        for at in range(0, len(data), SECTOR):
            number = sector + at // SECTOR
            self._known[number] = data[at : at + SECTOR]
            if stable:
                self._stable[number] = self._known[number]

    def promised(self) -> dict[int, bytes | None]:
        """What a flush that begins now makes stable."""
        return dict(self._known)

    def flushed(self, promised: dict[int, bytes | None]) -> None:
        """It was acknowledged: what has not changed since is stable."""
        for sector, data in promised.items():
            if data is not None and self._known[sector] == data:
                self._stable[sector] = data

    def check_read(self, sector: int, data: bytes) -> None:
        """A read was acknowledged, and nothing was on its way to these sectors meanwhile."""
        for at in range(0, len(data), SECTOR):
            known = self._known[sector + at // SECTOR]
            assert known is None or known == data[at : at + SECTOR], (
                f"sector {sector} is not what was written"
            )

    def check_stable(self, content: bytes | bytearray) -> None:
        """The power is cut: what was acknowledged as stable is there."""
        for sector, data in self._stable.items():
            found = content[sector * SECTOR : (sector + 1) * SECTOR]
            assert data is None or data == found, f"sector {sector} was acknowledged as stable and is not"
