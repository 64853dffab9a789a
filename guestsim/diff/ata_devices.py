"""The ATA host adapters that can be compared, with a disk or a CD drive."""

from __future__ import annotations

from dataclasses import replace

from guestsim.diff.access import Read, Step, Write
from guestsim.diff.ahci_masks import ANY_REGISTERS
from guestsim.diff.arena import MESSAGES, MESSAGES_SIZE
from guestsim.diff.device import FUNCTION, SLOT, Device
from guestsim.diff.grammar import ahci, ahci_packets, ahci_port, ide, ide_packets, ide_tables
from guestsim.diff.grammar.packets import CD, CD_AS_QEMU
from guestsim.diff.masks import Mask, of_memory, strict
from guestsim.diff.packet_masks import PACKET_MASKS, PIO_MASKS
from guestsim.diff.play import Area
from guestsim.diff.sides import Lines, Side, Window, Windows
from guestsim.drivers.ahci_layouts import PORT_STRIDE, PORTS_OFFSET, Hba, PortReg
from guestsim.drivers.ide_layouts import Reg

HBA_BAR, HBA_SIZE = 0xE002_0000, 0x1000
MSI = Window(FUNCTION.base + 0x80, 0x0E)
"""The MSI capability of an ICH9's function (316972-004 §14.1.27)."""


def place_ahci(side: Side) -> Windows:
    """Give an HBA its address (AHCI 1.3.1 §2.1.11)."""
    side.windows = {"pci": FUNCTION}
    side.do([Write("pci", 0x24, 4, HBA_BAR), Write("pci", 4, 2, 0x0007)])
    return {"pci": FUNCTION, "hba": Window(HBA_BAR, HBA_SIZE), "msi": MSI}


_HBA_NAMES = {register.value: register.name for register in Hba}
_PORT_NAMES = {register.value: f"Px{register.name}" for register in PortReg}


def _ahci_label(read: Read) -> str:
    where = f"{read.window}+{read.offset:#x}"
    if read.window != "hba":
        return where
    if read.offset >= PORTS_OFFSET:
        found = _PORT_NAMES.get((read.offset - PORTS_OFFSET) % PORT_STRIDE)
    else:
        found = _HBA_NAMES.get(read.offset)
    return found or where


Values = tuple[int | None, int | None]


def _port_mask(name: str, reason: str, register: PortReg, bits: int, values: Values, *tags: str) -> Mask:
    at = PORTS_OFFSET + register
    return Mask(name, reason, "hba", at, at + 4, bits, frozenset(tags), values)


SLOTS = tuple(1 << slot for slot in range(32))
"""Bits of PxCI."""
DSC = (
    "DSC",
    "Bit 4 of the status is obsolete (ACS-3 §6.2): ours shows it as ATA-5 has it, QEMU only where all went well.",
)
ABORT = (
    "packet-abort",
    "ILLEGAL REQUEST is ABRT, too (ATA/ATAPI-7 vol. 2 §6.24.6); QEMU does not show it (right: ours).",
)
BEYOND = (
    "beyond",
    "Of ID NOT FOUND, with the address that is not there, and ABORT the device has the choice (ACS-3 §6.3.2).",
)
OUTPUTS = (
    "outputs",
    "Sectors' commands that end well output neither count nor address (ATA/ATAPI-7 vol. 1 §6): QEMU's have gone on.",
)
POWER = (
    "power",
    "CHECK POWER MODE tells of the mode (ACS-3 §7.3); QEMU's disk is always active (right: ours).",
)
ABSENT = (
    "absent",
    "Device 0 answers for an absent device 1 (ATA/ATAPI-6 §9.16.1); QEMU has registers of its own (right: ours).",
)
OURS_ALONE = (
    "ours-alone",
    "Of what is optional, ours has accessible max address and power-up in standby (ACS-3 §4.4, §4.16).",
)
THEIRS_ALONE = (
    "theirs-alone",
    (
        "QEMU has retired codes of power commands (ATA/ATAPI-4), and takes subcommands of SET FEATURES that its disk "
        "does not have (ACS-3 §7.45; right: ours)."
    ),
)
OURS, THEIRS = "ours-alone", "theirs-alone"
IDENTITY = (
    "identity",
    "Who a device is, and which optional features it has, is its own (ACS-3 §7.12, SPC-4 §6.6).",
)
INTERRUPTED = (
    "interrupted",
    "How much a command has transferred that is stopped is not said (AHCI 1.3.1 §10.4, SFF-8038i §2.3).",
)
WRONG_TABLES = (
    (
        ide_tables.NOWHERE,
        (
            "A bus master whose table is not in memory sets its error bit (SFF-8038i §2.2); QEMU's takes it for "
            "zeroes, and the command ends well (right: ours)."
        ),
    ),
    (
        ide_tables.LONG,
        "A table may have 64 KiB (SFF-8038i §1.2); QEMU's ends after 4096 bytes, without an interrupt (right: ours).",
    ),
    (
        ide_tables.ENDLESS,
        (
            "A disk that has more data than a table of 64 KiB without an end has room for waits (SFF-8038i §3); "
            "QEMU's command is over, without any data (right: ours)."
        ),
    ),
)
REFUSED = ("fails",)
BEHIND = ("beyond-dma", "beyond-pio")

WITHOUT_DSC = ("standby", "standby-immediate", "idle", "idle-immediate")
"""Commands that end well without it on QEMU."""

BUSY = (
    "busy",
    "BSY is set while a command is under way (AHCI 1.3.1 §3.3.8); QEMU clears it when data may come (right: ours).",
)
WHILE_BUSY = ("while-busy", "While BSY is set no other bit of the status says anything (ATA/ATAPI-6 §7.15).")
DATA_PHASE = (
    "data-phase",
    "While a packet's data go by DMA either BSY or DRQ is set (ATA/ATAPI-7 vol. 2 §11.8); QEMU sets both.",
)
IN_FLIGHT = "in-flight"

_AHCI_MASKS = (
    *strict(
        _port_mask(*BUSY, PortReg.TFD, 0x88, (0x80, 0), IN_FLIGHT),
        _port_mask(*BUSY, PortReg.TFD, 0x88, (0x80, 0x08), IN_FLIGHT),
    ),
    *strict(_port_mask(*DSC, PortReg.TFD, 0x10, (0x10, 0), "fails", *WITHOUT_DSC)),
    *strict(
        _port_mask(
            "CCS",
            "PxCMD.CCS says which command is issued (AHCI 1.3.1 §3.3.7); QEMU's is 0 between commands (right: ours).",
            PortReg.CMD,
            0x1F00,
            (None, 0),
        )
    ),
    *strict(
        _port_mask(
            "speed",
            "How fast a link is is the device's affair (AHCI 1.3.1 §3.3.10): ours has 6, QEMU's 1.5 Gbit/s.",
            PortReg.SSTS,
            0xF0,
            (0x30, 0x10),
        )
    ),
    *strict(
        _port_mask(
            "pio-end",
            "A PIO read ends with its last PIO Setup FIS (Serial ATA 3.2 §11.7); QEMU sends another FIS (right: ours).",
            PortReg.IS,
            1,
            (0, 1),
            "pio-in",
        )
    ),
    *strict(
        _port_mask(
            "error-end",
            "An error ends in ERR:FatalTaskfile, without PxIS.DHRS (AHCI 1.3.1 §5.3.12); QEMU sets it (right: ours).",
            PortReg.IS,
            1,
            (0, 1),
            "fails",
        )
    ),
    *strict(
        of_memory(
            "pio-direction",
            "The D bit of a PIO Setup FIS (Serial ATA 3.2 §10.5.11) is not set by QEMU (right: ours).",
        )
    ),
    *strict(
        of_memory(
            "pio-status",
            "E_Status is the status after the data (Serial ATA 3.2 §10.5.11); QEMU's is the one before (right: ours).",
        )
    ),
    *strict(*ANY_REGISTERS, of_memory(*IDENTITY)),
    of_memory(*INTERRUPTED),
    *strict(
        of_memory(
            "issued",
            "COMRESET clears neither PxCI nor PxSACT (AHCI 1.3.1 §3.3.13, §3.3.14); QEMU clears both (right: ours).",
        )
    ),
)
_AHCI_DISK_MASKS = (
    *strict(of_memory(*POWER)),
    *strict(_port_mask(*BEYOND, PortReg.TFD, 0x1410, (0x1010, 0x0400), *BEHIND), of_memory(*OUTPUTS)),
    *strict(
        of_memory(
            "dma-setup",
            "A queued command's data come after a DMA Setup FIS (Serial ATA 3.2 §13.6.3); QEMU has none (right: ours).",
        )
    ),
    *strict(
        of_memory(*OURS_ALONE),
        of_memory(*THEIRS_ALONE),
        _port_mask(*OURS_ALONE, PortReg.TFD, 0x0411, (0x0010, 0x0401), OURS),
        _port_mask(*OURS_ALONE, PortReg.IS, 0x4000_0000, (0, 0x4000_0000), OURS),
        *(_port_mask(*OURS_ALONE, PortReg.CI, bit, (0, bit), OURS) for bit in SLOTS),
        *(
            _port_mask(*THEIRS_ALONE, PortReg.TFD, 0x0411, (mine, others), THEIRS)
            for mine in (0x0411, 0x0401)
            for others in (0x0010, 0)
        ),
        _port_mask(*THEIRS_ALONE, PortReg.IS, 0x4000_0001, (0x4000_0000, 1), THEIRS),
        _port_mask(*THEIRS_ALONE, PortReg.IS, 0x4000_0001, (0x4000_0001, 1), THEIRS),
        *(_port_mask(*THEIRS_ALONE, PortReg.CI, bit, (bit, 0), THEIRS) for bit in SLOTS),
    ),
    *strict(
        of_memory(
            "accepted",
            "The FIS that accepts a queued command says nothing by count and address (ACS-3 §7.23, §7.61): ours are "
            "the command's, QEMU's those of the last command that was not queued.",
        ),
        of_memory(
            "dropped",
            "A Set Device Bits FIS tells of commands that have ended (Serial ATA 3.2 §10.5.7); QEMU's first one after "
            "a reset of the HBA tells of those that it has dropped, too (right: ours).",
        ),
    ),
    of_memory("order", "Queued commands may end in any order (Serial ATA 3.2 §13.6.3)."),
)
_AHCI_CD_MASKS = (
    *strict(
        of_memory(
            "pio-count",
            "A PIO Setup FIS tells the bytes of a DRQ block (Serial ATA 3.2 §10.5.11); QEMU's of what is left of a "
            "sector (right: ours).",
        )
    ),
    *strict(_port_mask(*ABORT, PortReg.TFD, 0x0410, (0x410, 0), *REFUSED)),
    *PACKET_MASKS,
)

AHCI_DISK = Device(
    name="ahci-disk",
    what="ich9-ahci with an ide-hd",
    options=[
        {"driver": "ich9-ahci", "id": "sata0", "addr": "4"},
        {"driver": "ide-hd", "id": "disk0", "bus": "sata0.0", "drive": "d0", "serial": "of-both"},
    ],
    ours={},
    theirs={},
    lines=Lines(slots=(SLOT,)),
    place=place_ahci,
    prologue=(
        Step(
            "begin",
            (Write("pci", 4, 2, 0x0007), Write("msi", ahci.MSI_CONTROL, 2, 0), *ahci_port.start(cd=False)),
        ),
    ),
    observe=(
        *map(ahci_port.port, (PortReg.CI, PortReg.SACT, PortReg.TFD, PortReg.IS)),
        Read("hba", Hba.IS, 4),
    ),
    areas=(
        Area("buffers", ahci_port.BUFFERS, ahci_port.BUFFERS_END - ahci_port.BUFFERS),
        Area("interrupt messages", MESSAGES, MESSAGES_SIZE),
        Area("command list", ahci_port.LIST, 0x400),
        Area("received FISes", ahci_port.RECEIVED, 0x100),
        Area("command tables", ahci_port.TABLES, ahci_port.TABLE_ROOM * ahci_port.SLOTS),
    ),
    masks=_AHCI_MASKS + _AHCI_DISK_MASKS,
    grammar=ahci.AhciGrammar(),
    label=_ahci_label,
    drive={"discard": "unmap"},
    user="/machine/peripheral/disk0",
)

AHCI_CD = replace(
    AHCI_DISK,
    name="ahci-cd",
    what="ich9-ahci with an ide-cd",
    options=[
        {"driver": "ich9-ahci", "id": "sata0", "addr": "4"},
        {"driver": "ide-cd", "id": "disk0", "bus": "sata0.0", "drive": "d0", "serial": "of-both"},
    ],
    prologue=(
        Step(
            "begin",
            (Write("pci", 4, 2, 0x0007), Write("msi", ahci.MSI_CONTROL, 2, 0), *ahci_port.start(cd=True)),
        ),
    ),
    masks=_AHCI_MASKS + _AHCI_CD_MASKS,
    grammar=ahci.AhciGrammar(CD, ahci_packets.PacketLowering),
    grammar_as_qemu=ahci.AhciGrammar(CD_AS_QEMU, ahci_packets.AsQemuLowering),
    drive={"read-only": True},
)


IDE_COMMAND, IDE_CONTROL, BUS_MASTER = 0x1F0, 0x3F6, 0xC100


def place_ide(side: Side) -> Windows:
    """Give a PIIX function's bus master its ports, and have channel 0 decoded (82371SB §2.3.9)."""
    side.windows = {"pci": FUNCTION}
    side.do([Write("pci", 0x20, 4, BUS_MASTER), Write("pci", 0x40, 2, 0x8000), Write("pci", 4, 2, 0x0005)])
    found = dict.fromkeys(("ide", "data", "identity"), Window(IDE_COMMAND, 8, port=True))
    found |= {"control": Window(IDE_CONTROL, 1, port=True), "master": Window(BUS_MASTER, 16, port=True)}
    return {"pci": FUNCTION, **found}


def _ide_label(read: Read) -> str:
    names = {("ide", reg.value): f"ide.{reg.name}" for reg in Reg}
    return names.get((read.window, read.offset), f"{read.window}+{read.offset:#x}")


def _ide_mask(what: tuple[str, str], register: Reg, bits: int, values: Values, *tags: str) -> Mask:
    return Mask(*what, "ide", register, register + 1, bits, frozenset(tags), values)


_IDE_MASKS = (
    *strict(_ide_mask(DSC, Reg.STATUS, 0x10, (0x10, 0)), Mask(*DSC, "control", 0, 1, 0x10, values=(0x10, 0))),
    *strict(
        Mask(*WHILE_BUSY, "control", 0, 1, 0xD0, frozenset({IN_FLIGHT}), values=(0x80, 0xD0)),
        Mask(*WHILE_BUSY, "control", 0, 1, 0xC0, frozenset({IN_FLIGHT}), values=(0x80, 0xC0)),
        Mask(*DATA_PHASE, "control", 0, 1, 0x88, frozenset({IN_FLIGHT}), values=(0x08, 0x88)),
    ),
    *strict(Mask(*IDENTITY, "identity", 0, 4)),
    of_memory(*INTERRUPTED),
)
_IDE_DISK_MASKS = (
    *strict(
        _ide_mask(BEYOND, Reg.ERROR, 0x14, (0x10, 0x04), *BEHIND), of_memory(*OUTPUTS), of_memory(*POWER)
    ),
    *strict(of_memory(*ABSENT)),
    *strict(*(of_memory(*what) for what in WRONG_TABLES)),
    *strict(
        *(
            Mask(*what, window, start, start + 1, bits, frozenset({tag}), values)
            for what, tag, error, both in (
                (OURS_ALONE, OURS, (0, 4), ((0x10, 0x01),)),
                (THEIRS_ALONE, THEIRS, (4, 0), ((0x11, 0x10), (0x11, 0), (0x01, 0x10), (0x01, 0))),
            )
            for window, start, bits, values in (
                ("ide", Reg.ERROR, 0x04, error),
                *(("ide", Reg.STATUS, 0x11, pair) for pair in both),
                *(("control", 0, 0x11, pair) for pair in both),
            )
        ),
    ),
    *strict(
        Mask(
            "refused-dma",
            "A bus master that is started for a command that was refused at once stays active (SFF-8038i §2.2); "
            "QEMU refuses when it is started.",
            "master",
            2,
            3,
            bits=0x01,
            tags=frozenset({"beyond-dma"}),
            values=(1, 0),
        )
    ),
)
_IDE_CD_MASKS = (
    *strict(_ide_mask(ABORT, Reg.ERROR, 0x04, (4, 0), *REFUSED)),
    *PACKET_MASKS,
    *PIO_MASKS,
)


IDE_DISK = replace(
    AHCI_DISK,
    name="ide-disk",
    what="piix3-ide with an ide-hd",
    options=[
        {"driver": "piix3-ide", "id": "ide0", "addr": "4"},
        {"driver": "ide-hd", "id": "disk0", "bus": "ide0.0", "unit": 0, "drive": "d0", "serial": "of-both"},
    ],
    lines=Lines(irqs=(14,)),
    place=place_ide,
    prologue=(Step("begin", ide.begin(cd=False)),),
    observe=(ide.ALTERNATE, ide.MASTER),
    areas=(
        Area("buffers", ide.BUFFERS, ide.BUFFERS_END - ide.BUFFERS),
        Area("table", ide.TABLES, 0x100),
    ),
    masks=_IDE_MASKS + _IDE_DISK_MASKS,
    grammar=ide.IdeGrammar(lowering=ide_tables.TableLowering, more=ide_tables.MORE),
    label=_ide_label,
)

IDE_PAIR = replace(
    IDE_DISK,
    name="ide-pair",
    what="piix3-ide with two ide-hd on one channel",
    options=[
        *IDE_DISK.options,
        {"driver": "ide-hd", "id": "disk1", "bus": "ide0.0", "unit": 1, "drive": "d1", "serial": "the-other"},
    ],
    grammar=ide.IdeGrammar(lowering=ide_tables.TableLowering, more=ide_tables.MORE, pair=True),
    disks=2,
)

IDE_CD = replace(
    IDE_DISK,
    name="ide-cd",
    what="piix3-ide with an ide-cd",
    options=[
        {"driver": "piix3-ide", "id": "ide0", "addr": "4"},
        {"driver": "ide-cd", "id": "disk0", "bus": "ide0.0", "unit": 0, "drive": "d0", "serial": "of-both"},
    ],
    prologue=(Step("begin", ide.begin(cd=True)),),
    masks=_IDE_MASKS + _IDE_CD_MASKS,
    grammar=ide.IdeGrammar(CD, ide_packets.PacketLowering),
    grammar_as_qemu=ide.IdeGrammar(CD_AS_QEMU, ide_packets.AsQemuLowering),
    drive=AHCI_CD.drive,
)
