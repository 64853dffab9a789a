"""Commands of CD, DVD and BD drives as an initiator builds them (MMC-6).

`COMMANDS` has them by name for scripts, beside those that drives share with disks.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from guestsim.drivers.cdb import Cdb

if TYPE_CHECKING:
    from collections.abc import Callable

RAW = 2352
"""A whole sector, in bytes."""
EVERYTHING = 0xF8
"""The main channel selection of a whole sector."""
MEDIA_CLASS = 0x10


def read_toc(*, form: int = 0, msf: int = 0, number: int = 0, allocation: int = 804) -> Cdb:
    """READ TOC/PMA/ATIP."""
    return Cdb(struct.pack(">BBB3xBHx", 0x43, msf << 1, form, number, allocation), allocation)


def read_sub_channel(*, form: int = 1, msf: int = 0, track: int = 0, allocation: int = 24) -> Cdb:
    """READ SUB-CHANNEL with SUBQ, or, with format 0, without."""
    cdb = struct.pack(">BBBBxxBHx", 0x42, msf << 1, bool(form) << 6, form, track, allocation)
    return Cdb(cdb, allocation)


def get_configuration(*, rt: int = 0, start: int = 0, allocation: int = 1024) -> Cdb:
    """GET CONFIGURATION."""
    return Cdb(struct.pack(">BBH3xHx", 0x46, rt, start, allocation), allocation)


def get_event_status(*, classes: int = MEDIA_CLASS, polled: int = 1, allocation: int = 8) -> Cdb:
    """GET EVENT STATUS NOTIFICATION."""
    return Cdb(struct.pack(">BBxxBxxHx", 0x4A, polled, classes, allocation), allocation)


def read_disc_information(*, kind: int = 0, allocation: int = 34) -> Cdb:
    """READ DISC INFORMATION."""
    return Cdb(struct.pack(">BB5xHx", 0x51, kind, allocation), allocation)


def read_track_information(*, address: int, kind: int = 1, allocation: int = 36) -> Cdb:
    """READ TRACK INFORMATION: by block (0), track (1) or session (2)."""
    return Cdb(struct.pack(">BBIxHx", 0x52, kind, address, allocation), allocation)


def mechanism_status(*, allocation: int = 8) -> Cdb:
    """MECHANISM STATUS."""
    return Cdb(struct.pack(">B7xHxx", 0xBD, allocation), allocation)


def read_disc_structure(
    *,
    media: int = 0,
    form: int = 0,
    layer: int = 0,
    address: int = 0,
    allocation: int = 2052,
) -> Cdb:
    """READ DISC STRUCTURE of a DVD (media 0) or a BD (1)."""
    cdb = struct.pack(">BBIBBHxx", 0xAD, media, address, layer, form, allocation)
    return Cdb(cdb, allocation)


def read_cd(
    *,
    lba: int,
    blocks: int,
    kind: int = 0,
    main: int = EVERYTHING,
    sub: int = 0,
    sector: int = RAW,
) -> Cdb:
    """READ CD, which returns `sector` bytes of each sector."""
    length = blocks.to_bytes(3, "big")
    return Cdb(struct.pack(">BBI3sBBx", 0xBE, kind << 2, lba, length, main, sub), blocks * sector)


def read_cd_msf(
    *,
    start: int,
    end: int,
    kind: int = 0,
    main: int = EVERYTHING,
    sub: int = 0,
    sector: int = RAW,
) -> Cdb:
    """READ CD MSF from one address to before another, each as 0xMMSSFF with its three numbers in binary."""
    first, last = start.to_bytes(3, "big"), end.to_bytes(3, "big")
    frames = [(part[0] * 60 + part[1]) * 75 + part[2] for part in (first, last)]
    room = max(frames[1] - frames[0], 0) * sector
    return Cdb(struct.pack(">BBx3s3sBBx", 0xB9, kind << 2, first, last, main, sub), room)


def set_cd_speed(*, read: int, write: int = 0xFFFF) -> Cdb:
    """SET CD SPEED, in kB/s."""
    return Cdb(struct.pack(">BxHH6x", 0xBB, read, write))


def set_streaming(*, length: int = 28) -> Cdb:
    """SET STREAMING with a performance descriptor."""
    return Cdb(struct.pack(">B8xHx", 0xB6, length), out=length)


def get_performance(*, kind: int = 0, lba: int = 0, descriptors: int = 1, data: int = 0x10) -> Cdb:
    """GET PERFORMANCE."""
    cdb = struct.pack(">BBIxxHBx", 0xAC, data, lba, descriptors, kind)
    return Cdb(cdb, 8 + 16 * descriptors)


def seek_10(*, lba: int) -> Cdb:
    """SEEK (10)."""
    return Cdb(struct.pack(">BxI4x", 0x2B, lba))


def play_audio_10(*, lba: int, blocks: int) -> Cdb:
    """PLAY AUDIO (10), of MMC-3."""
    return Cdb(struct.pack(">BxIxHx", 0x45, lba, blocks))


def pause_resume(*, resume: int) -> Cdb:
    """PAUSE/RESUME, of MMC-3."""
    return Cdb(struct.pack(">B7xBx", 0x4B, resume))


COMMANDS: dict[str, Callable[..., Cdb]] = {
    builder.__name__.replace("_", "-"): builder
    for builder in (
        read_toc,
        read_sub_channel,
        get_configuration,
        get_event_status,
        read_disc_information,
        read_track_information,
        mechanism_status,
        read_disc_structure,
        read_cd,
        read_cd_msf,
        set_cd_speed,
        set_streaming,
        get_performance,
        seek_10,
        play_audio_10,
        pause_resume,
    )
}

NAMES = {
    0x1E: "PREVENT ALLOW MEDIUM REMOVAL",
    0x2B: "SEEK(10)",
    0x42: "READ SUB-CHANNEL",
    0x43: "READ TOC/PMA/ATIP",
    0x45: "PLAY AUDIO(10)",
    0x46: "GET CONFIGURATION",
    0x4A: "GET EVENT STATUS NOTIFICATION",
    0x4B: "PAUSE/RESUME",
    0x51: "READ DISC INFORMATION",
    0x52: "READ TRACK INFORMATION",
    0xAC: "GET PERFORMANCE",
    0xAD: "READ DISC STRUCTURE",
    0xB6: "SET STREAMING",
    0xB9: "READ CD MSF",
    0xBB: "SET CD SPEED",
    0xBD: "MECHANISM STATUS",
    0xBE: "READ CD",
}
"""What people call them, where disks have none of that number."""
