"""Differences that are known: what, by which clause, and who is right."""

from __future__ import annotations

from guestsim.diff.entries import (
    Known,
    Shown,
    memory,
    ours_has_more_bits,
    ours_is_next,
    register,
    theirs_has_more_bits,
    theirs_is_ahead,
)
from guestsim.diff.entries import buffers as _buffers
from guestsim.diff.grammar.virtio import MOST_MEANWHILE
from guestsim.diff.known_ata import KNOWN_OF_ATA
from guestsim.diff.known_blk import KNOWN_OF_BLK
from guestsim.diff.play import Difference
from guestsim.diff.profiles import STRICT, Profile

_BLK = ("virtio-blk", "virtio-blk-transitional")
_SCSI = ("virtio-scsi", "virtio-scsi-cd")
_VIRTIO = _BLK + _SCSI
_MODERN = ("virtio-blk", *_SCSI)

_MESSAGE, _NO_MESSAGE = "0[1-9] 00 00 00*", "00 00 00 00*"
"""What an interrupt has written, and what was there before."""


_FLAGS_AT = {at: ("?? " * (14 - at), f"* at 0x*{at:x}") for at in (8, 9, 10, 12, 14)}
"""Where descriptors of packed rings begin to differ, in length, identifier or flags, and what lies around the flags."""
_LAPS = (("8[02] 80 ", "8[0-7] 00 "), ("0[02] 00 ", "0[0-7] 80 "))
"""Flags of used descriptors and of those that are not, in each of two laps (VIRTIO 1.4 §2.8.1)."""
_DESCRIPTORS = "queue ? descriptors"

_USED = tuple(
    (f"{a}{used}{z}", f"{a}{not_used}{z}") for a, z in _FLAGS_AT.values() for used, not_used in _LAPS
)
"""A descriptor that one side has used, and the other one has not."""

_OTHER_ORDER = (
    memory("queue ? used ring", "?? 00 00 00 *", "?? 00 00 00 *"),
    *(
        memory(_DESCRIPTORS, f"{a}{used}{z}", f"{a}{used}{z}")
        for a, z in _FLAGS_AT.values()
        for used, _ in _LAPS
    ),
)
"""Both have used the same buffers, one after the other."""

_ONE_MORE_OF_OURS = (
    *(memory(_DESCRIPTORS, used, not_used) for used, not_used in _USED),
    Shown("line", "interrupt", "0b1", "0b0"),
    memory("interrupt messages", _MESSAGE, _NO_MESSAGE),
    memory("queue ? used index", "*", "*", ours_is_next),
)
"""Where it shows that one request is over on our side, and not on QEMU's."""
_SOME_MORE_OF_THEIRS = (
    *(memory(_DESCRIPTORS, not_used, used) for used, not_used in _USED),
    Shown("line", "interrupt", "0b0", "0b1"),
    memory("interrupt messages", _NO_MESSAGE, _MESSAGE),
)
"""Where it shows that requests are over on QEMU's side, and not on ours: but the index, which tells how many."""

_GOOD = "00 00 00 00 ?? ?? ?? ?? 00 00 00 00"
"""The response of a SCSI command that has ended well: no sense data, residual count, status (VIRTIO 1.4 §5.6.6.1)."""


def _check(key: str) -> str:
    """A response with CHECK CONDITION and a sense key; its first byte of sense data is compared in scripts alone."""
    return f"12 00 00 00 ?? ?? ?? ?? 00 00 02 00 ?0 00 {key}"


def _sense(key: str, code: str) -> str:
    """The rest of sense data, from the key to the additional sense code (SPC-4 §4.5.3)."""
    return f"{key} ?? ?? ?? ?? 0a ?? ?? ?? ?? {code}"


_ATTENTION = _sense("06", "[23]?")
"""Sense data of a unit attention condition: 29, 2a and 3f, and what else there is of them."""

KNOWN: tuple[Known, ...] = (
    Known(
        "VERSION_1 not accepted",
        "A modern function goes on with a driver that has not accepted VERSION_1; ours refuses FEATURES_OK.",
        "VIRTIO 1.4 §6.2",
        "both",
        _VIRTIO,
        (register("common.device_status", "0x3", "0xb"),),
        now=frozenset({"skip:features"}),
        profiles=STRICT,
    ),
    Known(
        "errors of a SCSI passthrough request",
        "Of the legacy request type 2 a code of four bytes is written into the penultimate buffer, whatever its size.",
        "VIRTIO 1.4 §2.7.5",
        "ours",
        _BLK,
        (memory("memory that no device may write", "00 ?? ?? ?? at *", "ff 00 00 00 at *"),),
        now=frozenset({"chain"}),
        profiles=STRICT,
    ),
    Known(
        "buffers before DRIVER_OK",
        "Buffers are taken, and interrupts raised, before DRIVER_OK.",
        "VIRTIO 1.4 §2.1.2",
        "ours",
        _VIRTIO,
        (
            Shown("line", "interrupt", "0b0", "0b1"),
            memory("interrupt messages", _NO_MESSAGE, _MESSAGE),
            memory("queue ? used index", "00 00 *", "0[1-4] 00 *"),
            memory("queue ? used flags", "00 00 00 *", "80 02 00 *"),
            *(memory(_DESCRIPTORS, not_used, used) for used, not_used in _USED),
        ),
        now=frozenset({"before-driver-ok"}),
        profiles=STRICT,
    ),
    Known(
        "buffers before DRIVER_OK",
        "Buffers are taken, and interrupts raised, before DRIVER_OK.",
        "VIRTIO 1.4 §2.1.2",
        "ours",
        _MODERN,
        (register("common.device_status", "0xb", "0x4b"),),
        all_now=frozenset({"before-driver-ok", "broken"}),
        profiles=STRICT,
    ),
    *(
        Known(
            "task attributes",
            "The order that ORDERED and HEAD OF QUEUE ask for is not kept: all commands are SIMPLE ones.",
            "SAM-5 §8.6",
            "ours",
            _SCSI,
            (
                *_SOME_MORE_OF_THEIRS,
                *_OTHER_ORDER,
                memory("queue ? used index", "*", "*", theirs_is_ahead(others)),
            ),
            all_now=frozenset({"in-flight", "not-simple", f"beside:{others}"}),
            profiles=STRICT,
        )
        for others in range(1, MOST_MEANWHILE + 1)
    ),
    Known(
        "one flush at a time",
        "A flush, or a write through a cache that is off, waits for a flush that is under way.",
        "VIRTIO 1.4 §5.2.6",
        "both",
        _VIRTIO,
        _ONE_MORE_OF_OURS,
        now=frozenset(
            f"meanwhile:{name}"
            for name in (
                *("flush", "alias:flush", "out", "write-zeroes"),
                *("synchronize-cache-10", "synchronize-cache-16", "write", "write-6", "write-same"),
                *("read-fua", "write-fua", "write-and-verify"),
            )
        ),
        all_now=frozenset({"held:flush_to_os"}),
        profiles=STRICT,
    ),
    Known(
        "bus mastering switched off",
        "DRIVER_OK is no longer set, and stays so; ours goes on when it is switched on again.",
        "PCI 3.0 §6.2.2",
        "ours",
        _VIRTIO,
        (
            register("common.device_status", "0xf", "0xb"),
            register("legacy.device_status", "0x7", "0x3"),
        ),
        now=frozenset({"bus-master"}),
        profiles=STRICT,
    ),
    Known(
        "INDIRECT and NEXT",
        "A descriptor that is indirect and goes on is taken as an indirect one; ours needs a reset.",
        "VIRTIO 1.4 §2.7.5.3.1",
        "both",
        _MODERN,
        (register("common.device_status", "0x4f", "0xf"),),
        now=frozenset({"chain:indirect-next"}),
        profiles=STRICT,
    ),
    Known(
        "driver_feature after a reset",
        "What the driver had accepted is still there after a reset.",
        "VIRTIO 1.4 §2.4.2",
        "both",
        _VIRTIO,
        (register("common.driver_feature", "0x0", "0x*"),),
        now=frozenset({"forgotten"}),
        profiles=STRICT,
    ),
    Known(
        "ISR status of a configuration change",
        "The queue bit is set with the configuration bit, although no buffer was used.",
        "VIRTIO 1.4 §4.1.4.5.1",
        "ours",
        _VIRTIO,
        (register("isr+0x0", "0x2", "0x3"), register("legacy.isr", "0x2", "0x3")),
        tags=frozenset({"resize"}),
        profiles=STRICT,
    ),
    Known(
        "the first interrupt",
        "The first buffers used after a reset are told of with an interrupt, whatever used_event says.",
        "VIRTIO 1.4 §2.7.7.2",
        "ours",
        _VIRTIO,
        (Shown("line", "interrupt", "0x0", "0x1"),),
        tags=frozenset({"polling"}),
        profiles=STRICT,
    ),
    *(
        Known(
            "interrupts of a packed ring that goes round",
            "Where used descriptors go round the ring's end an interrupt comes whatever the driver's event says.",
            "VIRTIO 1.4 §2.8.10",
            "ours",
            _MODERN,
            shown,
            tags=frozenset({"ring-goes-round"}),
            now=now,
            profiles=STRICT,
        )
        for now, shown in (
            (
                frozenset({"ring-goes-round"}),
                (
                    Shown("line", "interrupt", "0b0", "0b1"),
                    memory("interrupt messages", _NO_MESSAGE, _MESSAGE),
                ),
            ),
            (
                frozenset({"unmask", "broken"}),
                (
                    Shown("line", "interrupt", "0b0", "0b1"),
                    memory("interrupt messages", _NO_MESSAGE, _MESSAGE),
                    Shown("register", "pba+0x0", "0x*", "0x*", theirs_has_more_bits),
                    register("isr+0x0", "0x0", "0x1"),
                    register("isr-msix+0x0", "0x0", "0x1"),
                    register("pci+0x6", "0x10", "0x18"),
                ),
            ),
        )
    ),
    Known(
        "vector mapped anew",
        "A message that was pending on a masked vector is forgotten when what it came from is mapped to another one.",
        "PCI 3.0 §6.8.3.4",
        "both",
        _VIRTIO,
        (
            memory("interrupt messages", _MESSAGE, _NO_MESSAGE),
            Shown("register", "pba+0x0", "0x*", "0x*", ours_has_more_bits),
        ),
        tags=frozenset({"map-vector"}),
        profiles=STRICT,
    ),
    Known(
        "asynchronous notifications of no unit",
        "They are answered with OK for a logical unit that is not there.",
        "VIRTIO 1.4 §5.6.6.2",
        "ours",
        _SCSI,
        _buffers("0[3c] ", "00 "),
        now=frozenset({"asynchronous"}),
        profiles=STRICT,
    ),
    Known(
        "asynchronous notifications of a CD drive",
        "There are none; ours has those of power, of operational changes and of media.",
        "VIRTIO 1.4 §5.6.6.2",
        "both",
        ("virtio-scsi-cd",),
        (
            *_buffers("02 00 00 00 00 ", "00 00 00 00 00 "),
            *_buffers("16 00 00 00 00 ", "00 00 00 00 00 "),
        ),
        now=frozenset({"asynchronous"}),
        profiles=STRICT,
    ),
    *(
        Known(
            "which reset it was",
            "The unit attention after a reset says 29/00 where ours says 29/03 or 29/07.",
            "SPC-4 §4.5.6",
            "both",
            _SCSI,
            _buffers(f"{qualifier} 00", "00 00"),
            tags=frozenset({f"tmf:{function}"}),
            profiles=STRICT,
        )
        for function, qualifier in (("logical_unit_reset", "03"), ("i_t_nexus_reset", "07"))
    ),
    Known(
        "I_T NEXUS RESET of no target",
        "It is answered with OK for a target that is not there.",
        "VIRTIO 1.4 §5.6.6.2",
        "ours",
        _SCSI,
        _buffers("03 ", "00 "),
        now=frozenset({"tmf:i_t_nexus_reset"}),
        profiles=STRICT,
    ),
    Known(
        "attention of other targets",
        "Units of all targets say that the reported LUNs have changed where another target comes.",
        "SPC-4 §6.33",
        "ours",
        _SCSI,
        _buffers("00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 ", _check("06")),
        tags=frozenset({"plug", "unplug"}),
        profiles=STRICT,
    ),
    Known(
        "fields of a finished disc",
        "READ DISC INFORMATION says 0 where a finished disc has no next session: ours says so with ones.",
        "MMC-6 §6.21",
        "ours",
        _SCSI,
        _buffers("ff ff ff ff ", "00 00 00 00 "),
        now=frozenset({"read-disc-information"}),
        profiles=STRICT,
    ),
    Known(
        "attention of no unit",
        "A logical unit that is not there has a unit attention condition.",
        "SAM-5 §5.14",
        "ours",
        _SCSI,
        _buffers(_sense("05", "25"), _ATTENTION),
        now=frozenset({"no-unit"}),
        profiles=STRICT,
    ),
    Known(
        "REQUEST SENSE and attentions",
        "REQUEST SENSE ends with a unit attention condition instead of telling of it.",
        "SPC-4 §6.39",
        "ours",
        _SCSI,
        _buffers(_GOOD, _check("06")),
        now=frozenset({"request-sense"}),
        profiles=STRICT,
    ),
    Known(
        "sense data that stay",
        "REQUEST SENSE tells again of the sense data that a command has ended with.",
        "SPC-4 §4.5.1",
        "ours",
        _SCSI,
        (
            *_buffers("00 00 00 00 00 0a ", "0[1-9a-e] 00 00 00 00 0a "),
            # In the descriptor format (§4.5.2).
            *_buffers("00 00 00 00 00 00 00 ", "0[1-9a-e] ?? ?? 00 00 00 00 "),
            # An attention is told of by ours.
            *_buffers("06 00 00 00 00 0a ", "05 00 00 00 00 0a "),
            *_buffers("06 ?? ?? 00 00 00 00 ", "05 ?? ?? 00 00 00 00 "),
        ),
        now=frozenset({"request-sense"}),
        profiles=STRICT,
    ),
    Known(
        "sense data longer than asked for",
        "Sense data that stay are more than the allocation length of REQUEST SENSE: the transport says OVERRUN.",
        "SPC-4 §4.2.5.6",
        "ours",
        _SCSI,
        _buffers("00 00 00 00 00 00 00 00 00 00 00 00 ", "01 00 00 00 00 00 00 00 00 00 00 00 "),
        now=frozenset({"request-sense-short"}),
        profiles=STRICT,
    ),
    Known(
        "CLEAR ACA of no unit",
        "CLEAR ACA is rejected before it is seen that there is no such unit.",
        "VIRTIO 1.4 §5.6.6.2",
        "both",
        _SCSI,
        _buffers("0[3c] ", "0b "),
        now=frozenset({"tmf:clear_aca"}),
        profiles=STRICT,
    ),
    Known(
        "attention before the operation code",
        "A unit attention condition comes before what is wrong with the operation code.",
        "SAM-5 §5.14",
        "both",
        _SCSI,
        (*_buffers(_sense("05", "20"), _ATTENTION), *_buffers(_sense("07", "27"), _ATTENTION)),
        now=frozenset({"unknown-code"}),
        profiles=STRICT,
    ),
    Known(
        "attention before the service action",
        "A unit attention condition comes before an operation code, or its service action, that nobody has.",
        "SAM-5 §5.14",
        "both",
        _SCSI,
        _buffers(_sense("05", "24"), _ATTENTION),
        now=frozenset({"unknown-action"}),
        profiles=STRICT,
    ),
    Known(
        "VERIFY",
        "VERIFY does not look at the address.",
        "SBC-4 VERIFY",
        "ours",
        _SCSI,
        _buffers(_check("05"), _GOOD),
        now=frozenset({"verify"}),
        profiles=STRICT,
    ),
    Known(
        "attention after an operation code",
        "A unit attention condition is gone after a command that nobody has, although it was not told of.",
        "SAM-5 §5.14",
        "ours",
        _SCSI,
        (
            *_buffers(_ATTENTION, _sense("05", "[123]?")),
            *_buffers(_check("06"), _GOOD),
            # Behind what the table of commands says of the response.
            *_buffers("00 06 00 00 00 00 0a 00 00 00 00 29 ", "ee ee 00 00 00 00 ee ee ee ee ee ee "),
            # REQUEST SENSE tells of it, in either format.
            *_buffers("06 00 00 00 00 0a 00 00 00 00 29 ", "00 00 00 00 00 0a 00 00 00 00 00 "),
            *_buffers("06 29 00 00 00 00 00 ", "00 00 00 00 00 00 00 "),
        ),
        tags=frozenset({"unknown-code", "no-unit"}),
        profiles=STRICT,
    ),
    Known(
        "SYNCHRONIZE CACHE (16)",
        "There is no such command, which is optional.",
        "SBC-4 SYNCHRONIZE CACHE (16)",
        "both",
        _SCSI,
        _buffers(_GOOD, _check("05")),
        now=frozenset({"synchronize-cache-16"}),
        profiles=STRICT,
    ),
    *KNOWN_OF_BLK,
    *KNOWN_OF_ATA,
)


def known(device: str, found: Difference, profile: Profile = "strict") -> Known | None:
    """The first entry of the table that a difference matches."""
    return next((one for one in KNOWN if one.matches(device, found, profile)), None)
