"""`guestsim show` as its users meet it: a trace in words."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from typer.testing import CliRunner, Result

from devmodels.trace import EventKind, TraceEvent
from guestsim.cli import app
from guestsim.show.filters import Filter, shown
from guestsim.show.listing import to_json
from guestsim.show.requests import rows
from guestsim.show.requests import to_json as row_to_json

from .golden import LISTINGS
from .traces import any_events, events_of, mmio, one_of_each, two_back_ends, written

GOLDEN = Path(__file__).parent / "golden"


def show(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["show", *map(str, arguments)])


def lines(*arguments: str | Path) -> list[str]:
    result = show(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return one_of_each(tmp_path_factory.mktemp("traces") / "disk.trace")


# --- the listing


@pytest.mark.parametrize("name", LISTINGS)
def test_the_listing_is_as_it_was(trace: Path, name: str) -> None:
    """After a wanted change: `python -m tests.unit.guestsim.show.golden`."""
    assert lines(trace, *LISTINGS[name]) == (GOLDEN / f"{name}.txt").read_text().splitlines()


def test_every_event_has_a_line(trace: Path) -> None:
    assert len(lines(trace)) == len(events_of(trace))


def test_registers_are_named_whatever_the_transport(tmp_path: Path) -> None:
    modern = "\n".join(lines(mmio(tmp_path / "modern.trace", legacy=False)))
    assert "m0 mmio.status = 0x3 ACKNOWLEDGE|DRIVER" in modern
    assert "m0 mmio.queue_desc_low" in modern
    assert "m0 config.capacity:low = 2048" in modern
    legacy = "\n".join(lines(mmio(tmp_path / "legacy.trace", legacy=True)))
    assert "m0 mmio.queue_pfn" in legacy
    ports = "\n".join(lines(one_of_each(tmp_path / "ports.trace", disable_modern=True)))
    assert "vd0 legacy.device_status = 0x3 ACKNOWLEDGE|DRIVER" in ports
    assert "vd0 legacy.queue_address" in ports
    assert "vd0 config.capacity" in ports
    for text in (modern, legacy, ports):
        unnamed = [line for line in text.splitlines() if "access-" in line and "+0x" in line]
        assert not unnamed


def test_a_packed_ring_is_taken_apart(tmp_path: Path) -> None:
    text = "\n".join(lines(one_of_each(tmp_path / "packed.trace", packed=True)))
    assert "queue 0: packed, 256 entries" in text
    assert "INDIRECT|AVAIL" in text
    assert "vd0 queue 0 driver event: desc " in text
    assert "#0 header: type 1 OUT, reserved 0, sector 8" in text


def test_memory_is_labelled_alike_however_the_device_reaches_it(trace: Path, tmp_path: Path) -> None:
    bounced = one_of_each(tmp_path / "bounced.trace", shared=False)
    titles = [
        {line.split(None, 4)[4] for line in lines(path, "--kind", "dma-*")} for path in (trace, bounced)
    ]
    assert {each for each in titles[0] if each.startswith("#")} <= titles[1]


def test_the_program_in_the_manual_runs(
    trace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manual = (Path(__file__).parents[4] / "docs" / "show.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", manual, re.DOTALL)
    monkeypatch.chdir(trace.parent)
    exec(program, {})
    printed = capsys.readouterr().out
    assert "vd0 (0,) #0 header: type 1 OUT, reserved 0, sector 8" in printed
    assert "sector 8 0 " in printed


def test_each_back_end_has_a_memory_of_its_own(tmp_path: Path) -> None:
    path = written(tmp_path / "t.trace", two_back_ends())
    dma = [line.split(None, 4)[4] for line in lines(path, "--kind", "dma-*")]
    assert dma == [
        "#0 header: type 4 FLUSH, reserved 0, sector 5",
        "e0 queue 0 avail: idx 1",
        "#1 header: type 8 GET_ID, reserved 0, sector 6",
        "e1 queue 0 avail: idx 1",
        "#1 status 0 OK",
        "#0 status 0 OK",
    ]
    requests = [json.loads(line) for line in lines(path, "--requests", "--json")]
    assert [(each["device"], each["type"], each["status"]) for each in requests] == [
        ("e1", "GET_ID", "OK"),
        ("e0", "FLUSH", "OK"),
    ]


# --- filters


def test_one_request_from_its_notification_to_its_interrupt(trace: Path) -> None:
    kinds = [line.split()[3] for line in lines(trace, "--request", "1")]
    assert kinds[:2] == ["access-write", "kick"]
    assert kinds[-1] == "interrupt"
    assert kinds.count("chain") == kinds.count("used") == kinds.count("request") == 1
    text = "\n".join(lines(trace, "--request", "1"))
    assert "avail: ring[1] 1" in text
    assert "desc[1]: addr" in text
    assert "table of head 1: " in text
    assert "used: ring[1].len 1025" in text
    assert "used: idx 2" in text
    assert "#0" not in text
    assert "#2" not in text


def test_the_events_of_a_request_are_those_of_a_packed_ring_too(tmp_path: Path) -> None:
    path = one_of_each(tmp_path / "packed.trace", packed=True)
    text = "\n".join(lines(path, "--request", "1"))
    assert "INDIRECT|AVAIL" in text
    assert "len 1025" in text
    assert "driver event" in text


def test_registers_by_their_name_or_its_last_part(trace: Path) -> None:
    whole = lines(trace, "--register", "common.device_status")
    assert whole == lines(trace, "--register", "device_status")
    assert all("common.device_status" in line for line in whole)
    queue = lines(trace, "--register", "common.queue[0].*", "--kind", "access-write")
    assert [line.split()[5] for line in queue if "queue_desc" in line] == [
        "common.queue[0].queue_desc:low",
        "common.queue[0].queue_desc:high",
    ]
    assert {line.split()[3] for line in lines(trace, "--register", "config.capacity")} == {
        "access-read",
        "config-read",
        "access-value",
    }


def test_filters_are_taken_together(trace: Path) -> None:
    every = lines(trace, "--kind", "kick")
    assert len(every) == 7
    first = int(every[1].split()[0])
    assert lines(trace, "--kind", "kick", "--events", f"{first}..") == every[1:]
    assert lines(trace, "--kind", "kick", "--queue", "1") == []
    assert lines(trace, "--kind", "kick", "--device", "vd0", "--queue", "0") == every
    assert lines(trace, "--grep", "FLUSH at|IOERR", "--kind", "dma-write") == lines(trace, "--grep", "IOERR")


def test_times_count_from_the_beginning(tmp_path: Path) -> None:
    path = written(tmp_path / "t.trace", [("e0", EventKind.LOOK, (0,))] * 5)
    assert len(lines(path, "--time", "1us..3us")) == 3
    assert len(lines(path, "--time", "0.000003..")) == 2
    assert len(lines(path, "--time", "..0.001ms")) == 2
    assert len(lines(path, "--events", "2")) == 1
    assert show(path, "--events", "..1").stderr == ""


def test_requests_with_filters(trace: Path) -> None:
    assert len(lines(trace, "--requests")) == 8
    (_, line) = lines(trace, "--requests", "--request", "6")
    assert "IN 512 bytes at sector 2048" in line
    assert "IOERR" in line
    assert len(lines(trace, "--requests", "--grep", "^(IN|OUT)")) == 4


# --- JSON


def test_json_has_one_object_a_line(trace: Path) -> None:
    objects = [json.loads(line) for line in lines(trace, "--json")]
    events = events_of(trace)
    assert [each["number"] for each in objects] == [event.number for event in events]
    (header, *_) = [each for each in objects if each["requests"] == [0] and each["kind"] == "dma-read"]
    assert [(field["name"], field["value"], field["meaning"]) for field in header["fields"]] == [
        ("type", 1, "OUT"),
        ("reserved", 0, ""),
        ("sector", 8, ""),
    ]
    assert bytes.fromhex(header["detail"][1]) == events[header["number"]].detail[1]


def test_requests_as_json(trace: Path) -> None:
    write, read, *_, beyond = [json.loads(line) for line in lines(trace, "--requests", "--json")]
    assert (write["type"], write["sector"], write["status"], write["written"]) == ("OUT", 8, "OK", 1)
    assert (read["readable"], read["writable"]) == (16, 1025)
    assert list(read["steps-ns"]) == [
        *("taken", "submitted", "dispatched", "done", "completed", "used", "notified", "interrupt")
    ]
    ((violation,),) = [beyond["violations"]]
    assert violation["clause"] == "VIRTIO 1.4 §5.2.6.1"


# --- what a user does wrong, and what a file may be


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--time", "5..1"], "range '5..1' is given; expected a first one that is not after the last"),
        (
            ["--time", "soon"],
            "range 'soon' is given; expected times since the beginning, as 1.5..2 or 300us..",
        ),
        (["--events", ".."], "range '..' is given; expected numbers of events, as 100..200"),
        (["--kind", "kicks"], "kind 'kicks' is given; expected one or more of device, access-read"),
        (["--grep", "("], "--grep '(' is given; expected a regular expression"),
        (["--request", "7"], "request 7 is given; the trace has 7, from 0 on"),
        (["--device", "other"], "--device other is given; the trace has machine, memory, "),
        (["--requests", "--kind", "kick"], "--requests is given with --kind or --register"),
    ],
)
def test_a_wrong_option_is_one_line(trace: Path, arguments: list[str], expected: str) -> None:
    result = show(trace, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"guestsim show: {expected}")


def test_what_is_no_trace_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    for name, expected in (("text", "not a trace"), ("nothing", "cannot be read: No such file")):
        result = show(tmp_path / name)
        assert result.exit_code == 2
        (line,) = result.stderr.splitlines()
        assert f"{tmp_path / name}: {expected}" in line


def test_a_trace_that_was_cut_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    path = written(tmp_path / "t.trace", [("e0", EventKind.LOOK, (0,))] * 20_000)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    result = show(path)
    assert result.exit_code == 0
    assert 0 < len(result.stdout.splitlines()) < 20_000
    assert "cut short" in result.stderr
    assert show(path, "--events", "..5").stderr == ""


@pytest.mark.long
def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    path = written(tmp_path / "t.trace", [("e0", EventKind.LOOK, (0,))] * 20_000)
    command = [sys.executable, "-c", "from guestsim.cli import main; main()", "show", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_what_a_trace_says_is_not_for_the_terminal_to_obey(tmp_path: Path) -> None:
    path = written(
        tmp_path / "t.trace", [("\x1b[2J", EventKind.VIOLATION, ("c", "p\n", "\x1b]0;x\x07", b""))]
    )
    (line,) = lines(path)
    assert line.endswith(r"p\n: \x1b]0;x\x07 (c)")
    assert "\x1b" not in line


@given(any_events())
def test_any_trace_can_be_shown(events: list[TraceEvent]) -> None:
    for seen, time_ns in shown(events, Filter()):
        assert isinstance(seen.text, str)
        json.dumps(to_json(seen, time_ns))
    for row in rows(events):
        json.dumps(row_to_json(row, 0))
