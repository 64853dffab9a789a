"""Random sequences for a virtio SCSI host with a disk or a CD drive on it (VIRTIO 1.4 §5.6, SPC-4, SBC-4, MMC-6)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

from guestsim.diff.access import Read, Step, Write
from guestsim.diff.grammar import Action
from guestsim.diff.grammar.registers import Registers
from guestsim.diff.grammar.virtio import Anew, Ended, InFlight, Submit
from guestsim.diff.grammar.virtio_actions import Actions, ActionTable, Held, split
from guestsim.diff.grammar.virtio_chains import UNTOUCHED, Chain, Piece, Unequal
from guestsim.diff.grammar.virtio_driver import Lowering
from guestsim.diff.grammar.virtio_rings import Queue
from guestsim.diff.grammar.virtio_scsi_table import (
    CD,
    DISK,
    FIXED,
    HEAD,
    SENSE_AT,
    STATUS_AT,
    Answers,
    unequal,
)
from guestsim.drivers import cdb
from guestsim.drivers.cdb import Cdb
from guestsim.drivers.layouts import Feature
from guestsim.drivers.scsi_layouts import (
    ASYNC,
    CDB_SIZE,
    COMMAND,
    CONTROL_QUEUE,
    FIRST_REQUEST_QUEUE,
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

FEATURES = (
    *(1 << bit for bit in (ScsiFeature.HOTPLUG, ScsiFeature.CHANGE)),
    *(1 << bit for bit in (Feature.INDIRECT_DESC, Feature.EVENT_IDX, Feature.RING_RESET)),
)
ALL = sum(FEATURES) | 1 << Feature.VERSION_1
GENERAL = Actions(QUEUES, FEATURES, ALL, sizes=(8, 16, 64, 128))


@dataclass(frozen=True, slots=True)
class VirtioScsiGrammar:
    """Actions for a virtio SCSI host with a disk, or a CD drive, in random order."""

    cd: bool = False

    def sequence(self, random: Random, length: int) -> list[Action]:
        """Bring it up, then `length` - 1 actions of any kind."""
        makers, weights = zip(*(CD_ACTIONS if self.cd else ACTIONS), strict=True)
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
) -> Chain:
    """A command's chain."""
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
        Unequal("sense-detail", SENSE_AT, 1, values=(b"\xf0", b"\x70")),
        *(
            Unequal("sense-detail", SENSE_AT + at, size, values=(None, bytes(size)))
            for at, size in ((3, 4), (15, 3))
        ),
        Unequal("sense-rest", SENSE_AT + FIXED, SENSE_SIZE - FIXED),
    ]
    if wanted.room:
        loose.append(Unequal("failed-data", HEAD, wanted.room, STATUS_AT))
    return Chain(
        name,
        tuple(pieces),
        indirect=random.random() < 0.3,
        traits=() if attribute == TaskAttribute.SIMPLE else ("not-simple",),
        loose=tuple(loose),
        written=(HEAD, HEAD + wanted.room) if wanted.room else (HEAD,),
        counted=HEAD + len(out) + wanted.room,
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


def request_sense(random: Random, _: int) -> Chain:
    """REQUEST SENSE in both formats; behind the data QEMU's has zeroes where nothing is to be told of."""
    descriptors = random.randrange(2)
    size = 8 if descriptors else FIXED
    room = random.choice((0, 1, 4, 8, size, 252))
    chain = made(random, "request-sense", cdb.request_sense(descriptors=descriptors, allocation=room))
    if room < size:
        return replace(chain, traits=(*chain.traits, "request-sense-short"))
    rest = room - size
    chain = replace(chain, written=(HEAD, HEAD + size))
    values = bytes([UNTOUCHED]) * rest, bytes(rest)
    padded = (
        Unequal("data-rest", HEAD + size, rest, values=values),
        Unequal("data-rest", 4, 4, values=(rest.to_bytes(4, "little"), bytes(4))),
    )
    return replace(chain, loose=(*chain.loose, *padded)) if rest else chain


def ranges(random: Random, zone: int) -> Chain:
    """WRITE SAME and UNMAP."""
    lba, blocks = place(random, zone, 32)
    kind = random.randrange(3)
    if kind == 0:
        # What is done before a later range is refused is not said (SBC-4 UNMAP): those are on the disk.
        others = [
            (random.randrange(SECTORS - 32), random.randint(0, 32)) for _ in range(random.choice((0, 0, 3)))
        ]
        some = b"".join(struct.pack(">QI4x", *one) for one in ((lba, blocks), *others))
        data = struct.pack(">HH4x", 6 + len(some), len(some)) + some
        return made(random, "unmap", cdb.unmap(length=len(data)), data)
    same = (cdb.write_same_10, cdb.write_same_16)[kind - 1]
    wanted = same(lba=lba, blocks=blocks, unmap=random.randrange(2))
    return made(random, "write-same", wanted, bytes([random.choice((0, random.randrange(256)))]) * wanted.out)


def forced(random: Random, zone: int) -> Chain:
    """WRITE AND VERIFY, and transfers with DPO and FUA."""
    lba, blocks = place(random, zone, 16)
    flags = random.choice((0x08, 0x10, 0x18))
    if random.random() < 0.3:
        return made(random, "read-fua", random.choice(READS)(lba=lba, blocks=blocks, flags=flags))
    wanted = random.choice(WRITES)(lba=lba, blocks=blocks, flags=flags)
    name = "write-fua"
    if random.random() < 0.6:
        name = "write-and-verify"
        code = {0x2A: 0x2E, 0xAA: 0xAE, 0x8A: 0x8E}[wanted.data[0]]
        wanted = replace(wanted, data=bytes((code, flags & 0x10)) + wanted.data[2:])
    return made(random, name, wanted, random.randbytes(2) * (wanted.out // 2))


def verify(random: Random, zone: int) -> Chain:
    """VERIFY (10) without a comparison."""
    lba, blocks = place(random, zone, 16)
    return made(random, "verify", cdb.verify_10(lba=lba, blocks=blocks))


NO_COMMAND = (0x05, 0x20, 0x00)
NO_ACTIONS = frozenset(map(bytes.fromhex, ("4805", "8407", "9e11", "9e1f", "a305", "a31f", "a406")))
"""Operation codes with service actions that nobody has."""


def told(random: Random, _: int, answers: Answers = DISK) -> Chain:
    """A command of which a table says how it is answered."""
    row = answers.chosen(random)
    chain = made(random, f"scsi:{row.name}", Cdb(row.cdb, row.room), row.out)
    if NO_COMMAND in (row.ours.codes, row.theirs.codes):
        # Attentions are lost with it, as with what nobody has.
        chain = replace(chain, traits=(*chain.traits, "unknown-code"))
    if bytes((row.cdb[0], row.cdb[1] & 0x1F)) in NO_ACTIONS:
        chain = replace(chain, traits=(*chain.traits, "unknown-action"))
    length = 0 if row.ours.fails else min(row.ours.length, row.room)
    return replace(chain, loose=(*chain.loose, *unequal(row)), written=tuple(sorted({HEAD, HEAD + length})))


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
    (request_sense, 2),
    (ranges, 4),
    (verify, 2),
    (told, 16),
    (forced, 3),
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


def sizes_again(random: Random) -> Anew:
    """Other sizes of sense data and CDBs are written, and are the usual ones again after a reset (§5.6.4)."""
    sense, cdbs = SCSI_CONFIG["sense_size"], SCSI_CONFIG["cdb_size"]
    reads = tuple(Read("device", field.offset, field.size) for field in (sense, cdbs))
    writes = (
        Write("device", sense.offset, 4, random.choice((0, 18, SENSE_SIZE + 1, 252, 0xFFFF))),
        Write("device", cdbs.offset, 4, random.choice((0, 12, 16, CDB_SIZE + 1, 0xFF))),
    )
    some = random.choice((writes, writes[:1], writes[1:]))
    before = Registers("write other sizes", (*reads, *some, *reads))
    after = Registers("read the sizes", reads)
    return Anew(before, replace(GENERAL.bring_up(random), skip=frozenset()), after)


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


ENDS = (Tmf.ABORT_TASK, Tmf.ABORT_TASK_SET, Tmf.CLEAR_TASK_SET)
RESETS = (Tmf.LOGICAL_UNIT_RESET, Tmf.I_T_NEXUS_RESET)
"""Functions that end a command: those with a reset wait in QEMU."""


def ready(random: Random, queue: int) -> tuple[Submit, ...]:
    """What tells of a reset, of whatever kind it was (SPC-4 §4.5.6)."""
    which = (Unequal("which-reset", SENSE_AT + 13, 1, values=(code, b"\0")) for code in (b"\3", b"\7"))
    chain = made(random, "test-unit-ready", cdb.test_unit_ready())
    return (Submit(queue, (replace(chain, loose=(*chain.loose, *which)),), queue),)


def ended(random: Random) -> Ended:
    """A held command that task management ends (§5.6.6.2), and that is done again: QEMU has written nevertheless.

    A flush goes on before a reset, on QEMU's side; so does what has been written.
    """
    reset = random.random() < 0.5
    event, make = random.choice((HELD[0], HELD[1]) if reset else (HELD[0], HELD[1], HELD[3]))
    submit = make(random)
    head = submit.chains[0].pieces[0].data
    assert head is not None
    _, tag, *_ = COMMAND.unpack_from(head)
    by = task(random.choice(RESETS if reset else ENDS), lun_bytes(0, 0), tag)
    return Ended(event, submit, by, (*ready(random, submit.queue), submit), reset)


ACTIONS: ActionTable = (
    (submit, 60),
    (ended, 3),
    (GENERAL.dropped(HELD, GENERAL.bring_up, before=ready), 2),
    (in_flight, 5),
    (GENERAL.broken(alone(command), GENERAL.bring_up), 1),
    (GENERAL.pending(alone(read), GENERAL.bring_up), 1),
    (control, 4),
    *GENERAL.table(),
    (read_config, 4),
    (write_config, 1),
    (sizes_again, 0.5),
)

# --- a CD drive

BLOCK = 2048
BLOCKS = SECTORS * 512 // BLOCK


def cd_read(random: Random, _: int) -> Chain:
    """A read of a CD's blocks, rarely of some that are not there."""
    lba, blocks = random.randrange(BLOCKS), random.randint(1, 4)
    if random.random() > 0.1:
        lba = min(lba, BLOCKS - blocks)
    reads = (cdb.read_10, cdb.read_12)
    return made(random, "read", random.choice(reads)(lba=lba, blocks=blocks, block=BLOCK))


def cd_ready(random: Random, _: int) -> Chain:
    """TEST UNIT READY."""
    return made(random, "test-unit-ready", cdb.test_unit_ready())


def cd_told(random: Random, zone: int) -> Chain:
    """A command of which the drive's table says how it is answered."""
    return told(random, zone, CD)


CD_COMMANDS: tuple[tuple[Kind, float], ...] = (
    (cd_read, 6),
    (cd_ready, 2),
    (request_sense, 2),
    (cd_told, 16),
    (elsewhere, 1),
    (unknown, 1),
)


def cd_command(random: Random, zone: int) -> Chain:
    """A command of any kind for a CD drive."""
    kinds, weights = zip(*CD_COMMANDS, strict=True)
    chain: Chain = random.choices(kinds, weights)[0](random, zone)
    return chain


CD_ACTIONS: ActionTable = (
    (alone(cd_command), 60),
    (
        GENERAL.in_flight(
            (("read_aio", alone(cd_read)),),
            ((alone(cd_command), 10), (manage, 4), (read_config, 1), (GENERAL.read_registers, 2)),
        ),
        3,
    ),
    (GENERAL.dropped((("read_aio", alone(cd_read)),), GENERAL.bring_up, before=ready), 1),
    (GENERAL.pending(alone(cd_read), GENERAL.bring_up), 1),
    (control, 3),
    *GENERAL.table(),
    (read_config, 3),
    (write_config, 1),
    (sizes_again, 0.5),
)
