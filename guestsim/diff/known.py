"""Differences that are known: what, by which clause, and who is right."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from guestsim.diff.play import Difference
from guestsim.diff.profiles import BOTH, STRICT, Profile

Right = Literal["ours", "QEMU's", "both"]

NEVER_KNOWN = frozenset({"raised", "gone"})
"""Kinds of differences that no entry excuses: a device of ours has raised an exception, or QEMU has ended."""


@dataclass(frozen=True, slots=True)
class Known:
    """One of them, in one sentence.

    It shows in a difference of `kind` at `place` (a pattern), in a sequence with a step that has one of `tags` (if any
    are given); `now`: in that very step, which has all of `all_now`.  Only under these `profiles` is it excused.
    """

    name: str
    what: str
    clause: str
    right: Right
    devices: tuple[str, ...]
    kind: str = "*"
    place: str = "*"
    tags: frozenset[str] = frozenset()
    now: frozenset[str] = frozenset()
    all_now: frozenset[str] = frozenset()
    ours: str = "*"
    theirs: str = "*"
    profiles: frozenset[Profile] = BOTH

    def matches(self, device: str, found: Difference, profile: Profile = "strict") -> bool:
        """Whether the difference is this one."""
        return (
            device in self.devices
            and profile in self.profiles
            and found.kind not in NEVER_KNOWN
            and fnmatchcase(found.kind, self.kind)
            and fnmatchcase(found.place, self.place)
            and fnmatchcase(found.ours, self.ours)
            and fnmatchcase(found.theirs, self.theirs)
            and (not self.tags or bool(self.tags & found.tags))
            and (not self.now or bool(self.now & found.now))
            and self.all_now <= found.now
        )


_BLK = ("virtio-blk", "virtio-blk-transitional")
_SCSI = ("virtio-scsi",)
_VIRTIO = _BLK + _SCSI

_COMPLETION = ("queue ? used *", "interrupt*", "isr*", "pba*")
"""Where it shows that a request is over on one side."""

KNOWN: tuple[Known, ...] = (
    Known(
        "VERSION_1 not accepted",
        "A modern function goes on with a driver that has not accepted VERSION_1; ours refuses FEATURES_OK.",
        "VIRTIO 1.4 §6.2",
        "both",
        _VIRTIO,
        kind="register",
        place="common.device_status",
        now=frozenset({"skip:features"}),
        ours="0x3",
        theirs="0xb",
    ),
    *(
        Known(
            "buffers before DRIVER_OK",
            "Buffers are taken, and interrupts raised, before DRIVER_OK.",
            "VIRTIO 1.4 §2.1.2",
            "ours",
            _VIRTIO,
            kind=kind,
            place=place,
            tags=frozenset({"skip:driver-ok"}),
            ours=mine,
            theirs=others,
        )
        for kind, place, mine, others in (
            ("line", "interrupt", "0b0", "0b1"),
            ("memory", "interrupt messages", "00 00 *", "*"),
            ("memory", "queue ? used index", "00 00 *", "*"),
        )
    ),
    Known(
        "buffers before DRIVER_OK",
        "Buffers are taken, and interrupts raised, before DRIVER_OK.",
        "VIRTIO 1.4 §2.1.2",
        "ours",
        ("virtio-blk", "virtio-scsi"),
        kind="register",
        place="common.device_status",
        tags=frozenset({"skip:driver-ok"}),
        now=frozenset({"broken"}),
        ours="0xb",
        theirs="0x4b",
    ),
    *(
        Known(
            "task attributes",
            "The order that ORDERED and HEAD OF QUEUE ask for is not kept: all commands are SIMPLE ones.",
            "SAM-5 §8.6",
            "ours",
            _SCSI,
            place=place,
            all_now=frozenset({"in-flight", "not-simple"}),
        )
        for place in _COMPLETION
    ),
    *(
        Known(
            "one flush at a time",
            "A flush, or a write through a cache that is off, waits for a flush that is under way.",
            "VIRTIO 1.4 §5.2.6",
            "both",
            _VIRTIO,
            place=place,
            now=frozenset({"held:flush_to_os"}),
        )
        for place in _COMPLETION
    ),
    *(
        Known(
            "bus mastering switched off",
            "DRIVER_OK is no longer set, and stays so; ours goes on when it is switched on again.",
            "PCI 3.0 §6.2.2",
            "ours",
            devices,
            kind="register",
            place=place,
            now=frozenset({"bus-master"}),
            ours=mine,
            theirs=others,
        )
        for devices, place, mine, others in (
            (("virtio-blk", "virtio-scsi"), "common.device_status", "0xf", "0xb"),
            (("virtio-blk-transitional",), "legacy.device_status", "0x7", "0x3"),
        )
    ),
    Known(
        "INDIRECT and NEXT",
        "A descriptor that is indirect and goes on is taken as an indirect one; ours needs a reset.",
        "VIRTIO 1.4 §2.7.5.3.1",
        "both",
        ("virtio-blk", "virtio-scsi"),
        kind="register",
        place="common.device_status",
        now=frozenset({"chain:indirect-next"}),
        ours="0x4f",
        theirs="0xf",
    ),
    Known(
        "driver_feature after a reset",
        "What the driver had accepted is still there after a reset.",
        "VIRTIO 1.4 §2.4.2",
        "both",
        _VIRTIO,
        kind="register",
        place="common.driver_feature",
        now=frozenset({"forgotten"}),
        ours="0x0",
    ),
    Known(
        "ISR status of a configuration change",
        "The queue bit is set with the configuration bit, although no buffer was used.",
        "VIRTIO 1.4 §4.1.4.5.1",
        "ours",
        _VIRTIO,
        kind="register",
        place="*isr*",
        ours="0x2",
        theirs="0x3",
    ),
    Known(
        "the first interrupt",
        "The first buffers used after a reset are told of with an interrupt, whatever used_event says.",
        "VIRTIO 1.4 §2.7.7.2",
        "ours",
        _VIRTIO,
        kind="line",
        place="interrupt",
        tags=frozenset({"polling"}),
        ours="0x0",
        theirs="0x1",
    ),
    Known(
        "vector mapped anew",
        "A message that was pending on a masked vector is forgotten when what it came from is mapped to another one.",
        "PCI 3.0 §6.8.3.4",
        "both",
        _VIRTIO,
        kind="memory",
        place="interrupt messages",
        tags=frozenset({"map-vector"}),
        theirs="00 00 00 00*",
    ),
    Known(
        "vector mapped anew",
        "A message that was pending on a masked vector is forgotten when what it came from is mapped to another one.",
        "PCI 3.0 §6.8.3.4",
        "both",
        _VIRTIO,
        kind="register",
        place="pba+0x0",
        tags=frozenset({"map-vector"}),
    ),
    Known(
        "asynchronous notifications of no unit",
        "They are answered with OK for a logical unit that is not there.",
        "VIRTIO 1.4 §5.6.6.2",
        "ours",
        _SCSI,
        kind="memory",
        place="buffers",
        now=frozenset({"asynchronous"}),
        ours="0[3c] *",
        theirs="00 *",
    ),
    Known(
        "which reset it was",
        "The unit attention after a reset says 29/00 where ours says 29/03 or 29/07.",
        "SPC-4 §4.5.6",
        "both",
        _SCSI,
        kind="memory",
        place="buffers",
        tags=frozenset({"tmf:logical_unit_reset", "tmf:i_t_nexus_reset"}),
        ours="0[37] 00*",
        theirs="00 00*",
    ),
    Known(
        "attention of other targets",
        "Units of all targets say that the reported LUNs have changed where another target comes.",
        "SPC-4 §6.33",
        "ours",
        _SCSI,
        kind="memory",
        place="buffers",
        tags=frozenset({"plug", "unplug"}),
        ours="00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 *",
        theirs="12 00 00 00 00 00 00 00 00 00 02 00 70 00 06 00 *",
    ),
    Known(
        "fields of a finished disc",
        "READ DISC INFORMATION says 0 where a finished disc has no next session: ours says so with ones.",
        "MMC-6 §6.21",
        "ours",
        _SCSI,
        kind="memory",
        place="buffers",
        now=frozenset({"read-disc-information"}),
        ours="ff ff ff ff *",
        theirs="00 00 00 00 *",
    ),
    Known(
        "attention of no unit",
        "A logical unit that is not there has a unit attention condition.",
        "SAM-5 §5.14",
        "ours",
        _SCSI,
        kind="memory",
        place="buffers",
        now=frozenset({"no-unit"}),
        ours="05 *",
        theirs="06 *",
    ),
    Known(
        "REQUEST SENSE and attentions",
        "REQUEST SENSE ends with a unit attention condition instead of telling of it.",
        "SPC-4 §6.39",
        "ours",
        _SCSI,
        kind="memory",
        place="buffers",
        now=frozenset({"request-sense"}),
        ours="00 *",
        theirs="12 *",
    ),
    Known(
        "sense data that stay",
        "REQUEST SENSE tells again of the sense data that a command has ended with.",
        "SPC-4 §4.5.1",
        "ours",
        _SCSI,
        kind="memory",
        place="buffers",
        now=frozenset({"request-sense"}),
        ours="00 00 00 00 00 0a *",
        theirs="0[1-9a-e] 00 00 00 00 0a *",
    ),
    Known(
        "CLEAR ACA of no unit",
        "CLEAR ACA is rejected before it is seen that there is no such unit.",
        "VIRTIO 1.4 §5.6.6.2",
        "both",
        _SCSI,
        kind="memory",
        place="buffers",
        now=frozenset({"tmf:clear_aca"}),
        ours="0[3c] *",
        theirs="0b *",
    ),
    Known(
        "attention before the operation code",
        "A unit attention condition comes before what is wrong with the operation code.",
        "SAM-5 §5.14",
        "both",
        _SCSI,
        kind="memory",
        place="buffers",
        now=frozenset({"unknown-code"}),
        ours="05 *",
        theirs="06 *",
    ),
    Known(
        "VERIFY",
        "VERIFY does not look at the address.",
        "SBC-3 §5.30",
        "ours",
        _SCSI,
        kind="memory",
        place="buffers",
        now=frozenset({"verify"}),
        ours="12 *",
        theirs="00 *",
    ),
    Known(
        "attention after an operation code",
        "A unit attention condition is gone after a command that nobody has, although it was not told of.",
        "SAM-5 §5.14",
        "ours",
        _SCSI,
        kind="memory",
        place="buffers",
        tags=frozenset({"unknown-code", "no-unit"}),
        ours="06 *",
        theirs="05 *",
    ),
    Known(
        "attention after an operation code",
        "A unit attention condition is gone after a command that nobody has, although it was not told of.",
        "SAM-5 §5.14",
        "ours",
        _SCSI,
        kind="memory",
        place="buffers",
        tags=frozenset({"unknown-code", "no-unit"}),
        ours="12 * 02 00 00 00 06 *",
        theirs="00 *",
    ),
    Known(
        "mode pages",
        "QEMU has fewer mode pages, and refuses MODE SENSE for the others.",
        "SPC-4 §6.14",
        "both",
        _SCSI,
        kind="memory",
        place="buffers",
        now=frozenset({"mode-sense"}),
        ours="00 *",
        theirs="12 *",
    ),
    Known(
        "SYNCHRONIZE CACHE (16)",
        "There is no such command, which is optional.",
        "SBC-3 §5.20",
        "both",
        _SCSI,
        now=frozenset({"synchronize-cache-16"}),
        kind="memory",
        place="buffers",
        ours="00 *",
        theirs="12 *",
    ),
    Known(
        "long GET_ID",
        "used.len counts the whole buffer, of which what lies behind the identifier was not written; ours zeroes it.",
        "VIRTIO 1.4 §2.7.8.2",
        "ours",
        _BLK,
        kind="memory",
        place="buffers",
        now=frozenset({"get-id-long"}),
        ours="00 *",
        theirs="ee *",
        profiles=STRICT,
    ),
    Known(
        "types that there are not",
        "Bits 0 and 31 of a request's type are not looked at: 9 is GET_ID, 5 FLUSH.",
        "VIRTIO 1.4 §5.2.6",
        "ours",
        _BLK,
        now=frozenset({"type-alias"}),
        kind="memory",
        place="buffers",
        ours="00 *",
        profiles=STRICT,
    ),
    Known(
        "SCSI commands of virtio-blk",
        "Types 2 and 3, SCSI commands once, are answered otherwise than with UNSUPP.",
        "VIRTIO 1.4 §5.2.6",
        "ours",
        _BLK,
        now=frozenset({"scsi-command"}),
        kind="memory",
        place="buffers",
    ),
    Known(
        "write_zeroes_may_unmap",
        "It is 1 also where the drive does not unmap; ours says what it does.",
        "VIRTIO 1.4 §5.2.6.2",
        "both",
        _BLK,
        kind="register",
        place="device+0x38",
        ours="0x0",
        theirs="0x1",
    ),
    Known(
        "write_zeroes_may_unmap",
        "It is 1 also where the drive does not unmap; ours says what it does.",
        "VIRTIO 1.4 §5.2.6.2",
        "both",
        _BLK,
        kind="register",
        place="legacy+0x[45][0c]",
        ours="0x0",
        theirs="0x1",
    ),
    Known(
        "geometry after a resize",
        "It stays what it was when the device was made; ours goes with the capacity.",
        "VIRTIO 1.4 §5.2.4",
        "both",
        _BLK,
        kind="register",
        place="device+0x10",
        tags=frozenset({"resize"}),
    ),
    Known(
        "geometry after a resize",
        "It stays what it was when the device was made; ours goes with the capacity.",
        "VIRTIO 1.4 §5.2.4",
        "both",
        _BLK,
        kind="register",
        place="legacy+0x2[48]",
        tags=frozenset({"resize"}),
    ),
    Known(
        "CONFIG_WCE without FLUSH",
        "writeback begins as 1 although the driver cannot flush.",
        "VIRTIO 1.4 §5.2.5.2",
        "ours",
        _BLK,
        kind="register",
        place="device+0x20",
        tags=frozenset({"config-wce-without-flush"}),
        ours="0x*0",
        theirs="0x*1",
        profiles=STRICT,
    ),
)


ENDS = (
    (
        "The data of a command that uses PIO come after its port was stopped or reset.",
        "AHCI 1.3.1 §10.4",
        ("ahci-disk",),
    ),
    (
        "The data of a command that uses DMA, and is not queued, come after a software reset by two FISes.",
        "AHCI 1.3.1 §10.4.1",
        ("ahci-disk", "ahci-cd"),
    ),
)
"""What QEMU 7.2 ends of, with a segmentation fault: what, clause, devices.  Sequences keep away from it."""


def known(device: str, found: Difference, profile: Profile = "strict") -> Known | None:
    """The first entry of the table that a difference matches."""
    return next((one for one in KNOWN if one.matches(device, found, profile)), None)
