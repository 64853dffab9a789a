"""The `guestsim` command as its users meet it: output and exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner, Result

from devmodels.tracefile import TraceReader
from devmodels.virtio_blk import VirtioBlk
from guestsim.cli import app, main
from guestsim.replay import replay

GOOD = """\
name: good
drives: [{driver: file, node-name: d0, size: 1M}]
devices: [{driver: virtio-blk-pci, drive: d0}]
steps:
  - probe
  - note: What the disk holds at first.
    read: {at: 4k, length: 4k}
    expect: {data: {pattern: 0}}
"""
BAD = GOOD.replace("name: good", "name: bad").replace("pattern: 0", "pattern: 7")
WRONG = GOOD.replace("length: 4k", "length: fourk")
ELSEWHERE = GOOD.replace("name: good", "name: elsewhere\ntargets: [qemu]")


PYTHON = """
from guestsim.script.python import PythonWorld, scripted

MACHINE = {
    "drives": [{"driver": "memory", "node-name": "d0", "size": "1M"}],
    "devices": [{"driver": "virtio-blk-pci", "drive": "d0"}],
}

@scripted(**MACHINE)
def first(world: PythonWorld) -> None:
    world.disk().write(0, bytes(512))

@scripted(name="the second one", **MACHINE)
def second(world: PythonWorld) -> None:
    world.disk().read(0, 512)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("good", GOOD), ("bad", BAD), ("wrong", WRONG), ("elsewhere", ELSEWHERE)):
        (tmp_path / f"{name}.guest.yaml").write_text(text)
    return tmp_path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["run", *map(str, arguments)])


def test_the_version() -> None:
    ran = CliRunner().invoke(app, ["--version"])
    assert ran.exit_code == 0
    assert ran.output.split()[0] == "guestsim"
    assert ran.output.split()[1][0].isdigit()


def test_a_good_script_is_told_step_by_step(folder: Path) -> None:
    result = run(folder / "good.guest.yaml")
    assert result.exit_code == 0
    assert "good on devmodels" in result.stdout
    assert "What the disk holds at first." in result.stdout
    assert "read 4 KiB at 4 KiB → OK, used length 4097" in result.stdout
    assert "1 of 1 scripts as expected; 2 steps" in result.stdout


def test_a_failed_script_is_told_with_its_line(folder: Path) -> None:
    result = run(folder / "bad.guest.yaml", "--quiet")
    assert result.exit_code == 1
    assert "bad.guest.yaml:6: steps[1]: data at byte 0" in result.stdout
    assert "0 of 1 scripts" in result.stdout


def test_a_wrong_script_is_one_line_and_nothing_runs(folder: Path) -> None:
    result = run(folder / "good.guest.yaml", folder / "wrong.guest.yaml")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "wrong.guest.yaml:7: steps[1].read.length: 'fourk', expected a number of bytes" in result.stderr


@pytest.mark.parametrize("arguments", [["--memory", "borrowed"], ["--target", "bochs"], ["--wings"]])
def test_wrong_options_are_usage_errors(folder: Path, arguments: list[str]) -> None:
    result = run(folder / "good.guest.yaml", *arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--wings"], "No such option: --wings"),
        (["run"], "Missing argument 'scripts'."),
        (["fly"], "No such command 'fly'."),
        (
            ["run", "x", "--target", "bochs"],
            "--target: 'bochs', expected one of devmodels, qemu, vhost-user[:SOCKET], ",
        ),
    ],
)
def test_a_wrong_option_is_one_line(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["guestsim", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"guestsim: {message}")
    assert error.count("\n") == 1


@pytest.mark.long
def test_the_exit_status_is_the_scripts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, status in (("good", 0), ("bad", 1), ("wrong", 2)):
        monkeypatch.setattr(sys, "argv", ["guestsim", "run", "-q", str(folder / f"{name}.guest.yaml")])
        with pytest.raises(SystemExit) as ended:
            main()
        assert (ended.value.code or 0) == status


def test_a_missing_file_is_one_line() -> None:
    result = run("/nowhere/x.guest.yaml")
    assert result.exit_code == 2
    assert result.stderr == "/nowhere/x.guest.yaml:1: cannot be read: No such file or directory\n"


def test_a_folder_stands_for_its_scripts(folder: Path) -> None:
    (folder / "wrong.guest.yaml").unlink()
    result = run(folder, "-q")
    assert result.exit_code == 1
    assert "1 of 2 scripts as expected, 1 skipped" in result.stdout
    empty = folder / "empty"
    empty.mkdir()
    assert run(empty).exit_code == 2


@pytest.mark.parametrize("memory", ["shared", "bounced"])
def test_json(folder: Path, memory: str) -> None:
    result = run(folder / "good.guest.yaml", folder / "bad.guest.yaml", "--json", "--memory", memory)
    assert result.exit_code == 1
    good, bad = json.loads(result.stdout)
    assert (good["name"], good["ok"], good["memory"], good["target"]) == ("good", True, memory, "devmodels")
    assert good["steps"][1]["answered"] == "OK, used length 4097, 1 interrupt"
    assert bad["steps"][1]["failures"][0].startswith("data at byte 0")


def test_junit(folder: Path) -> None:
    report = folder / "report.xml"
    scripts = [folder / f"{name}.guest.yaml" for name in ("good", "bad", "elsewhere")]
    assert run(*scripts, "--junit", report, "-q").exit_code == 1
    (suite,) = ElementTree.parse(report).getroot()
    assert {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "3",
        "failures": "1",
        "errors": "0",
        "skipped": "1",
    }
    good, bad, elsewhere = suite
    assert good.get("name") == "good [devmodels, shared]"
    assert [child.tag for child in good] == ["system-out"]
    failure = bad.find("failure")
    assert failure is not None
    assert "data at byte 0" in (failure.get("message") or "")
    assert elsewhere.find("skipped") is not None


def test_a_mistake_found_late_does_not_lose_the_other_scripts(folder: Path) -> None:
    (folder / "late.guest.yaml").write_text(GOOD.replace("drive: d0}", "drive: d7}"))
    report = folder / "report.xml"
    result = run(folder / "late.guest.yaml", folder / "good.guest.yaml", "--json", "--junit", report)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "late.guest.yaml:3: devices[0]: device virtio-blk-pci: no drive 'd7'" in result.stderr
    late, good = json.loads(result.stdout)
    assert (late["ok"], good["ok"]) == (False, True)
    assert late["error"] == result.stderr.strip()
    (suite,) = ElementTree.parse(report).getroot()
    assert (suite.get("errors"), suite.get("tests")) == ("1", "2")


def test_a_device_that_raises_does_not_lose_the_other_scripts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(VirtioBlk, "handle", fail)
    report = folder / "report.xml"
    result = run(folder / "bad.guest.yaml", folder / "good.guest.yaml", "-q", "--junit", report)
    assert result.exit_code == 1
    assert "bad.guest.yaml:6: steps[1]: the target raised ZeroDivisionError (" in result.stdout
    (suite,) = ElementTree.parse(report).getroot()
    assert (suite.get("failures"), suite.get("tests")) == ("2", "2")


def test_a_report_that_cannot_be_written_is_one_line(folder: Path) -> None:
    result = run(folder / "good.guest.yaml", "-q", "--junit", folder / "no" / "report.xml")
    assert result.exit_code == 2
    assert result.stderr.endswith("cannot be written: No such file or directory\n")


def test_a_trace_shows_the_guests_accesses(folder: Path) -> None:
    result = run(folder / "good.guest.yaml", "-q", "--trace")
    assert result.exit_code == 0
    assert "mem  write 0xe000" in result.stderr
    assert "interrupt vector 1" in result.stderr


@pytest.mark.long
def test_the_demo_runs_and_shows_statistics() -> None:
    result = CliRunner().invoke(app, ["demo"])
    assert result.exit_code == 0, result.output
    assert "statistics of vd0" in result.stdout
    assert "1 of 1 scripts as expected" in result.stdout


# --- recording


def test_a_script_is_recorded_into_a_file(folder: Path) -> None:
    trace = folder / "good.trace"
    result = run(folder / "good.guest.yaml", "--record", trace)
    assert result.exit_code == 0
    with TraceReader(trace) as reader:
        events = reader.count()
        assert reader.ending is not None
    assert f"recorded in {trace}: {events} events, {trace.stat().st_size} bytes" in result.stdout
    assert replay(trace).difference is None


def test_a_script_that_fails_is_recorded_too(folder: Path) -> None:
    result = run(folder / "bad.guest.yaml", "--record", folder / "t", "--json")
    assert result.exit_code == 1
    (report,) = json.loads(result.stdout)
    assert report["trace"] == str(folder / "t")
    assert replay(folder / "t").difference is None


def test_several_scripts_are_recorded_into_a_folder(folder: Path) -> None:
    (folder / "two.guest.py").write_text(PYTHON)
    scripts = [
        folder / name
        for name in ("good.guest.yaml", "bad.guest.yaml", "elsewhere.guest.yaml", "two.guest.py")
    ]
    traces = folder / "a" / "b"
    result = run(*scripts, folder / "good.guest.yaml", "--record", traces)
    assert result.exit_code == 1
    found = sorted(path.name for path in traces.iterdir())
    assert found == ["bad.trace", "good-2.trace", "good.trace", "two-first.trace", "two-the-second-one.trace"]
    again = run(folder / "good.guest.yaml", "--record", traces)
    assert again.exit_code == 0
    assert f"recorded in {traces / 'good.trace'}" in again.stdout


def test_a_recording_ends_at_its_limit(folder: Path) -> None:
    result = run(folder / "good.guest.yaml", "--record", folder / "t", "--record-limit", "4k", "--json")
    assert result.exit_code == 0
    assert (folder / "t").stat().st_size <= 4096
    with TraceReader(folder / "t") as reader:
        reader.count()
        assert reader.ending is not None
        assert reader.ending.reason in ("closed", "limit")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--record", "FOLDER/none/t"],
            "--record: FOLDER/none/t cannot be written: No such file or directory",
        ),
        (
            ["--record", "FOLDER/good.guest.yaml", "FOLDER/bad.guest.yaml"],
            "--record: FOLDER/good.guest.yaml is a file; ",
        ),
        (
            ["--record", "FOLDER/good.guest.yaml/x", "FOLDER/bad.guest.yaml"],
            "--record: FOLDER/good.guest.yaml/x cannot be made",
        ),
        (["--record", "t", "--record-limit", "much"], "--record-limit: 'much', expected a number of bytes"),
        (["--record-limit", "1M"], "--record-limit: 1M is given, expected --record with it"),
        (["--record", "t", "--record-limit", "1k"], "--record-limit: 1k is given; expected at least 4096"),
        (["--record", "t", "--target", "qemu"], "--record: target qemu is given; expected our own devices"),
        (
            ["--record", "t", "--target", "vhost-user:/x"],
            "--record: target vhost-user:/x is given; expected our own",
        ),
    ],
)
def test_a_recording_that_cannot_be_is_one_line(folder: Path, arguments: list[str], message: str) -> None:
    given = [argument.replace("FOLDER", str(folder)) for argument in arguments]
    result = run(folder / "good.guest.yaml", "--quiet", *given)
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"guestsim: {message.replace('FOLDER', str(folder))}")


@pytest.mark.long
def test_the_command_starts_without_devices_drivers_and_scripts() -> None:
    code = (
        "import guestsim.cli, sys; "
        "print([m for m in sys.modules if m.split('.')[0] in ('devmodels', 'construct', 'ruamel', 'asyncio')"
        " or m.startswith(('guestsim.drivers', 'guestsim.targets'))])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_output_that_finds_no_room_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        monkeypatch.setattr(sys, "argv", ["guestsim", "demo"])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "guestsim: standard output: No space left on device\n"
