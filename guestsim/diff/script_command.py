"""What `guestsim diff SCRIPT` prints."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from guestsim.diff.command import result_of
from guestsim.diff.known import KNOWN
from guestsim.diff.scripts import ScriptDiff, compare_script
from guestsim.outputs import counted
from guestsim.script.run import YamlScript, read_scripts

if TYPE_CHECKING:
    from rich.console import Console

    from guestsim.diff.profiles import Profile
    from guestsim.diff.script_save import Saved


def compare_file(path: Path, profile: Profile, folder: Path) -> list[ScriptDiff]:
    """The scripts of a file, one after another.  ScriptError, and TargetError where QEMU cannot be started."""
    runnables = [one for one in read_scripts(path) if isinstance(one, YamlScript)]
    return [compare_script(one, profile, folder) for one in runnables]


def show(reports: Sequence[ScriptDiff], console: Console) -> None:
    """Print what came of scripts, the result above and below."""

    def say(text: str) -> None:
        console.print(text, soft_wrap=True)

    result = result_of(sum(report.unexplained is not None for report in reports))
    say(result)
    for report in reports:
        if report.skipped is not None:
            say(f"{escape(report.name)}: not compared: {escape(report.skipped)}")
        else:
            _show(report, say)
    say(result)
    for report in reports:
        if report.saved is not None:
            # Not wrapped, nor cut: it is to be copied.
            say(f"again: {escape(replay(report.saved, report.profile))}")


def replay(saved: Saved, profile: Profile) -> str:
    """The command that plays a file again."""
    under = "" if profile == "strict" else f" --profile {profile}"
    return f"guestsim diff{under} {shlex.quote(str(saved.path))}"


def _show(report: ScriptDiff, say: Callable[[str], None]) -> None:
    as_qemu = " as QEMU's" if report.profile == "qemu" else ""
    say(
        f"{escape(report.name)}{as_qemu}: {counted(report.steps, 'step')} ({report.accesses} accesses), "
        f"compared {report.compared} times, {counted(report.disks, 'disk')} in the end, in {report.seconds:.1f} s"
    )
    entries = {entry.name: entry for entry in KNOWN}
    for name, count in report.known.most_common():
        entry = entries[name]
        said = f"{entry.what} ({entry.clause}; right: {entry.right})"
        say(f"  known    {count:>6}×  {escape(name)}  [dim]{escape(said)}[/]")
    for reason, count in report.said.most_common():
        say(f"  known    {count:>6}×  as the script says  [dim]{escape(reason)}[/]")
    for name, reason, count in report.reasons:
        say(f"  masked   {count:>6}×  {escape(name)}  [dim]{escape(reason)}[/]")
    if report.unexplained is not None:
        say(f"[bold red]unexplained[/] {escape(report.place)}: {escape(str(report.unexplained))}")
        say(f"  {escape(_saved(report))}")
    for failure in report.failures:
        say(f"[bold red]failed[/] {escape(failure)}")


def _saved(report: ScriptDiff) -> str:
    """What became of the accesses."""
    if report.saved is None:
        return f"not saved: {report.unsaved}"
    if report.saved.again:
        return f"the shortest accesses that show it: {report.saved.path}"
    without = "".join(f", without {what}" for what in report.saved.without)
    return f"not seen again when the accesses were played alone; all of them{without}: {report.saved.path}"


def to_json(report: ScriptDiff) -> dict[str, object]:
    """A report as plain values."""
    found = report.unexplained
    return {
        "file": report.file,
        "name": report.name,
        "profile": report.profile,
        "skipped": report.skipped,
        "steps": report.steps,
        "accesses": report.accesses,
        "comparisons": report.compared,
        "disks": report.disks,
        "seconds": round(report.seconds, 3),
        "known": dict(report.known.most_common()),
        "said": dict(report.said.most_common()),
        "masks": [{"name": name, "reason": reason, "count": count} for name, reason, count in report.reasons],
        "failures": report.failures,
        "unexplained": None
        if found is None
        else {
            "at": report.place,
            "kind": found.kind,
            "place": found.place,
            "ours": found.ours,
            "theirs": found.theirs,
            "seen-again": report.saved is not None and report.saved.again,
            "file": None if report.saved is None else str(report.saved.path),
        },
    }
