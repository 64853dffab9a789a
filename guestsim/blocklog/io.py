"""`guestsim io`: replay a log of block I/O, or a trace, and say how it went.

Exit status: 0, 1 where a read found something else than expected or the device failed as one, 2 where an option or the
log is wrong.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from guestsim.blocklog.convert import FORMAT_NAMES, Bar, fail, source_format, tell_losses

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from guestsim.blocklog.events import Losses
    from guestsim.blocklog.figures import Figures
    from guestsim.blocklog.replay import Replay

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
        typer.Option("--object", metavar="OBJECT", help="What nodes can name, with --direct."),
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
    from guestsim.blocklog.formats import OpenLog
    from guestsim.blocklog.replay import Replay
    from guestsim.blocklog.show import show

    pace = _speed(speed)
    virtual = clock is ClockChoice.VIRTUAL
    if direct and (target is not None or device is not None):
        fail(_COMMAND, "--direct: expected without --target and --device: there is no device")
    if objects and not direct:
        fail(_COMMAND, "--object: expected with --direct")
    with _wrong(target), OpenLog(source, source_format(_COMMAND, given)) as log:
        form = log.format
        if depth is None and not form.ends and not (form.timed and pace is not None):
            depth = 1  # Nothing tells what was under way together.
        with Bar("replaying", log, shown=not as_json) as bar:
            replay = Replay(
                bar.along(log.of_one_disk(only)),
                speed=pace,
                depth=depth,
                check=check,
                errors=form.errors,
            )
            if direct:
                _direct(replay, blockdev or [], objects or [], virtual=virtual)
            else:
                _through_guest(replay, target, blockdev or [], device, virtual=virtual)
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


def _direct(replay: Replay, blockdevs: Sequence[str], objects: Sequence[str], *, virtual: bool) -> None:
    from guestsim.blocklog.direct import Direct
    from guestsim.blocklog.machine import open_backend

    if not blockdevs:
        fail(_COMMAND, "--blockdev: missing, expected a node to replay the log on")
    with open_backend(blockdevs, objects, virtual=virtual) as backend:
        backend.context.run(Direct(backend, replay).play())


def _through_guest(
    replay: Replay, target: str | None, blockdevs: Sequence[str], device: str | None, *, virtual: bool
) -> None:
    from guestsim.blocklog.machine import DEVICE, open_guest
    from guestsim.blocklog.throughguest import ThroughGuest
    from guestsim.script.needs import TargetSpecError, parse_target

    try:
        spec = parse_target(target or "devmodels")
    except TargetSpecError as error:
        fail(_COMMAND, f"--target: {error}")
    if spec.socket is None and not blockdevs:
        fail(_COMMAND, "--blockdev: missing, expected a node to replay the log on")
    if spec.socket is not None and blockdevs:
        fail(_COMMAND, f"--blockdev: expected none with {spec}: who listens there has the disk")
    if virtual and spec.name != "devmodels":
        fail(_COMMAND, f"--clock: virtual is given, expected wall: {spec} has no other")
    with open_guest(spec, blockdevs, device or DEVICE, virtual=virtual) as (guest, driver):

        async def work() -> None:
            await driver.probe()
            await ThroughGuest(guest, driver, replay).play()

        guest.run(work())


def _draw(path: Path, figures: Figures, source: Path) -> None:
    from guestsim.blocklog.picture import to_svg

    try:
        path.write_text(to_svg(figures, source.name), encoding="utf-8")
    except OSError as error:
        fail("", f"{path}: {error.strerror}")
