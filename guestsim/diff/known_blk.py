"""Differences of virtio-blk that are known, in requests and in its configuration space (VIRTIO 1.4 §5.2)."""

from __future__ import annotations

from guestsim.diff.entries import Known, Shown, buffers, ours_is_larger, register
from guestsim.diff.profiles import STRICT

_BLK = ("virtio-blk", "virtio-blk-transitional")


KNOWN_OF_BLK: tuple[Known, ...] = (
    Known(
        "long GET_ID",
        "used.len counts the whole buffer, of which what lies behind the identifier was not written; ours zeroes it.",
        "VIRTIO 1.4 §2.7.8.2",
        "ours",
        _BLK,
        buffers("00 ", "ee "),
        now=frozenset({"get-id-long"}),
        profiles=STRICT,
    ),
    *(
        Known(
            "types that there are not",
            "Bits 0 and 31 of a request's type are not looked at: 9 is GET_ID, 5 FLUSH.",
            "VIRTIO 1.4 §5.2.6",
            "ours",
            _BLK,
            buffers("00 ", theirs),
            now=frozenset({f"alias:{name}"}),
            profiles=STRICT,
        )
        for name, theirs in (("flush", "ee "), ("get-id", "73 "), ("in", "?? "))
    ),
    Known(
        "SCSI commands of virtio-blk",
        "Types 2 and 3, SCSI commands once, are answered with IOERR, but with UNSUPP, and 255 in the first word of the "
        "last segment but one, where two can be read and three written; ours with UNSUPP, and zeroes for data.",
        "VIRTIO 1.4 §5.2.6",
        "ours",
        _BLK,
        (*buffers("00 ", "ee "), *buffers("02 ", "01 "), *buffers("00 ", "ff ")),
        now=frozenset({"scsi-command"}),
        profiles=STRICT,
    ),
    Known(
        "write_zeroes_may_unmap",
        "It is 1 also where the drive does not unmap; ours says what it does.",
        "VIRTIO 1.4 §5.2.6.2",
        "both",
        _BLK,
        tuple(register(place, "0x0", "0x1") for place in ("device+0x38", "legacy+0x4c", "legacy+0x50")),
        profiles=STRICT,
    ),
    Known(
        "geometry after a resize",
        "It stays what it was when the device was made; ours grows with the capacity.",
        "VIRTIO 1.4 §5.2.4",
        "both",
        _BLK,
        tuple(
            Shown("register", place, "0x*", "0x*", ours_is_larger)
            for place in ("device+0x10", "legacy+0x24", "legacy+0x28")
        ),
        tags=frozenset({"resize"}),
        profiles=STRICT,
    ),
    Known(
        "CONFIG_WCE without FLUSH",
        "writeback begins as 1 although the driver cannot flush.",
        "VIRTIO 1.4 §5.2.5.2",
        "ours",
        _BLK,
        (register("device+0x20", "0x0", "0x1"), register("device+0x20", "0x20000", "0x20001")),
        now=frozenset({"config-wce-without-flush"}),
        profiles=STRICT,
    ),
)
