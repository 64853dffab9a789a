"""`guestsim io`: replay a log of block I/O, or a trace, and say how it went.

Exit status: 0, 1 where a read found something else than expected or the device failed as one, 2 where an option or the
log is wrong.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from guestsim.blocklog.convert import FORMAT_NAMES, fail, source_format, tell_losses
from guestsim.outputs import check_writable
from guestsim.progress import Bar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from guestsim.blocklog.events import Losses
    from guestsim.blocklog.figures import Figures
    from guestsim.blocklog.replay import Replay
    from guestsim.script.needs import TargetSpec

_COMMAND = "io"


class ClockChoice(StrEnum):
    """Which clock a machine of ours has."""

    WALL = "wall"
    VIRTUAL = "virtual"


def io_command(
    source: Annotated[Path, typer.Argument(metavar="LOG", help="A trace or a log; - for standard input.")],
    blockdev: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NODE",
            help="A block node, as JSON or key=value, with the names of QEMU's -blockdev; the last is the disk.",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="DEVICE",
            help="The device, as QEMU's -device: virtio-blk-pci,num-queues=4, or virtio-blk-device. "
            "[default: virtio-blk-pci]",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="TARGET",
            help="Whose device: devmodels, qemu, qemu-storage-daemon or vhost-user, the last two with :SOCKET where "
            "a back end listens already. [default: devmodels]",
        ),
    ] = None,
    direct: Annotated[
        bool, typer.Option("--direct", help="To the node, without a guest and a device between.")
    ] = False,
    objects: Annotated[
        list[str] | None,
        typer.Option(
            "--object", metavar="OBJECT", help="What nodes of devmodels can name, as QEMU's --object."
        ),
    ] = None,
    speed: Annotated[
        str,
        typer.Option(
            metavar="SPEED", help="recorded, how many times as fast, or max: as fast as it goes, as ordered."
        ),
    ] = "recorded",
    depth: Annotated[
        int | None,
        typer.Option(
            min=1, max=4096, help="Keep so many requests under way, instead of those that were in the log."
        ),
    ] = None,
    clock: Annotated[
        ClockChoice, typer.Option(help="The clock of devmodels: virtual needs no time.")
    ] = ClockChoice.WALL,
    given: Annotated[
        str | None,
        typer.Option("--from", metavar="FORMAT", help=f"{FORMAT_NAMES}. [default: as LOG begins]"),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(metavar="DISK", help="Replay the requests of this disk. [default: the first]"),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Compare what is read with what the log's reads got.")
    ] = False,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write a trace of the replay, with a guest on a device of devmodels."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    svg: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw latencies and depth over time into this file.")
    ] = None,
) -> None:
    """Replay a trace, an iolog of fio's, blkparse's text or qemu-io's commands, through a device or straight to a node.

    A request begins when it did in the log, and not before those have ended that had ended then.  For example:

    guestsim io boot.trace --blockdev driver=file,filename=disk.img,node-name=d0 --device virtio-blk-pci,num-queues=4

    guestsim io fio.iolog --blockdev driver=file,filename=disk.img,node-name=d0 --direct --speed max --depth 32
    """
    from guestsim.blocklog.formats import TRACE, OpenLog
    from guestsim.blocklog.replay import Replay
    from guestsim.blocklog.show import show

    pace = _speed(speed)
    virtual = clock is ClockChoice.VIRTUAL
    place = _Place(blockdev or [], objects or [], target, device, direct, virtual, record)
    place.check()
    _check_outputs(source, record, svg)
    with _wrong(target), OpenLog(source, source_format(_COMMAND, given)) as log:
        form = log.format
        if check and form is not TRACE:
            fail(_COMMAND, f"--check: expected a trace, {form.name} does not tell what reads got")
        if depth is None and not form.ends and not (form.timed and pace is not None):
            depth = 1  # Nothing tells what was under way together.
        with Bar("replaying", log.total, shown=not as_json) as bar:
            replay = Replay(
                bar.along(log.of_one_disk(only), log.position),
                speed=pace,
                depth=depth,
                check=check,
                errors=form.errors,
            )
            place.play(replay)
    figures = replay.figures
    if svg is not None:
        _draw(svg, figures, source)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(report(figures, log.losses))).decode())
    else:
        show(figures)
        tell_losses(log.losses.lines())
    if figures.differences:
        raise typer.Exit(1)


def _check_outputs(source: Path, record: Path | None, svg: Path | None) -> None:
    """What is to be written is another file than the log, and a picture can be drawn when all is done."""
    for option, path in (("--record", record), ("--svg", svg)):
        if path is not None and path.exists() and source.exists() and path.samefile(source):
            fail(_COMMAND, f"{option}: {path} is given, which is the log; expected another file")
    if svg is not None:
        try:
            check_writable(svg)
        except OSError as error:
            fail("", f"{svg}: {error.strerror}")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the log is replayed, in a user's words."""

    blockdevs: Sequence[str]
    objects: Sequence[str]
    target: str | None
    device: str | None
    direct: bool
    virtual: bool
    record: Path | None

    def spec(self) -> TargetSpec:
        """The target."""
        from guestsim.script.needs import TargetSpecError, parse_target

        try:
            return parse_target(self.target or "devmodels")
        except TargetSpecError as error:
            fail(_COMMAND, f"--target: {error}")

    def check(self) -> None:
        """End with a line where the options do not go together."""
        spec = self.spec()
        if self.direct and (self.target or self.device or self.record):
            fail(_COMMAND, "--direct: expected without --target, --device and --record: there is no device")
        if spec.socket is None and not self.blockdevs:
            fail(_COMMAND, "--blockdev: missing, expected a node to replay the log on")
        if spec.socket is not None and self.blockdevs:
            fail(_COMMAND, f"--blockdev: expected none with {spec}: who listens there has the disk")
        ours = {"--clock": self.virtual, "--object": self.objects, "--record": self.record}
        for option, is_given in ours.items():
            if is_given and spec.name != "devmodels":
                fail(_COMMAND, f"{option}: expected with devmodels, {spec} has none")

    def play(self, replay: Replay) -> None:
        """Replay it there."""
        from guestsim.blocklog.direct import Direct
        from guestsim.blocklog.machine import DEVICE, open_backend, open_guest
        from guestsim.blocklog.throughguest import ThroughGuest

        if self.direct:
            with open_backend(self.blockdevs, self.objects, virtual=self.virtual) as backend:
                backend.context.run(Direct(backend, replay).play())
            return
        with open_guest(
            self.spec(),
            self.blockdevs,
            self.device or DEVICE,
            objects=self.objects,
            virtual=self.virtual,
            record=self.record,
        ) as (guest, driver):

            async def work() -> None:
                await driver.probe()
                await ThroughGuest(guest, driver, replay).play()

            guest.run(work())


def report(figures: Figures, losses: Losses) -> dict[str, object]:
    """Everything as plain values."""
    return {**figures.as_dict(), "different": figures.different, "left-out": dict(losses)}


def _speed(text: str) -> float | None:
    if text in ("recorded", "max"):
        return 1.0 if text == "recorded" else None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        fail(_COMMAND, f"--speed: {text!r} is given, expected recorded, max, or how many times as fast")
    return value


@contextmanager
def _wrong(target: str | None) -> Iterator[None]:
    """What a user has given wrong is one line and exit status 2; a device that fails as one, exit status 1."""
    from devmodels.options import OptionError
    from guestsim.blocklog.events import LogError
    from guestsim.errors import GuestError
    from guestsim.script.load import ScriptError
    from guestsim.targets import LacksError, TargetError

    try:
        yield
    except LogError as error:
        fail("", str(error))
    except ScriptError as error:
        fail(_COMMAND, _PART.sub(lambda found: _OPTIONS[found[1]], str(error)))
    except LacksError as error:
        fail(_COMMAND, f"--target: {target} has not {error}")
    except (OptionError, TargetError) as error:
        fail(_COMMAND, " ".join(str(error).split()))
    except OSError as error:
        name = f"{error.filename}: " if error.filename is not None else ""
        fail("" if name else _COMMAND, f"{name}{error.strerror or error}")
    except GuestError as error:
        typer.echo(f"guestsim {_COMMAND}: {error}", err=True)
        raise typer.Exit(1) from None


_PART = re.compile(r"^guestsim io:1: (drives|devices)\[\d+\]: (\$\.)?")
_OPTIONS = {"drives": "--blockdev: ", "devices": "--device: "}


def _draw(path: Path, figures: Figures, source: Path) -> None:
    from guestsim.blocklog.picture import to_svg

    try:
        path.write_text(to_svg(figures, source.name), encoding="utf-8")
    except OSError as error:
        fail("", f"{path}: {error.strerror}")
