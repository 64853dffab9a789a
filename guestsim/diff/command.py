"""`guestsim diff`: the same accesses on our device and on a live QEMU's, and all that a guest can see compared.

Exit status: 0 where all differences are known, 1 where one is not, 2 where an option or a file is wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from guestsim.outputs import counted
from guestsim.progress import Bar

if TYPE_CHECKING:
    from collections.abc import Callable

    from guestsim.diff.profiles import Profile
    from guestsim.diff.run import Report, Unexplained

DEFAULT_STEPS = 2_000
MOST_LINES = 60
"""Lines of a sequence that are printed."""


def diff_command(
    file: Annotated[
        Path | None, typer.Argument(help="A file of accesses, as this command saves them, or a script.")
    ] = None,
    at_random: Annotated[bool, typer.Option("--random", help="Random sequences of accesses.")] = False,
    device: Annotated[
        str | None, typer.Option(metavar="DEVICE", help="The device that random sequences are for.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="The seed of random sequences.", show_default="0")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="How many steps to do.", show_default=str(DEFAULT_STEPS))
    ] = None,
    output: Annotated[
        Path, typer.Option(help="The folder for sequences of unexplained differences.")
    ] = Path(),
    profile: Annotated[
        str,
        typer.Option(
            metavar="PROFILE",
            help="What our device goes by: `strict`, its specification, or `qemu`, what QEMU's does.",
        ),
    ] = "strict",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Do the same on our device and on a live QEMU's, and compare all that a guest can see."""
    from guestsim.targets import TargetError

    if at_random is (file is not None):
        _wrong("expected either a FILE or --random with --device")
    for name, value in (("device", device), ("seed", seed), ("steps", steps)):
        if file is not None and value is not None:
            _wrong(f"--{name}: {value} is given, expected none with {file}")
    try:
        if file is not None and file.suffix == ".yaml":
            _play_scripts(file, _profile(profile), output, as_json=as_json)
            return
        if file is not None:
            report = _play_file(file, _profile(profile))
        else:
            report = _play_random(
                device, _profile(profile), seed or 0, steps or DEFAULT_STEPS, output, shown=not as_json
            )
    except TargetError as error:
        _wrong(str(error))
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(to_json(report))).decode())
    else:
        show(report, Console(highlight=False))
    if report.unexplained:
        raise typer.Exit(1)


def _profile(name: str) -> Profile:
    from guestsim.diff.profiles import PROFILES

    found = next((profile for profile in PROFILES if profile == name), None)
    if found is None:
        _wrong(f"--profile: {name} is given, expected one of {', '.join(PROFILES)}")
    return found


def _play_random(
    device: str | None, profile: Profile, seed: int, steps: int, output: Path, *, shown: bool
) -> Report:
    from guestsim.diff.devices import DEVICES
    from guestsim.diff.run import compare_random

    if device not in DEVICES:
        _wrong(f"--device: {device or 'none'} is given, expected one of {', '.join(DEVICES)}")
    _check_folder(output)
    with Bar("steps", steps, shown=shown) as bar:
        compared = DEVICES[device].under(profile)
        return compare_random(compared, seed=seed, steps=steps, folder=output, watch=bar.at)


def _check_folder(output: Path) -> None:
    if not output.is_dir():
        _wrong(f"--output: there is no folder {output}")


def _play_file(path: Path, profile: Profile) -> Report:
    from guestsim.diff.access import AccessFileError, parse
    from guestsim.diff.devices import check_of, device_of
    from guestsim.diff.run import compare_steps

    try:
        content = path.read_bytes()
    except OSError as error:
        _wrong(f"{path}: {error.strerror}")
    try:
        name, steps = parse(content.decode(), str(path), check_of)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        _wrong(f"{path}:{line}: byte {content[error.start]:#04x}, expected text in UTF-8")
    except AccessFileError as error:
        _wrong(str(error))
    return compare_steps(device_of(name).under(profile), steps)


def _play_scripts(path: Path, profile: Profile, output: Path, *, as_json: bool) -> None:
    from guestsim.diff import script_command
    from guestsim.script.load import ScriptError

    _check_folder(output)
    try:
        reports = script_command.compare_file(path, profile, output)
    except ScriptError as error:
        _wrong(str(error))
    if reports and all(report.skipped is not None for report in reports):
        _wrong(f"{path}: {reports[0].name}: {reports[0].skipped}")
    if as_json:
        plain = [script_command.to_json(report) for report in reports]
        typer.echo(msgspec.json.format(msgspec.json.encode(plain)).decode())
    else:
        script_command.show(reports, Console(highlight=False))
    if not all(report.ok for report in reports):
        raise typer.Exit(1)


def _wrong(text: str) -> NoReturn:
    typer.echo(f"guestsim diff: {text}", err=True)
    raise typer.Exit(2)


def result_of(unexplained: int) -> str:
    """The line that says how many differences nobody has explained."""
    return f"[bold {'red' if unexplained else 'green'}]unexplained differences: {unexplained}[/]"


def show(report: Report, console: Console) -> None:
    """Print a report, its result above and below."""

    def say(text: str) -> None:
        console.print(text, soft_wrap=True)

    result = result_of(len(report.unexplained))
    say(result)
    counts = report.counts
    as_qemu = " as QEMU's" if report.device.profile == "qemu" else ""
    rate = f", {counts.steps / report.seconds:.0f} steps a second" if report.seconds > 1 else ""
    say(
        f"{report.device.name}{as_qemu}: {counted(counts.steps, 'step')} ({counts.accesses} accesses) in "
        f"{counted(report.sequences, 'sequence')}, compared {counts.waits} times, "
        f"{counted(counts.held, 'request')} held on both, in {report.seconds:.1f} s{rate}"
    )
    if counts.overtaken:
        say(
            f"  ended early: {counted(counts.overtaken, 'sequence')}, as QEMU may have gone on before a reset came"
        )
    for name, count in report.known.most_common():
        entry = report.entries.get(name)
        said = f"{entry.what} ({entry.clause}; right: {entry.right})" if entry else ""
        say(f"  known    {count:>6}×  {escape(name)}  [dim]{escape(said)}[/]")
    for name, reason, count in report.masked:
        if count:
            say(f"  masked   {count:>6}×  {escape(name)}  [dim]{escape(reason)}[/]")
    for one in report.unexplained:
        _show_unexplained(one, say)
    say(result)


def _show_unexplained(one: Unexplained, say: Callable[[str], None]) -> None:
    from guestsim.diff.access import lines

    say(f"[bold red]unexplained[/] {one.count}×  {escape(str(one.difference))}")
    said = (
        "first {}; the shortest that shows it" if one.again else "{}, and not seen again; the whole sequence"
    )
    where = f": {escape(str(one.path))}" if one.path else ""
    say("  " + said.format(f"in sequence {one.sequence}") + where)
    text = [*lines("", one.steps)][1:]
    for line in text[:MOST_LINES]:
        say(f"    {escape(line if len(line) < 100 else line[:97] + '...')}")
    if len(text) > MOST_LINES:
        say(f"    and {counted(len(text) - MOST_LINES, 'line')} more")


def to_json(report: Report) -> dict[str, object]:
    """A report as plain values."""
    counts = report.counts
    return {
        "device": report.device.name,
        "profile": report.device.profile,
        "seed": report.seed,
        "steps": counts.steps,
        "accesses": counts.accesses,
        "comparisons": counts.waits,
        "held": counts.held,
        "overtaken": counts.overtaken,
        "sequences": report.sequences,
        "seconds": round(report.seconds, 3),
        "known": [
            {"name": name, "count": count, "what": entry.what, "clause": entry.clause, "right": entry.right}
            for name, count in report.known.most_common()
            if (entry := report.entries.get(name)) is not None
        ],
        "masks": [{"name": name, "reason": reason, "count": count} for name, reason, count in report.masked],
        "unexplained": [
            {
                "kind": one.difference.kind,
                "place": one.difference.place,
                "ours": one.difference.ours,
                "theirs": one.difference.theirs,
                "count": one.count,
                "sequence": one.sequence,
                "seen-again": one.again,
                "file": None if one.path is None else str(one.path),
            }
            for one in report.unexplained
        ],
    }
