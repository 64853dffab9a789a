"""What of an answer is compared, and what is known to be different between implementations, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guestsim.drivers.layouts import BlkStatus, BlkType
from guestsim.portable.requests import RANGE_TYPES, Request

if TYPE_CHECKING:
    from guestsim.drivers.blk_operation import Answer

STATUS, USED_LENGTH, DATA = "status", "used length", "data"
ANSWER, NOTIFICATION, VIOLATION, CONFIG, FEATURE = "answer", "notification", "violation", "config", "feature"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it was recorded.

    `number` is the event at which the device took the request, `queue` and `head` are the recorded ones (-1: it is not
    of a request).  `because` is the reason where it is known and right.
    """

    number: int
    queue: int
    head: int
    request: str
    what: str
    expected: str
    got: str
    because: str = ""


def _vhost_user(target: str) -> bool:
    return target in ("vhost-user", "qemu-storage-daemon")


def _qemu(target: str) -> bool:
    return target in ("qemu", "qemu-storage-daemon")


@dataclass(frozen=True, slots=True)
class _Known:
    """A difference that is right: `target` and `request` say where it may be, `what` of it."""

    target: Callable[[str], bool]
    what: str
    kinds: frozenset[int]
    because: str
    got: int | None = None


_KNOWN = (
    _Known(
        _vhost_user,
        DATA,
        frozenset({BlkType.GET_ID}),
        "VIRTIO 1.4 §5.2.6 leaves the string to the device; an export has one of its own",
    ),
    _Known(
        lambda target: target != "devmodels",
        DATA,
        frozenset({BlkType.GET_LIFETIME}),
        "VIRTIO 1.4 §5.2.6 has the wear of the storage told, which is another here",
    ),
    _Known(
        _qemu,
        STATUS,
        frozenset(RANGE_TYPES),
        "VIRTIO 1.4 §5.2.6 has IOERR for driver errors; QEMU says UNSUPP of ranges that are too long",
        BlkStatus.UNSUPP,
    ),
)


def compare(request: Request, answer: Answer, target: str, *, legacy: bool) -> Iterator[Difference]:
    """What of `answer` is not as recorded.

    The used length is not compared through the legacy interface, where devices set it as they like (§5.2.6.3), nor
    are the data of what failed.
    """
    if answer.status != request.status:
        yield _found(
            request, STATUS, status_text(request.status), status_text(answer.status), target, answer.status
        )
    if not legacy and answer.used_length != request.used_length:
        expected, got = str(request.used_length), str(answer.used_length)
        yield _found(request, USED_LENGTH, expected, got, target, answer.status)
    if request.status == answer.status == BlkStatus.OK and answer.data != request.answer:
        where = first_difference(request, answer.data)
        if where is not None:
            expected = f"{request.answer[where : where + 8].hex(' ')} at byte {where}"
            got = answer.data[where : where + 8].hex(" ")
            yield _found(request, DATA, expected, got, target, answer.status)


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


def _found(
    request: Request, what: str, expected: str, got: str, target: str, status: int | None
) -> Difference:
    header = request.header
    because = ""
    assert header is not None
    for known in _KNOWN:
        if (
            known.what == what
            and known.target(target)
            and header.type in known.kinds
            and known.got in (None, status)
        ):
            because = known.because
    return Difference(request.number, request.queue, request.head, str(request), what, expected, got, because)


def status_text(status: int | None) -> str:
    """A status byte in words."""
    if status is None:
        return "none"
    return BlkStatus(status).name if status in set(BlkStatus) else f"{status:#04x}"
