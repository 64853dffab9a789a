"""Traces that no guest has made, or that are not whole: an answer in one line, or what there is of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from devmodels.trace import EventKind, TraceEvent
from devmodels.tracefile import TraceFileError, TraceReader
from guestsim.cli import app
from guestsim.portable.run import replay
from guestsim.portable.shrink.shrink import shrink
from guestsim.targets import TargetError
from tests.unit.guestsim.portable.programs import SIZE, RandomGuest
from tests.unit.guestsim.portable.recorded import on, record, write

NUMBERS = (0, -1, 1, 1 << 31, (1 << 32) - 1, 1 << 62, (1 << 63) - 1, -(1 << 63))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("traces") / "a.trace", RandomGuest(3, 4), size=SIZE, num_queues=2)


def damaged(events: Iterable[TraceEvent], seed: int) -> Iterator[TraceEvent]:
    """Some events missing, some twice, some with other numbers and bytes."""
    chance = Random(seed)
    rate = chance.choice((0.001, 0.01, 0.05))
    for event in events:
        luck = chance.random()
        if luck < rate:
            continue
        if luck < 2 * rate:
            yield event
        if luck < 5 * rate and event.detail:
            detail = list(event.detail)
            at = chance.randrange(len(detail))
            old = detail[at]
            if isinstance(old, int):
                detail[at] = chance.choice((*NUMBERS, old + 1, chance.randrange(1 << 20)))
            elif isinstance(old, bytes):
                detail[at] = chance.randbytes(chance.randrange(len(old) + 1))
            event = event._replace(detail=tuple(detail))
        yield event


def survives(whole: Path, seed: int, *, shrinking: bool) -> None:
    with TemporaryDirectory() as folder, TraceReader(whole) as reader:
        path = Path(folder, "b.trace")
        write(path, reader.header, damaged(reader, seed))
        said = ""
        try:
            if shrinking:
                shrink(path, Path(folder, "out.guest.yaml"), most=20)
            else:
                replay(path, on())
        except (TraceFileError, TargetError) as error:
            said = str(error)
        assert len(said.splitlines()) <= 1


@pytest.mark.long
@settings(max_examples=10)
@given(seed=st.integers(0, 1 << 32))
def test_damage_is_an_answer_in_one_line(whole: Path, seed: int) -> None:
    survives(whole, seed, shrinking=False)


@pytest.mark.slow
@settings(max_examples=300)
@given(seed=st.integers(0, 1 << 32), shrinking=st.booleans())
def test_much_damage_is_an_answer_in_one_line(whole: Path, seed: int, shrinking: bool) -> None:
    survives(whole, seed, shrinking=shrinking)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [805])
def test_what_was_found_once_is_an_answer(whole: Path, seed: int) -> None:
    """805: nothing that was answered is anywhere on the disk."""
    survives(whole, seed, shrinking=True)


def test_of_a_cut_file_there_is_what_is_whole(whole: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.trace"
    cut.write_bytes(whole.read_bytes()[:-10])
    replayed = replay(cut, on())
    assert replayed.survey.cut
    assert replayed.tally.ok


@pytest.mark.parametrize("kind", ["empty", "text", "folder", "missing"])
def test_what_is_no_trace_is_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.trace"
    match kind:
        case "empty":
            path.touch()
        case "text":
            path.write_text("not a trace\n" * 10)
        case "folder":
            path.mkdir()
    for more in (["--target", "devmodels"], ["--shrink"]):
        result = CliRunner().invoke(app, ["replay", str(path), *more])
        assert result.exit_code == 2
        assert result.output.startswith(f"{path}: ")
        assert len(result.output.splitlines()) == 1


def test_a_disk_of_any_size_costs_nothing(whole: Path, tmp_path: Path) -> None:
    """The trace says how large it is: what no file can be is one line, too."""
    with TraceReader(whole) as reader:
        events = list(reader)
    for size, good in ((1 << 40, True), (1 << 63, False)):
        first, *rest = events
        facts = str(first.detail[0]).replace(f'"size":{SIZE}', f'"size":{size}')
        path = tmp_path / "b.trace"
        write(path, reader.header, [first._replace(detail=(facts,)), *rest])
        assert first.kind is EventKind.DEVICE
        if good:
            # What was beyond the end of the recorded disk is none here.
            assert replay(path, on()).tally.different
        else:
            with pytest.raises(TraceFileError, match=f"a disk of {size} bytes"):
                replay(path, on())
