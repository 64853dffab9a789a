"""Power cuts over every device, stack and mode of the write cache; the same run is the same cut; the command."""

from __future__ import annotations

import errno
import json
from collections import Counter

import pytest
from typer.testing import CliRunner

from devmodels.blockbackend import BlockBackend, Op, Request
from devmodels.blockbackend.drivers.memory import MemoryNode
from guestsim.cli import app
from guestsim.powercut.simulate import Run, cut_again, everything, sample, simulate
from guestsim.powercut.stacks import DEVICES, STACKS, WriteCache
from guestsim.powercut.sweep import Sweep


@pytest.mark.long
@pytest.mark.parametrize(
    ("device", "write_cache"), [*zip([*DEVICES, *DEVICES][:8], [*WriteCache, *WriteCache], strict=True)]
)
def test_nothing_is_lost(device: str, write_cache: WriteCache) -> None:
    run = Run(device, "memory", write_cache, 1, requests=8)
    result = simulate(run, sample(run, 6))
    assert result.loss is None
    assert result.cuts


@pytest.mark.long
@pytest.mark.parametrize("stack", STACKS)
def test_nothing_is_lost_over_any_stack(stack: str) -> None:
    run = Run("mmio", stack, WriteCache.TOGGLED, 2, requests=8)
    result = simulate(run, sample(run, 6))
    assert result.loss is None
    assert result.cuts


@pytest.mark.long
def test_every_moment_has_its_cut() -> None:
    run = Run("mmio", "memory", WriteCache.ON, 5, requests=1)
    result = simulate(run, everything(1))
    assert result.loss is None
    assert result.moments > 5
    assert result.outcomes == Counter(
        {"none": result.moments, "all": result.moments, "but": 4 * result.moments, "random": result.moments}
    )


@pytest.mark.long
@pytest.mark.parametrize("device", ["pci", "vhost-user"])
def test_a_run_is_the_same_every_time(device: str) -> None:
    run = Run(device, "deep", WriteCache.TOGGLED, 3, requests=15)
    first, second = (simulate(run, sample(run, 3)) for _ in range(2))
    assert first == second
    other = Run(device, "deep", WriteCache.TOGGLED, 4, requests=15)
    assert first.moments != simulate(other, sample(other, 0)).moments


def test_a_machine_that_an_error_stops_is_reset_over_vhost_user() -> None:
    """Its rings' positions are told when it goes on, for which the guest waits."""
    run = Run("vhost-user", "stopping-flushes", WriteCache.TOGGLED, 0)
    assert simulate(run, sample(run, 0)).loss is None


def test_a_sweep_goes_through_all_combinations_and_then_to_the_next_seed() -> None:
    work = Sweep(["pci", "mmio"], ["raw"], list(WriteCache), 100, 7)
    runs = [run for run, _ in zip(work.runs(), range(16), strict=False)]
    assert len(set(runs)) == 16
    assert [run.seed for run in runs] == [7] * 8 + [8] * 8


# --- the command


def powercut(*options: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["powercut", *options])
    return result.exit_code, result.stdout, result.stderr


def test_the_command_tells_what_it_did() -> None:
    status, out, _ = powercut("--device", "mmio", "--stack", "raw", "--stack", "memory", "--cuts", "10")
    assert status == 0
    assert "10 cuts in" in out
    assert out.endswith("nothing is lost\n")


def test_the_command_as_json() -> None:
    status, out, _ = powercut(
        "--device", "pci", "--stack", "memory", "--write-cache", "on", "--cuts", "5", "--json"
    )
    report = json.loads(out)
    assert (status, report["ok"], report["cuts"], report["loss"]) == (0, True, 5, None)
    assert report["runs"][0]["stack"] == "memory"


@pytest.fixture
def no_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that forgets to flush."""

    async def nothing(_request: Request) -> None:
        pass

    configure = BlockBackend._configure

    def broken(backend: BlockBackend) -> None:
        configure(backend)
        backend._serving.handlers[Op.FLUSH] = nothing

    monkeypatch.setattr(BlockBackend, "_configure", broken)


@pytest.mark.usefixtures("no_flushes")
def test_a_loss_comes_with_the_line_that_makes_it_again() -> None:
    one = ("--device", "mmio", "--stack", "memory", "--write-cache", "on")
    status, out, _ = powercut(*one, "--requests", "12")
    assert status == 1
    lines = out.splitlines()
    assert next(line for line in lines if line.startswith("LOST")).endswith("wrong")
    assert any(line.endswith("(stable)") and line.strip().startswith("sector") for line in lines)
    assert any("flush submitted on queue" in line for line in lines)
    assert lines[-1].startswith(
        "again:   guestsim powercut --device mmio --stack memory --write-cache on --seed 0 "
    )
    again = lines[-1].split()[3:]
    status, out, _ = powercut(*again)
    assert status == 1
    assert out.splitlines()[-1].split()[3:] == again
    status, out, _ = powercut(*again, "--json")
    assert (status, json.loads(out)["loss"]["again"].split()[2:]) == (1, again)


@pytest.mark.usefixtures("no_flushes")
def test_a_loss_over_vhost_user() -> None:
    run = Run("vhost-user", "memory", WriteCache.ON, 0)
    result = simulate(run, sample(run, 60))
    assert result.loss is not None
    assert result.loss.findings


def test_a_run_that_goes_wrong_by_itself_is_named_without_a_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_node: MemoryNode, _request: Request) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(MemoryNode, "secure_erase", broken)
    status, out, _ = powercut("--device", "mmio", "--stack", "memory", "--write-cache", "on", "--cuts", "200")
    assert status == 1
    assert "erase" in out
    assert "failed with IOERR" in out
    assert out.splitlines()[-1].endswith("--write-cache on --seed 0")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--device", "floppy"), "--device: 'floppy' is given, expected one of pci, pci-packed,"),
        (("--stack", "cards"), "--stack: 'cards' is given, expected one of memory,"),
        (
            ("--cut", "5:none"),
            "--cut: one cut is of one run, expected with it one --device, --stack and --write-cache",
        ),
        (
            ("--cut", "x:none"),
            "--cut: 'x:none' is given, expected a number, a colon, and none, all, but-K or random-K",
        ),
        (
            ("--cut", "5:but"),
            "--cut: '5:but' is given, expected a number, a colon, and none, all, but-K or random-K",
        ),
        (("--cut", "99999:none"), "--cut: 99999 is given; the run has "),
    ],
)
def test_wrong_options(options: tuple[str, ...], text: str) -> None:
    one = ("--device", "mmio", "--stack", "memory", "--write-cache", "on") if "99999" in options[1] else ()
    status, _, err = powercut(*one, *options)
    assert status == 2
    assert err.startswith(f"guestsim powercut: {text}")


def test_a_cut_that_loses_nothing() -> None:
    result = cut_again(Run("mmio", "memory", WriteCache.ON, 0), 7, "none")
    assert (result.cuts, result.loss) == (1, None)
