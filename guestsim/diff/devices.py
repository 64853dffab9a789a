"""The devices that can be compared: their options on both sides, addresses, what is looked at, and their grammar."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from guestsim.diff.access import Read, Step, Wait, Write
from guestsim.diff.arena import MESSAGES, MESSAGES_SIZE
from guestsim.diff.grammar import Grammar, ahci, virtio, virtio_blk, virtio_legacy, virtio_scsi
from guestsim.diff.known import known
from guestsim.diff.masks import FAILED, ORDER, Mask, of_memory
from guestsim.diff.play import Area, Player
from guestsim.diff.sides import ECAM, Lines, OurSide, QemuSide, Side, Window, Windows
from guestsim.drivers.ahci_layouts import PORT_STRIDE, PORTS_OFFSET, Hba, PortReg
from guestsim.drivers.layouts import COMMON_CFG, LEGACY_CFG

if TYPE_CHECKING:
    from guestsim.targets.qmp import Json

SLOT = 4
FUNCTION = ECAM + (SLOT << 15)
MSIX_BAR = 0xE000_0000
MODERN_BAR = 0xE001_0000
LEGACY_BAR = 0xC000

Options = dict[str, "Json"]


@dataclass(frozen=True, slots=True)
class Device:
    """A device that can be compared.

    `options` are what both sides are given; `ours` and `theirs` what only one gets with the first.  `place` finds its
    registers and gives its BARs addresses; `prologue` is what each sequence begins with; `observe` is read at each
    quiescent point.
    """

    name: str
    what: str
    options: Sequence[Options]
    ours: Options
    theirs: Options
    lines: Lines
    place: Callable[[Side], Windows]
    prologue: Sequence[Step]
    observe: Sequence[Read]
    areas: Sequence[Area]
    masks: Sequence[Mask]
    grammar: Grammar
    label: Callable[[Read], str]
    drive: Options
    disk: int = 1 << 20

    def base(self) -> bytes:
        """What its disk holds at first."""
        return random.Random(self.name).randbytes(self.disk)

    @property
    def all_masks(self) -> tuple[Mask, ...]:
        """Its own and those of every device."""
        return (*self.masks, ORDER, FAILED)

    def our_side(self, folder: Path, name: str = "ours") -> OurSide:
        """Our machine with it; its image is in `folder`."""
        image = self._image(folder / name)
        first, *others = self.options
        side = OurSide(
            self.lines,
            [image],
            blockdevs=[{**self.drive, "filename": str(image)}],
            devices=[{**first, **self.ours}, *others],
            name=name,
        )
        side.windows = self.place(side)
        return side

    def qemu_side(self, folder: Path) -> QemuSide:
        """QEMU's machine with it."""
        image = self._image(folder / "qemu")
        first, *others = self.options
        side = QemuSide(
            self.lines,
            [image],
            folder / "ram",
            blockdevs=[{**self.drive, "filename": str(image)}],
            devices=[{**first, **self.theirs}, *others],
        )
        try:
            side.windows = self.place(side)
        except BaseException:
            side.close()
            raise
        return side

    def _image(self, path: Path) -> Path:
        path.write_bytes(self.base())
        return path

    def player(self, ours: Side, theirs: Side) -> Player:
        """What plays sequences on these two."""
        return Player(
            ours,
            theirs,
            self.prologue,
            self.observe,
            self.areas,
            self.all_masks,
            self.base(),
            self.label,
            known=lambda found: known(self.name, found) is not None,
        )

    @contextmanager
    def with_qemu(self) -> Iterator[Player]:
        """Our device and QEMU's; their memory and images are files in memory."""
        with tempfile.TemporaryDirectory(prefix="guestsim-", dir=_fast()) as name:
            ours = self.our_side(Path(name))
            try:
                theirs = self.qemu_side(Path(name))
                try:
                    yield self.player(ours, theirs)
                finally:
                    theirs.close()
            finally:
                ours.close()


def _fast() -> str | None:
    """A folder in memory, where there is one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _register(read: Read) -> str:
    """A register's name."""
    if read.window == "legacy":
        for name, field in LEGACY_CFG.fields.items():
            if field.offset == read.offset:
                return f"legacy.{name}"
    if read.window == "common":
        for name, field in COMMON_CFG.fields.items():
            if field.offset <= read.offset < field.offset + field.size:
                return f"common.{name}"
    return f"{read.window}+{read.offset:#x}"


def place_legacy(side: Side) -> Windows:
    """The same for a transitional function that is driven by its legacy interface (VIRTIO 1.4 §4.1.4.10)."""
    found = place_virtio(side)
    for name, offset in (("device", 20), ("device-msix", 24), ("legacy-isr-msix", 19), ("legacy-none", 0)):
        found[name] = Window(LEGACY_BAR + offset, port=True)
    return found


def place_virtio(side: Side) -> Windows:
    """Give a virtio function its addresses, and find its structures by their capabilities (VIRTIO 1.4 §4.1.4)."""
    side.windows = {"pci": Window(FUNCTION)}
    for bar, address in ((0, LEGACY_BAR), (1, MSIX_BAR), (4, MODERN_BAR)):
        side.do([Write("pci", 0x10 + 4 * bar, 4, address)])
    found: Windows = {
        "pci": Window(FUNCTION),
        "msix": Window(MSIX_BAR),
        "legacy": Window(LEGACY_BAR, port=True),
    }
    kinds = {1: "common", 2: "notify", 3: "isr", 4: "device"}
    (at,) = side.do([Read("pci", 0x34, 1)])
    while at:
        identity, then, kind, offset = side.do(
            [Read("pci", at, 1), Read("pci", at + 1, 1), Read("pci", at + 3, 1), Read("pci", at + 8, 4)]
        )
        if identity == 0x11:
            found["msixcap"] = Window(FUNCTION + at)
            (pending,) = side.do([Read("pci", at + 8, 4)])
            found["pba"] = Window(MSIX_BAR + (pending & ~7))
        elif identity == 0x09 and kind in kinds:
            found[kinds[kind]] = Window(MODERN_BAR + offset)
        at = then
    for alias, window in (("common-none", "common"), ("common-beyond", "common"), ("isr-msix", "isr")):
        found[alias] = found[window]
    return found


def _virtio_areas(queues: int) -> Iterator[Area]:
    yield Area("buffers", virtio.BUFFERS, virtio.BUFFERS_END - virtio.BUFFERS)
    for number in range(queues):
        base = virtio.RINGS + number * virtio.RING_ROOM
        yield Area(f"queue {number} descriptors", base + virtio.DESC_AT, 0x1000)
        yield Area(f"queue {number} available ring", base + virtio.AVAIL_AT, 0x1000)
        yield Area(f"queue {number} used ring", base + virtio.USED_AT, 0x1000)
        yield Area(f"queue {number} used flags", base + virtio.USED_AT, 2)
        yield Area(f"queue {number} used index", base + virtio.USED_AT + 2, 2)
        yield Area(f"queue {number} tables", base + virtio.TABLE_AT, virtio.RING_ROOM - virtio.TABLE_AT)
    yield Area("interrupt messages", MESSAGES, MESSAGES_SIZE)


def _virtio_prologue(vectors: int) -> tuple[Step, ...]:
    """The function's command register and vectors, the device reset."""
    return (
        Step(
            "begin",
            (
                Write("pci", 4, 2, 0x0007),
                Write("common", COMMON_CFG["device_status"].offset, 1, 0),
                Wait(),
                virtio.put("device_feature_select", 0),
                virtio.put("driver_feature_select", 1),
                virtio.put("driver_feature", 0),
                virtio.put("driver_feature_select", 0),
                virtio.put("driver_feature", 0),
                virtio.put("queue_select", 0),
                Write("msixcap", 2, 2, 0),
                *virtio.message_table(vectors),
                Read("isr", 0, 1),
                Wait(),
            ),
        ),
    )


VIRTIO_BLK = Device(
    name="virtio-blk",
    what="virtio-blk-pci, modern interface",
    options=[
        {
            "driver": "virtio-blk-pci",
            "id": "v0",
            "drive": "d0",
            "addr": "4",
            "serial": "serial-number-of-dev",
            "num-queues": virtio_blk.QUEUES,
            "vectors": virtio_blk.QUEUES + 1,
            "disable-legacy": "on",
            "discard_granularity": 512,
        }
    ],
    ours={"max-discard-seg": 1, "max-write-zeroes-seg": 1},
    theirs={"ioeventfd": False},
    lines=Lines(slots=(SLOT,)),
    place=place_virtio,
    prologue=_virtio_prologue(virtio_blk.QUEUES + 1),
    observe=(virtio.get("device_status"),),
    areas=tuple(_virtio_areas(virtio_blk.QUEUES)),
    masks=(
        Mask(
            "features offered",
            "A device offers what it has (VIRTIO 1.4 §2.2): ours has NOTIFICATION_DATA, NOTIF_CONFIG_DATA and SUSPEND.",
            "common",
            4,
            8,
            bits=1 << 6 | 1 << 7 | 1 << 11,
        ),
        Mask(
            "fields of no queue",
            "What fields of a queue that is not there hold is not said, but for queue_size (VIRTIO 1.4 §4.1.4.3.1).",
            "common-none",
            0,
            0x40,
        ),
        Mask(
            "queue_select above 1023",
            "There is no such queue (size 0: VIRTIO 1.4 §4.1.4.3.1); QEMU goes on with the last one (right: ours).",
            "common-beyond",
            0,
            0x40,
        ),
        Mask(
            "ISR status with MSI-X",
            "With MSI-X a driver should not look at the queue bit (VIRTIO 1.4 §4.1.4.5.2); QEMU sets it.",
            "isr-msix",
            0,
            1,
            bits=1,
        ),
    ),
    grammar=virtio_blk.VirtioBlkGrammar(),
    label=_register,
    drive={"driver": "file", "node-name": "d0", "discard": "unmap"},
)

TRANSITIONAL = replace(
    VIRTIO_BLK,
    name="virtio-blk-transitional",
    what="virtio-blk-pci, transitional, over the legacy interface",
    options=[{**VIRTIO_BLK.options[0], "disable-legacy": "off"}],
    place=place_legacy,
    prologue=(
        Step(
            "begin",
            (
                Write("pci", 4, 2, 0x0007),
                virtio_legacy.put("device_status", 0),
                Wait(),
                virtio_legacy.put("queue_select", 0),
                Write("msixcap", 2, 2, 0),
                *virtio.message_table(virtio_blk.QUEUES + 1),
                virtio_legacy.get("isr"),
                Wait(),
            ),
        ),
    ),
    observe=(virtio_legacy.get("device_status"),),
    masks=(
        Mask(
            "features offered",
            "A device offers what it has (VIRTIO 1.4 §2.2): QEMU's has NOTIFY_ON_EMPTY.",
            "legacy",
            0,
            4,
            bits=1 << 24,
        ),
        Mask(
            "fields of no queue",
            "What fields of a queue that is not there hold is not said, but for queue_size (VIRTIO 1.4 §4.1.5.1.3).",
            "legacy-none",
            0,
            24,
        ),
        Mask(
            "ISR status with MSI-X",
            "With MSI-X a driver should not look at the queue bit (VIRTIO 1.4 §4.1.4.5.2); QEMU sets it.",
            "legacy-isr-msix",
            0,
            1,
            bits=1,
        ),
    ),
    grammar=virtio_blk.VirtioBlkGrammar(legacy=True),
)

VIRTIO_SCSI = replace(
    VIRTIO_BLK,
    name="virtio-scsi",
    what="virtio-scsi-pci with a scsi-hd, modern interface",
    options=[
        {
            "driver": "virtio-scsi-pci",
            "id": "s0",
            "addr": "4",
            "num_queues": virtio_scsi.QUEUES - 2,
            "vectors": virtio_scsi.QUEUES + 1,
            "disable-legacy": "on",
        },
        {"driver": "scsi-hd", "drive": "d0", "bus": "s0.0", "serial": "of-both", "discard_granularity": 512},
    ],
    ours={"inout": False},
    prologue=_virtio_prologue(virtio_scsi.QUEUES + 1),
    areas=tuple(_virtio_areas(virtio_scsi.QUEUES)),
    masks=(
        *VIRTIO_BLK.masks,
        of_memory(
            "identity",
            "Who a unit is, and which of its optional pages it has, is its own (SPC-4 §6.6, §6.14).",
        ),
    ),
    grammar=virtio_scsi.VirtioScsiGrammar(),
)

HBA_BAR = 0xE002_0000


def place_ahci(side: Side) -> Windows:
    """Give an HBA its address (AHCI 1.3.1 §2.1.11)."""
    side.windows = {"pci": Window(FUNCTION)}
    side.do([Write("pci", 0x24, 4, HBA_BAR), Write("pci", 4, 2, 0x0007)])
    return {"pci": Window(FUNCTION), "hba": Window(HBA_BAR)}


def _ahci_label(read: Read) -> str:
    if read.window == "hba" and read.offset >= PORTS_OFFSET:
        return f"Px{PortReg((read.offset - PORTS_OFFSET) % PORT_STRIDE).name}"
    return Hba(read.offset).name if read.window == "hba" else f"{read.window}+{read.offset:#x}"


def _port_mask(
    name: str, reason: str, register: PortReg, bits: int, *, tags: frozenset[str] = frozenset()
) -> Mask:
    return Mask(name, reason, "hba", PORTS_OFFSET + register, PORTS_OFFSET + register + 4, bits, tags)


_AHCI_MASKS = (
    Mask(
        "DSC",
        "Bit 4 of the status is obsolete (ACS-3 §6.2): ours shows it as ATA-5 has it, QEMU only where all went well.",
        "hba",
        PORTS_OFFSET + PortReg.TFD,
        PORTS_OFFSET + PortReg.TFD + 4,
        bits=1 << 4,
    ),
    _port_mask(
        "CCS",
        "PxCMD.CCS says which command is issued (AHCI 1.3.1 §3.3.7); QEMU's is 0 between commands (right: ours).",
        PortReg.CMD,
        0x1F00,
    ),
    _port_mask(
        "speed", "How fast a link is is the device's affair (AHCI 1.3.1 §3.3.10).", PortReg.SSTS, 0xF0
    ),
    _port_mask(
        "pio-end",
        "A PIO read ends with its last PIO Setup FIS (Serial ATA 3.2 §11.7); QEMU sends another FIS (right: ours).",
        PortReg.IS,
        1,
        tags=frozenset({"pio-in"}),
    ),
    _port_mask(
        "error-end",
        "An error ends in ERR:FatalTaskfile, without PxIS.DHRS (AHCI 1.3.1 §5.3.12); QEMU sets it (right: ours).",
        PortReg.IS,
        1,
        tags=frozenset({"fails"}),
    ),
    _port_mask(
        "packet-abort",
        "ILLEGAL REQUEST is ABRT, too (ATA/ATAPI-7 vol. 2 §6.24.6); QEMU does not show it (right: ours).",
        PortReg.TFD,
        0x0410,
        tags=frozenset({"beyond-disc", "unknown-code"}),
    ),
    of_memory(
        "pio-direction",
        "The D bit of a PIO Setup FIS (Serial ATA 3.2 §10.5.11) is not set by QEMU (right: ours).",
    ),
    _port_mask(
        "beyond",
        "Of ID NOT FOUND and ABORT the device has the choice (ACS-3 §6.3.2).",
        PortReg.TFD,
        0x1410,
        tags=frozenset({"beyond-dma", "beyond-pio"}),
    ),
    of_memory(
        "dma-setup",
        "A queued command's data come after a DMA Setup FIS (Serial ATA 3.2 §13.6.3); QEMU has none (right: ours).",
    ),
    of_memory("fis-address", "What address and count say after a command is not said (ACS-3 §6.2.5)."),
    of_memory("fis-status", "The status in received FISes: PxTFD, which is compared, shows the same."),
    of_memory("identity", "Who a device is, and which optional features it has, is its own (ACS-3 §7.12)."),
)

AHCI_DISK = Device(
    name="ahci-disk",
    what="ich9-ahci with an ide-hd",
    options=[
        {"driver": "ich9-ahci", "id": "sata0", "addr": "4"},
        {"driver": "ide-hd", "bus": "sata0.0", "drive": "d0", "serial": "of-both"},
    ],
    ours={},
    theirs={},
    lines=Lines(slots=(SLOT,)),
    place=place_ahci,
    prologue=(Step("begin", (Write("pci", 4, 2, 0x0007), *ahci.start(cd=False))),),
    observe=(*map(ahci.port, (PortReg.CI, PortReg.SACT, PortReg.TFD, PortReg.IS)), Read("hba", Hba.IS, 4)),
    areas=(
        Area("buffers", ahci.BUFFERS, ahci.BUFFERS_END - ahci.BUFFERS),
        Area("command list", ahci.LIST, 0x400),
        Area("received FISes", ahci.RECEIVED, 0x100),
        Area("command tables", ahci.TABLES, ahci.TABLE_ROOM * ahci.SLOTS),
    ),
    masks=_AHCI_MASKS,
    grammar=ahci.AhciGrammar(),
    label=_ahci_label,
    drive=VIRTIO_BLK.drive,
)

AHCI_CD = replace(
    AHCI_DISK,
    name="ahci-cd",
    what="ich9-ahci with an ide-cd",
    options=[
        {"driver": "ich9-ahci", "id": "sata0", "addr": "4"},
        {"driver": "ide-cd", "bus": "sata0.0", "drive": "d0", "serial": "of-both"},
    ],
    prologue=(Step("begin", (Write("pci", 4, 2, 0x0007), *ahci.start(cd=True))),),
    grammar=ahci.AhciGrammar(cd=True),
    drive={"driver": "file", "node-name": "d0", "read-only": True},
)

DEVICES = {device.name: device for device in (VIRTIO_BLK, TRANSITIONAL, VIRTIO_SCSI, AHCI_DISK, AHCI_CD)}
