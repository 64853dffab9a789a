"""What was judged of mutants that survived: judgements.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

JUDGEMENTS = Path(__file__).with_name("judgements.yaml")


class JudgementError(Exception):
    """judgements.yaml is not what it should be."""


class Judgement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`verdict`: `equivalent`, `open` (a gap that is known), or `test` where `why` names the test that was added."""

    was: str
    becomes: str
    verdict: Literal["equivalent", "open", "test"]
    why: str
    nth: int = 0
    """Among the module's lines that read the same."""


Judgements = dict[str, list[Judgement]]


class Judged(Protocol):
    """What names a mutant."""

    @property
    def module(self) -> str:
        """Its path, relative to the repository."""
        ...

    @property
    def was(self) -> str:
        """The line without it."""
        ...

    @property
    def becomes(self) -> str:
        """The line with it."""
        ...

    @property
    def nth(self) -> int:
        """Among the module's lines that read the same."""
        ...


def read() -> Judgements:
    """By module; raises `JudgementError`."""
    try:
        plain = YAML(typ="safe").load(JUDGEMENTS.read_text(encoding="utf-8")) or {}
        return msgspec.convert(plain, Judgements)
    except (OSError, YAMLError, msgspec.ValidationError) as error:
        raise JudgementError(f"{JUDGEMENTS.name}: {' '.join(str(error).split())}") from None


def judged(given: Judgements, mutant: Judged) -> Judgement | None:
    """What was judged of a mutant, if anything."""
    wanted = mutant.was, mutant.becomes, mutant.nth
    same = (each for each in given.get(mutant.module, ()) if (each.was, each.becomes, each.nth) == wanted)
    return next(same, None)


def equivalent(given: Judgements, mutant: Judged) -> bool:
    """Whether it was judged to be seen by nobody: no test that comes can kill it."""
    said = judged(given, mutant)
    return said is not None and said.verdict == "equivalent"
