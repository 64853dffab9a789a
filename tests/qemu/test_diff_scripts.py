"""The scripts on our machine and a live QEMU's at once: nothing is different that is not known."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from devmodels.virtio.pci import VirtioPci
from devmodels.virtio.queue import VirtQueue
from devmodels.virtio.ring import Chain
from guestsim.cli import app
from guestsim.diff import lasting, script_judge
from guestsim.diff.both import Sight
from guestsim.diff.profiles import Profile
from guestsim.diff.script_judge import Judge
from guestsim.diff.script_steps import why_not_both
from guestsim.diff.scripts import ScriptDiff, compare_script
from guestsim.script.perform import StepReport
from guestsim.script.run import YamlScript, read_scripts
from guestsim.targets.qemu import QemuTarget
from guestsim.targets.qmp import Json
from tests.scripts.corpus import all_loaded

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("qemu")]

FOLDER = Path(__file__).parents[1] / "scripts"
APART = {
    "hostile/notify-of-no-queue": "sets a queue up by registers alone, which QEMU serves: a ring of nobody here",
}
"""Scripts that both can run, but not at once."""
MOST_ROWS = 8
"""Scripts of one file of rows that are run."""
SCRIPTS = [
    path
    for path in sorted(FOLDER.rglob("*.guest.yaml"))
    if str(path.relative_to(FOLDER)).removesuffix(".guest.yaml") not in APART
    and any(why_not_both(script) is None for script in all_loaded(path))
]


def name_of(path: Path) -> str:
    """What lists call a file of scripts."""
    return str(path.relative_to(FOLDER)).removesuffix(".guest.yaml")


NOT_AS_QEMU = dict(
    line.split("\t") for line in Path(__file__).with_name("not_as_qemu.tsv").read_text().splitlines()
)
"""Scripts that do not go well under the profile `qemu` yet, and what ours does otherwise there."""


def _wrong(path: Path, profile: Profile) -> Iterator[tuple[str, str, list[str]]]:
    """What is wrong with each script of a file that does not go well."""
    scripts = read_scripts(path)
    for runnable in scripts[:: -(-len(scripts) // MOST_ROWS)]:
        assert isinstance(runnable, YamlScript)
        report = compare_script(runnable, profile)
        if not report.ok:
            yield report.place, str(report.unexplained or ""), report.failures


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_a_script_on_both(path: Path) -> None:
    assert list(_wrong(path, "strict")) == []


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_a_script_under_the_profile_of_qemu(path: Path) -> None:
    wrong, name = _wrong(path, "qemu"), name_of(path)
    if name in NOT_AS_QEMU:
        assert any(wrong), f"{name} goes well now: take it from not_as_qemu.tsv"
    else:
        assert list(wrong) == []


def test_only_scripts_that_are_compared_are_excused() -> None:
    assert NOT_AS_QEMU.keys() <= {name_of(path) for path in SCRIPTS}


def test_tens_of_scripts_are_compared() -> None:
    assert len(SCRIPTS) > 100


SCRIPT = """
name: who are you
drives: [{driver: file, node-name: d0, size: 1M, content: {pattern: 0x11}}]
devices: [{driver: virtio-blk-pci, drive: d0, serial: of-both}]
steps:
  - probe
  - write: {at: 4k, length: 512, pattern: 3}
  - get-id:
    on qemu: {id: of-another, because: it says so}
  - together:
      - read: {at: 0, length: 512}
      - read: {at: 1k, length: 512}
"""

SLOW = """
name: zeroes
drives: [{driver: file, node-name: d0, size: 1M}]
devices: [{driver: virtio-blk-pci, drive: d0}]
steps:
  - probe
  - read: {at: 0, length: 512}
  - together:
      - read: {at: 1k, length: 1k}
      - read: {at: 4k, length: 4k}
"""


COMMANDS = """
name: commands
drives: [{driver: file, node-name: d0, size: 1M}]
devices:
  - {driver: virtio-scsi-pci}
  - {driver: scsi-hd, drive: d0}
steps:
  - probe
  - scan: {targets: 1}
  - scsi: {cdb: "CDB"}
    expect: EXPECT
"""


def _compare(path: Path, text: str) -> ScriptDiff:
    path = path / "who.guest.yaml"
    path.write_text(text)
    (runnable,) = read_scripts(path)
    assert isinstance(runnable, YamlScript)
    return compare_script(runnable)


def _devices(monkeypatch: pytest.MonkeyPatch, **changes: Json) -> None:
    """QEMU's devices get other options than ours."""
    start = QemuTarget.__init__

    def other(self: QemuTarget, **options: object) -> None:
        devices = options.pop("devices")
        assert isinstance(devices, list)
        start(self, **options, devices=[{**device, **changes} for device in devices])  # type: ignore[arg-type]

    monkeypatch.setattr(QemuTarget, "__init__", other)


def _slow_drives(monkeypatch: pytest.MonkeyPatch, nanoseconds: int) -> None:
    """QEMU's drives are all zeroes, and take so long for a request."""
    start = QemuTarget.__init__

    def other(self: QemuTarget, **options: object) -> None:
        drives = options.pop("blockdevs")
        assert isinstance(drives, list)
        slow = {"driver": "null-co", "size": 1 << 20, "read-zeroes": True, "latency-ns": nanoseconds}
        nodes = [{**slow, "node-name": drive["node-name"]} for drive in drives]
        start(self, **options, blockdevs=nodes)  # type: ignore[arg-type]

    monkeypatch.setattr(QemuTarget, "__init__", other)


def _stray(monkeypatch: pytest.MonkeyPatch, step: int, where: Callable[[Judge], int]) -> None:
    """In a step QEMU's memory becomes another one, as by DMA."""
    after = Judge.after

    def changed(self: Judge, report: StepReport) -> None:
        if report.path == f"steps[{step}]":
            at = where(self)
            _, there = self._both.memories.sides(at, 1)
            self._both.memories.put_there(at, bytes([there[0] ^ 0x55]))
        after(self, report)

    monkeypatch.setattr(Judge, "after", changed)


def _ring(judge: Judge) -> int:
    assert judge._offered is not None
    (queue,) = (queue for _, queue in judge._offered.queues())
    return queue.addresses[2]


def test_nothing_is_different(tmp_path: Path) -> None:
    report = _compare(tmp_path, SCRIPT)
    assert (report.place, report.failures, report.disks) == ("", [], 1)
    assert report.ok
    assert report.steps == 6  # Each of those that are together is one, too.
    assert report.compared >= 4


def test_a_difference_is_told_with_its_step_and_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _devices(monkeypatch, serial="of-another")
    report = _compare(tmp_path, SCRIPT.replace("    on qemu: {id: of-another, because: it says so}\n", ""))
    assert report.place == f"{tmp_path}/who.guest.yaml:8: steps[2]"
    assert report.unexplained is not None
    assert (report.unexplained.kind, report.unexplained.place) == ("memory", "buffers")
    assert report.unexplained.ours.startswith("62 6f 74 68")
    assert not report.failures


def test_what_a_step_says_of_qemu_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _devices(monkeypatch, serial="of-another")
    report = _compare(tmp_path, SCRIPT)
    assert report.ok
    assert report.said == {"it says so": 1}


def test_what_qemu_has_not_come_to_yet_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _slow_drives(monkeypatch, 200_000_000)
    report = _compare(tmp_path, SLOW)
    assert (report.place, report.failures) == ("", [])
    assert report.compared >= 2


def test_what_lasts_is_told_without_waiting_for_it_to_go_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _devices(monkeypatch, serial="of-another")
    monkeypatch.setattr(lasting, "PATIENCE", 1e9)
    monkeypatch.setattr(lasting, "AGAIN", 1e9)
    assert _compare(tmp_path, SCRIPT).ok


def test_it_explains_nothing_in_other_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _stray(monkeypatch, 2, lambda judge: _ring(judge) - 1)
    report = _compare(tmp_path, SCRIPT)
    assert report.unexplained is not None
    assert report.unexplained.place == "memory that no device may write"
    assert report.place.endswith(":8: steps[2]")


@pytest.mark.parametrize("offset", [0, 2, 4, 8], ids=["flags", "idx", "id", "len"])
def test_a_used_ring_that_says_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offset: int
) -> None:
    _stray(monkeypatch, 3, lambda judge: _ring(judge) + offset)
    report = _compare(tmp_path, SCRIPT)
    assert report.unexplained is not None
    assert report.unexplained.place == "ring"
    assert report.place.endswith(":10: steps[3]")


@pytest.mark.parametrize("wrong", [-1])
@pytest.mark.parametrize(
    ("cdb", "expect"),
    [
        ("read-10 lba=0 blocks=1", "{length: 512}"),
        ("write-10 lba=0 blocks=2", "{}"),
        ("read-10 lba=0xfffff blocks=1", "{sense: 5/21/00, violation: SBC-4 §4.5}"),
        ("mode-sense-10 page=8 allocation=255", "{}"),
    ],
    ids=["read", "write", "refused", "short"],
)
def test_a_used_length_of_ours_that_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cdb: str, expect: str, wrong: int
) -> None:
    text = COMMANDS.replace("CDB", cdb).replace("EXPECT", expect)
    assert _compare(tmp_path, text).ok
    finish, after = VirtQueue.finish, Judge.after

    def otherwise(self: VirtQueue, used: Sequence[tuple[Chain, int]]) -> None:
        finish(self, [(chain, length + wrong) for chain, length in used])

    def scanned(self: Judge, report: StepReport) -> None:
        after(self, report)
        if report.path == "steps[1]":
            monkeypatch.setattr(VirtQueue, "finish", otherwise)

    monkeypatch.setattr(Judge, "after", scanned)
    report = _compare(tmp_path, text)
    assert report.unexplained is not None
    assert (report.unexplained.place, report.place[-8:]) == ("ring", "steps[2]")


def test_a_message_of_ours_that_is_not_sent_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    after, notify = Judge.after, VirtioPci.notify_used

    def both(function: VirtioPci, queue: int) -> None:
        function.notify_config()
        notify(function, queue)

    def probed(self: Judge, report: StepReport) -> None:
        after(self, report)
        monkeypatch.setattr(VirtioPci, "notify_used", both)

    monkeypatch.setattr(Judge, "after", probed)
    report = _compare(tmp_path, SCRIPT)
    assert report.unexplained is not None
    assert report.unexplained.place == "interrupt messages"
    assert report.place.endswith(":7: steps[1]")


def test_disks_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compare = Judge._compare_disks

    def changed(self: Judge) -> None:
        (copy,) = self._files.values()
        with copy.open("r+b") as file:
            file.seek(5000)
            file.write(b"\x04")
        compare(self)

    monkeypatch.setattr(Judge, "_compare_disks", changed)
    report = _compare(tmp_path, SCRIPT)
    assert report.unexplained is not None
    assert report.unexplained.kind == "disk"
    assert report.unexplained.theirs == "04" + " 11" * 15 + " at 0x1388"


def test_a_real_write_behind_a_buffer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    explained = Judge.explained

    def unknown(self: Judge, sight: Sight, lasts: bool) -> int | None:
        with monkeypatch.context() as without:
            if sight.kind != "register":
                without.setattr(script_judge, "known", lambda *_: None)
            return explained(self, sight, lasts)

    monkeypatch.setattr(Judge, "explained", unknown)
    (runnable,) = read_scripts(FOLDER / "hostile" / "scsi-passthrough.guest.yaml")
    assert isinstance(runnable, YamlScript)
    report = compare_script(runnable)
    assert report.unexplained is not None
    assert report.unexplained.place == "memory that no device may write"


def test_the_command_prints_and_ends_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _devices(monkeypatch, serial="of-another")
    path = tmp_path / "who.guest.yaml"
    path.write_text(SCRIPT.replace("    on qemu: {id: of-another, because: it says so}\n", ""))
    ran = CliRunner().invoke(app, ["diff", "--output", str(tmp_path), str(path)])
    assert ran.exit_code == 1
    assert f"unexplained {path}:8: steps[2]: memory buffers: ours 62 6f 74 68" in ran.output
    (saved,) = tmp_path.glob("*.accesses")
    assert ran.output.endswith(f"unexplained differences: 1\nagain: guestsim diff {saved}\n")
    again = CliRunner().invoke(app, ["diff", "--json", "--output", str(tmp_path), str(path)])
    assert again.exit_code == 1
    (told,) = json.loads(again.output)
    assert told["unexplained"]["at"] == f"{path}:8: steps[2]"
    assert (told["unexplained"]["seen-again"], told["unexplained"]["file"]) == (True, str(saved))


def test_a_script_that_both_cannot_run_is_refused() -> None:
    path = FOLDER / "mmio.guest.yaml"
    ran = CliRunner().invoke(app, ["diff", str(path)])
    assert ran.exit_code == 2
    assert ran.stderr == f"guestsim diff: {path}: a disk on MMIO: its devices are not on PCI\n"
