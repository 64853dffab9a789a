"""virtio-blk with either ring over PCI and over MMIO, modern and legacy: `fuzz.ring`."""

from __future__ import annotations

import struct

from fuzz.choices import Choices
from fuzz.ring.bench import SECTORS
from fuzz.ring.blk import WRITEBACK, BlkBench
from fuzz.ring.grammar import OFF, nonsense, some_cuts, some_form, some_queue
from fuzz.ring.ways import runs
from tests.unit.virtio.blkrig import DISCARD, FLUSH, GET_ID, IN, OUT, SECURE_ERASE, WRITE_ZEROES, segment

KINDS = (IN, IN, OUT, OUT, OUT, FLUSH, FLUSH, GET_ID, DISCARD, WRITE_ZEROES, SECURE_ERASE, 2)
PLACES = (0, 1, 2, 3, SECTORS - 2, SECTORS - 1, SECTORS, (1 << 55) - 1, (1 << 64) - 1)
LENGTHS = (0, 512, 512, 512, 1024, 1536, 4096, 1, 511, 513)
OWN_OFF = (*OFF, 1 << 11, 1 << 9 | 1 << 11, 1 << 12)


def _request(bench: BlkBench, choices: Choices) -> None:
    kind = choices.choice(KINDS)
    sector, length = choices.choice(PLACES), choices.choice(LENGTHS)
    data, room = b"", 0
    if kind == OUT:
        data = bytes([choices.getrandbits(8)]) * length
    elif kind in (IN, GET_ID):
        room = length if kind == IN else 20
    elif kind in (DISCARD, WRITE_ZEROES, SECURE_ERASE):
        data = segment(sector, length // 512, choices.choice((0, 0, 1, 2)))
        sector = 0
    queue = some_queue(bench, choices)
    bench.send(queue, kind, sector, data, room, some_form(bench, choices), some_cuts(choices))
    if choices.randrange(3):
        bench.go(queue)


def _own(bench: BlkBench, choices: Choices) -> None:
    kind = choices.randrange(10)
    if kind < 8:
        _request(bench, choices)
    elif kind == 8:
        header = struct.pack("<IIQ", choices.choice(KINDS), 0, choices.choice(PLACES))
        bench.noise(header + choices.take(16))
        nonsense(bench, choices)
    else:
        bench.transport.store(choices.choice((WRITEBACK, 0, 20)), 1, choices.randrange(2))


pci_split, pci_packed, pci_legacy, mmio_split, mmio_packed, mmio_legacy = runs(BlkBench, OWN_OFF, _own)
