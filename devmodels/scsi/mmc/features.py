"""GET CONFIGURATION: profiles and features, those of the medium that there is current (MMC-6 §5.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from devmodels.disc.disc import BLOCK
from devmodels.scsi.fields import Fields, Layout
from devmodels.scsi.layout import mmc_cdb
from devmodels.scsi.layout import mmc_features as layout
from devmodels.scsi.mmc.medium import KINDS, Profile
from devmodels.scsi.sense import invalid_field
from devmodels.scsi.table import Access, Command, Data
from devmodels.scsi.task import Task

if TYPE_CHECKING:
    from devmodels.scsi.mmc.drive import CdDrive

CDB = Layout(mmc_cdb.GET_CONFIGURATION)
_HEADER = Layout(layout.HEADER)
_DESCRIPTOR = Layout(layout.DESCRIPTOR)
_PROFILE = Layout(layout.PROFILE)
_CORE = Layout(layout.CORE)
_MORPHING = Layout(layout.MORPHING)
_REMOVABLE = Layout(layout.REMOVABLE_MEDIUM)
_READABLE = Layout(layout.RANDOM_READABLE)
_CD_READ = Layout(layout.CD_READ)
_DVD_READ = Layout(layout.DVD_READ)
_BD_READ = Layout(layout.BD_READ)
_AUDIO = Layout(layout.EXTERNAL_AUDIO)
_TIMEOUT = Layout(layout.TIMEOUT)
_STREAMING = Layout(layout.STREAMING)

ALL, CURRENT, ONE = 0, 1, 2
"""RT: which features are wanted."""
TRAY = 1
"""LOADING MECHANISM TYPE."""
VERSION_1 = 1 << 1
"""A bitmap of BD versions."""
VOLUME_LEVELS = 256


class Feature(NamedTuple):
    """A feature: its data, and with which media it is current; None: whatever there is, persistently."""

    code: int
    version: int
    media: frozenset[Profile] | None
    data: Callable[[CdDrive], bytes]


def _profiles(drive: CdDrive) -> bytes:
    """What the drive can be, the latest first."""
    return b"".join(
        _PROFILE.pack(profile=profile, current_p=profile is drive.profile) for profile in sorted(KINDS)[::-1]
    )


def _core(drive: CdDrive) -> bytes:
    return _CORE.pack(physical_interface=drive.interface, inq2=1)


def _removable(_drive: CdDrive) -> bytes:
    return _REMOVABLE.pack(loading_mechanism=TRAY, load=1, eject=1, lock=1)


def _readable(drive: CdDrive) -> bytes:
    medium = drive.tray.medium
    blocking = KINDS[Profile.CD_ROM].blocking if medium is None else medium.kind.blocking
    return _READABLE.pack(block_size=BLOCK, blocking=blocking, pp=1)


def _bd_read(_drive: CdDrive) -> bytes:
    return _BD_READ.pack(**{"rom_classes[0]": VERSION_1, "rom_classes[1]": VERSION_1})


def _serial(drive: CdDrive) -> bytes:
    text = drive.identity.serial.encode()
    return text.ljust(-(-len(text) // 4) * 4)


def _nothing(_drive: CdDrive) -> bytes:
    return b""


_CD = frozenset({Profile.CD_ROM})
_ANY = frozenset(KINDS)

FEATURES = (
    Feature(0x0000, 0, None, _profiles),
    Feature(0x0001, 2, None, _core),
    Feature(0x0002, 1, None, lambda _: _MORPHING.pack(ocevent=1)),
    Feature(0x0003, 2, None, _removable),
    Feature(0x0010, 0, _ANY, _readable),
    Feature(0x001D, 0, _CD, _nothing),
    Feature(0x001E, 2, _CD, lambda _: _CD_READ.pack(c2_flags=1, cd_text=1)),
    Feature(0x001F, 1, frozenset({Profile.DVD_ROM}), lambda _: _DVD_READ.pack()),
    Feature(0x0040, 1, frozenset({Profile.BD_ROM}), _bd_read),
    Feature(0x0100, 0, None, _nothing),
    Feature(0x0103, 1, _CD, lambda _: _AUDIO.pack(scm=1, sv=1, volume_levels=VOLUME_LEVELS)),
    Feature(0x0105, 1, None, lambda _: _TIMEOUT.pack()),
    Feature(0x0107, 4, _ANY, lambda _: _STREAMING.pack(scs=1)),
    Feature(0x0108, 0, None, _serial),
)
"""In ascending order: profile list, core, morphing, removable medium, random readable, multi-read, CD read, DVD read,
BD read, power management, external audio play, time-out, real-time streaming, drive serial number."""


def get_configuration(drive: CdDrive, _task: Task, fields: Fields) -> bytes:
    """Features from one on, or that one."""
    wanted, start = fields["rt"], fields["starting_feature"]
    if wanted > ONE:
        raise invalid_field(CDB, "rt")
    profile = drive.profile
    body = bytearray()
    for feature in FEATURES:
        persistent = feature.media is None
        current = feature.media is None or profile in feature.media
        if wanted == ONE:
            chosen = feature.code == start
        else:
            chosen = feature.code >= start and (current or wanted == ALL)
        if chosen:
            data = feature.data(drive)
            body += _DESCRIPTOR.pack(
                feature_code=feature.code,
                version=feature.version,
                persistent=persistent,
                current=current,
                additional_length=len(data),
            )
            body += data
    return _HEADER.pack(length=_HEADER.size - 4 + len(body), current_profile=profile) + bytes(body)


COMMAND: Command[CdDrive] = Command(
    0x46,
    "GET CONFIGURATION",
    CDB,
    get_configuration,
    "MMC-6",
    data=Data.IN,
    length="allocation_length",
    attention=False,
    access=Access.ALWAYS,
    ready=False,
)
