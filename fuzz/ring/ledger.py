"""What a driver knows of its disk by what was acknowledged: what it must read, and what must outlive a power cut."""

from __future__ import annotations

SECTOR = 512


class Ledger:
    """What a driver may rely on: sectors by what was last acknowledged in them, None where that is not known."""

    def __init__(self, content: bytes) -> None:
        self._known: dict[int, bytes | None] = {
            at // SECTOR: bytes(content[at : at + SECTOR]) for at in range(0, len(content), SECTOR)
        }
        self._stable = dict(self._known)

    def begun(self, sectors: range) -> None:
        """These are about to be changed: until that is acknowledged, nothing is known of them."""
        for sector in sectors:
            if sector in self._known:
                self._known[sector] = self._stable[sector] = None

    def written(self, sector: int, data: bytes, *, stable: bool) -> None:
        """A write was acknowledged, and nothing else was on its way to these sectors."""
        for at in range(0, len(data), SECTOR):
            number = sector + at // SECTOR
            self._known[number] = data[at : at + SECTOR]
            if stable:
                self._stable[number] = self._known[number]

    def promised(self) -> dict[int, bytes | None]:
        """What a flush that begins now makes stable."""
        return dict(self._known)

    def flushed(self, promised: dict[int, bytes | None]) -> None:
        """It was acknowledged: what has not changed since is stable."""
        for sector, data in promised.items():
            if data is not None and self._known[sector] == data:
                self._stable[sector] = data

    def check_read(self, sector: int, data: bytes) -> None:
        """A read was acknowledged, and nothing was on its way to these sectors meanwhile."""
        for at in range(0, len(data), SECTOR):
            known = self._known[sector + at // SECTOR]
            assert known is None or known == data[at : at + SECTOR], (
                f"sector {sector} is not what was written"
            )

    def check_stable(self, content: bytes | bytearray) -> None:
        """The power is cut: what was acknowledged as stable is there."""
        for sector, data in self._stable.items():
            found = content[sector * SECTOR : (sector + 1) * SECTOR]
            assert data is None or data == found, f"sector {sector} was acknowledged as stable and is not"
