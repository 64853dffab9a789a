"""What has been found of mutants, in .cache/mutation: a run that was interrupted goes on where it was.

Nothing is believed of other code: there is a file for each state of all that a result depends on.
"""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import msgspec

from tools.mutation.modules import ROOT
from tools.mutation.mutants import Mutant
from tools.mutation.trial import How, Result

FOLDER = ROOT / ".cache" / "mutation"
_DEPENDS = ("devmodels", "guestsim", "tests", "tools/mutation")


class Found(msgspec.Struct, frozen=True):
    """What became of a mutant; `seconds` of CPU time of the tests that said so."""

    module: str
    line: int
    was: str
    becomes: str
    nth: int
    operator: str
    how: How
    test: str
    seconds: float

    @property
    def killed(self) -> bool:
        """Whether anything saw it."""
        return self.how is not How.PASSED


class Kept:
    """The results of one stage, `near` or `far`, of the code as it is; added to as they come."""

    def __init__(self, stage: str, *, fresh: bool = False) -> None:
        self._path = FOLDER / f"{_digest()}-{stage}.jsonl"
        self._results: dict[str, Found] = {}
        FOLDER.mkdir(parents=True, exist_ok=True)
        if fresh or not self._path.exists():
            self._path.write_bytes(b"")
        for line in self._path.read_bytes().splitlines():
            with suppress(msgspec.DecodeError):  # of a line that was being written
                key, found = msgspec.json.decode(line, type=tuple[str, Found])
                self._results[key] = found

    def known(self, mutant: Mutant) -> Found | None:
        """What became of it earlier, if anything."""
        return self._results.get(_key(mutant))

    def add(self, mutant: Mutant, result: Result) -> Found:
        """Keep a result."""
        found = Found(
            mutant.module,
            mutant.line,
            mutant.was,
            mutant.becomes,
            mutant.nth,
            mutant.operator.removeprefix("core/"),
            result.how,
            result.test,
            round(result.seconds, 1),
        )
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode((_key(mutant), found)) + b"\n")
        self._results[_key(mutant)] = found
        return found


def _key(mutant: Mutant) -> str:
    """Of the whole mutated module."""
    return sha256(f"{mutant.module} {mutant.source}".encode()).hexdigest()


def _digest() -> str:
    """Of all files that decide what becomes of a mutant; this package's records are none of them."""
    sums = sha256()
    for folder in _DEPENDS:
        for path in sorted(Path(ROOT, folder).rglob("*")):
            if path.suffix in (".py", ".yaml", ".trace") and path.name != "judgements.yaml":
                sums.update(f"{path.relative_to(ROOT)} ".encode() + sha256(path.read_bytes()).digest())
    return sums.hexdigest()[:16]
