"""What of an answer is compared, and what is known to be different between implementations, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from guestsim.drivers.layouts import ID_BYTES, BlkStatus, BlkType
from guestsim.portable.requests import RANGE_TYPES, Request

if TYPE_CHECKING:
    from guestsim.drivers.blk_operation import Answer

STATUS, USED_LENGTH, DATA = "status", "used length", "data"
ANSWER, NOTIFICATION, VIOLATION, CONFIG, FEATURE = "answer", "notification", "violation", "config", "feature"
CONTENT = "content of the disk"
"""What was written there is not there when all has been fed."""


class DiskPlace(NamedTuple):
    """The first byte of the disk that is wrong, and start and end of the read that showed it."""

    byte: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it was recorded.

    `number` is the event at which the device took the request, `queue` and `head` are the recorded ones (-1: it is not
    of a request); `place` is where on the disk, if its content is meant.  `because` is the reason where it is known and
    right.
    """

    number: int
    queue: int
    head: int
    request: str
    what: str
    expected: str
    got: str
    because: str = ""
    place: DiskPlace | None = None


VHOST_USER = frozenset({"vhost-user", "qemu-storage-daemon"})
QEMU = frozenset({"qemu", "qemu-storage-daemon"})
OTHERS = VHOST_USER | QEMU


@dataclass(frozen=True, slots=True)
class Known:
    """A difference that is right: on these targets, of `what`, where `holds(request, answer)`."""

    targets: frozenset[str]
    what: str
    holds: Callable[[Request, Answer], bool]
    because: str


def _is(*kinds: int) -> Callable[[Request, Answer], bool]:
    return lambda request, _: _type(request) in kinds


def _type(request: Request) -> int:
    header = request.header
    assert header is not None
    return header.type


def _to_the_nul(request: Request, answer: Answer) -> bool:
    if _type(request) != BlkType.GET_ID:
        return False
    text = request.answer[:ID_BYTES].split(b"\0")[0]
    return answer.data[: len(text)] == text


def _too_long(request: Request, answer: Answer) -> bool:
    return _type(request) in RANGE_TYPES and answer.status == BlkStatus.UNSUPP


def _not_negotiated(request: Request, _: Answer) -> bool:
    refused = request.status == BlkStatus.UNSUPP and bool(request.violations)
    return refused and _type(request) in RANGE_TYPES


def _nothing_written(request: Request, answer: Answer) -> bool:
    refused = request.status == answer.status != BlkStatus.OK
    return refused and not request.used_length and answer.used_length == sum(request.writable)


_SCSI = (2, 3)

KNOWN = (
    Known(
        VHOST_USER,
        DATA,
        _is(BlkType.GET_ID),
        "VIRTIO 1.4 §5.2.6 leaves the string to the device; an export has one of its own",
    ),
    Known(
        frozenset({"qemu"}),
        DATA,
        _to_the_nul,
        "VIRTIO 1.4 §5.2.6 pads the string with zeroes; QEMU writes it as far as its end",
    ),
    Known(
        OTHERS,
        DATA,
        _is(BlkType.GET_LIFETIME),
        "VIRTIO 1.4 §5.2.6 has the wear of the storage told, which is another here",
    ),
    Known(
        QEMU,
        STATUS,
        _too_long,
        "VIRTIO 1.4 §5.2.6 has IOERR for driver errors; QEMU says UNSUPP of ranges that are too long",
    ),
    Known(
        QEMU,
        STATUS,
        _not_negotiated,
        "VIRTIO 1.4 §5.2.6.1 forbids what was not negotiated; QEMU does it where it offers it, or the disk fails it",
    ),
    Known(
        QEMU,
        STATUS,
        _is(*_SCSI),
        "VIRTIO 1.4 §5.2.6.3 has SCSI commands in the legacy interface; QEMU knows the type, and fails it",
    ),
    Known(
        OTHERS,
        USED_LENGTH,
        _nothing_written,
        "VIRTIO 1.4 §2.7.8.2 has the bytes counted that were written; ours writes none of a long answer that it "
        "refuses, others count all",
    ),
)

CAPACITY_UNTOLD = (
    "VIRTIO 1.4 §5.2.5 has capacity changes told; qemu-storage-daemon keeps the one it began with"
)


def compare(request: Request, answer: Answer, target: str, *, legacy: bool) -> Iterator[Difference]:
    """What of `answer` is not as recorded.

    The used length is not compared through the legacy interface, where devices set it as they like (§5.2.6.3), nor
    are the data of what failed.
    """
    for what, expected, got in _differences(request, answer, legacy=legacy):
        because = next(
            (
                known.because
                for known in KNOWN
                if target in known.targets and known.what == what and known.holds(request, answer)
            ),
            "",
        )
        yield Difference(
            request.number, request.queue, request.head, str(request), what, expected, got, because
        )


def _differences(request: Request, answer: Answer, *, legacy: bool) -> Iterator[tuple[str, str, str]]:
    if answer.status != request.status:
        yield STATUS, status_text(request.status), status_text(answer.status)
    if not legacy and answer.used_length != request.used_length:
        yield USED_LENGTH, str(request.used_length), str(answer.used_length)
    if request.status == answer.status == BlkStatus.OK and answer.data != request.answer:
        where = first_difference(request, answer.data)
        if where is not None:
            expected = f"{request.answer[where : where + 8].hex(' ')} at byte {where}"
            yield DATA, expected, answer.data[where : where + 8].hex(" ")


def first_difference(request: Request, data: bytes) -> int | None:
    """The first byte that is known, and different in `data`."""
    expected = request.answer
    start = 0
    length = max(len(expected), len(data))
    for first, last, _ in (*sorted(request.unknown), (length, length, "")):
        if expected[start:first] != data[start:first]:
            pairs = zip(expected[start:first], data[start:first], strict=False)
            return next(
                (start + n for n, (one, two) in enumerate(pairs) if one != two), min(len(expected), len(data))
            )
        start = max(start, last)
    return None


def found(request: Request, what: str, expected: str, got: str) -> Difference:
    """A difference that nothing explains."""
    return Difference(request.number, request.queue, request.head, str(request), what, expected, got)


def status_text(status: int | None) -> str:
    """A status byte in words."""
    if status is None:
        return "none"
    return BlkStatus(status).name if status in set(BlkStatus) else f"{status:#04x}"
