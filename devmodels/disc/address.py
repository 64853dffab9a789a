"""Addresses on a CD: logical blocks, and minutes, seconds and frames (ECMA-130 §14.2, MMC-6 §4.2.3.8)."""

from __future__ import annotations

FRAMES, SECONDS = 75, 60
"""Frames in a second, seconds in a minute."""
PREGAP = 150
"""Block 0 is at 00:02:00: so many frames are before it."""
LONGEST = 100 * SECONDS * FRAMES - PREGAP
"""The most blocks that a CD can have: its last frame is 99:59:74."""
HIGHEST = (0xFF, 59, 74)
"""What stands for an address beyond those that three bytes can say."""


def to_msf(lba: int) -> tuple[int, int, int]:
    """Minute, second and frame of a block, at most `HIGHEST`."""
    seconds, frame = divmod(lba + PREGAP, FRAMES)
    minute, second = divmod(seconds, SECONDS)
    return (minute, second, frame) if minute <= HIGHEST[0] else HIGHEST


def from_msf(minute: int, second: int, frame: int) -> int:
    """The block at an address; ValueError where second or frame are none."""
    if second >= SECONDS or frame >= FRAMES:
        raise ValueError(f"{minute:02}:{second:02}:{frame:02} is no address")
    return (minute * SECONDS + second) * FRAMES + frame - PREGAP


def bcd(number: int) -> int:
    """Two decimal digits in one byte, 0 to 99."""
    return number // 10 << 4 | number % 10
