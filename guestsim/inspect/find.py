"""Virtqueues found by searching memory for what looks like one.

Drivers lay a split ring out in one piece: the descriptor table at the beginning of a page, the available ring behind
it, the used ring behind that at the next multiple of 4, 64 or 4096 (VIRTIO 1.4 §2.7.2 has the last; Linux, BSD, Windows
and firmware do one of them).  A packed ring begins a page of its own.  So one word for each page and size tells nearly
all pages from rings; such words are taken a column at once.  What is left is judged whole (`plausible`).

A ring that was never used cannot be told from empty memory and isn't found.
"""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING

from guestsim.drivers.layouts import AVAIL, DESC
from guestsim.errors import GuestError
from guestsim.inspect.plausible import Patience, judge_packed, judge_split

if TYPE_CHECKING:
    from collections.abc import Iterator

    from guestsim.inspect.image import MemoryImage, Span
    from guestsim.inspect.plausible import Candidate

PAGE = 4096
STEPS = tuple(1 << bits for bits in range(4, 13))
SIZES = tuple(1 << bits for bits in range(3, 16))
"""Sizes of split rings that are looked for: 8 to 32768."""

_CHUNK = 16 << 20
_WORD = 8
_INDEX = 0xFFFF_0000
_PACKED_FLAGS = 0x8087
_FOUND_LIMIT = 2048


class TooMuchError(GuestError):
    """Memory is full of what looks like rings; `found` are those seen until the search was given up."""

    def __init__(self, found: list[Candidate]) -> None:
        super().__init__("the search was given up: too much of memory looks like rings")
        self.found = found


def find_queues(image: MemoryImage, *, step: int = PAGE) -> list[Candidate]:
    """What looks like a virtqueue in `image`, the likeliest first; no two of them share memory.

    `step` (a power of two from 16 to 4096, in bytes) is how the rings are aligned; a small one takes longer.  Raises
    `TooMuchError`, as no memory of a real guest makes it.
    """
    found: list[Candidate] = []
    patience = Patience(image.size // PAGE)
    for span in image.spans:
        for candidate in _search(image, span, step, patience):
            found.append(candidate)
            if len(found) == _FOUND_LIMIT:
                raise TooMuchError(_best(found))
        if patience.over:
            raise TooMuchError(_best(found))
    return _best(found)


def _best(found: list[Candidate]) -> list[Candidate]:
    """The likeliest, without those that lie over a likelier one."""
    found.sort(key=lambda candidate: (-candidate.score, candidate.queue.desc, -candidate.queue.size))
    kept: list[Candidate] = []
    for candidate in found:
        if not any(candidate.start < other.end and other.start < candidate.end for other in kept):
            kept.append(candidate)
    return kept


def _search(image: MemoryImage, span: Span, step: int, patience: Patience) -> Iterator[Candidate]:
    columns: dict[int, list[int]] = {}
    for size in SIZES:
        columns.setdefault(DESC.size * size % step, []).append(size)
    first = -span.base % step
    ended = 0
    for chunk in range(first, len(span.view), _CHUNK):
        # Columns of one chunk after another: its pages are then in the cache for all but the first.
        piece = span.view[chunk : chunk + _CHUNK]
        for offset, sizes in columns.items():
            words = _column(piece, offset, step)
            for at in _split_heads(words, max(sizes)):
                place = span.base + chunk + offset + at * step
                largest = max(words[at] >> 32 & 0xFFFF, words[at] >> 48)
                if patience.over:
                    return
                for size in sizes:
                    if size <= largest:
                        continue
                    candidate = judge_split(image, place - DESC.size * size, place, size, patience)
                    if candidate is not None:
                        yield candidate
        for at in _packed_heads(_column(piece, _WORD, step)):
            place = span.base + chunk + at * step
            if place < ended:
                continue
            candidate, judged = judge_packed(image, place)
            # What was no ring is not judged from each of its descriptors on again.
            ended = place + judged // 2
            if candidate is not None:
                ended = candidate.end
                yield candidate


def _column(piece: memoryview, offset: int, step: int) -> list[int]:
    """The little-endian words of 8 bytes at `offset` and every `step` bytes from there."""
    words = piece[: len(piece) // _WORD * _WORD].cast("Q")[offset // _WORD :: step // _WORD].tolist()
    if sys.byteorder == "big":
        swapped = array("Q", words)
        swapped.byteswap()
        words = swapped.tolist()
    return words


def _split_heads(words: list[int], largest: int) -> list[int]:
    """Where words are what an available ring begins with: flags 0 or 1, an index not 0, two heads below the size."""
    assert AVAIL.size == _WORD // 2
    too_large = 0xFFFF & ~(largest - 1)
    wrong = 0xFFFE | too_large << 32 | too_large << 48
    return [at for at, word in enumerate(words) if word & _INDEX and not word & wrong]


def _packed_heads(words: list[int]) -> list[int]:
    """Where words are the second half of a packed ring's descriptor: a length, an id below 32768, known flags."""
    wrong = (0xFFFF & ~_PACKED_FLAGS) << 48 | 0x8000 << 32
    return [at for at, word in enumerate(words) if word and not word & wrong]
