"""What QEMU's CD drives say of a medium, whether they are of its SCSI bus or have their commands in packets.

There is a disc that is finished, with one session of one track of data, whatever lies in the drive.
"""

from __future__ import annotations

from devmodels.disc.address import FRAMES, PREGAP, SECONDS

BLOCK = 2048
NO_PROFILE, CD_ROM, DVD_ROM = 0x0000, 0x0008, 0x0010
MEDIA = 4
"""The class of events."""
NO_CHANGE, EJECT_REQUESTED, NEW_MEDIA = 0, 1, 2
OPEN, PRESENT = 1, 2
"""What a tray is, and what is in it."""
CAPABILITIES = 0xFF
STRUCTURES = {0: 2052, 1: 8, 3: 192, 4: 2052}
"""Lengths of disc structures by their formats; those of format 3 are told of, and are not there."""
MECHANISM = bytes((0, 0, 0, 0, 0, 1, 0, 0))
"""MECHANISM STATUS (MMC-6 §6.10)."""
INFORMATION = bytes((0, 32, 0x0E, 1, 1, 1, 1, 0x20)).ljust(34, b"\0")
"""READ DISC INFORMATION (MMC-6 §6.21)."""


class MediaEvents:
    """What a front has to tell of media: that one has come, and that the user wishes the tray to open."""

    new_media = eject_requested = False

    def medium_moved(self) -> None:
        """A user has moved the tray."""
        self.new_media, self.eject_requested = True, False

    def media_status(self, classes: int, *, opened: bool, inserted: bool) -> bytes:
        """GET EVENT STATUS NOTIFICATION (MMC-6 §6.6): what is told is over."""
        if not classes & 1 << MEDIA:
            return bytes((0, 0, 0x80, 1 << MEDIA))
        event = NO_CHANGE
        if not opened and self.new_media:
            event, self.new_media = NEW_MEDIA, False
        elif not opened and self.eject_requested:
            event, self.eject_requested = EJECT_REQUESTED, False
        return bytes((0, 4, MEDIA, 1 << MEDIA, event, OPEN if opened else PRESENT * inserted, 0, 0))


def address(lba: int) -> bytes:
    """Minute, second and frame of a block, in bytes: of a minute that is too large the rest."""
    seconds, frame = divmod(lba + PREGAP, FRAMES)
    return bytes((seconds // SECONDS & 0xFF, seconds % SECONDS, frame))


def configuration(now: int, features: bytes = b"") -> bytes:
    """GET CONFIGURATION (MMC-6 §6.5): the current profile, the two that there are, and other `features`."""
    profiles = b"".join(each.to_bytes(2, "big") + bytes((each == now, 0)) for each in (DVD_ROM, CD_ROM))
    body = bytes(2) + now.to_bytes(2, "big") + bytes((0, 0, 3, len(profiles))) + profiles + features
    return len(body).to_bytes(4, "big") + body


def structure(form: int, layer: int, blocks: int) -> bytes | None:
    """READ DISC STRUCTURE (MMC-6 §6.22) of a DVD; None where there is no such format, or no such layer."""
    if form == CAPABILITIES:
        body = b"".join(bytes((each, 0x40)) + size.to_bytes(2, "big") for each, size in STRUCTURES.items())
        return (len(body) + 2).to_bytes(2, "big") + bytes(2) + body
    if form not in STRUCTURES or form == 3 or (form == 0 and layer):
        return None
    size = STRUCTURES[form]
    last = (blocks - 1).to_bytes(4, "big")
    physical = bytes((1, 0xF, 1, 0, 0, 0, 0, 0)) + last * 2 if form == 0 else b""
    return ((size - 2).to_bytes(2, "big") + bytes(2) + physical).ljust(size, b"\0")
