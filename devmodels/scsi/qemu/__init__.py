"""Units that a guest finds as QEMU 7.2's: which commands these have, what they say, and how they are refused.

Facts about QEMU are those of its SCSI bus and of its disk; where they depart from SPC-4, SBC-3 and MMC-6, the masks of
`guestsim diff` say by which clause.
"""

from __future__ import annotations

from devmodels.scsi.qemu.attention import BusAttention

__all__ = ["BusAttention"]
