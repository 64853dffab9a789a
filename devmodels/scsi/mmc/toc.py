"""READ TOC/PMA/ATIP, READ SUB-CHANNEL, READ DISC INFORMATION and READ TRACK INFORMATION (MMC-6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.disc import Mode, Track
from devmodels.disc.address import to_msf
from devmodels.disc.cdtext import packs
from devmodels.disc.subchannel import POSITION, position
from devmodels.scsi.asc import Asc
from devmodels.scsi.constants import SenseKey
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import mmc_cdb, mmc_data
from devmodels.scsi.sense import CheckCondition, Sense, invalid_field
from devmodels.scsi.table import Access, Command, Data
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.mmc.drive import CdDrive

READ_TOC = Layout(mmc_cdb.READ_TOC)
READ_SUB_CHANNEL = Layout(mmc_cdb.READ_SUB_CHANNEL)
READ_DISC_INFORMATION = Layout(mmc_cdb.READ_DISC_INFORMATION)
READ_TRACK_INFORMATION = Layout(mmc_cdb.READ_TRACK_INFORMATION)
_TOC_HEADER = Layout(mmc_data.TOC_HEADER)
_TOC_TRACK = Layout(mmc_data.TOC_TRACK)
_TOC_POINT = Layout(mmc_data.TOC_POINT)
_SUB_HEADER = Layout(mmc_data.SUB_CHANNEL_HEADER)
_POSITION = Layout(mmc_data.POSITION)
_CATALOG = Layout(mmc_data.CATALOG_NUMBER)
_ISRC = Layout(mmc_data.RECORDING_CODE)
_DISC = Layout(mmc_data.DISC_INFORMATION)
_TRACK = Layout(mmc_data.TRACK_INFORMATION)

SESSION = 1
"""The only one."""
LEAD_OUT = 0xAA
TOC, SESSIONS, FULL_TOC, CD_TEXT = 0, 1, 2, 5
"""Formats of READ TOC.  There is no PMA or ATIP on a pressed disc."""
FIRST_POINT, LAST_POINT, LEAD_OUT_POINT = 0xA0, 0xA1, 0xA2
CD_ROM, CD_ROM_XA = 0x00, 0x20
"""DISC TYPE."""
CURRENT_POSITION, CATALOG, ISRC = 1, 2, 3
"""Formats of READ SUB-CHANNEL."""
BY_LBA, BY_TRACK, BY_SESSION = 0, 1, 2
"""ADDRESS/NUMBER TYPE of READ TRACK INFORMATION."""
COMPLETE_DISC, COMPLETE_SESSION = 0b10, 0b11
NOWHERE = 0xFFFF_FFFF
DATA_MODES = {Mode.AUDIO: 0xF, Mode.MODE1: 0x1, Mode.MODE2: 0x2}
"""DATA MODE; audio has none."""


def _address(lba: int, msf: int) -> bytes:
    """In one of the two forms."""
    return bytes((0, *to_msf(lba))) if msf else lba.to_bytes(4, "big")


def _disc_type(drive: CdDrive) -> int:
    return CD_ROM_XA if any(t.mode is Mode.MODE2 for t in drive.medium.disc.tracks) else CD_ROM


# --- READ TOC/PMA/ATIP


def read_toc(drive: CdDrive, _task: Task, fields: Fields) -> bytes:
    """Tracks, sessions, or the lead-in as it is."""
    form = fields["format"] or fields["vendor_control"]
    if form == TOC:
        return _toc(drive, fields["number"], fields["msf"])
    if form == SESSIONS:
        return _sessions(drive, fields["msf"])
    if form == FULL_TOC and drive.medium.is_cd:
        if fields["number"] > SESSION:
            raise invalid_field(READ_TOC, "number")
        return _full_toc(drive)
    if form == CD_TEXT and (data := packs(drive.medium.disc)):
        return _toc_header(data, 0, 0) + data
    raise invalid_field(READ_TOC, "format")


def _toc(drive: CdDrive, start: int, msf: int) -> bytes:
    """Tracks from `start` on, and the lead-out."""
    disc = drive.medium.disc
    last = disc.tracks[-1]
    if last.number < start != LEAD_OUT:
        raise invalid_field(READ_TOC, "number")
    entries = [(track.number, track.control, track.start) for track in disc.tracks if track.number >= start]
    entries.append((LEAD_OUT, last.control, disc.blocks))
    body = b"".join(
        _TOC_TRACK.pack(adr=POSITION, control=control, track_number=number, start=_address(lba, msf))
        for number, control, lba in entries
    )
    return _toc_header(body, disc.tracks[0].number, last.number) + body


def _toc_header(body: bytes, first: int, last: int) -> bytes:
    return _TOC_HEADER.pack(length=_TOC_HEADER.size - 2 + len(body), first=first, last=last)


def _sessions(drive: CdDrive, msf: int) -> bytes:
    """The first track of the last session."""
    track = drive.medium.disc.tracks[0]
    body = _TOC_TRACK.pack(
        adr=POSITION, control=track.control, track_number=track.number, start=_address(track.start, msf)
    )
    return _toc_header(body, SESSION, SESSION) + body


def _full_toc(drive: CdDrive) -> bytes:
    """The points of the lead-in; its addresses have one form only."""
    disc = drive.medium.disc
    first, last = disc.tracks[0], disc.tracks[-1]
    points: list[tuple[int, int, tuple[int, int, int]]] = [
        (FIRST_POINT, first.control, (first.number, _disc_type(drive), 0)),
        (LAST_POINT, last.control, (last.number, 0, 0)),
        (LEAD_OUT_POINT, last.control, to_msf(disc.blocks)),
        *((track.number, track.control, to_msf(track.start)) for track in disc.tracks),
    ]
    body = b"".join(
        _TOC_POINT.pack(
            session=SESSION,
            adr=POSITION,
            control=control,
            point=point,
            p_minute=minute,
            p_second=second,
            p_frame=frame,
        )
        for point, control, (minute, second, frame) in points
    )
    return _toc_header(body, SESSION, SESSION) + body


# --- READ SUB-CHANNEL


def read_sub_channel(drive: CdDrive, _task: Task, fields: Fields) -> bytes:
    """How playing goes, and with SUBQ what the Q sub-channel has."""
    medium = drive.medium
    if not medium.is_cd:
        raise CheckCondition(Sense(SenseKey.ILLEGAL_REQUEST, Asc.INCOMPATIBLE_FORMAT))
    body = b""
    if fields["subq"]:
        form = fields["parameter_list"]
        if form == CURRENT_POSITION:
            body = _current_position(drive, fields["msf"])
        elif form == CATALOG:
            number = medium.disc.catalog
            body = _CATALOG.pack(code=CATALOG, valid=bool(number), number=number.encode())
        elif form == ISRC:
            body = _recording_code(drive, fields["track_number"])
        else:
            raise invalid_field(READ_SUB_CHANNEL, "parameter_list")
    return _SUB_HEADER.pack(audio_status=drive.player.status(), length=len(body)) + body


def _current_position(drive: CdDrive, msf: int) -> bytes:
    drive.player.look()
    disc = drive.medium.disc
    lba = min(drive.head, disc.blocks - 1)
    where = position(disc, lba)
    relative = where.relative if where.index_number else -where.relative
    return _POSITION.pack(
        code=CURRENT_POSITION,
        adr=POSITION,
        control=where.track.control,
        track_number=where.track.number,
        index_number=where.index_number,
        absolute=_address(lba, msf),
        relative=bytes((0, *where.relative_msf)) if msf else relative.to_bytes(4, "big", signed=True),
    )


def _recording_code(drive: CdDrive, number: int) -> bytes:
    track = drive.medium.disc.track(number)
    if track is None:
        raise invalid_field(READ_SUB_CHANNEL, "track_number")
    return _ISRC.pack(
        code=ISRC,
        adr=POSITION,
        control=track.control,
        track_number=track.number,
        valid=bool(track.isrc),
        isrc=track.isrc.encode(),
    )


# --- READ DISC INFORMATION, READ TRACK INFORMATION


def read_disc_information(drive: CdDrive, _task: Task, fields: Fields) -> bytes:
    """A disc that is complete, in one session."""
    if fields["data_type"]:
        raise invalid_field(READ_DISC_INFORMATION, "data_type")
    tracks = drive.medium.disc.tracks
    return _DISC.pack(
        length=_DISC.size - 2,
        last_session_state=COMPLETE_SESSION,
        disc_status=COMPLETE_DISC,
        first_track=tracks[0].number,
        sessions_lsb=SESSION,
        first_track_of_last_session_lsb=tracks[0].number,
        last_track_of_last_session_lsb=tracks[-1].number,
        uru=1,
        disc_type=_disc_type(drive),
        last_session_lead_in=NOWHERE,
        last_possible_lead_out=NOWHERE,
        bar_code=bytes(8),
    )


def read_track_information(drive: CdDrive, _task: Task, fields: Fields) -> bytes:
    """The track of a block, of that number, or the first of a session."""
    track = _find_track(drive, fields)
    return _TRACK.pack(
        length=_TRACK.size - 2,
        track_number_lsb=track.number,
        session_number_lsb=SESSION,
        track_mode=track.control,
        data_mode=DATA_MODES[track.mode],
        track_start=track.start,
        track_size=track.end - track.start,
    )


def _find_track(drive: CdDrive, fields: Fields) -> Track:
    disc = drive.medium.disc
    address = fields["address"]
    if fields["open"]:
        # No track is open.
        raise invalid_field(READ_TRACK_INFORMATION, "open")
    match fields["address_type"]:
        case 0:
            if address >= disc.blocks:
                raise CheckCondition(Sense(SenseKey.ILLEGAL_REQUEST, Asc.LBA_OUT_OF_RANGE))
            return disc.track_at(address)
        case 1:
            track = disc.track(address)
        case 2:
            track = disc.tracks[0] if address == SESSION else None
        case _:
            raise invalid_field(READ_TRACK_INFORMATION, "address_type")
    if track is None:
        raise invalid_field(READ_TRACK_INFORMATION, "address")
    return track


COMMANDS: tuple[Command[CdDrive], ...] = (
    Command(
        0x43,
        "READ TOC/PMA/ATIP",
        READ_TOC,
        read_toc,
        "MMC-6",
        data=Data.IN,
        length="allocation_length",
        access=Access.READ,
    ),
    Command(
        0x42,
        "READ SUB-CHANNEL",
        READ_SUB_CHANNEL,
        read_sub_channel,
        "MMC-6",
        data=Data.IN,
        length="allocation_length",
        access=Access.READ,
    ),
    Command(
        0x51,
        "READ DISC INFORMATION",
        READ_DISC_INFORMATION,
        read_disc_information,
        "MMC-6",
        data=Data.IN,
        length="allocation_length",
        access=Access.READ,
    ),
    Command(
        0x52,
        "READ TRACK INFORMATION",
        READ_TRACK_INFORMATION,
        read_track_information,
        "MMC-6",
        data=Data.IN,
        length="allocation_length",
        access=Access.READ,
    ),
)
