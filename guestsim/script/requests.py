"""Steps that are requests of a block device: from what a script says to an `Operation`, and back from its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guestsim.drivers import virtio_blk
from guestsim.drivers.layouts import BLK_HEADER, BLK_LIFETIME, BLK_RANGE, BlkType
from guestsim.errors import GuestError
from guestsim.script.outcome import Outcome, status_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from guestsim.drivers.virtio_blk import Answer, Operation
    from guestsim.script.schema import Step
    from guestsim.script.schema_virtio import RawRequest

_KIB = 1024


def bytes_text(number: int) -> str:
    """A number of bytes for people."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (_KIB, "KiB")):
        if number >= unit and number % unit == 0:
            return f"{number // unit} {name}"
    return f"{number} bytes"


def _read(step: Step) -> tuple[Operation, str]:
    assert step.read is not None
    it = step.read
    text = f"read {bytes_text(it.length)} at {bytes_text(it.at)}" + _pieces(it.scatter)
    return virtio_blk.read(it.at, it.length, scatter=it.scatter), text


def _write(step: Step) -> tuple[Operation, str]:
    assert step.write is not None
    it = step.write
    text = f"write {bytes_text(it.length)} at {bytes_text(it.at)}, {it}" + _pieces(it.scatter)
    return virtio_blk.write(it.at, it.data(it.length), scatter=it.scatter), text


def _discard(step: Step) -> tuple[Operation, str]:
    assert step.discard is not None
    it = step.discard
    return virtio_blk.discard([(it.at, it.length)]), f"discard {bytes_text(it.length)} at {bytes_text(it.at)}"


def _zero(step: Step) -> tuple[Operation, str]:
    assert step.zero is not None
    it = step.zero
    how = ", may unmap" if it.unmap else ""
    text = f"write zeroes to {bytes_text(it.length)} at {bytes_text(it.at)}{how}"
    return virtio_blk.write_zeroes([(it.at, it.length)], unmap=it.unmap), text


def _secure_erase(step: Step) -> tuple[Operation, str]:
    assert step.secure_erase is not None
    it = step.secure_erase
    text = f"erase {bytes_text(it.length)} at {bytes_text(it.at)} for good"
    return virtio_blk.secure_erase([(it.at, it.length)]), text


def _raw(step: Step) -> tuple[Operation, str]:
    assert step.request is not None
    it = step.request
    number = BlkType[it.type] if isinstance(it.type, str) else it.type
    header = BLK_HEADER.pack(number & 0xFFFF_FFFF, it.reserved, it.sector)
    header = (header + bytes(max(0, it.header - len(header))))[: it.header]
    payload = it.data.data(it.data.length) if it.data is not None else b""
    payload += b"".join(BLK_RANGE.pack(one.sector, one.sectors, one.flags) for one in it.ranges)
    operation = virtio_blk.Operation(
        header + payload,
        it.writable,
        readable_split=split(it.readable_split, len(header) + len(payload)),
        writable_split=split(it.writable_split, it.writable),
        checked=False,
    )
    return operation, _raw_text(it, len(payload))


def _raw_text(it: RawRequest, payload: int) -> str:
    text = f"request of type {it.type} at sector {it.sector}"
    if it.header != BLK_HEADER.size:
        text += f", {it.header} bytes of header"
    if payload:
        text += f", {payload} bytes of payload"
    return f"{text}, {bytes_text(it.writable)} writable"


def split(lengths: list[int] | None, total: int) -> tuple[int, ...] | None:
    """The lengths of a chain's segments as a script gives them; GuestError where they are not `total` together."""
    if lengths is None:
        return None
    if sum(lengths) != total or min(lengths, default=1) < 1:
        raise GuestError(f"a split of {lengths} for {total} bytes: expected lengths above 0 with that sum")
    return tuple(lengths)


def _pieces(scatter: int) -> str:
    return f", in {scatter} pieces" if scatter > 1 else ""


BUILDERS: dict[str, Callable[[Step], tuple[Operation, str]]] = {
    "read": _read,
    "write": _write,
    "flush": lambda _: (virtio_blk.flush(), "flush"),
    "discard": _discard,
    "zero": _zero,
    "secure_erase": _secure_erase,
    "get_id": lambda _: (virtio_blk.get_id(), "get id"),
    "get_lifetime": lambda _: (virtio_blk.get_lifetime(), "get lifetime"),
    "request": _raw,
}
"""Action to what makes the operation and its description."""


def build(step: Step) -> tuple[Operation, str]:
    """The operation of a step that is a request, and what the guest does in words; GuestError for other steps."""
    builder = BUILDERS.get(step.action)
    if builder is None:
        names = ", ".join(name.replace("_", "-") for name in BUILDERS)
        raise GuestError(f"{step.action.replace('_', '-')} is no request, expected one of {names}")
    return builder(step)


def answered(step: Step, text: str, answer: Answer) -> Outcome:
    """What came of a request."""
    outcome = Outcome(
        text,
        f"{status_name(answer.status)}, used length {answer.used_length}",
        request=answer.status is not None,
        status=answer.status,
        used_length=answer.used_length,
        data=answer.data,
    )
    if answer.ok and step.action == "get_id":
        outcome.id = answer.data.split(b"\0")[0].decode("ascii", "replace")
        outcome.answered += f", {outcome.id!r}"
    if answer.ok and step.action == "get_lifetime":
        outcome.lifetime = BLK_LIFETIME.unpack(answer.data)
    return outcome


__all__ = ["BUILDERS", "BlkType", "answered", "build", "bytes_text"]
