"""`guestsim convert`: a log of block I/O, or a trace, in another format."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from guestsim.progress import Bar

if TYPE_CHECKING:
    from guestsim.blocklog.events import Event
    from guestsim.blocklog.formats import LogFormat

FORMAT_NAMES = "trace, fio2, fio3, blkparse, qemu-io"


def convert_command(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A trace or a log; - for standard input.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write; - for standard output.")],
    to: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="fio2, fio3, blkparse or qemu-io. [default: by the end of OUT: .iolog, .blkparse, .qemu-io]",
        ),
    ] = None,
    given: Annotated[
        str | None,
        typer.Option("--from", metavar="FORMAT", help=f"{FORMAT_NAMES}. [default: as IN begins]"),
    ] = None,
    only: Annotated[
        str | None, typer.Option(metavar="DISK", help="Keep the requests of this disk alone.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="For qemu-io: keep what is written in files of this folder, as -s names them.",
        ),
    ] = None,
    times: Annotated[
        bool, typer.Option("--times/--no-times", help="Keep when requests began, or leave times out.")
    ] = True,
) -> None:
    """Turn a trace, an iolog of fio's, blkparse's text or qemu-io's commands into another of these logs.

    What the other format cannot hold is said on standard error, a line for each kind.
    """
    from guestsim.blocklog.events import LogError, Losses
    from guestsim.blocklog.formats import QEMU_IO, OpenLog

    form = _target_format(to, target)
    if data is not None and form is not QEMU_IO:
        fail("convert", "--data: expected with qemu-io as the format to write")
    if str(source) != "-" and target.exists() and source.exists() and target.samefile(source):
        fail("convert", f"{target}: expected another file than the one that is read")
    losses = Losses()
    try:
        with OpenLog(source, source_format("convert", given)) as log, Bar("converting", log.total) as bar:
            one = form is QEMU_IO or only is not None
            events = bar.along(log.of_one_disk(only) if one else log.events, log.position)
            if not times:
                events = _timeless(events)
            assert form.write is not None
            write = partial(form.write, ends=log.format.ends)
            if data is not None:
                write = partial(write, keep=_Files(data).keep)
            _put(write(events, losses), target)
            losses.update(log.losses)
    except LogError as error:
        fail("", str(error))
    except BrokenPipeError:
        # Whoever reads has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        fail("", f"{error.filename or target}: {error.strerror}")
    tell_losses(losses.lines())


def _put(lines: Iterator[str], target: Path) -> None:
    """Write a log; half of one is none."""
    if str(target) == "-":
        for line in lines:
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        return
    with target.open("w", encoding="utf-8") as out:
        try:
            for line in lines:
                out.write(f"{line}\n")
        except BaseException:
            if target.is_file():
                target.unlink()
            raise


class _Files:
    """Where the data of writes is kept."""

    def __init__(self, folder: Path) -> None:
        if " " in str(folder):
            fail(
                "convert",
                f"--data: {str(folder)!r} is given, expected a name without spaces: qemu-io takes no others",
            )
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._count = 0

    def keep(self, data: bytes) -> str:
        """Keep it in a file of its own, and say its name."""
        path = self._folder / f"{self._count:08d}"
        self._count += 1
        path.write_bytes(data)
        return str(path)


def _timeless(events: Iterator[Event]) -> Iterator[Event]:
    import msgspec

    for event in events:
        yield msgspec.structs.replace(event, time_ns=0)


def _target_format(name: str | None, target: Path) -> LogFormat:
    from guestsim.blocklog.formats import WRITTEN

    if name is None:
        found = next((each for each in WRITTEN.values() if target.name.endswith(each.suffixes)), None)
        if found is None:
            fail("convert", f"--to: missing, and {target} does not say: expected one of {', '.join(WRITTEN)}")
        return found
    if name not in WRITTEN:
        fail("convert", f"--to: {name!r} is given, expected one of {', '.join(WRITTEN)}")
    return WRITTEN[name]


def source_format(command: str, name: str | None) -> LogFormat | None:
    """The format that `--from` names; None where it is to be found out."""
    from guestsim.blocklog.formats import FORMATS

    if name is not None and name not in FORMATS:
        fail(command, f"--from: {name!r} is given, expected one of {', '.join(FORMATS)}")
    return None if name is None else FORMATS[name]


def fail(command: str, text: str) -> NoReturn:
    """End with one line for the user and exit status 2."""
    typer.echo(f"guestsim {command}: {text}" if command else text, err=True)
    raise typer.Exit(2)


def tell_losses(lines: list[str]) -> None:
    """What was not kept, on standard error."""
    for line in lines:
        typer.echo(f"not kept: {line}", err=True)
