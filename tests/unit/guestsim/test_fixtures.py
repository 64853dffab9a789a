"""The pytest plugin in somebody's test suite."""

from __future__ import annotations

import subprocess
import sys

import pytest

from guestsim.replay import replay

pytest_plugins = ["pytester"]

SCRIPT = """\
name: a disk of zeroes
drives: [{driver: file, node-name: d0, size: 1M}]
devices: [{driver: virtio-blk-pci, drive: d0}]
steps:
  - probe
  - read: {at: 4k, length: 4k}
    expect: {data: {pattern: 0}}
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyprojecttoml("[tool.pytest.ini_options]\naddopts = '--strict-markers'\n")
    return pytester


def write(suite: pytest.Pytester, name: str, text: str) -> None:
    (suite.path / name).write_text(text)


@pytest.mark.long
def test_a_disk_is_one_line_away(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import pytest

        def test_disk(disk):
            disk.write(0, b"x" * 512)
            assert disk.read(0, 512) == b"x" * 512

        @pytest.mark.disk(size="4M", num_queues=4, logical_block_size=4096, physical_block_size=4096)
        def test_options(disk, guest, machine):
            assert disk.capacity == 4 << 20
            assert len(disk.driver.queues) == 4
            assert disk.config["blk_size"] == 4096
            assert disk.guest is guest and guest.target is machine
        """
    )
    result = suite.runpytest()
    result.assert_outcomes(passed=4)
    suite.runpytest("--guest-memory=bounced").assert_outcomes(passed=2)


def test_a_memory_kind_is_part_of_the_tests_name(suite: pytest.Pytester) -> None:
    suite.makepyfile("def test_disk(disk): pass")
    result = suite.runpytest("-v")
    result.stdout.fnmatch_lines(["*test_disk?shared? PASSED*", "*test_disk?bounced? PASSED*"])


def test_scripts_are_tests(suite: pytest.Pytester) -> None:
    write(suite, "zeroes.guest.yaml", SCRIPT)
    result = suite.runpytest("-v")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["zeroes.guest.yaml::a disk of zeroes?devmodels-shared? PASSED*"])


def test_a_failed_script_shows_what_the_guest_did(suite: pytest.Pytester) -> None:
    write(suite, "ones.guest.yaml", SCRIPT.replace("pattern: 0", "pattern: 1"))
    result = suite.runpytest("--guest-memory=shared")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*ones.guest.yaml:6: steps?1?: data at byte 0: 00 00 00 00 00 00 00 00, expected 01 01*",
            "ok      5  probe vd0 with msix -> 1 MiB, 1 queue of 256;*",
            "FAIL    6  read 4 KiB at 4 KiB -> OK, used length 4097, 1 interrupt",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")


@pytest.mark.long
def test_a_wrong_script_is_one_line(suite: pytest.Pytester) -> None:
    write(suite, "wrong.guest.yaml", SCRIPT.replace("length: 4k", "len: 4k"))
    result = suite.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*wrong.guest.yaml:6: steps?1?.read: unknown key 'len', expected one of at, length*"]
    )


@pytest.mark.long
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("wings=2", "*marker disk of *test_x*wings*"),
        ("size='huge'", "*marker disk of *test_x*'huge', expected a number of bytes*"),
        ("num_queues=0", "*marker disk of *test_x*"),
    ],
)
def test_a_wrong_marker_is_one_line(suite: pytest.Pytester, options: str, message: str) -> None:
    suite.makepyfile(f"import pytest\n@pytest.mark.disk({options})\ndef test_x(disk): pass")
    result = suite.runpytest("--guest-memory=shared")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([message])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*inprocess.py*")


@pytest.mark.long
def test_a_python_script_that_exits_is_one_line(suite: pytest.Pytester) -> None:
    write(suite, "gone.guest.py", "raise SystemExit(3)\n")
    result = suite.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*gone.guest.py:1: SystemExit: 3*"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_a_script_runs_where_it_belongs(suite: pytest.Pytester) -> None:
    write(suite, "qemu.guest.yaml", SCRIPT.replace("name: a disk", "targets: [qemu]\nname: a disk"))
    write(suite, "fixed.guest.yaml", SCRIPT.replace("steps:", "machine: {memory: bounced}\nsteps:"))
    result = suite.runpytest("-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["fixed.guest.yaml::*?devmodels-bounced? PASSED*"])


def test_python_scripts_are_tests(suite: pytest.Pytester) -> None:
    write(
        suite,
        "zeroes.guest.py",
        "from guestsim.script.python import scripted\n"
        "@scripted(drives=[{'driver': 'file', 'node-name': 'd0', 'size': '1M'}],\n"
        "          devices=[{'driver': 'virtio-blk-pci', 'drive': 'd0'}])\n"
        "def zeroes(world):\n"
        "    assert world.disk().read(0, 512) == bytes(512)\n",
    )
    suite.runpytest().assert_outcomes(passed=2)


@pytest.mark.long
def test_the_plugin_costs_nothing_where_it_is_not_used() -> None:
    code = "import guestsim.fixtures, sys; print([m for m in sys.modules if m.split('.')[0] in WATCHED])"
    watched = "WATCHED = {'devmodels', 'msgspec', 'ruamel', 'typer', 'rich'};"
    found = subprocess.run([sys.executable, "-c", watched + code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.long
def test_each_test_with_a_machine_leaves_a_trace(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        def test_it_works(disk):
            disk.write(0, bytes(512))

        def test_nothing():
            pass
        """
    )
    write(suite, "read.guest.yaml", SCRIPT)
    result = suite.runpytest("--guest-record=traces/here", "--guest-memory=both")
    result.assert_outcomes(passed=5)
    folder = suite.path / "traces" / "here"
    found = sorted(folder.iterdir())
    module = "test_each_test_with_a_machine_leaves_a_trace.py-test_it_works"
    assert [path.name for path in found] == [
        "read.guest.yaml-a-disk-of-zeroes-devmodels-bounced.trace",
        "read.guest.yaml-a-disk-of-zeroes-devmodels-shared.trace",
        f"{module}-bounced.trace",
        f"{module}-shared.trace",
    ]
    assert all(replay(path).difference is None for path in found)


def test_a_folder_for_traces_that_cannot_be_is_one_line(suite: pytest.Pytester) -> None:
    suite.makepyfile("def test_it_works(disk): pass")
    write(suite, "file", "")
    result = suite.runpytest("--guest-record=file/x")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.errlines == ["ERROR: --guest-record: file/x cannot be made: Not a directory", ""]
