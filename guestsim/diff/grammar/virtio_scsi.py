"""Random sequences for a virtio SCSI host with a disk on it (VIRTIO 1.4 §5.6, SPC-4, SBC-4)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

from guestsim.diff.access import Read, Step, Write
from guestsim.diff.grammar import Action, virtio_scsi_table
from guestsim.diff.grammar.registers import Registers
from guestsim.diff.grammar.virtio import InFlight, Submit
from guestsim.diff.grammar.virtio_actions import Actions, ActionTable, Held, split
from guestsim.diff.grammar.virtio_chains import Chain, Piece, Unequal
from guestsim.diff.grammar.virtio_driver import Lowering
from guestsim.diff.grammar.virtio_rings import Queue
from guestsim.drivers import cdb
from guestsim.drivers.cdb import Cdb
from guestsim.drivers.layouts import Feature
from guestsim.drivers.scsi_layouts import (
    ASYNC,
    CDB_SIZE,
    COMMAND,
    CONTROL_QUEUE,
    FIRST_REQUEST_QUEUE,
    RESPONSE,
    SCSI_CONFIG,
    SENSE_SIZE,
    TMF,
    ControlType,
    ScsiFeature,
    TaskAttribute,
    Tmf,
    lun_bytes,
)

QUEUES = 4
"""Control, events, and two for requests."""
SECTORS = 2048
ZONES = 8
HEAD = RESPONSE.size + SENSE_SIZE
STATUS_AT = 10
SENSE_AT = RESPONSE.size
FIXED = 18
"""Bytes of sense data in the fixed format (SPC-4 §4.5.3)."""

FEATURES = (
    *(1 << bit for bit in (ScsiFeature.HOTPLUG, ScsiFeature.CHANGE)),
    *(1 << bit for bit in (Feature.INDIRECT_DESC, Feature.EVENT_IDX, Feature.RING_RESET)),
)
ALL = sum(FEATURES) | 1 << Feature.VERSION_1
GENERAL = Actions(QUEUES, FEATURES, ALL, sizes=(8, 16, 64, 128))


class VirtioScsiGrammar:
    """Actions for a virtio SCSI host, in random order."""

    def sequence(self, random: Random, length: int) -> list[Action]:
        """Bring it up, then `length` - 1 actions of any kind."""
        makers, weights = zip(*ACTIONS, strict=True)
        chosen = random.choices(makers, weights, k=length - 1)
        return [GENERAL.bring_up(random), *(maker(random) for maker in chosen)]

    def lower(self, actions: Sequence[Action]) -> list[Step]:
        """Their steps."""
        driver = Lowering([Queue(number) for number in range(QUEUES)], control=CONTROL_QUEUE)
        return [driver.step(action) for action in actions]


def submit(random: Random) -> Submit:
    """One command or several with one notification."""
    count = random.choice((1, 1, 1, 1, 2, 3))
    zones = random.sample(range(ZONES), count)
    queue = random.randrange(FIRST_REQUEST_QUEUE, QUEUES)
    chains = tuple(command(random, zone) if count == 1 else transfer(random, zone) for zone in zones)
    return Submit(queue, chains, queue)


def control(random: Random) -> Submit:
    """A request of the control queue (§5.6.6.2): nothing is under way that it could end."""
    lun = lun_bytes(*random.choice(((0, 0), (0, 0), (0, 1), (1, 0), (255, 0))))
    if random.random() < 0.2:
        kind = random.choice((ControlType.AN_QUERY, ControlType.AN_SUBSCRIBE))
        data = ASYNC.pack(kind, lun, random.choice((0, 2, 0xFFFFFFFF)))
        return Submit(
            CONTROL_QUEUE, (Chain("asynchronous", (Piece(len(data), data), Piece(5))),), CONTROL_QUEUE
        )
    ends = (Tmf.LOGICAL_UNIT_RESET, Tmf.I_T_NEXUS_RESET)
    function = random.choice(
        [*(one for one in Tmf if one not in ends), *(ends if random.random() < 0.1 else ())]
    )
    return task(function, lun, random.randrange(4))


def task(function: Tmf, lun: bytes, tag: int) -> Submit:
    """One task management function."""
    data = TMF.pack(ControlType.TMF, function, lun, tag)
    chain = Chain(f"tmf:{function.name.lower()}", (Piece(len(data), data), Piece(1)))
    return Submit(CONTROL_QUEUE, (chain,), CONTROL_QUEUE)


# --- commands


def place(random: Random, zone: int, most: int) -> tuple[int, int]:
    """First block and number of blocks in a zone; rarely beyond the disk's end."""
    if random.random() < 0.05:
        return random.choice((SECTORS - 1, SECTORS, SECTORS + 1, (1 << 32) - 1)), random.randint(2, most)
    room = SECTORS // ZONES
    count = random.randint(1, most)
    return zone * room + random.randint(0, room - count), count


READS: tuple[Callable[..., Cdb], ...] = (cdb.read_10, cdb.read_12, cdb.read_16)
WRITES: tuple[Callable[..., Cdb], ...] = (cdb.write_10, cdb.write_12, cdb.write_16)


def transfer(random: Random, zone: int) -> Chain:
    """A read or a write."""
    return read(random, zone) if random.random() < 0.5 else write(random, zone)


def read(random: Random, zone: int) -> Chain:
    """A read."""
    lba, blocks = place(random, zone, 16)
    return made(random, "read", random.choice(READS)(lba=lba, blocks=blocks))


def write(random: Random, zone: int) -> Chain:
    """A write."""
    lba, blocks = place(random, zone, 16)
    word = bytes([random.randrange(256), random.randrange(256)])
    wanted = random.choice(WRITES)(lba=lba, blocks=blocks)
    return made(random, "write", wanted, word * (wanted.out // 2))


def command(random: Random, zone: int) -> Chain:
    """A command of any kind."""
    kinds, weights = zip(*COMMANDS, strict=True)
    chain: Chain = random.choices(kinds, weights)[0](random, zone)
    return chain


def made(
    random: Random,
    name: str,
    wanted: Cdb,
    out: bytes = b"",
    *,
    lun: tuple[int, int] = (0, 0),
    certain: int | None = None,
) -> Chain:
    """A command's chain; only the first `certain` bytes of its data are the same for all units, or all."""
    attribute = TaskAttribute.SIMPLE
    if random.random() < 0.1:
        attribute = random.choice((TaskAttribute.ORDERED, TaskAttribute.HEAD))
    head = COMMAND.pack(lun_bytes(*lun), random.randrange(1 << 32), attribute, 0, 0)
    head += wanted.data.ljust(CDB_SIZE, b"\0")
    pieces = [Piece(len(head), head)]
    if out:
        pieces += split(random, len(out), out)
    pieces.append(Piece(HEAD))
    if wanted.room:
        pieces += split(random, wanted.room)
    loose = [
        Unequal("residual", 4, 4, STATUS_AT),
        Unequal("sense-rest", SENSE_AT, FIXED, STATUS_AT, good=True),
        *(Unequal("sense-detail", SENSE_AT + at, length) for at, length in ((0, 1), (3, 4), (15, 3))),
        Unequal("sense-rest", SENSE_AT + FIXED, SENSE_SIZE - FIXED),
    ]
    if wanted.room:
        loose.append(Unequal("failed-data", HEAD, wanted.room, STATUS_AT))
    if wanted.room and certain is not None:
        certain = min(certain, wanted.room)
        reason = "data-rest" if name in ("report-luns", "request-sense") else "identity"
        loose += [Unequal(reason, HEAD + certain, wanted.room - certain), Unequal(reason, 4, 4)]
    return Chain(
        name,
        tuple(pieces),
        indirect=random.random() < 0.3,
        traits=() if attribute == TaskAttribute.SIMPLE else ("not-simple",),
        loose=tuple(loose),
        counts_all=bool(out or wanted.room),
    )


def plain(random: Random, _: int) -> Chain:
    """Commands without data."""
    name = random.choice(
        ("test-unit-ready", "synchronize-cache-10", "synchronize-cache-16", "start", "prevent")
    )
    wanted = {
        "test-unit-ready": cdb.test_unit_ready(),
        "synchronize-cache-10": cdb.synchronize_cache_10(lba=random.randrange(SECTORS), blocks=1),
        "synchronize-cache-16": cdb.synchronize_cache_16(lba=random.randrange(SECTORS), blocks=1),
        "start": cdb.start_stop_unit(start=1),
        "prevent": cdb.prevent_allow(prevent=random.randrange(2)),
    }[name]
    return made(random, name, wanted)


def flush(random: Random, _: int) -> Chain:
    """SYNCHRONIZE CACHE (10)."""
    return made(random, "synchronize-cache-10", cdb.synchronize_cache_10(lba=0, blocks=0))


def small(random: Random, zone: int) -> Chain:
    """READ (6) and WRITE (6)."""
    lba, blocks = place(random, zone, 8)
    lba = min(lba, SECTORS - 8)
    if random.random() < 0.5:
        return made(random, "read-6", cdb.read_6(lba=lba, blocks=blocks))
    wanted = cdb.write_6(lba=lba, blocks=blocks)
    return made(random, "write-6", wanted, bytes([random.randrange(256)]) * wanted.out)


def tells(random: Random, _: int) -> Chain:
    """What the unit tells of itself that is the same for every unit of this kind."""
    name = random.choice(("read-capacity-10", "read-capacity-16", "report-luns", "request-sense"))
    if name == "report-luns":
        return made(
            random, name, cdb.report_luns(select=0, allocation=random.choice((16, 24, 64))), certain=16
        )
    if name == "request-sense":
        return made(random, name, cdb.request_sense(allocation=random.choice((18, 252))), certain=FIXED)
    if name == "read-capacity-10":
        return made(random, name, cdb.read_capacity_10())
    # Whether unmapped blocks read as zeroes is said in byte 14.
    return made(random, name, cdb.read_capacity_16(), certain=14)


def identity(random: Random, _: int) -> Chain:
    """What it tells of itself as the one that it is."""
    if random.random() < 0.5:
        page = random.choice((None, None, 0x00, 0x80, 0x83, 0xB0, 0xB1, 0xB2))
        wanted = cdb.inquiry(page=page, allocation=random.choice((36, 96, 252)))
        return made(random, "inquiry", wanted, certain=0)
    page = random.choice((0x08, 0x0A, 0x01, 0x3F))
    wanted = cdb.mode_sense_6(page=page) if random.random() < 0.5 else cdb.mode_sense_10(page=page)
    return made(random, "mode-sense", wanted, certain=0)


def ranges(random: Random, zone: int) -> Chain:
    """WRITE SAME and UNMAP."""
    lba, blocks = place(random, zone, 32)
    kind = random.randrange(3)
    if kind == 0:
        data = struct.pack(">HH4xQI4x", 22, 16, lba, blocks)
        return made(random, "unmap", cdb.unmap(length=len(data)), data)
    wanted = (cdb.write_same_10, cdb.write_same_16)[kind - 1](lba=lba, blocks=blocks)
    return made(random, "write-same", wanted, bytes([random.choice((0, random.randrange(256)))]) * wanted.out)


def verify(random: Random, zone: int) -> Chain:
    """VERIFY (10) without a comparison."""
    lba, blocks = place(random, zone, 16)
    return made(random, "verify", cdb.verify_10(lba=lba, blocks=blocks))


NO_COMMAND = (0x05, 0x20, 0x00)


def told(random: Random, _: int) -> Chain:
    """A command without data of which a table says how it is answered."""
    row = virtio_scsi_table.chosen(random)
    chain = made(random, f"scsi:{row.name}", Cdb(row.cdb))
    if row.theirs.codes == NO_COMMAND != row.ours.codes:
        # Attentions are lost with it, as with what nobody has.
        chain = replace(chain, traits=(*chain.traits, "unknown-code"))
    return replace(chain, loose=(*chain.loose, *virtio_scsi_table.unequal(row, STATUS_AT, SENSE_AT)))


def elsewhere(random: Random, _: int) -> Chain:
    """A logical unit, or a target, that is not there."""
    lun = random.choice(((0, 1), (1, 0), (255, 0)))
    return made(random, "no-unit", cdb.test_unit_ready(), lun=lun)


def unknown(random: Random, _: int) -> Chain:
    """An operation code that nobody has."""
    code = random.choice((0x02, 0x06, 0x0D, 0x1F, 0x26, 0x61, 0xC1, 0xE0, 0xFF))
    return made(random, "unknown-code", Cdb(bytes([code]) + bytes(15)))


Kind = Callable[[Random, int], Chain]
"""Makes a command in a zone of the disk."""

COMMANDS: tuple[tuple[Kind, float], ...] = (
    (transfer, 20),
    (small, 4),
    (plain, 6),
    (tells, 5),
    (identity, 2),
    (ranges, 4),
    (verify, 2),
    (told, 4),
    (elsewhere, 1),
    (unknown, 1),
)

# --- registers


def read_config(random: Random) -> Registers:
    """Fields of the configuration (§5.6.4)."""
    some = random.sample([*SCSI_CONFIG.fields.values()], 3)
    return Registers(
        "read the configuration", tuple(Read("device", field.offset, field.size) for field in some)
    )


def write_config(random: Random) -> Registers:
    """The sizes of sense data and CDBs are written as they are (§5.6.4).

    They are read before: of what is not written QEMU takes what was read last.
    """
    name, value = random.choice((("sense_size", SENSE_SIZE), ("cdb_size", CDB_SIZE)))
    field = SCSI_CONFIG[name]
    write, read = Write("device", field.offset, field.size, value), Read("device", field.offset, field.size)
    return Registers(
        "write the configuration",
        (read, write, read),
    )


def alone(kind: Kind) -> Callable[[Random], Submit]:
    """Maker of one command and its notification."""

    def made(random: Random) -> Submit:
        queue = random.randrange(FIRST_REQUEST_QUEUE, QUEUES)
        return Submit(queue, (kind(random, random.randrange(ZONES)),), queue)

    return made


HELD: tuple[Held, ...] = (
    ("read_aio", alone(read)),
    ("write_aio", alone(write)),
    ("pwritev_done", alone(write)),
    ("flush_to_os", alone(flush)),
)


HELD_TASKS = (Tmf.ABORT_TASK, Tmf.QUERY_TASK, Tmf.QUERY_TASK, Tmf.QUERY_TASK_SET, Tmf.CLEAR_ACA)
"""Functions that end nothing that is held, where they name another task."""


def manage(random: Random, held: int | None = None) -> Submit:
    """Task management while a command is held; it asks for the one of the tag `held`, or is about others."""
    if held is not None:
        return task(Tmf.QUERY_TASK, lun_bytes(0, 0), held)
    lun = lun_bytes(*random.choice(((0, 0), (0, 0), (0, 1), (1, 0))))
    # Commands have tags of 32 bits.
    return task(random.choice(HELD_TASKS), lun, 1 << 32 | random.randrange(4))


_IN_FLIGHT = GENERAL.in_flight(
    HELD, ((submit, 10), (manage, 4), (read_config, 1), (GENERAL.read_registers, 2))
)


def in_flight(random: Random) -> InFlight:
    """A held command, which some ask for meanwhile."""
    action = _IN_FLIGHT(random)
    assert isinstance(action, InFlight)
    if random.random() < 0.7:
        return action
    (chain,) = action.submit.chains
    head = chain.pieces[0].data
    assert head is not None
    _, tag, *_ = COMMAND.unpack_from(head)
    meanwhile = [*action.meanwhile]
    meanwhile.insert(random.randint(0, len(meanwhile)), manage(random, tag))
    return replace(action, meanwhile=tuple(meanwhile))


ACTIONS: ActionTable = (
    (submit, 60),
    (in_flight, 5),
    (GENERAL.broken(alone(command), GENERAL.bring_up), 1),
    (control, 4),
    *GENERAL.table(),
    (read_config, 4),
    (write_config, 1),
)
