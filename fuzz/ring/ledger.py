"""What a driver knows of its disk by what was acknowledged: what it must read, and what must outlive a power cut."""

from __future__ import annotations

from collections.abc import Iterator

SECTOR = 512
TOGETHER = 64
"""Sectors that are compared at once."""


class Ledger:
    """What a driver may rely on: sectors by what was last acknowledged in them, None where that is not known."""

    def __init__(self, content: bytes) -> None:
        self._known: dict[int, bytes | None] = {
            at // SECTOR: bytes(content[at : at + SECTOR]) for at in range(0, len(content), SECTOR)
        }
        self._stable = bytearray(content)
        self._open: set[int] = set()
        """Sectors of which nothing is known to be stable: `_stable` has there what was found last."""

    def begun(self, sectors: range) -> None:
        """These are about to be changed: until that is acknowledged, nothing is known of them."""
        for sector in sectors:
            if sector in self._known:
                self._known[sector] = None
                self._open.add(sector)

    def written(self, sector: int, data: bytes, *, stable: bool) -> None:
        """A write was acknowledged, and nothing else was on its way to these sectors."""
        for at in range(0, len(data), SECTOR):
            number = sector + at // SECTOR
            assert number in self._known, f"sector {number} was written, which the disk does not have"
            self._known[number] = data[at : at + SECTOR]
            if stable:
                self._is_stable(number, data[at : at + SECTOR])

    def promised(self) -> dict[int, bytes | None]:
        """What a flush that begins now makes stable."""
        return dict(self._known)

    def flushed(self, promised: dict[int, bytes | None]) -> None:
        """It was acknowledged: what has not changed since is stable."""
        for sector, data in promised.items():
            if data is not None and self._known[sector] == data:
                self._is_stable(sector, data)

    def _is_stable(self, sector: int, data: bytes) -> None:
        self._stable[sector * SECTOR : (sector + 1) * SECTOR] = data
        self._open.discard(sector)

    def check_read(self, sector: int, data: bytes) -> None:
        """A read was acknowledged, and nothing was on its way to these sectors meanwhile."""
        for at in range(0, len(data), SECTOR):
            known = self._known[sector + at // SECTOR]
            assert known is None or known == data[at : at + SECTOR], (
                f"sector {sector} is not what was written"
            )

    def check_stable(self, content: bytes | bytearray) -> None:
        """The power is cut: what was acknowledged as stable is there."""
        for sector in self._changed(content):
            assert sector in self._open, f"sector {sector} was acknowledged as stable and is not"
            self._stable[sector * SECTOR : (sector + 1) * SECTOR] = _at(content, sector)

    def _changed(self, content: bytes | bytearray) -> Iterator[int]:
        """Sectors that are not as when they were looked at last: few of many, so that many are compared at once."""
        if content == self._stable:
            return
        for first in range(0, len(self._known), TOGETHER):
            if _at(content, first, TOGETHER) == _at(self._stable, first, TOGETHER):
                continue
            for sector in range(first, min(first + TOGETHER, len(self._known))):
                if _at(content, sector) != _at(self._stable, sector):
                    yield sector


def _at(content: bytes | bytearray, sector: int, count: int = 1) -> bytes | bytearray:
    return content[sector * SECTOR : (sector + count) * SECTOR]
