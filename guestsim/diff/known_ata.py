"""Differences of ATA hosts that are known: what, by which clause, and who is right."""

from __future__ import annotations

from collections.abc import Collection

from guestsim.diff.entries import Known, Shown, memory, register
from guestsim.diff.profiles import STRICT

_AHCI = ("ahci-disk", "ahci-cd")
_IDE = ("ide-disk", "ide-cd")
_RESETS = frozenset({"ata-probe", "ata-reset", "ide-probe", "ide-reset"})
"""Steps of scripts that reset."""


def _of_hbas(name: str, what: str, clause: str, *shown: Shown, now: Collection[str] = ()) -> Known:
    """Of AHCI, where the specification is on our side: under profile `qemu` ours does as QEMU's."""
    return Known(name, what, clause, "ours", _AHCI, shown, now=frozenset(now), profiles=STRICT)


KNOWN_OF_ATA: tuple[Known, ...] = (
    _of_hbas(
        "diagnostics stay issued",
        "EXECUTE DEVICE DIAGNOSTIC ends with an interrupt, and its bit of PxCI stays set.",
        "AHCI 1.3.1 §3.3.14",
        register("PxCI", "0x0", "0x*"),
        now={"execute-device-diagnostic"},
    ),
    _of_hbas(
        "status after a reset",
        "After a reset, and before any command, DF and DSC are set.",
        "Serial ATA 3.2 §11.3",
        register("PxTFD", "0x150", "0x130"),
        register("PxTFD", "0x100", "0x170"),
        memory("received FISes", "50 01 *", "30 01 *"),
        now=_RESETS,
    ),
    _of_hbas(
        "FIS of no device",
        "A port without a device receives a register FIS, as that of a device that was reset.",
        "AHCI 1.3.1 §4.2.1",
        memory("received FISes of an empty port", "00 00 00*", "34 40 50*"),
        memory("received FISes of an empty port", "00 00 00 00 *", "01 ff ff a0 *"),
        memory("received FISes of an empty port", "00 at*", "01 at*"),
    ),
    Known(
        "interrupt of a software reset",
        "A software reset ends with an interrupt.",
        "ATA/ATAPI-7 vol. 2 §11.3",
        "ours",
        _IDE,
        tuple(Shown("line", "interrupt", "0x0", theirs) for theirs in ("0x2", "0x4")),
        now=_RESETS,
        profiles=STRICT,
    ),
    _of_hbas(
        "interrupt of a reset",
        "The FIS that a device sends after a software reset asks for an interrupt.",
        "Serial ATA 3.2 §11.4",
        memory("interrupt messages", "00 at*", "01 at*"),
        memory("received FISes", "00 50 at*", "40 30 at*"),
        register("PxIS", "0x0", "0x1"),
        register("IS", "0x0", "0x1"),
        now={"ata-reset"},
    ),
    Known(
        "obsolete bits after a reset",
        "In the FIS after a reset bits 7 and 5 of the device register, which are obsolete, are set.",
        "ACS-3 §6.3",
        "both",
        _AHCI,
        (memory("received FISes", "00 at*", "a0 at*"),),
        now=frozenset({"ata-reset"}),
        profiles=STRICT,
    ),
    Known(
        "regions that are left",
        "A bus master that has moved a packet's data is not active any more, whatever regions are left.",
        "SFF-8038i §2.2",
        "ours",
        ("ide-cd",),
        (register("master+0x2", "0x5", "0x4"), register("master+0x2", "0x1", "0x0")),
        now=frozenset({"packet"}),
        profiles=STRICT,
    ),
    Known(
        "diagnostics of the other device",
        "EXECUTE DEVICE DIAGNOSTIC is done by the selected device alone.",
        "ACS-3 §7.9",
        "ours",
        ("ide-pair",),
        (
            register("control+0x0", "0x50", "0x41"),
            register("ide.ERROR", "0x1", "0x0"),
            register("ide.ERROR", "0x1", "0x4"),
            register("ide.COUNT", "0x1", "0x0"),
        ),
        now=frozenset({"execute-device-diagnostic"}),
        profiles=STRICT,
    ),
    _of_hbas(
        "more data than regions",
        "Where a command has more data than its PRDs have room for, PxIS.OFS is not set, and PRDBC is 0.",
        "AHCI 1.3.1 §3.3.5",
        register("PxIS", "0x1000001", "0x1"),
        register("PxIS", "0x1000000", "0x0"),
        memory("command list", "be 02 at*", "00 00 at*"),
        now={"slot"},
    ),
    _of_hbas(
        "link that goes down",
        "A COMRESET that begins is no change of PhyRdy: PxIS.PRCS is not set, and no interrupt told.",
        "AHCI 1.3.1 §3.3.5",
        register("IS", "0x1", "0x0"),
        register("PxIS", "0x400000", "0x0"),
        memory("interrupt messages", "01 at*", "00 at*"),
        now={"comreset"},
    ),
    _of_hbas(
        "bytes moved are added",
        "PRDBC becomes the sum of what the header holds in memory by then, and of what was moved.",
        "AHCI 1.3.1 §4.2.2",
        memory("command list", "00 04 00 00 *", "01 05 01 01 *"),
        now={"slot"},
    ),
)
