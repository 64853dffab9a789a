"""One portable replay: a trace, a place, and what came of it."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devmodels.tracefile import TraceReader
from guestsim.errors import GuestError
from guestsim.portable.machine import open_world
from guestsim.portable.play import Player, Tally
from guestsim.portable.readback import LastContent
from guestsim.portable.survey import Survey, survey, unheard, watched
from guestsim.targets import TargetError

if TYPE_CHECKING:
    from typing import BinaryIO

    from guestsim.portable.machine import Place
    from guestsim.portable.survey import Progress
    from guestsim.script.world import World


@dataclass(frozen=True, slots=True)
class Replayed:
    """A trace replayed portably: what was found in it, where it was fed, and what came of it."""

    survey: Survey
    place: Place
    tally: Tally


def replay(
    trace: Path,
    place: Place,
    *,
    device: str | None = None,
    qtest_log: Path | None = None,
    progress: Progress = unheard,
) -> Replayed:
    """Feed a trace's requests to a target and compare the answers.

    `device` is that of the trace, the only one by default; `qtest_log` gets what is sent to QEMU.

    TraceFileError or OSError where the trace cannot be read, TargetError where there is no such target.
    """
    if qtest_log is not None and place.target.name != "qemu":
        raise TargetError(f"--qtest-log: {place.target} is the target, expected qemu")
    with TraceReader(trace) as reader, tempfile.TemporaryDirectory(prefix="guestsim-") as folder:
        image = Path(folder, "disk.img")
        found = survey(reader, image, device, progress)
        with ExitStack() as stack:
            content = stack.enter_context(LastContent(Path(folder, "last.img"), image, found.first))
            log = stack.enter_context(qtest_log.open("wb")) if qtest_log is not None else None
            world = stack.enter_context(open_world(found, image, place))
            if log is not None:
                _log_qtest(world, log)
            player = Player(world, place, found, progress, content=content)
            try:
                limits = player.prepare()
                if place.target.socket is not None:
                    player.fill(image, found.first)
            except GuestError as error:
                raise TargetError(str(error)) from None
            lowering = found.lowering(limits.lacks, content)
            tally = player.play(lowering.items(watched(reader, unheard)), limits)
    return Replayed(found, place, tally)


def _log_qtest(world: World, log: BinaryIO) -> None:
    from guestsim.targets.qemu import QemuTarget

    assert isinstance(world.target, QemuTarget)
    world.target.log_to(log)
