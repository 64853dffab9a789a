"""virtio-scsi under any driver: whatever is sent comes back once, and nothing is written that may not be.

Commands with good and bad CDBs, LUNs, lengths and framing; requests of the control queue; event buffers; units that
come and go; sizes that change: in any order, over each kind of memory.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from devmodels.scsi.disk import Disk
from tests.unit.virtio.dut import NEEDS_RESET
from tests.unit.virtio.model import IN_ORDER
from tests.unit.virtio.packed_model import RING_PACKED
from tests.unit.virtio.plain import Kind
from tests.unit.virtio.scsirig import (
    CONTROL,
    EVENT,
    REQUEST,
    RING,
    RING_STEP,
    S_FAILURE,
    S_OK,
    ScsiRig,
    lun_of,
    scsi,
)

BLOCKS = 32
PLACES = ((0, 0), (0, 300), (7, 1))

luns = st.one_of(
    st.sampled_from(PLACES).map(lambda place: lun_of(*place)),
    st.sampled_from(
        (lun_of(0, 1), lun_of(9), bytes(8), bytes((0xC1, 1)) + bytes(6), bytes((1, 0, 0xC1, 1)) + bytes(4))
    ),
    st.binary(min_size=8, max_size=8),
)
lbas = st.one_of(st.integers(0, BLOCKS), st.integers(0, (1 << 64) - 1))
counts = st.one_of(st.integers(0, 4), st.integers(0, 0xFFFF_FFFF))
rw = st.sampled_from((0x88, 0x8A, 0x8E, 0x89, 0x93, 0x91, 0x8F))
sixteen = st.builds(
    lambda op, flags, lba, count: struct.pack(">BBQIxx", op, flags, lba, count),
    rw,
    st.sampled_from((0, 0, 0, 8, 0xFF)),
    lbas,
    counts,
)
ten = st.builds(
    lambda op, lba, count: struct.pack(">BxIxHx", op, lba & 0xFFFF_FFFF, count & 0xFFFF),
    st.sampled_from((0x28, 0x2A, 0x2E, 0x2F, 0x35, 0x41, 0x42, 0x55, 0x5A, 0x5E, 0x5F)),
    lbas,
    counts,
)
six = st.builds(
    lambda op, page, length: bytes((op, page & 1, page >> 8, 0, length, 0)),
    st.sampled_from((0x00, 0x03, 0x12, 0x15, 0x1A, 0x1B)),
    st.integers(0, 0xFFFF),
    st.integers(0, 255),
)
cdbs = st.one_of(sixteen, ten, six, st.binary(max_size=32))
lengths = st.one_of(st.integers(0, 4).map(lambda n: 512 * n), st.integers(0, 1500))
cuts = st.lists(st.integers(0, 1700), max_size=5)


@dataclass(frozen=True)
class Command:
    """A header with `given` bytes of data, and `room` for more, both cut anywhere."""

    lun: bytes
    cdb: bytes
    given: int
    room: int
    cuts: list[int]
    attribute: int

    def place(self, r: ScsiRig) -> int:
        r.tag += 1
        header = self.lun + struct.pack("<QBBB", r.tag, self.attribute, 0, 0) + self.cdb.ljust(32, b"\0")
        r.place(
            REQUEST, r.readable(header + bytes(self.given), self.cuts), r.writable(108 + self.room, self.cuts)
        )
        return REQUEST


@dataclass(frozen=True)
class Raw:
    """Any bytes in any queue."""

    queue: int
    data: bytes
    room: int
    cuts: list[int]

    def place(self, r: ScsiRig) -> int:
        r.place(
            self.queue, r.readable(self.data, self.cuts), r.writable(self.room or not self.data, self.cuts)
        )
        return self.queue


@dataclass(frozen=True)
class Control:
    """A request of the control queue, perhaps too short."""

    kind: int
    function: int
    lun: bytes
    missing: int
    room: int

    def place(self, r: ScsiRig) -> int:
        request = struct.pack("<II", self.kind, self.function) + self.lun + bytes(8)
        r.place(CONTROL, r.readable(request[: len(request) - self.missing]), r.writable(self.room))
        return CONTROL


@dataclass(frozen=True)
class EventBuffer:
    """A buffer for events, perhaps one that the device may read."""

    room: int
    readable: bytes

    def place(self, r: ScsiRig) -> int:
        r.place(EVENT, r.readable(self.readable) if self.readable else [], r.writable(max(1, self.room)))
        return EVENT


@dataclass(frozen=True)
class Plug:
    """A unit comes, or goes where it is there."""

    target: int
    lun: int

    def happen(self, r: ScsiRig) -> None:
        bus = r.device.bus
        if self.target in bus.targets and self.lun in bus.targets[self.target].units:
            r.device.unplug(self.target, self.lun)
        else:
            r.plug(self.target, self.lun, BLOCKS * 512)


@dataclass(frozen=True)
class Size:
    """The driver asks for a `sense_size` or `cdb_size`; it takes the usual one in the end."""

    offset: int
    value: int

    def happen(self, r: ScsiRig) -> None:
        r.device.store_config(self.offset, 4, self.value)
        assert r.device.load_config(20, 4) < 1 << 16
        assert r.device.load_config(24, 4) < 256
        r.device.store_config(20, 4, 96)
        r.device.store_config(24, 4, 32)


@dataclass(frozen=True)
class Resize:
    """The disk has another size."""

    target: int
    lun: int
    blocks: int

    def happen(self, r: ScsiRig) -> None:
        unit = r.device.bus.targets[self.target].units[self.lun]
        assert isinstance(unit, Disk)
        r.device.context.start(unit.backend.resize(self.blocks * 512))


Buffer = Command | Raw | Control | EventBuffer
Step = Buffer | Plug | Size | Resize

commands = st.builds(Command, luns, cdbs, lengths, lengths, cuts, st.integers(0, 5))
steps = st.one_of(
    commands,
    commands,
    commands,
    st.builds(Raw, st.sampled_from((REQUEST, CONTROL)), st.binary(max_size=80), st.integers(0, 200), cuts),
    st.builds(Control, st.integers(0, 3), st.integers(0, 9), luns, st.integers(0, 4), st.integers(0, 6)),
    st.builds(EventBuffer, st.integers(0, 20), st.sampled_from((b"", b"", b"x"))),
    st.sampled_from((Plug(0, 5), Plug(3, 0), Plug(7, 2))),
    st.builds(Size, st.sampled_from((20, 24)), st.one_of(st.integers(0, 300), st.integers(0, 0xFFFF_FFFF))),
    st.sampled_from(PLACES).flatmap(
        lambda place: st.builds(Resize, st.just(place[0]), st.just(place[1]), st.integers(1, 2 * BLOCKS))
    ),
)


def check(r: ScsiRig, step: Step) -> None:
    """Let it happen: only rings and what the device was given to write have changed."""
    rings = (RING, RING_STEP * len(r.device.queues))
    seen = len(r.order)
    if isinstance(step, Plug | Size | Resize):
        before = r.plain.copy()
        step.happen(r)
        r.settle()
    else:
        queue = step.place(r)
        before = r.plain.copy()
        r.go(queue)
        assert not int(r.device.status) & NEEDS_RESET
        assert [each for each in r.sent if each.queue != EVENT] == [], "a request has not come back"
    back = r.order[seen:]
    places = [rings, *(vector for each in back for vector in each.writable)]
    for address in r.plain.differences(before):
        assert any(base <= address < base + length for base, length in places), hex(address)
    for sent in back:
        assert sent.length is not None
        assert sent.length <= sum(length for _, length in sent.writable)


@given(
    st.sampled_from(Kind),
    st.sampled_from((0, RING_PACKED, IN_ORDER)),
    st.lists(steps, min_size=1, max_size=12),
)
def test_whatever_is_sent_comes_back_and_nothing_else_is_written(
    kind: Kind, features: int, wanted: list[Step]
) -> None:
    options = {"packed": bool(features & RING_PACKED), "in_order": bool(features & IN_ORDER)}
    r = scsi(*PLACES, kind=kind, size=BLOCKS * 512, ring=32, **options)
    for step in wanted:
        check(r, step)


@given(st.sampled_from(Kind), st.lists(st.tuples(luns, cdbs, lengths, lengths), min_size=1, max_size=8))
def test_a_well_formed_command_has_a_well_formed_answer(
    kind: Kind, commands: list[tuple[bytes, bytes, int, int]]
) -> None:
    r = scsi(*PLACES, kind=kind, size=BLOCKS * 512)
    for lun, cdb, given_, room in commands:
        answer = r.send(cdb, bytes(given_), room, lun=lun)
        assert answer.response <= S_FAILURE
        assert answer.padding.strip(b"\0") == b""
        assert answer.length >= 108
        if answer.response == S_OK:
            assert answer.residual <= given_ + room
            assert bool(answer.sense) == (answer.status == 0x02)
            moved_in = answer.length - 108
            assert moved_in <= room - max(0, answer.residual - given_)
        else:
            assert answer.sense == b""
