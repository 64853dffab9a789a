"""What EXTENDED COPY can be asked for."""

from __future__ import annotations

IDENTIFICATION = 0xE4
"""Type code of the target descriptor that is understood."""
BLOCKS_TO_BLOCKS, BYTES_TO_BYTES = 0x02, 0x0A
"""Type codes of the segment descriptors that are."""
DESCRIPTOR_TYPES = bytes((BLOCKS_TO_BLOCKS, BYTES_TO_BYTES, IDENTIFICATION))
MAX_TARGETS = 16
MAX_SEGMENTS = 64
MAX_LIST = 8192
"""The longest descriptor list, in bytes."""
MAX_SEGMENT = 16 << 20
"""The longest segment, in bytes."""
MAX_HELD = 64
"""How many results are held; the oldest of more is dropped."""
