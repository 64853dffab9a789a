"""What is on a disc: tracks and where their sectors are stored, sectors with all their fields, cue sheets.

Nothing here reads an image: a `Disc` says which bytes of one a block is, and `sector` what the block is then.

ECMA-130 (CD-ROM), IEC 60908 (CD digital audio); cue sheets are CDRWIN's.
"""

from devmodels.disc.disc import Disc, Extent, Mode, Track

__all__ = ["Disc", "Extent", "Mode", "Track"]
