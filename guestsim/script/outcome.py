"""What came of a step, and whether it is what the script expects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from guestsim.drivers.layouts import BlkStatus
from guestsim.drivers.scsi import Status
from guestsim.drivers.virtio import FeaturesRefusedError, NeedsResetError
from guestsim.drivers.virtio_driver import DroppedError
from guestsim.drivers.virtio_scsi import response_name
from guestsim.errors import DisconnectedError, GuestCheckError, GuestError, GuestTimeoutError
from guestsim.script.schema_expect import Bounds, PartOfData
from guestsim.script.schema_scsi import parse_sense
from guestsim.script.schema_virtio import FEATURES
from guestsim.script.values import difference

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from guestsim.drivers.scsi import Sense
    from guestsim.script.schema_expect import Expect
    from guestsim.script.values import Pattern

ERRORS: dict[type[GuestError], str] = {
    NeedsResetError: "needs-reset",
    DroppedError: "dropped",
    FeaturesRefusedError: "refused",
    GuestTimeoutError: "timeout",
    GuestCheckError: "check",
    DisconnectedError: "disconnected",
}
"""Names that a script has for what can end a step."""


@dataclass(slots=True)
class Outcome:
    """What the guest did in a step (`did`) and what it got; fields that the step doesn't have are None.

    `complaint`: an ATA command ended with an error.  `error` is the exception that ended it; `request` says that a
    status belongs to it;
    `violations` is None where the target keeps no count.
    """

    did: str
    answered: str = ""
    request: bool = False
    status: int | None = None
    used_length: int | None = None
    data: bytes | None = None
    id: str | None = None
    value: int | None = None
    features: frozenset[int] | None = None
    config: dict[str, int] | None = None
    lifetime: dict[str, int] | None = None
    statistics: dict[str, int] | None = None
    used: list[tuple[int, int]] | None = None
    needs_reset: bool | None = None
    dropped: int | None = None
    interrupts: int | None = None
    config_changes: int | None = None
    violations: list[tuple[str, str]] | None = None
    response: int | None = None
    scsi_status: int | None = None
    sense: Sense | None = None
    residual: int | None = None
    units: list[str] | None = None
    registers: dict[str, int] | None = None
    blocks: list[int] | None = None
    found: list[str] | None = None
    complaint: bool = False
    error: GuestError | None = None


def scsi_status_name(status: int | None) -> str:
    """A SCSI status as people call it."""
    if status is None:
        return "no status"
    return Status(status).name if status in set(Status) else f"status {status:#04x}"


def status_name(status: int | None) -> str:
    """A status byte as people call it."""
    if status is None:
        return "no status"
    return BlkStatus(status).name if status in set(BlkStatus) else f"status {status}"


def check(expect: Expect, outcome: Outcome) -> list[str]:
    """Everything in which `outcome` is not what was expected, one line each."""
    return [
        *_check_error(expect, outcome),
        *_check_answer(expect, outcome),
        *_check_scsi(expect, outcome),
        *_check_ata(expect, outcome),
        *_check_tables(expect, outcome),
        *_check_violations(expect, outcome),
    ]


def _check_error(expect: Expect, outcome: Outcome) -> Iterator[str]:
    error = outcome.error
    if error is None:
        if expect.error is not None:
            yield f"expected the error {expect.error}, but the step went well"
        return
    kind = next((name for kind, name in ERRORS.items() if isinstance(error, kind)), "other")
    if kind != expect.error:
        yield (
            str(error) if expect.error is None else f"expected the error {expect.error}, but {kind}: {error}"
        )


def _check_answer(expect: Expect, outcome: Outcome) -> Iterator[str]:
    if outcome.error is not None:
        return
    if outcome.request:
        wanted = "OK" if expect.status is None else expect.status
        if wanted not in (status_name(outcome.status), outcome.status):
            yield f"status {status_name(outcome.status)}, expected {wanted}"
    simple = ("used_length", "id", "needs_reset", "dropped", "residual", "units")
    for name in simple:
        yield from _equal(name.replace("_", "-"), getattr(outcome, name), getattr(expect, name))
    for name in ("interrupts", "config_changes"):
        yield from _number(name.replace("_", "-"), getattr(outcome, name), getattr(expect, name))
    if expect.value is not None:
        mask = -1 if expect.mask is None else expect.mask
        if outcome.value is None or outcome.value & mask != expect.value:
            found = "none" if outcome.value is None else f"{outcome.value & mask:#x}"
            yield f"value {found}, expected {expect.value:#x}"
    if expect.data is not None:
        yield from _check_data(expect.data, outcome.data or b"")
    if expect.length is not None:
        yield from _equal("length", len(outcome.data or b""), expect.length)
    if expect.prefix is not None:
        begin = (outcome.data or b"")[: len(expect.prefix)]
        if begin != expect.prefix:
            yield f"data begins with {begin.hex(' ') or 'nothing'}, expected {expect.prefix.hex(' ')}"
    if expect.used is not None:
        wanted_used = [(one.id, one.length) for one in expect.used]
        yield from _equal("used", outcome.used, wanted_used)


def _check_scsi(expect: Expect, outcome: Outcome) -> Iterator[str]:
    """The response of a command or of task management; where nothing is said, OK, GOOD and no sense data."""
    if outcome.error is not None or outcome.response is None:
        return
    wanted = "OK" if expect.response is None else expect.response
    if wanted not in (response_name(outcome.response), outcome.response):
        yield f"response {response_name(outcome.response)}, expected {wanted}"
    if outcome.scsi_status is None:
        return
    sense = None if expect.sense in (None, "none") else parse_sense(expect.sense or "")
    status = expect.status
    if status is None:
        status = "GOOD" if sense is None else "CHECK_CONDITION"
    if status not in (scsi_status_name(outcome.scsi_status), outcome.scsi_status):
        found = f" ({outcome.sense})" if outcome.sense is not None else ""
        yield f"status {scsi_status_name(outcome.scsi_status)}{found}, expected {status}"
    elif sense is not None or expect.sense == "none" or expect.status is None:
        got = outcome.sense
        if (None if got is None else (got.key, got.asc, got.ascq)) != sense:
            yield f"sense {got or 'none'}, expected {expect.sense or 'none'}"


def _check_ata(expect: Expect, outcome: Outcome) -> Iterator[str]:
    """Registers; where nothing is said of status and error, the device has nothing to complain of."""
    if outcome.error is not None:
        return
    wanted = expect.registers or {}
    if outcome.complaint and not wanted.keys() & {"status", "error", "sense-key"}:
        found = outcome.registers or {}
        yield f"status {found.get('status', 0):#04x}, error {found.get('error', 0):#04x}, expected no error"
    for name, value in wanted.items():
        got = (outcome.registers or {}).get(name)
        if got != value:
            yield f"{name} {'none' if got is None else f'{got:#x}'}, expected {value:#x}"
    for field in ("blocks", "found"):
        yield from _equal(field, getattr(outcome, field), getattr(expect, field))


def _check_data(expected: Pattern | list[PartOfData], data: bytes) -> Iterator[str]:
    parts = expected if isinstance(expected, list) else [expected]
    for part in parts:
        start, length = 0, len(data)
        if isinstance(part, PartOfData):
            start, length = part.at, len(data) - part.at if part.length is None else part.length
        found = data[start : start + length]
        if not found:
            yield f"no data{f' at byte {start}' if start else ''}, expected {part}"
        elif (where := difference(found, part.data(length))) is not None:
            yield f"data {f'from byte {start} on ' if start else ''}{where} ({part})"


def _check_tables(expect: Expect, outcome: Outcome) -> Iterator[str]:
    if outcome.error is not None:
        return
    for name in ("config", "lifetime", "statistics"):
        wanted: Mapping[str, int | Bounds] | None = getattr(expect, name)
        if wanted is None:
            continue
        found: Mapping[str, int] = getattr(outcome, name) or {}
        for key, value in wanted.items():
            yield from _number(f"{name} {key}", found.get(key), value)
    for feature in expect.features or ():
        bit = FEATURES.get(feature) if isinstance(feature, str) else feature
        if bit not in (outcome.features or ()):
            yield f"feature {feature} was not negotiated"


def _check_violations(expect: Expect, outcome: Outcome) -> Iterator[str]:
    if outcome.violations is None:
        return
    wanted: list[str] = []
    if expect.violation is not None:
        wanted = [expect.violation] if isinstance(expect.violation, str) else expect.violation
    for clause, what in outcome.violations:
        if not any(_begins(clause, prefix) for prefix in wanted):
            yield f"violation of {clause}: {what}"
    for prefix in wanted:
        if not any(_begins(clause, prefix) for clause, _ in outcome.violations):
            yield f"expected a violation of {prefix}, none was reported"


def _begins(clause: str, prefix: str) -> bool:
    """Whether `clause` is `prefix` or lies inside it: §2.7 holds §2.7.5, not §2.71."""
    return clause == prefix or clause.startswith((f"{prefix}.", f"{prefix} "))


def _equal(name: str, found: object, wanted: object) -> Iterator[str]:
    if wanted is not None and found != wanted:
        yield f"{name} {found}, expected {wanted}"


def _number(name: str, found: int | None, wanted: int | Bounds | None) -> Iterator[str]:
    if isinstance(wanted, Bounds):
        if found is None or found < wanted.least or (wanted.most is not None and found > wanted.most):
            yield f"{name} {found}, expected {wanted}"
    else:
        yield from _equal(name, found, wanted)
