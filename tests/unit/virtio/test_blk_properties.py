"""virtio-blk against a model of the disk: any chain, any framing, several at a time, both kinds of memory.

The model works out from the specification alone what each request answers, what it does to the disk, and what
`used.len` has to be.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.virtio.blkrig import (
    ARENA,
    CONTENT,
    DISCARD,
    FLUSH,
    GET_ID,
    GET_LIFETIME,
    IN,
    IOERR,
    OK,
    OUT,
    SECTOR,
    SECURE_ERASE,
    UNSUPP,
    WRITE_ZEROES,
    BlkRig,
    Sent,
    blk,
    header,
    segment,
)
from tests.unit.virtio.dut import RUNNING
from tests.unit.virtio.model import EVENT_IDX, IN_ORDER, INDIRECT_DESC, Form, Vector
from tests.unit.virtio.packed_model import RING_PACKED
from tests.unit.virtio.plain import Kind

CAPACITY = 64
SERIAL = "a serial of 19 byte"
MAX_SEG = 4
MAX_SECTORS = 16
NOWHERE = 0x7000_0000


@dataclass
class DiskModel:
    """What the disk holds, and what a request answers: (status, data part of the writable bytes)."""

    data: bytearray
    read_only: bool = False
    forgotten: set[int] = field(default_factory=set)
    """Sectors that were discarded: what they read is not the driver's business."""

    def answer(self, request: bytes, room: int) -> tuple[int, bytes | None]:
        """None stands for zeroes."""
        if len(request) < 16:
            return IOERR, None
        kind, _, sector = struct.unpack_from("<IIQ", request)
        data = request[16:]
        if kind == IN:
            return self._read(sector, room)
        if kind == OUT:
            return self._write(sector, data), None
        if kind == FLUSH:
            return OK, None
        if kind == GET_ID:
            return OK, SERIAL.encode()[:room].ljust(room, b"\0")
        if kind in (DISCARD, WRITE_ZEROES, SECURE_ERASE):
            return self._ranges(kind, data), None
        return UNSUPP, None

    def _inside(self, sector: int, length: int) -> bool:
        return length % SECTOR == 0 and sector * SECTOR + length <= len(self.data)

    def _read(self, sector: int, room: int) -> tuple[int, bytes | None]:
        if not self._inside(sector, room):
            return IOERR, None
        return OK, bytes(self.data[sector * SECTOR :][:room])

    def _write(self, sector: int, data: bytes) -> int:
        if self.read_only or not self._inside(sector, len(data)):
            return IOERR
        self.data[sector * SECTOR : sector * SECTOR + len(data)] = data
        self.forgotten -= set(range(sector, sector + len(data) // SECTOR))
        return OK

    def _ranges(self, kind: int, data: bytes) -> int:
        if self.read_only:
            return UNSUPP
        segments = list(struct.iter_unpack("<QII", data[: len(data) // 16 * 16]))
        if any(flags & ~(kind == WRITE_ZEROES) for _, _, flags in segments):
            return UNSUPP
        if not data or len(data) % 16 or len(data) // 16 > MAX_SEG:
            return IOERR
        if any(n > MAX_SECTORS or not self._inside(at, n * SECTOR) for at, n, _ in segments):
            return IOERR
        for at, count, _ in segments:
            if kind == DISCARD:
                self.forgotten |= set(range(at, at + count))
            else:
                self.data[at * SECTOR : (at + count) * SECTOR] = bytes(count * SECTOR)
                self.forgotten -= set(range(at, at + count))
        return OK


sectors = st.one_of(
    st.integers(0, CAPACITY - 1), st.integers(CAPACITY - 2, CAPACITY + 2), st.integers(0, (1 << 64) - 1)
)
good_lengths = st.integers(0, 6).map(lambda n: n * SECTOR)
lengths = st.one_of(good_lengths, good_lengths, st.integers(0, 2000))
segments = st.lists(
    st.builds(
        segment,
        sectors,
        st.one_of(st.integers(0, MAX_SECTORS), st.integers(MAX_SECTORS, 40), st.just(0xFFFF_FFFF)),
        st.sampled_from((0, 0, 0, 1, 1, 2, 0x8000_0001)),
    ),
    max_size=MAX_SEG + 1,
).map(b"".join)
cuts = st.lists(st.integers(0, 3100), max_size=7)


@dataclass(frozen=True)
class Wish:
    """A request as bytes to read and room to write (the status byte included), and how both are cut."""

    request: bytes
    room: int
    out_cuts: list[int]
    in_cuts: list[int]
    form: Form


@st.composite
def wishes(draw: st.DrawFn) -> Wish:
    kind = draw(
        st.one_of(
            st.sampled_from((IN, OUT, IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES, SECURE_ERASE)),
            st.sampled_from((GET_LIFETIME, 2, 16)),
        )
    )
    data, room = b"", 0
    if kind == IN:
        room = draw(lengths)
    elif kind == OUT:
        length = draw(lengths)
        shift = draw(st.integers(0, 255))
        data = CONTENT[shift : shift + length]
    elif kind in (DISCARD, WRITE_ZEROES, SECURE_ERASE):
        data = draw(segments) + draw(st.sampled_from((b"", b"", b"", b"x")))
    elif kind == GET_ID:
        room = draw(st.sampled_from((20, 20, 0, 7, 40)))
    if draw(st.integers(0, 9)) == 0:
        room = draw(st.integers(0, 600)) if kind != IN else room
    request = header(kind, draw(sectors), draw(st.integers(0, 0xFFFF_FFFF))) + data
    if draw(st.integers(0, 19)) == 0:
        request = request[: draw(st.integers(0, 20))]
    form = draw(st.sampled_from(Form))
    return Wish(request, room + 1, draw(cuts), draw(cuts), form)


def place(r: BlkRig, wish: Wish) -> Sent | None:
    """Put a request into the ring, if there is room for it."""
    readable, writable = r.readable(wish.request, wish.out_cuts), r.writable(wish.room, wish.in_cuts)
    count = len(readable) + len(writable)
    form = wish.form if r.driver.has(INDIRECT_DESC) and count > 1 else Form.DIRECT
    needed = r.driver.descriptors_for(count, form)
    if needed > r.driver.free or count > r.driver.size:
        return None
    return r.place(readable, writable, form)


def check(r: BlkRig, model: DiskModel, wish: Wish, sent: Sent) -> None:
    """The answer is the model's, and `used.len` is the whole of the writable part."""
    hidden = hidden_bytes(model, wish)
    status, data = model.answer(wish.request, wish.room - 1)
    answer = r.answer(sent)
    assert answer.status == status
    assert answer.length == wish.room
    expected = bytes(wish.room - 1) if data is None else data
    if hidden:
        assert len(answer.data) == len(expected)
    else:
        assert answer.data == expected


def hidden_bytes(model: DiskModel, wish: Wish) -> bool:
    """Whether the request reads sectors whose content is undefined."""
    if len(wish.request) < 16:
        return False
    kind, _, sector = struct.unpack_from("<IIQ", wish.request)
    return kind == IN and bool(
        model.forgotten & set(range(sector, min(sector + wish.room // SECTOR, CAPACITY)))
    )


def device(kind: Kind, features_off: int = 0, *, read_only: bool = False) -> BlkRig:
    return blk(
        CAPACITY * SECTOR,
        kind=kind,
        without=features_off,
        read_only=read_only,
        serial=SERIAL,
        secure_erase=True,
        in_order=True,
        packed=True,
        seg_max=1000,
        max_discard_sectors=MAX_SECTORS,
        max_write_zeroes_sectors=MAX_SECTORS,
        max_secure_erase_sectors=MAX_SECTORS,
        max_discard_seg=MAX_SEG,
        max_write_zeroes_seg=MAX_SEG,
        max_secure_erase_seg=MAX_SEG,
    )


ring_features = st.sets(st.sampled_from((INDIRECT_DESC, EVENT_IDX, IN_ORDER, RING_PACKED))).map(sum)


@pytest.mark.long
@settings(max_examples=2 * settings().max_examples)
@given(st.lists(wishes(), min_size=1, max_size=12), st.sampled_from(Kind), ring_features, st.booleans())
def test_requests_one_by_one(wanted: list[Wish], kind: Kind, off: int, read_only: bool) -> None:
    r = device(kind, off, read_only=read_only)
    model = DiskModel(bytearray(r.disk.data), read_only)
    for wish in wanted:
        sent = place(r, wish)
        if sent is not None:
            r.go()
            check(r, model, wish, sent)
    assert r.disk.data == model.data
    assert r.device.status == RUNNING
    assert not r.sent


@pytest.mark.long
@given(st.lists(wishes(), min_size=2, max_size=12), st.sampled_from(Kind), ring_features)
def test_requests_of_one_doorbell_act_in_turn(wanted: list[Wish], kind: Kind, off: int) -> None:
    """Merged or not: on a disk that answers at once, a batch does what its requests do one after the other."""
    r = device(kind, off)
    model = DiskModel(bytearray(r.disk.data))
    placed = [(wish, sent) for wish in wanted if (sent := place(r, wish)) is not None]
    r.go()
    for wish, sent in placed:
        check(r, model, wish, sent)
    assert r.disk.data == model.data


vectors = st.lists(
    st.tuples(
        st.one_of(
            st.integers(0, 4096),
            st.sampled_from((ARENA - 8, ARENA // 2 - 8, NOWHERE, (1 << 64) - 8, 1 << 63)),
        ),
        st.one_of(st.integers(0, 600), st.sampled_from((0xFFFF_FFFF, 1 << 20))),
    ),
    max_size=5,
)


@settings(max_examples=2 * settings().max_examples)
@given(
    st.lists(st.tuples(vectors, vectors), min_size=1, max_size=6),
    st.sampled_from(Kind),
    st.binary(max_size=64),
    st.sampled_from((0, RING_PACKED)),
)
def test_chains_that_are_nonsense_do_no_harm(
    wanted: list[tuple[list[Vector], list[Vector]]], kind: Kind, junk: bytes, off: int
) -> None:
    """Parts outside memory, on top of each other, of any length: each comes back, and nothing else is written."""
    r = device(kind, off)
    r.plain.store(0, junk)
    r.plain.store(1000, header(IN))
    for readable, writable in wanted:
        if not readable and not writable:
            continue
        before = r.plain.copy()
        sent = r.place(readable, writable)
        room = sum(length for _, length in writable)
        total = room + sum(length for _, length in readable)
        too_long = total > 1 << 32 if off else room > 0xFFFF_FFFF
        allowed = [range(r.plain.blocks[0].base, r.plain.blocks[0].end)]
        allowed += [range(address, address + length) for address, length in writable]
        r.go()
        if too_long:
            assert r.device.status != RUNNING
            return
        assert sent.length is not None
        assert sent.length in (0, room)
        changed = r.plain.differences(before)
        assert all(any(address in span for span in allowed) for address in changed)
    assert r.device.status == RUNNING
    assert not r.device.queues[0].in_flight
