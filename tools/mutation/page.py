"""docs/mutation.md: figures for each module, and each survivor with its judgement from judgements.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tools.mutation.kept import Found
from tools.mutation.modules import PARTS, ROOT

PAGE = ROOT / "docs" / "mutation.md"
JUDGEMENTS = Path(__file__).with_name("judgements.yaml")
COLUMNS = ("module", "mutants", "killed", "survivors", "of them equivalent", "killed of all")

HEAD = """# Mutation score of the rings and the register code

Written by `make mutation SAMPLE={size} SEED={seed}` ([tools/mutation](../tools/mutation)). A mutant is the code with
one small change (another operator, a constant one more or less, a condition turned round, a loop not run), made by
[cosmic-ray](https://cosmic-ray.readthedocs.io). Each is run against the tests that concern its module, near ones first;
it is killed where one of them fails, where it cannot be imported, or where it takes more than three times their time.
Places are drawn by the seed, one mutant for each, from all of the modules named below, where annotations do not count.
Hypothesis draws the same ten examples each time. Tests that start other processes do not count: the mutant is not in
them.

The lines are those of the code that was measured; where the code has changed since, some of the mutants are others.

Survivors are looked at one by one. `equivalent` ones can be seen by nobody: neither by a guest nor by an
embedder through what is public.
"""


class JudgementError(Exception):
    """judgements.yaml is not what it should be."""


class Judgement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`verdict`: `equivalent`, `open` (a gap that is known), or `test` where `why` names the test that was added."""

    was: str
    becomes: str
    verdict: str
    why: str


Judgements = dict[str, list[Judgement]]


def judgements() -> Judgements:
    """By module; raises `JudgementError`."""
    try:
        plain = YAML(typ="safe").load(JUDGEMENTS.read_text(encoding="utf-8")) or {}
        return msgspec.convert(plain, Judgements)
    except (OSError, YAMLError, msgspec.ValidationError) as error:
        raise JudgementError(f"{JUDGEMENTS.name}: {' '.join(str(error).split())}") from None


def judged(given: Judgements, found: Found) -> Judgement | None:
    """What was judged of a mutant, if anything."""
    same = (
        each for each in given.get(found.module, ()) if (each.was, each.becomes) == (found.was, found.becomes)
    )
    return next(same, None)


def equivalent(given: Judgements, found: Found) -> bool:
    """Whether it was judged to be seen by nobody: no test that comes can kill it."""
    said = judged(given, found)
    return said is not None and said.verdict == "equivalent"


def settled(given: Judgements, found: Found) -> bool:
    """Whether no test was added for it, so that it need not be tried again."""
    said = judged(given, found)
    return said is not None and said.verdict != "test"


def rows(found: Sequence[Found], given: Judgements) -> list[tuple[str, ...]]:
    """The table's rows, with one for everything at the end."""
    modules = [module for part in PARTS for module in part.modules]
    mine = [[each for each in found if each.module == module] for module in modules]
    named = [
        (module.removeprefix("devmodels/"), some) for module, some in zip(modules, mine, strict=True) if some
    ]
    return [_row(name, some, given) for name, some in [*named, ("all", list(found))]]


def _row(name: str, found: Sequence[Found], given: Judgements) -> tuple[str, ...]:
    killed = sum(each.killed for each in found)
    survivors = [each for each in found if not each.killed]
    same = sum(equivalent(given, each) for each in survivors)
    share = f"{100 * killed / len(found):.1f} %" if found else ""
    return name, str(len(found)), str(killed), str(len(survivors)), str(same), share


def markdown(found: Sequence[Found], given: Judgements, size: int, seed: int) -> str:
    """The page."""
    lines = [HEAD.format(size=size, seed=seed)]
    lines += ["| " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * (len(COLUMNS) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows(found, given)]
    by = {how: sum(each.by == how for each in found) for how in ("import", "timeout")}
    tests = sum(each.killed for each in found) - sum(by.values())
    lines.append(
        f"\nOf those killed, {tests} were killed by a test, {by['import']} as they cannot be imported, "
        f"{by['timeout']} as they take too long.\n"
    )
    survivors = [each for each in found if not each.killed]
    lines += ["## Survivors\n", *_table(survivors, given)]
    added = [each for each in found if each.killed and judged(given, each) is not None]
    lines += [
        "\n## Survivors of earlier runs, and the tests that were added\n",
        f"{len(added)} of the mutants above were survivors once.\n",
        *_table(added, given),
    ]
    return "\n".join(lines) + "\n"


def _table(found: Sequence[Found], given: Judgements) -> list[str]:
    lines = ["| Where | Was | Becomes | Judgement |", "|---|---|---|---|"]
    for each in sorted(found, key=lambda one: (one.module, one.line)):
        said = judged(given, each)
        words = f"{said.verdict}: {said.why}" if said else "not yet looked at"
        where = f"{each.module.removeprefix('devmodels/')}:{each.line}"
        lines.append(f"| {where} | {_code(each.was)} | {_code(each.becomes)} | {words} |")
    return lines


def _code(text: str) -> str:
    return "`` " + text.replace("|", "\\|") + " ``"
