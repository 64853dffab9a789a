"""What is known of an event, and how it is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from devmodels.scsi.constants import SenseKey
from devmodels.trace import NO_DISC, EventKind, TraceEvent
from devmodels.tracefile import DeviceFacts
from devmodels.virtio_blk.layout import SECTOR
from guestsim.forms import BLK, CONTROL, CommandForm, Form
from guestsim.show import names, scsi
from guestsim.show.decode import Field, as_text, some_bytes
from guestsim.show.places import Spot, Taken, compact

_MESSAGE = 0x1_0000
"""From here on, an interrupt's first number is the address of a message, not a line."""
_SHOWN = 8
"""Of more buffers only the first ones are named."""


class Seen:
    """What is known of an event.  Read it before the next one is given to the describer.

    `device` and `queue` are those it concerns, `requests` the numbers of the buffers (as `guestsim.story` counts them),
    `head` one buffer's, and `taken` that buffer; `registers` are names of what an access reaches; `place` is what lies
    at an address of memory; `fields` are its bytes or value by field.
    """

    __slots__ = (
        "device",
        "event",
        "fields",
        "head",
        "place",
        "possible",
        "queue",
        "registers",
        "requests",
        "scsi",
        "taken",
        "title",
    )

    def __init__(self, event: TraceEvent, *, possible: bool = True) -> None:
        """`possible`: its numbers are those of its kind."""
        self.event = event
        self.possible = possible
        self.device: str | None = event.source
        self.queue: int | None = None
        self.head: int | None = None
        self.requests: tuple[int, ...] = ()
        self.registers: Sequence[str] = ()
        self.fields: Sequence[Field] = ()
        self.taken: Taken | None = None
        self.place = ""
        self.title = ""
        """What only this event has, in words."""
        self.scsi = False
        """Whether it is a SCSI host's."""

    @property
    def text(self) -> str:
        """The event in words, without its number, time, source and kind."""
        if not self.possible:
            return f"{_say_detail(self)} (not what such an event has)".lstrip()
        kind = self.event.kind
        return _ALWAYS.get(kind) or _SAY.get(kind, _say_detail)(self)


def device_words(facts: DeviceFacts) -> str:
    """A device: its options as a user gives them, and its disk."""
    options = dict(facts.options)
    what = options.pop("driver", None) or options.pop("type", None) or facts.kind
    shown = " ".join(f"{name}={_option(value)}" for name, value in options.items() if value is not None)
    if facts.host:
        shown = f"on {facts.host} {shown}"
    disk = facts.disk
    if disk is None:
        return f"{what} {shown}".rstrip()
    if disk.disc == NO_DISC:
        return f"{what} {shown}; {scsi.disc_words(disk.disc)}"
    limits = [
        "read-only" if disk.read_only else "",
        "can unmap" if disk.can_unmap else "",
        "" if disk.write_cache else "writes through",
    ]
    words = ", ".join([disk.node_name, names.size(disk.size), *filter(None, limits)])
    return f"{what} {shown}; disk {words}"


def _option(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def request_words(taken: Taken) -> str:
    """What a buffer asks for: `OUT 4 KiB at sector 8`, `READ (10) 8 blocks at LBA 64 of 0:3`."""
    if taken.form is not BLK:
        return form_words(taken.form, bytes(taken.header))
    if taken.kind is None:
        return ""
    kind = names.blk_type(taken.kind)
    length = {"IN": taken.writable - 1, "OUT": taken.readable - 16}.get(kind)
    return kind if length is None else f"{kind} {names.size(length)} at sector {taken.sector}"


def form_words(form: Form, head: bytes) -> str:
    """What a buffer of a SCSI host asks for."""
    if isinstance(form, CommandForm):
        return scsi.request_words(form, head)
    return scsi.control_words(head) if form is CONTROL else "event buffer"


def spot_words(spot: Spot, data: bytes) -> str:
    """What was read or written, before its fields: `queue 0 avail`, `#3 header`."""
    if spot.words:
        return spot.words
    where = f"queue {spot.queue} {spot.title}"
    if spot.taken is not None:
        where = f"{spot.title}"
        if spot.role == "data" and not spot.fields:
            return f"{where}: {some_bytes(data)}"
    if len(spot.fields) > 4 and spot.fields[0].name.endswith("addr"):
        packed = spot.fields[3].name.endswith("flags")
        return f"{where}: {compact(data, packed=packed)}"
    if len(spot.fields) == 1 and spot.fields[0].name == spot.title:
        return f"{where} {spot.fields[0].text}"
    return f"{where}: {as_text(spot.fields)}"


def _say_detail(seen: Seen) -> str:
    """An event of which nothing more is known."""
    shown = (some_bytes(each) if isinstance(each, bytes) else str(each) for each in seen.event.detail)
    return " ".join(shown)


def _numbers(seen: Seen) -> str:
    """The buffers that an event concerns; of many, the first ones."""
    requests = seen.requests
    shown = " ".join(f"#{number}" for number in requests[:_SHOWN])
    return f"{shown} and {len(requests) - _SHOWN} more" if len(requests) > _SHOWN else shown


def _ints(seen: Seen) -> list[int]:
    """The event's detail, where it is numbers alone."""
    return [int(number) for number in seen.event.detail]


def _say_title(seen: Seen) -> str:
    return seen.title or _say_detail(seen)


def _say_access(seen: Seen) -> str:
    """An access: the registers, with their values where it has any."""
    address, size, *value = _ints(seen)
    where = f"{seen.device} " if seen.device is not None else ""
    if seen.fields:
        return where + ", ".join(f"{field.name} = {field.text}" for field in seen.fields)
    if seen.registers and not value:
        return where + ", ".join(seen.registers)
    rest = f" = {value[0]:#x}" if value else ""
    return f"{address:#x}+{size}{rest}"


def _say_memory(seen: Seen) -> str:
    numbers = _ints(seen)
    regions = [
        f"{base:#x}+{names.size(size)}{' read-only' if readonly else ''}"
        for base, size, readonly in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=False)
    ]
    return ", ".join(regions) or "none"


def _say_queue(seen: Seen) -> str:
    queue, size, desc, driver, device, avail, used = _ints(seen)
    packed = seen.title == "packed"
    start = f"{names.position(avail)} and {names.position(used)}" if packed else f"{avail} and {used}"
    parts = (
        "descriptors {:#x}, driver event {:#x}, device event {:#x}"
        if packed
        else "desc {:#x}, avail {:#x}, used {:#x}"
    )
    return f"queue {queue}: {seen.title}, {size} entries, {parts.format(desc, driver, device)}, from {start}"


def _say_moved(seen: Seen) -> str:
    queue, *parts = _ints(seen)
    return f"queue {queue}: {' '.join(map(hex, parts))}"


def _say_again(seen: Seen) -> str:
    queue, *heads = _ints(seen)
    return f"queue {queue}: {' '.join(map(str, heads)) or 'none'}"


def _say_of_queue(seen: Seen) -> str:
    queue = f"queue {seen.queue}"
    return f"{queue}: {seen.title}" if seen.title else queue


def _say_enable(seen: Seen) -> str:
    queue, on = _ints(seen)
    return f"queue {queue}: {'taken from' if on else 'not taken from'}"


def _say_reset(seen: Seen) -> str:
    return "the device" if seen.queue is None else f"queue {seen.queue}"


def _say_chain(seen: Seen) -> str:
    queue, head, readable, *numbers = _ints(seen)
    pieces = list(zip(numbers[::2], numbers[1::2], strict=True))
    shown = [
        f"{'<' if index >= readable else ''}{address:#x}+{length}"
        for index, (address, length) in enumerate(pieces)
    ]
    return f"{_numbers(seen)} queue {queue} head {head}: {' '.join(shown)}"


def _say_used(seen: Seen) -> str:
    queue, head, written = _ints(seen)
    what = f" ({seen.title})" if seen.title else ""
    return f"{_numbers(seen)} queue {queue} head {head}: {written} written{what}".lstrip()


def _say_notify(seen: Seen) -> str:
    if seen.queue is None:
        return "configuration change"
    return f"queue {seen.queue}: {_numbers(seen)}" if seen.requests else f"queue {seen.queue}"


def _say_dma(seen: Seen) -> str:
    address, data = seen.event.detail
    assert isinstance(data, bytes)
    if not seen.title:
        return f"{int(address):#x}: {some_bytes(data)}"
    who = _numbers(seen) or seen.device
    return f"{who} {seen.title}"


def _disk_range(seen: Seen) -> str:
    """What a block request does where."""
    _, op, offset, length, *_ = seen.event.detail
    return _range(op, int(offset), int(length))


def _range(op: object, offset: int, length: int) -> str:
    if op == "FLUSH":
        return str(op)
    where = f"sector {offset // SECTOR}" if offset % SECTOR == 0 else f"byte {offset}"
    return f"{op!s} {names.size(length)} at {where}"


def _say_request(seen: Seen) -> str:
    number, _, _, _, queue, head = seen.event.detail
    who = _numbers(seen) or ("by itself:" if queue == -1 else f"queue {int(queue)} head {int(head)}")
    return f"{who} request {int(number)}: {_disk_range(seen)}"


def _say_dispatch(seen: Seen) -> str:
    number, _, _, _, bits, _, *served = seen.event.detail
    flags = f" {names.request_flags(int(bits))}" if bits else ""
    what = "request" if len(served) == 1 else "requests"
    shown = " ".join(str(int(each)) for each in served)
    return f"{_numbers(seen)} dispatch {int(number)}: {_disk_range(seen)}{flags}, for {what} {shown}".lstrip()


def _say_done(seen: Seen) -> str:
    number, error, _, data = seen.event.detail
    assert isinstance(data, bytes)
    got = f", {some_bytes(data)}" if data else ""
    return f"{_numbers(seen)} dispatch {int(number)}: {names.error(int(error))}{got}".lstrip()


def _say_update(seen: Seen) -> str:
    number, at, digest, data = seen.event.detail
    assert isinstance(data, bytes)
    then = "nothing is to be written" if digest == -1 else "other data is to be written"
    return f"{_numbers(seen)} dispatch {int(number)}: {some_bytes(data)} at byte {int(at)}, {then}".lstrip()


def _say_saved(seen: Seen) -> str:
    return f"what the unit keeps: {names.error(int(seen.event.detail[0]))}"


def _say_medium(seen: Seen) -> str:
    return "loaded" if seen.event.detail[0] else "taken out"


def _say_attention(seen: Seen) -> str:
    return f"the unit below: {scsi.sense_words(SenseKey.UNIT_ATTENTION << 16 | int(seen.event.detail[0]))}"


def _say_disc(seen: Seen) -> str:
    return scsi.disc_words(str(seen.event.detail[0]))


def _say_tray(seen: Seen) -> str:
    return scsi.tray_words(int(seen.event.detail[0]))


def _say_completion(seen: Seen) -> str:
    number, error = _ints(seen)
    return f"{_numbers(seen)} request {number}: {names.error(error)}".lstrip()


def _say_node_begin(seen: Seen) -> str:
    step, dispatch, above, node, driver, op, offset, length, _ = seen.event.detail
    where = f"step {int(step)} of dispatch {int(dispatch)}"
    if int(above) >= 0:
        where += f" below {int(above)}"
    what = _range(op, int(offset), int(length))
    return f"{_numbers(seen)} {where}: {node!s} ({driver!s}): {what}".lstrip()


def _say_node_end(seen: Seen) -> str:
    step, error = _ints(seen)
    node = f": {seen.title}" if seen.title else ""
    return f"{_numbers(seen)} step {step}{node}: {names.error(error)}".lstrip()


def _say_size(seen: Seen) -> str:
    size, can_unmap, *_ = _ints(seen)
    return f"{names.size(size)}, {'can' if can_unmap else 'cannot'} unmap"


def _say_quiesce(seen: Seen) -> str:
    return "requests wait" if seen.event.detail[0] else "requests go on"


def _say_run_state(seen: Seen) -> str:
    return "running" if seen.event.detail[0] else "stopped"


def _say_fault(seen: Seen) -> str:
    address, length, write, at, missing, reason = seen.event.detail
    how = "write" if write else "read"
    where = f"{how} of {int(length)} bytes at {int(address):#x}"
    return f"{where}: {int(missing)} bytes from {int(at):#x} on are not there: {reason!s}"


def _say_interrupt(seen: Seen) -> str:
    first, second = _ints(seen)
    what = (
        f"message {second:#x} to {first:#x}"
        if first >= _MESSAGE
        else f"line {first} {'up' if second else 'down'}"
    )
    return f"{what}: {_numbers(seen)}" if seen.requests else what


def _say_violation(seen: Seen) -> str:
    clause, place, summary, data = seen.event.detail
    assert isinstance(data, bytes)
    shown = f" [{data.hex(' ')}]" if data else ""
    return f"{place!s}: {summary!s} ({clause!s}){shown}"


def _say_features(seen: Seen) -> str:
    bits = int(seen.event.detail[0])
    return f"{bits:#x} {names.features(bits, scsi=seen.scsi)}"


def _say_config(seen: Seen) -> str:
    return as_text(seen.fields) or _say_detail(seen)


_ALWAYS = {
    EventKind.DRIVER_RESET: "by the driver",
    EventKind.TIMER: "goes off",
    EventKind.DELIVER: "interrupts raised outside accesses",
    EventKind.SERVING: "whoever is interrupted accesses devices",
    EventKind.SERVED: "whoever was interrupted has returned",
}
"""What there is to be said of each event of a kind."""

_SAY: dict[EventKind, Callable[[Seen], str]] = {
    EventKind.DEVICE: _say_title,
    EventKind.ACCESS_READ: _say_access,
    EventKind.ACCESS_VALUE: _say_access,
    EventKind.ACCESS_WRITE: _say_access,
    EventKind.MEMORY: _say_memory,
    EventKind.FEATURES: _say_features,
    EventKind.CONFIG_READ: _say_config,
    EventKind.CONFIG_WRITE: _say_config,
    EventKind.AGAIN: _say_again,
    EventKind.QUEUE: _say_queue,
    EventKind.ENABLE: _say_enable,
    EventKind.MOVED: _say_moved,
    EventKind.KICK: _say_of_queue,
    EventKind.LOOK: _say_of_queue,
    EventKind.STOP: _say_of_queue,
    EventKind.RESET: _say_reset,
    EventKind.CHAIN: _say_chain,
    EventKind.USED: _say_used,
    EventKind.NOTIFY: _say_notify,
    EventKind.DMA_READ: _say_dma,
    EventKind.DMA_WRITE: _say_dma,
    EventKind.REQUEST: _say_request,
    EventKind.DISPATCH: _say_dispatch,
    EventKind.UPDATE: _say_update,
    EventKind.DONE: _say_done,
    EventKind.SAVED: _say_saved,
    EventKind.MEDIUM: _say_medium,
    EventKind.ATTENTION: _say_attention,
    EventKind.DISC: _say_disc,
    EventKind.TRAY: _say_tray,
    EventKind.COMPLETION: _say_completion,
    EventKind.NODE_BEGIN: _say_node_begin,
    EventKind.NODE_END: _say_node_end,
    EventKind.SIZE: _say_size,
    EventKind.QUIESCE: _say_quiesce,
    EventKind.RUN_STATE: _say_run_state,
    EventKind.FAULT: _say_fault,
    EventKind.INTERRUPT: _say_interrupt,
    EventKind.VIOLATION: _say_violation,
}
