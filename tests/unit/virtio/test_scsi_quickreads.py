"""READs that are answered as they come are answered as all others are, whatever stands in their way."""

from __future__ import annotations

import struct
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devmodels.iocontext import Event
from devmodels.scsi.asc import Asc
from devmodels.scsi.disk import Disk
from devmodels.virtio_scsi import quickreads
from tests.unit.virtio.plain import Kind
from tests.unit.virtio.scsirig import S_OK, ScsiRig, Sent, lun_of, read_10, scsi, write_10

BLOCKS = 64
STEPS = 6
UNITS = ((0, 0), (0, 300))
CHANGES = (
    "attention",
    "reserve",
    "release",
    "eject",
    "load",
    "descriptors",
    "fail",
    "heal",
    "sizes",
    "resize",
)


def rarely(random: Random, usual: int, *others: int) -> int:
    """Mostly the usual number."""
    return usual if random.random() < 0.9 else random.choice(others)


def read(random: Random, r: ScsiRig) -> Sent:
    """Start a READ, mostly a plain one, with its room cut somewhere."""
    flags, control = rarely(random, 0, 0x10, 0x08, 0x04, 0x01, 0x20), rarely(random, 0, 4)
    lba, blocks = rarely(random, random.randrange(BLOCKS), 0xFFFF_FFFF, BLOCKS), random.choice((1, 1, 2, 4))
    room = max(0, blocks * 512 + rarely(random, 0, 512, 100, -100, -512))
    if random.random() < 0.5:
        cdb = struct.pack(">BBQIBB", 0x88, flags, lba, blocks, 0, control)
    else:
        cdb = struct.pack(">BBIBHB", 0x28, flags, lba, 0, rarely(random, blocks, 0, 0xFFFF), control)
    cuts = [108, *(random.randrange(1, 2200) for _ in range(random.choice((0, 0, 0, 1, 2))))]
    lun = lun_of(*random.choice(UNITS)) if random.random() < 0.3 else lun_of()
    attribute = rarely(random, 0, 1, 2, 3)
    return r.start(cdb, room=room, lun=lun, attribute=attribute, cuts=((51,), cuts))


def write(random: Random, r: ScsiRig) -> Sent:
    """Start a write of a block."""
    lba = random.randrange(BLOCKS)
    return r.start(write_10(lba, 1), random.randbytes(512), attribute=random.choice((0, 0, 1, 2)))


def change(random: Random, r: ScsiRig) -> None:
    """Something stands in the way of reads, or no longer."""
    unit = r.device.bus.targets[0].units[0]
    assert isinstance(unit, Disk)
    match random.choice(CHANGES):
        case "attention":
            unit.establish(Asc.CAPACITY_DATA_CHANGED)
        case "reserve":
            r.send(bytes((0x16, 0, 0, 0, 0, 0)))
        case "release":
            r.send(bytes((0x17, 0, 0, 0, 0, 0)))
        case "eject":
            unit.eject()
        case "load":
            unit.load()
        case "descriptors":
            r.send(bytes((0x15, 0x10, 0, 0, 16, 0)), bytes(4) + bytes.fromhex("0a 0a 04 10 00 00" + "00" * 6))
        case "fail":
            r.disk.bad_sectors.add(random.randrange(BLOCKS))
        case "heal":
            r.disk.bad_sectors.clear()
        case "sizes":
            r.device.store_config(24, 4, 16)
            r.device.store_config(24, 4, 32)
        case "resize":
            r.device.context.start(unit.backend.resize(512 * random.choice((BLOCKS - 8, BLOCKS))))
            r.settle()


def play(seed: int, kind: Kind, *, packed: bool) -> list[object]:
    """Everything that a driver, or whoever counts, sees of what comes of `seed`."""
    random = Random(seed)
    r = scsi(*UNITS, kind=kind, size=BLOCKS * 512, packed=packed, ring=128)
    for lun in UNITS:
        r.ready(lun_of(*lun))
    seen: list[object] = []
    for _ in range(STEPS):
        if random.random() < 0.2:
            change(random, r)
        sent = [(read if random.random() < 0.9 else write)(random, r) for _ in range(random.randrange(1, 8))]
        r.go()
        seen += [r.answer(each) for each in sent]
    for unit in r.device.bus.targets[0].units.values():
        assert isinstance(unit, Disk)
        stats = unit.backend.stats
        seen.append((stats.rd_operations, stats.rd_bytes, stats.wr_operations, stats.failed_rd_operations))
    return [*seen, r.clauses, bytes(r.disk.data)]


@given(st.integers(0, 2**64 - 1), st.sampled_from((Kind.SHARED, Kind.SHARED, *Kind)), st.booleans())
def test_they_are_as_all_others(seed: int, kind: Kind, packed: bool) -> None:
    quick = play(seed, kind, packed=packed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quickreads, "read_now", lambda *_: 0)
        assert play(seed, kind, packed=packed) == quick


def test_they_are_answered_without_a_task() -> None:
    r = scsi()
    r.ready()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(r.device, "frame", None)
        for lba in range(4):
            r.start(read_10(lba, 2), room=1024, cuts=((51,), (108, 620)))
        r.go()
    answers = [r.answer(sent) for sent in r.order[-4:]]
    assert [answer.response for answer in answers] == [S_OK] * 4
    assert [answer.data for answer in answers] == [r.disk.data[at : at + 1024] for at in range(0, 2048, 512)]


@pytest.mark.parametrize("attribute", [1, 2])
def test_they_wait_for_what_is_before_them(attribute: int) -> None:
    r = scsi()
    r.ready()
    r.disk.gate = gate = Event(r.device.context)
    first = r.start(write_10(0, 1), bytes(512), attribute=attribute)
    r.go()
    r.disk.gate = None
    second = r.start(read_10(0, 1), room=512, cuts=((51,), (108,)))
    r.go()
    assert (first.length, second.length) == (None, None)
    gate.set()
    r.settle()
    assert r.answer(second).data == bytes(512)
