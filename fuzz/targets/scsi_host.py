"""virtio-scsi with either ring over PCI and over MMIO, modern and legacy: `fuzz.ring`."""

from __future__ import annotations

import struct

from fuzz.choices import Choices
from fuzz.ring.bench import SECTORS
from fuzz.ring.grammar import OFF, nonsense, some_cuts, some_form
from fuzz.ring.ledger import SECTOR
from fuzz.ring.scsi import CDB_SIZE, MAIN, OTHER, SENSE_SIZE, ScsiBench
from fuzz.ring.ways import runs
from tests.unit.virtio.scsirig import CONTROL, EVENT, INQUIRY, TEST_UNIT_READY, lun_of

OWN_OFF = (*OFF, 1, 2, 4)
PLACES = (0, 0, 1, 2, 3, SECTORS - 2, SECTORS - 1, SECTORS, (1 << 32) - 1, (1 << 64) - 1)
BLOCKS = (1, 1, 1, 2, 3, 8, 0, 65)
LUNS = (
    *[lun_of(*MAIN)] * 4,
    *(lun_of(*OTHER), lun_of(*OTHER), lun_of(0, 7), lun_of(9), bytes(8)),
    bytes((0xC1, 1)) + bytes(6),
    bytes((1, 0, 0xC1, 1)) + bytes(4),
)
"""Units that are there, that are not, in no target, and well-known ones."""
OPCODES = (
    *(0x03, 0x12, 0x15, 0x1A, 0x1B, 0x1E, 0x25, 0x28, 0x2A, 0x2E, 0x2F, 0x34, 0x35, 0x37, 0x3B, 0x3C, 0x41),
    *(0x42, 0x4D, 0x55, 0x5A, 0x5E, 0x5F, 0x08, 0x0A, 0x88, 0x89, 0x8A, 0x8B, 0x8E, 0x8F, 0x90, 0x91, 0x93),
    *(0x9C, 0x9E, 0xA0, 0xA3, 0xA4, 0xA8, 0xAA, 0xAE, 0xAF, 0xFF),
)
"""All but those that go on in the background, or leave a unit that has to be formatted."""
AT_ONCE = 3
"""IMMED, in the second byte of a CDB."""
LENGTHS = (0, 0, 24, 36, 252, 512, 1024, 4096)
MODE_PAGES = tuple(bytes(8) + bytes((0x08, 0x12, flags)) + bytes(17) for flags in (0, 4))
"""MODE SELECT (10): without a write cache, and with one."""
SIZES = ((SENSE_SIZE, 96), (SENSE_SIZE, 18), (SENSE_SIZE, 0), (CDB_SIZE, 32), (CDB_SIZE, 16), (CDB_SIZE, 300))


def _command(bench: ScsiBench, choices: Choices) -> None:
    queue = choices.choice(bench.request_queues)
    how = {
        "form": some_form(bench, choices),
        "cuts": some_cuts(choices),
        "attribute": choices.choice((0, 0, 0, 0, 1, 2, 3, 9)),
    }
    kind = choices.randrange(13)
    if kind < 3:
        blocks = choices.choice(BLOCKS)
        room = blocks * SECTOR if choices.randrange(4) else choices.choice(LENGTHS)
        bench.read(queue, choices.choice(PLACES), blocks, min(room, 4096), **how)
    elif kind < 6:
        blocks = choices.choice(BLOCKS)
        length = blocks * SECTOR if choices.randrange(4) else choices.choice(LENGTHS)
        data = bytes((choices.getrandbits(8),)) * min(length, 4096)
        bench.write(queue, choices.choice(PLACES), blocks, data, fua=not choices.randrange(3), **how)
    elif kind < 8:
        bench.synchronize(queue, **how)
    elif kind == 8:
        page = choices.choice(MODE_PAGES)
        cdb = bytes((0x55, 0x10)) + bytes(5) + len(page).to_bytes(2, "big") + bytes(1)
        bench.command(queue, cdb, page, changes=range(0), **how)  # type: ignore[arg-type]
    elif kind == 9:
        cdb = choices.choice((TEST_UNIT_READY, INQUIRY))
        lun = choices.choice(LUNS)
        bench.command(queue, cdb, b"", choices.choice(LENGTHS), lun=lun, changes=range(0), **how)  # type: ignore[arg-type]
    else:
        lun = choices.choice(LUNS)
        data = bytes((choices.getrandbits(8),)) * choices.choice(LENGTHS)
        bench.command(queue, _cdb(choices), data, choices.choice(LENGTHS), lun=lun, **how)  # type: ignore[arg-type]
    if choices.randrange(3):
        bench.go(queue)


def _cdb(choices: Choices) -> bytes:
    """A command with any fields, small ones mostly."""
    cdb = bytearray(16)
    cdb[0] = choices.choice(OPCODES)
    for _ in range(choices.choice((1, 2, 3, 5))):
        cdb[choices.randrange(1, 15)] = choices.choice((0, 1, 2, 8, 63, 64, choices.getrandbits(8)))
    cdb[1] &= ~AT_ONCE
    return bytes(cdb)


def _own(bench: ScsiBench, choices: Choices) -> None:
    match choices.randrange(16):
        case 0:
            bench.manage(choices.randrange(10), choices.choice(LUNS), choices.randint(0, bench.tag))
            bench.go(CONTROL)
        case 1:
            kind, events = choices.choice((1, 2, 3)), choices.choice((0, 2, 0x12, 0xFFFF_FFFF))
            bench.ask(kind, choices.choice(LUNS), events, choices.choice((5, 5, 1, 4, 600)))
            bench.go(CONTROL)
        case 2 | 3:
            bench.offer_event(choices.choice((16, 16, 16, 15, 64)))
            bench.go(EVENT)
        case 4:
            bench.swap()
            bench.settle()
        case 5:
            bench.set_size(*choices.choice(SIZES))
        case 6:
            header = choices.choice(LUNS) + bytes(11) + _cdb(choices) + bytes(16)
            bench.noise(header if choices.randrange(2) else struct.pack("<II", choices.randrange(4), 0))
            nonsense(bench, choices)
        case _:
            _command(bench, choices)


pci_split, pci_packed, pci_legacy, mmio_split, mmio_packed, mmio_legacy = runs(ScsiBench, OWN_OFF, _own)
