"""What differs in memory that ATA hosts write while a script runs, and is not compared: which mask that is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from guestsim.diff.ata_fises import Fises
from guestsim.diff.ata_said import fails, fis_as_said, is_byte_count
from guestsim.diff.ata_watch import IDENTIFY, OWN, SENSE, SMART_OWN, AtaWatch, Issued
from guestsim.diff.grammar.ata_disk import SMART
from guestsim.drivers.ahci_layouts import D2H, PIO_SETUP, RECEIVED_SIZE

if TYPE_CHECKING:
    from guestsim.diff.both import Sight
    from guestsim.diff.memories import Memories
    from guestsim.script.schema_expect import Difference

RECEIVED, LIST, BUFFERS = "received FISes", "command list", "buffers"
"""Places of memory that a device may write."""
_DETAIL = frozenset({*range(3, 7), *range(8, 12), *range(15, 18)})
"""Bytes of sense data that are optional (SPC-4 §4.5.3): zeroes of QEMU's, which says that they are valid."""
_VALID = 0x80
_SETUPS = range(PIO_SETUP, PIO_SETUP + 20)
_SETUP = slice(_SETUPS.start, _SETUPS.stop)
"""Where a PIO Setup FIS is received (AHCI 1.3.1 §4.2.1)."""


class AtaMemory:
    """The masks of memory."""

    def __init__(self, watch: AtaWatch, memories: Memories) -> None:
        self._watch = watch
        self._memories = memories
        self._fises = Fises(watch)

    def place(self, sight: Sight) -> str | None:
        """Where it is; None where no ATA host may write."""
        sight = _differing(sight)
        places = {where for _, _, where in self._pieces(sight)}
        covered = sum(size for _, size, _ in self._pieces(sight))
        return min(places) if len(places) == 1 and covered == sight.size else None

    def is_byte_count(self, sight: Sight, length: int) -> bool:
        """Whether QEMU's FISes say `length` of a packet's data, and nothing else differs."""
        sight = _differing(sight)
        start = self._watch.received(sight.address)
        assert isinstance(sight.theirs, bytes)
        return start is not None and is_byte_count(sight.address - start, sight.theirs, length)

    def as_said(self, sight: Sight, said: Difference, *, otherwise: bool) -> bool:
        """Whether the received FISes hold what the script says of registers, where no mask hides what differs."""
        sight = _differing(sight)
        start = self._watch.received(sight.address)
        if start is None:
            return False
        ours, theirs = self._memories.sides(start, RECEIVED_SIZE)
        # Of two devices that both fail one may have asked for data before that.
        told = self._watch.before(start)[_SETUP] in (ours[_SETUP], theirs[_SETUP])
        by_end = {*_SETUPS} if told and fails(said.registers) else set()
        if otherwise and self._fises.tells_of_a_command(theirs[D2H : D2H + 20]):
            by_end |= {*range(D2H + 4, D2H + 14)}
        return all(
            ours[at] == theirs[at]
            or at in by_end
            or fis_as_said(at, ours[at], theirs[at], said, otherwise=otherwise)
            or self._fises.name(start, at, ours, theirs) is not None
            for at in range(sight.address - start, sight.address - start + sight.size)
        )

    def names(self, sight: Sight) -> set[str]:
        """The masks that hide all of a difference; none where there is more to it."""
        sight = _differing(sight)
        names: set[str] = set()
        covered = 0
        for address, size, where in self._pieces(sight):
            found = self._of(address, size, where)
            if not found and sight.kind == "unread" and where == BUFFERS:
                found = {"not looked at"}
            if not found:
                return set()
            names |= found
            covered += size
        return names if covered == sight.size else set()

    def _pieces(self, sight: Sight) -> Iterator[tuple[int, int, str]]:
        """Address, size and place of what lies in memory that a device may write."""
        at, end = sight.address, sight.address + sight.size
        while at < end:
            left, where = self._piece(at)
            if not left:
                return
            size = min(left, end - at)
            yield at, size, where
            at += size

    def _piece(self, at: int) -> tuple[int, str]:
        start = self._watch.received(at)
        if start is not None:
            where = f"{RECEIVED} of an empty port" if self._watch.empty(start) else RECEIVED
            return start + RECEIVED_SIZE - at, where
        if self._watch.counts(at):
            return 4 - at % 4, LIST
        found = self._watch.buffer(at)
        return (found[1], BUFFERS) if found is not None else (0, "")

    def _of(self, address: int, size: int, where: str) -> set[str]:
        if where == RECEIVED:
            start = self._watch.received(address)
            assert start is not None
            return self._of_fises(start, range(address - start, address - start + size))
        found = self._watch.buffer(address)
        if where == BUFFERS and found is not None:
            return self._of_data(found[0], address, size)
        return set()

    # --- FISes

    def _of_fises(self, start: int, places: range) -> set[str]:
        ours, theirs = self._memories.sides(start, RECEIVED_SIZE)
        names = set()
        for at in places:
            if ours[at] == theirs[at]:
                continue
            name = self._fises.name(start, at, ours, theirs)
            if name is None:
                return set()
            names.add(name)
        return names

    # --- data

    def _of_data(self, one: Issued, address: int, size: int) -> set[str]:
        if one.code in IDENTIFY or (one.code == SMART and one.features in SMART_OWN):
            return {"identity"}
        code = one.packet[0] if one.packet else -1
        if code in OWN:
            return {f"packet:{OWN[code]}"}
        offset = 0
        for start, length in one.regions:
            if start <= address < start + length:
                offset += address - start
                break
            offset += length
        ours, theirs = self._memories.sides(address, size)
        differing = [(offset + at, ours[at], theirs[at]) for at in range(size) if ours[at] != theirs[at]]
        detail = code == SENSE and all(
            (at in _DETAIL and not other) or (at == 0 and other == mine | _VALID)
            for at, mine, other in differing
        )
        return {"sense-detail"} if detail else set()


def _differing(sight: Sight) -> Sight:
    """From the first byte to the last one that differ, of what the guest has read at once."""
    assert isinstance(sight.ours, bytes)
    assert isinstance(sight.theirs, bytes)
    found = [at for at, pair in enumerate(zip(sight.ours, sight.theirs, strict=True)) if pair[0] != pair[1]]
    start, end = found[0], found[-1] + 1
    ours, theirs = (side[start:end] for side in (sight.ours, sight.theirs))
    return replace(sight, address=sight.address + start, size=end - start, ours=ours, theirs=theirs)
