"""Recording scripts: which trace each run writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from guestsim.script.needs import parse_target
from guestsim.script.values import parse_size

if TYPE_CHECKING:
    from guestsim.script.needs import TargetSpec
    from guestsim.script.run import Runnable

SUFFIX = ".trace"
LEAST_LIMIT = 4096
"""Less is not even enough for what every trace begins and ends with."""
_RECORDED = ("devmodels", "vhost-user", "vfio-user")
"""Where devices are ours."""


class RecordOptionError(Exception):
    """`--record` or `--record-limit` cannot be had; one line that begins with the option."""


class Recording(NamedTuple):
    """Where a run's trace goes, and the most bytes that it may have."""

    path: Path
    limit: int | None = None


def plan(record: Path, limit: str | None, runs: Sequence[tuple[Runnable, str]]) -> list[Recording]:
    """What each run, a script on a target, writes: `record` itself where it is one, else a file in that folder.

    The folder is made.  RecordOptionError where that cannot be.
    """
    most = _limit(limit)
    for _, target in runs:
        if not can_record(parse_target(target)):
            expected = f"our own devices: {' or '.join(_RECORDED)}, without a socket"
            raise RecordOptionError(f"--record: target {target} is given; expected {expected}")
    if len(runs) == 1 and not record.is_dir():
        return [Recording(record, most)]
    if record.exists() and not record.is_dir():
        raise RecordOptionError(
            f"--record: {record} is a file; expected a folder for the traces of {len(runs)} runs"
        )
    try:
        record.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordOptionError(f"--record: {record} cannot be made: {error.strerror}") from None
    return [Recording(record / name, most) for name in _names(runs)]


def can_record(spec: TargetSpec) -> bool:
    """Whether a target's devices are ours, and started for a script."""
    return spec.name in _RECORDED and spec.socket is None


def _limit(limit: str | None) -> int | None:
    if limit is None:
        return None
    try:
        most = int(parse_size(limit))
    except ValueError as error:
        raise RecordOptionError(f"--record-limit: {error}") from None
    if most < LEAST_LIMIT:
        raise RecordOptionError(f"--record-limit: {limit} is given; expected at least {LEAST_LIMIT}")
    return most


def _names(runs: Sequence[tuple[Runnable, str]]) -> list[str]:
    """A name for each run: its file's, its own where the file has several, its target's where there are several."""
    scripts = {(runnable.source.file, runnable.script.name) for runnable, _ in runs}
    in_file = Counter(file for file, _ in scripts)
    several_targets = len({target for _, target in runs}) > 1
    found: Counter[str] = Counter()
    names = []
    for runnable, target in runs:
        file = runnable.source.file
        parts = [Path(file).name.removesuffix(".yaml").removesuffix(".py").removesuffix(".guest")]
        if in_file[file] > 1:
            parts.append(runnable.script.name)
        if several_targets:
            parts.append(target)
        name = file_name("-".join(parts))
        found[name] += 1
        names.append(f"{name}{f'-{found[name]}' if found[name] > 1 else ''}{SUFFIX}")
    return names


def file_name(text: str) -> str:
    """`text` as a file can be called anywhere."""
    kept = "".join(each if each.isalnum() or each in "._" else " " for each in text)
    return "-".join(kept.split())[:150] or "trace"
