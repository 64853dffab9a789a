"""virtio-blk and virtio-scsi over PCI, on pc: what QEMU's programs for them look at (VIRTIO 1.4, SBC-4)."""

from __future__ import annotations

import struct
from collections.abc import Callable

from guestsim.drivers import virtio_bus
from guestsim.drivers.blk_operation import Answer, Operation, discard, read, write, write_zeroes
from guestsim.drivers.cdb import Cdb, test_unit_ready, unmap, write_10
from guestsim.drivers.layouts import ISR_CONFIG, BlkFeature, Feature
from guestsim.drivers.pci import PciFunction, scan
from guestsim.drivers.transport import Interrupts
from guestsim.drivers.virtio_blk import BLK_FEATURES, VirtioBlk
from guestsim.drivers.virtio_pci_legacy import LegacyPci
from guestsim.drivers.virtio_pci_modern import ModernPci
from guestsim.drivers.virtio_scsi import SCSI_FEATURES, VirtioScsi
from guestsim.guest import Guest
from tests.qtest_areas.bench import MIB, Area, Bench, Machine, pattern

AREA = Area("virtio", 14)
SIZE = 64 * MIB
SLOT, HOT_SLOT = 4, 6
EJECT = 0xAE08
NULL = "file=null-co://,file.read-zeroes=on,format=raw"
QUIET = frozenset({Feature.EVENT_IDX})
PATIENCE = 2000


class Disk:
    """A virtio-blk function, its driver, and a guest that runs it."""

    def __init__(self, bench: Bench, *, legacy: bool = False) -> None:
        image = bench.image(SIZE)
        self.machine = bench.machine(
            "pc",
            f"-drive if=none,id=drive0,file={image},format=raw,auto-read-only=off",
            f"-drive if=none,id=drive1,{NULL}",
            f"-device virtio-blk-pci,id=drv0,drive=drive0,addr={SLOT}.0",
        )
        self.guest = Guest(self.machine)
        self.function = function(self.guest, SLOT)
        self.transport: LegacyPci | ModernPci = (LegacyPci if legacy else ModernPci)(
            self.guest, self.function
        )
        self.driver = VirtioBlk(self.guest, self.transport)

    def probe(
        self, *, interrupts: Interrupts = Interrupts.POLLING, indirect: bool = False, event_idx: bool = False
    ) -> None:
        features = BLK_FEATURES if event_idx else BLK_FEATURES - QUIET
        if not indirect:
            features -= {Feature.INDIRECT_DESC}
        self.guest.run(self.driver.probe(features=features, interrupts=interrupts, indirect=indirect))
        assert self.driver.capacity == SIZE

    def do(self, operation: Operation) -> Answer:
        answer = self.guest.run(self.driver.execute(operation))
        assert answer.ok, f"{operation.name}: {answer.status_name}"
        return answer

    def resize(self, size: int) -> None:
        self.machine.qmp("block_resize", {"device": "drive0", "size": size})

    def wait_isr(self, bit: int) -> None:
        """Until the ISR status shows it."""
        for _ in range(PATIENCE):
            if self.transport.read_isr() & bit:
                return
            self.machine.advance()
        raise AssertionError(f"ISR status: bit {bit} does not come")

    def round(self) -> None:
        """A sector written and read, in three descriptors and in two; zeroed and discarded where that is offered."""
        data = pattern(512)
        self.do(write(0, data))
        assert self.do(read(0, 512)).data == data
        features = self.driver.device.features
        if BlkFeature.WRITE_ZEROES in features:
            self.do(write_zeroes([(0, 512)]))
            assert self.do(read(0, 512)).data == bytes(512)
        if BlkFeature.DISCARD in features:
            self.do(discard([(0, 512)]))
        if not self.transport.legacy or Feature.ANY_LAYOUT in features:
            self.two(512, pattern(512, 5))

    def two(self, offset: int, data: bytes) -> None:
        """The same in chains of two descriptors."""
        out, into = write(offset, data), read(offset, len(data))
        self.do(Operation(out.readable, readable_split=(16 + len(data),), writable_split=(1,)))
        answer = self.do(
            Operation(into.readable, into.writable, readable_split=(16,), writable_split=(into.writable,))
        )
        assert answer.data == data


def function(guest: Guest, slot: int) -> PciFunction:
    return next(each for each in scan(guest) if each.slot == slot)


@AREA.does("requests in indirect tables of two descriptors: a sector written and read")
def blk_indirect(bench: Bench) -> None:
    disk = Disk(bench)
    disk.probe(indirect=True)
    assert Feature.INDIRECT_DESC in disk.driver.device.features
    disk.two(0, pattern(512))


@AREA.does("the capacity; block_resize: a configuration interrupt in the ISR status, half the capacity")
def blk_config(bench: Bench) -> None:
    disk = Disk(bench)
    disk.probe()
    disk.resize(SIZE // 2)
    disk.wait_isr(ISR_CONFIG)
    disk.driver.forget_config()
    assert disk.driver.capacity == SIZE // 2


@AREA.does(
    "reads and writes in three and in two descriptors, WRITE ZEROES, DISCARD; modern interface, then legacy"
)
def blk_basic(bench: Bench) -> None:
    for legacy in (False, True):
        disk = Disk(bench, legacy=legacy)
        disk.probe()
        disk.round()
        disk.machine.close()


@AREA.does("block_resize after requests: a configuration interrupt, and requests go on")
def blk_resize(bench: Bench) -> None:
    disk = Disk(bench)
    disk.probe()
    disk.round()
    disk.resize(SIZE // 2)
    disk.wait_isr(ISR_CONFIG)
    disk.driver.forget_config()
    assert disk.driver.capacity == SIZE // 2
    disk.round()


def _messages(disk: Disk) -> Callable[[], dict[int, int]]:
    """How many messages came, by table entry."""
    counts, vectors = disk.guest.interrupts.counts, disk.transport.vectors

    def now() -> dict[int, int]:
        disk.guest.interrupts.poll()
        return {entry: counts[vector] for entry, vector in vectors.items() if counts[vector]}

    return now


def _wait(disk: Disk, ready: Callable[[], bool], what: str) -> None:
    for _ in range(PATIENCE):
        if ready():
            return
        disk.machine.advance()
    raise AssertionError(f"{what} did not come")


@AREA.does("MSI-X: block_resize and each request are told by messages, plain writes to memory")
def blk_msix(bench: Bench) -> None:
    disk = Disk(bench)
    disk.probe(interrupts=Interrupts.MSIX)
    messages = _messages(disk)
    disk.resize(SIZE // 2)
    _wait(disk, lambda: messages() == {0: 1}, "the message of the configuration")
    disk.driver.forget_config()
    assert disk.driver.capacity == SIZE // 2
    data = pattern(512)
    disk.do(write(0, data))
    _wait(disk, lambda: messages() == {0: 1, 1: 1}, "the message of a write")
    assert disk.do(read(0, 512)).data == data
    _wait(disk, lambda: messages() == {0: 1, 1: 2}, "the message of a read")


@AREA.does("event index: no message before the buffer that was asked for, one for that")
def blk_event_index(bench: Bench) -> None:
    disk = Disk(bench)
    disk.probe(interrupts=Interrupts.MSIX, event_idx=True)
    assert Feature.EVENT_IDX in disk.driver.device.features
    messages = _messages(disk)
    # Of the first buffer after a reset the driver is told in any case, as nothing was asked for before it.
    disk.do(write(0, pattern(512)))
    _wait(disk, lambda: messages() == {1: 1}, "the first message")
    queue = disk.driver.queues[0]
    queue.enable_interrupts(after=3)
    for number in range(3):
        (pending,) = disk.guest.run(disk.driver.submit([write(512 * number, pattern(512, number))]))
        _wait(disk, lambda: bool(queue.poll()) or pending.done, "the end of a write")  # noqa: B023
        if number < 2:
            disk.machine.advance()
            assert messages() == {1: 1}, number
    _wait(disk, lambda: messages() == {1: 2}, "the message that was asked for")


@AREA.does("a notification of a queue that is not there, over the legacy interface")
def blk_no_such_queue(bench: Bench) -> None:
    disk = Disk(bench, legacy=True)
    for queue in (1, 7, 0xFFFF):
        disk.transport.set("queue_notify", queue)
    disk.probe()
    disk.two(0, pattern(512))


@AREA.does("virtio-blk-pci is plugged into slot 6 by QMP, used, and let go over the ACPI eject port")
def blk_hot_plug(bench: Bench) -> None:
    disk = Disk(bench)
    machine = disk.machine
    machine.qmp(
        "device_add", {"driver": "virtio-blk-pci", "id": "drv1", "drive": "drive1", "addr": f"{HOT_SLOT}.0"}
    )
    plugged = VirtioBlk(disk.guest, ModernPci(disk.guest, function(disk.guest, HOT_SLOT)))
    disk.guest.run(plugged.probe(interrupts=Interrupts.POLLING))
    assert disk.guest.run(plugged.read(0, 512)) == bytes(512)
    machine.qmp("device_del", {"id": "drv1"})
    assert function(disk.guest, HOT_SLOT)
    machine.io_write(EJECT, 4, 1 << HOT_SLOT)
    machine.wait_event("DEVICE_DELETED", device="drv1")
    assert not [each for each in scan(disk.guest) if each.slot == HOT_SLOT]


# --- virtio-scsi


class Host:
    """A virtio-scsi function on pc with what is on its bus; unit 0 of target 1 is used."""

    def __init__(self, bench: Bench, *words: str, options: str = "") -> None:
        host = f"-device virtio-scsi-pci,id=vs0,addr={SLOT}.0{options}"
        objects = [word for word in words if word.startswith("-object")]
        self.machine: Machine = bench.machine(
            "pc", *objects, host, *(word for word in words if word not in objects)
        )
        self.guest = Guest(self.machine)
        (transport,) = virtio_bus.find(self.guest, virtio_bus.SCSI)
        self.driver = VirtioScsi(self.guest, transport)
        # QEMU counts what it has read as used, too.
        self.driver.device.any_length = True

    def up(self) -> Host:
        """Bring it up, and see that the first command is answered by POWER ON, RESET, OR BUS DEVICE RESET OCCURRED."""
        self.guest.run(self.driver.probe(features=SCSI_FEATURES - QUIET, interrupts=Interrupts.POLLING))
        response, status, sense = self.send(test_unit_ready())
        assert (response, status) == (0, 2)
        assert (sense[0], sense[2], sense[12], sense[13]) == (0x70, 6, 0x29, 0x00), sense.hex(" ")
        return self

    def send(self, command: Cdb, data: bytes = b"") -> tuple[int, int, bytes]:
        """Response, status, sense data."""
        request = self.driver.command(bytes((1, 1, 0, 0, 0, 0, 0, 0)), command.data, data, command.room)
        answer = self.guest.run(self.driver.execute(request))
        return answer.response, answer.status, answer.sense_data


DISK = (
    "-drive file=blkdebug::null-co://,file.image.read-zeroes=on,if=none,id=dr1,format=raw,file.align=4k",
    "-device scsi-hd,drive=dr1,lun=0,scsi-id=1",
)


@AREA.does(
    "virtio-scsi: the first command to a disk is answered with UNIT ATTENTION, 29h/00h, in fixed format"
)
def scsi_unit_attention(bench: Bench) -> None:
    host = Host(bench, *DISK).up()
    assert host.send(test_unit_ready())[:2] == (0, 0)


@AREA.does("WRITE SAME (10) whose first block lies within a 4 KiB block of the node, with and without data")
def scsi_unaligned_write_same(bench: Bench) -> None:
    host = Host(bench, *DISK).up()
    for blocks, flags, data in ((2, 0, bytes(512)), (0x3300, 0, b"\1" + bytes(511)), (0x3300, 1, b"")):
        cdb = Cdb(struct.pack(">BBIBHB", 0x41, flags, 1, 0, blocks, 0), 0)
        answer = host.send(cdb, data)
        assert answer[0] == 0, (blocks, flags, answer)


@AREA.does("UNMAP of blocks far beyond the end is refused, and the disk goes on")
def scsi_large_lba_unmap(bench: Bench) -> None:
    host = Host(bench, *DISK).up()
    for lba in (0x7FFF_FFFF_FFFF_FFFF, 0xFFFF_FFFF_FFFF_FFF0):
        data = struct.pack(">HH4xQI4x", 22, 16, lba, 0x20)
        response, status, sense = host.send(unmap(length=len(data)), data)
        assert (response, status, sense[2] & 0xF) == (0, 2, 5), (response, status, sense.hex(" "))
    assert host.send(test_unit_ready())[:2] == (0, 0)


@AREA.does("WRITE (10) to a CD-ROM is refused, and the drive goes on")
def scsi_write_to_cdrom(bench: Bench) -> None:
    node = f"-drive if=none,id=dr1,{NULL}"
    host = Host(bench, node, "-device scsi-cd,drive=dr1,lun=0,scsi-id=1").up()
    data = bytes(2048)
    response, status, _ = host.send(write_10(lba=0, blocks=1, block=2048), data)
    assert (response, status) == (0, 2)
    assert host.send(test_unit_ready())[:2] == (0, 0)


@AREA.does("a disk is plugged into the bus of a virtio-scsi, and taken out again, by QMP")
def scsi_hot_plug(bench: Bench) -> None:
    host = Host(bench, f"-drive id=drv1,if=none,{NULL}")
    host.machine.qmp("device_add", {"driver": "scsi-hd", "id": "scsihd", "drive": "drv1"})
    host.machine.qmp("device_del", {"id": "scsihd"})
    host.machine.wait_event("DEVICE_DELETED", device="scsihd")


@AREA.does("a disk on an iothread is written while QMP opens a node over its own (raw here, qcow2 there)")
def scsi_iothread_node(bench: Bench) -> None:
    host = Host(
        bench,
        "-object iothread,id=thread0",
        "-blockdev driver=null-co,read-zeroes=on,node-name=null0",
        "-device scsi-hd,drive=null0,lun=0,scsi-id=1",
        options=",iothread=thread0",
    ).up()
    host.machine.qmp("blockdev-add", {"driver": "raw", "node-name": "overlay", "file": "null0"})
    assert host.send(write_10(lba=0, blocks=1), bytes(512))[:2] == (0, 0)
