"""What runs have found, in .cache/mutation: what was killed need not be killed again while its module stands."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import msgspec

from tools.mutation.modules import ROOT
from tools.mutation.mutants import Mutant
from tools.mutation.trial import Result

FOLDER = ROOT / ".cache" / "mutation"


class Found(msgspec.Struct, frozen=True):
    """A mutant and what became of it; `seconds` of the tests that said so."""

    name: str
    module: str
    line: int
    was: str
    becomes: str
    operator: str
    killed: bool
    by: str
    """A test, `import` where the module or what uses it cannot be imported, or `timeout`."""
    seconds: float


class Kept:
    """The results of all mutants so far, one file, added to as they come."""

    def __init__(self, *, fresh: bool) -> None:
        self._path = FOLDER / "results.jsonl"
        self._results: dict[str, Found] = {}
        FOLDER.mkdir(parents=True, exist_ok=True)
        if fresh or not self._path.exists():
            self._path.write_bytes(b"")
        for line in self._path.read_bytes().splitlines():
            key, found = msgspec.json.decode(line, type=tuple[str, Found])
            self._results[key] = found

    def known(self, mutant: Mutant) -> Found | None:
        """What became of it earlier, if anything."""
        return self._results.get(_key(mutant))

    def add(self, mutant: Mutant, result: Result) -> Found:
        """Keep a result."""
        by = "" if result.passed else "timeout" if result.timeout else result.test or "import"
        found = Found(
            mutant.name,
            mutant.module,
            mutant.line,
            mutant.was,
            mutant.becomes,
            mutant.operator.removeprefix("core/"),
            not result.passed,
            by,
            round(result.seconds, 1),
        )
        with Path(self._path).open("ab") as file:
            file.write(msgspec.json.encode((_key(mutant), found)) + b"\n")
        self._results[_key(mutant)] = found
        return found


def _key(mutant: Mutant) -> str:
    """Of the whole mutated module."""
    return sha256(f"{mutant.module} {mutant.source}".encode()).hexdigest()
