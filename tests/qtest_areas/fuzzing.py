"""virtio-scsi as fuzzers found it: a queue of the legacy interface half in memory, half where the VGA window begins."""

from __future__ import annotations

import struct

from tests.qtest_areas.bench import Area, Bench

AREA = Area("virtio-scsi fuzz", 1)
SLOT = 3
PORT = 0x6E00
PAGE = 4096
PAGES = (0x9D, 0x9E, 0x9F, 0xA0, 0xFEE00)
QUEUE_PFN, QUEUE_SELECT, QUEUE_NOTIFY, STATUS = 8, 14, 16, 18
QUEUES = 10


@AREA.does(
    "rings at the end of low memory and beyond, filled with heads at random, notified: the machine lives"
)
def rings_over_the_edge(bench: Bench) -> None:
    machine = bench.machine("q35", f"-m 512M -device virtio-scsi,num_queues=8,addr={SLOT:02x}.0")
    for offset, size, value in ((0x10, 4, PORT), (0x04, 2, 7)):
        machine.io_write(0xCF8, 4, 1 << 31 | SLOT << 11 | offset)
        machine.io_write(0xCFC + offset % 4, size, value)
    for page in PAGES:
        for queue in range(QUEUES):
            machine.io_write(PORT + QUEUE_SELECT, 2, queue)
            machine.io_write(PORT + QUEUE_PFN, 4, page)
            machine.io_write(PORT + STATUS, 1, 7)
            base = page * PAGE
            machine.ram_write(base, struct.pack("<QIHH", base + 0x10, 0xE00, 3, 14) * 16)
            machine.ram_write(base + 16 * 128, struct.pack("<HH", 0, 0x101) + b"\1\0" * 64)
            machine.io_write(PORT + QUEUE_NOTIFY, 2, queue)
            machine.io_write(PORT + QUEUE_NOTIFY, 1, 0)
        assert machine.io_read(PORT + QUEUE_SELECT, 2) in range(QUEUES)
        machine.io_write(PORT + STATUS, 1, 0)
    status = machine.qmp("query-status")
    assert isinstance(status, dict)
    assert status["running"]
