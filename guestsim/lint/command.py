"""`guestsim lint`: what the drivers of a trace did against the specification.

Exit status: 0 where that is nothing (remarks apart), 1 where it is something, 2 where the trace is wrong, or cut short
before any driver's session.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from guestsim.outputs import counted
from guestsim.progress import TraceBar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devmodels.tracefile import TraceHeader
    from guestsim.lint.sessions import AtaCounts, Finding, Session

_STYLES = {"must": "bold red", "should": "yellow", "remark": "cyan"}
_SHOWN_BYTES = 32


def lint_command(
    trace: Annotated[Path, typer.Argument(help="A trace, as --record writes it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """List what the drivers of a trace did against the specification."""
    # What reads and judges traces is not for every start of the command.
    from devmodels.tracefile import TraceFileError, TraceReader
    from guestsim.lint.run import Linter
    from guestsim.show.progress import Watched

    linter = Linter()
    try:
        with TraceReader(trace) as reader, TraceBar(trace, shown=not as_json) as progress:
            for event in Watched(reader, progress):
                linter.see(event)
            header, cut = reader.header, reader.cut
    except TraceFileError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    sessions = linter.end()
    if cut and not sessions:
        typer.echo(
            f"{trace}: the trace is cut short before any driver's session, expected more of it", err=True
        )
        raise typer.Exit(2)
    if as_json:
        typer.echo(
            msgspec.json.format(msgspec.json.encode(to_json(trace, header, sessions, cut=cut))).decode()
        )
    else:
        show(Console(highlight=False), header, sessions, cut=cut)
    if any(session.mistakes for session in sessions):
        raise typer.Exit(1)


def show(console: Console, header: TraceHeader, sessions: Sequence[Session], *, cut: bool) -> None:
    """Print the findings by session."""
    from guestsim.show.listing import printable

    for session in sessions:
        console.print(f"[bold]{escape(printable(_title(session)))}[/]", soft_wrap=True)
        console.print(f"  [dim]{escape(printable(_facts(session)))}[/]", soft_wrap=True)
        for finding in session.findings.values():
            _show_finding(console, finding)
        if session.more:
            console.print(f"  and {session.more} more")
        if not session.findings:
            console.print("  [green]✓[/] nothing")
    mistakes = [finding for session in sessions for finding in session.mistakes]
    remarks = sum(len(session.findings) for session in sessions) - len(mistakes)
    text = f"{counted(len(mistakes), 'finding')}, {counted(remarks, 'remark')} in {counted(len(sessions), 'session')}"
    console.print(f"[bold {'red' if mistakes else 'green'}]{text}[/]")
    if not header.strict:
        console.print(
            "[yellow]recorded without --strict: of what devices commonly accept nothing was reported[/]",
            soft_wrap=True,
        )
    if cut:
        console.print("[yellow]the trace is cut short[/]")


def _title(session: Session) -> str:
    numbers = f"session {session.number}"
    if session.times > 1:
        numbers += f", and {session.times - 1} more just like it"
    start = f"{session.start_ns / 1e9:.6f} s"
    return f"{session.device} {numbers}: events {session.first} to {session.last}, from {start} on"


def _facts(session: Session) -> str:
    from guestsim.show import names

    if session.ata.accesses:
        return _ata_facts(session.ata)
    bits = session.features
    features = "nothing negotiated" if bits is None else names.features(bits, scsi=session.scsi)
    shapes = {(ring.size, "packed" if ring.packed else "split") for ring in session.queues.values()}
    rings = ", ".join(f"{kind}, {size} entries" for size, kind in sorted(shapes))
    queues = f"{counted(len(session.queues), 'queue')} ({rings})" if session.queues else "no queue"
    asked = ", ".join(f"{count} {kind}" for kind, count in session.requests.most_common())
    return f"{features}; {queues}; {asked or 'no requests'}"


def _ata_facts(counts: AtaCounts) -> str:
    packets = f", {counts.packets} of them by packet" if counts.packets else ""
    return f"{counted(counts.commands, 'command')}{packets}; registers accessed {counts.accesses}×"


def _show_finding(console: Console, finding: Finding) -> None:
    from guestsim.show.listing import printable

    level = finding.level.value
    where = f"event {finding.event}, {finding.time_ns / 1e9:.6f} s, {finding.place}"
    data = f" [{finding.data[:_SHOWN_BYTES].hex(' ')}]" if finding.data else ""
    console.print(
        f"  [{_STYLES[level]}]{level:<6}[/] {escape(finding.clause)}  {finding.count}×  "
        f"{escape(printable(finding.summary + data))}",
        soft_wrap=True,
    )
    console.print(f"         [dim]first at {escape(printable(where))}[/]", soft_wrap=True)


def to_json(trace: Path, header: TraceHeader, sessions: Sequence[Session], *, cut: bool) -> dict[str, object]:
    """The findings as plain values; bytes as hexadecimal digits, times in ns since the trace's beginning."""
    from guestsim.show import names

    return {
        "trace": str(trace),
        "program": header.program,
        "strict": header.strict,
        "cut": cut,
        "findings": sum(len(session.mistakes) for session in sessions),
        "sessions": [
            {
                "device": session.device,
                "session": session.number,
                "times": session.times,
                "first-event": session.first,
                "last-event": session.last,
                "time-ns": session.start_ns,
                "features": session.features,
                "feature-names": None
                if session.features is None
                else names.features(session.features, scsi=session.scsi).split("|"),
                "queues": [
                    {"queue": queue, "size": ring.size, "packed": ring.packed}
                    for queue, ring in sorted(session.queues.items())
                ],
                "requests": dict(session.requests),
                "ata": {
                    "commands": session.ata.commands,
                    "packets": session.ata.packets,
                    "register-accesses": session.ata.accesses,
                }
                if session.ata.accesses
                else None,
                "findings": [
                    {
                        "clause": finding.clause,
                        "level": finding.level.value,
                        "summary": finding.summary,
                        "place": finding.place,
                        "count": finding.count,
                        "event": finding.event,
                        "time-ns": finding.time_ns,
                        "data": finding.data.hex(),
                    }
                    for finding in session.findings.values()
                ],
                "more": session.more,
            }
            for session in sessions
        ],
    }
