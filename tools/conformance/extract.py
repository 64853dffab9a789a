"""The normative statements of VIRTIO's LaTeX sources, each with an id and a hash of its text.

A conformance clause begins with `\\devicenormative` or `\\drivernormative` and ends at the next heading.  Its sentences
with MUST, SHOULD, MAY, SHALL, REQUIRED or RECOMMENDED are its statements, numbered from 1.  The text itself stays where
it is: what leaves here is its SHA-256's first eight digits.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCES = {
    "content.tex": "basic",
    "split-ring.tex": "split",
    "packed-ring.tex": "packed",
    "shared-mem.tex": "shm",
    "transport-pci.tex": "pci",
    "transport-mmio.tex": "mmio",
    "device-types/blk/description.tex": "blk",
    "device-types/scsi/description.tex": "scsi",
}
"""The files that concern these devices, and the part that each is."""

_CLAUSE = re.compile(r"\\(device|driver)normative\s*\{[^}]*\}\s*\{[^}]*\}\s*\{([^}]*)\}")
_HEADING = re.compile(r"\\(?:chapter|section|subsection|subsubsection|paragraph|subparagraph)\*?\s*\{")
_KEYWORD = re.compile(r"\b(?:MUST|SHOULD|MAY|SHALL|REQUIRED|RECOMMENDED)\b")
_LEVELS = {
    "MUST": {"MUST", "SHALL", "REQUIRED"},
    "SHOULD": {"SHOULD", "RECOMMENDED"},
    "MAY": {"MAY"},
}
_NOTE = re.compile(r"\\begin\{note\}.*?\\end\{note\}", re.DOTALL)
_LISTING = re.compile(r"\\begin\{lstlisting\}.*?\\end\{lstlisting\}", re.DOTALL)
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{[^}]*\}(?:\[[^\]]*\])?")
_COMMENT = re.compile(r"(?<!\\)%.*")
_FIELD = re.compile(r"\\(?:field|textbf|textit|texttt|emph)\{([^{}]*)\}")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\\`])|(?<=:)\s+(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Statement:
    """A normative statement: `label` is its clause's own, `number` its place there, `digest` 8 hexadecimal digits."""

    part: str
    side: str
    label: str
    number: int
    digest: str
    text: str

    @property
    def level(self) -> str:
        """The strongest of its words: MUST, SHOULD or MAY."""
        words = set(_KEYWORD.findall(self.text))
        return next(level for level, those in _LEVELS.items() if words & those)


def statements(checkout: Path) -> list[Statement]:
    """All statements of a checkout of oasis-tcs/virtio-spec that concern these devices."""
    return [
        found
        for name, part in SOURCES.items()
        for found in statements_of((checkout / name).read_text(encoding="utf-8"), part)
    ]


def statements_of(source: str, part: str) -> list[Statement]:
    """The statements of one LaTeX file."""
    found: list[Statement] = []
    counts: dict[tuple[str, str], int] = {}
    for side, label, body in _clauses(_COMMENT.sub("", source)):
        for text in _sentences(body):
            number = counts[side, label] = counts.get((side, label), 0) + 1
            found.append(Statement(part, side, label, number, digest_of(text), text))
    return found


def digest_of(text: str) -> str:
    """The first eight digits of a statement's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _clauses(source: str) -> Iterator[tuple[str, str, str]]:
    for match in _CLAUSE.finditer(source):
        rest = source[match.end() :]
        ends = [end.start() for end in (_CLAUSE.search(rest), _HEADING.search(rest)) if end]
        yield match[1], " ".join(match[2].split()), rest[: min(ends, default=len(rest))]


def _sentences(body: str) -> Iterator[str]:
    body = _LISTING.sub(" [LST] ", _NOTE.sub("\n\n", body))
    body = _ENVIRONMENT.sub("\n\n", body)
    for paragraph in re.split(r"\n\s*\n|\\item\b", body):
        for sentence in _SENTENCE.split(" ".join(paragraph.split())):
            if _KEYWORD.search(sentence):
                yield _FIELD.sub(r"\1", sentence)
