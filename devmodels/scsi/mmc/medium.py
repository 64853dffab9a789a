"""What is in the tray: a disc, and its profile (MMC-6 §5.3.1)."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from devmodels.blockbackend import BlockBackend
from devmodels.disc import Disc
from devmodels.disc.address import LONGEST
from devmodels.disc.disc import BLOCK
from devmodels.scsi.mmc.options import CdOptions


class Profile(IntEnum):
    """What a drive is to a host while such a disc is in it."""

    NONE = 0x0000
    CD_ROM = 0x0008
    DVD_ROM = 0x0010
    BD_ROM = 0x0040


class Kind(msgspec.Struct, frozen=True):
    """What there is to know of a profile: the speed of 1x and the greatest multiple, in kB/s of 1000 bytes, and blocks
    in one unit of error correction."""

    single: int
    multiple: int
    blocking: int

    @property
    def speed(self) -> int:
        """The greatest."""
        return self.single * self.multiple


KINDS = {
    Profile.CD_ROM: Kind(176, 40, 1),
    Profile.DVD_ROM: Kind(1385, 16, 16),
    Profile.BD_ROM: Kind(4496, 12, 32),
}

CD_BLOCKS = 80 * 60 * 75
"""More than 80 minutes is a DVD."""
DVD_LAYER = 2_295_104
"""Blocks of a single-layer DVD, and of each layer of one with two at most."""
DVD_BLOCKS = 4_173_824
"""More than two layers hold is a BD."""
BD_LAYER = 12_219_392


class Medium(msgspec.Struct, frozen=True):
    """A disc that can be read."""

    disc: Disc
    profile: Profile

    @property
    def blocks(self) -> int:
        """Its capacity in blocks."""
        return self.disc.blocks

    @property
    def kind(self) -> Kind:
        """What there is to know of its profile."""
        return KINDS[self.profile]

    @property
    def is_cd(self) -> bool:
        """Whether it has tracks and sectors of 2352 bytes."""
        return self.profile is Profile.CD_ROM


def medium_of(backend: BlockBackend, options: CdOptions) -> Medium | None:
    """The disc that the backend's node is; None where it holds not one block."""
    disc = backend.node.disc
    if disc is not None:
        return Medium(disc, Profile.CD_ROM)
    blocks = min(backend.size // BLOCK, 0xFFFF_FFFF)
    if not blocks:
        return None
    return Medium(Disc.of_data(blocks), _profile(blocks, options))


def _profile(blocks: int, options: CdOptions) -> Profile:
    match options.profile:
        case "cd" if blocks <= LONGEST:
            return Profile.CD_ROM
        case "dvd":
            return Profile.DVD_ROM
        case "bd":
            return Profile.BD_ROM
    if blocks <= CD_BLOCKS:
        return Profile.CD_ROM
    return Profile.DVD_ROM if blocks <= DVD_BLOCKS else Profile.BD_ROM
