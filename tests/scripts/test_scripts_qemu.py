"""The scripts on a real QEMU: what they say of our devices holds there too, or says why not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from guestsim.script.run import Options, read_scripts
from tests.qemu.conftest import missing_tools
from tests.scripts.corpus import all_loaded, loaded
from tools.qemu_differences import runs

pytestmark = pytest.mark.qemu

FOLDER = Path(__file__).parent
SCRIPTS = [path for path in sorted(FOLDER.rglob("*.guest.yaml")) if "qemu" in loaded(path).targets]


@pytest.fixture(autouse=True)
def qemu() -> None:
    """Skip where there is no QEMU; in CI, which sets `CI=true`, that is a failure."""
    if missing := missing_tools():
        reason = f"needs {' and '.join(missing)}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(FOLDER)))
def test_a_script_on_qemu(path: Path) -> None:
    compared = {run.script.name for run in runs()}
    for runnable in read_scripts(path):
        if "qemu" not in runnable.script.targets:
            continue
        report = runnable.run(Options("qemu"))
        assert report.skipped is None
        assert not report.failures, report.name
        if report.name in compared:
            assert not [step.path for step in report.steps if step.same], f"{report.name}: no difference"


def test_hundreds_of_scripts_run_on_both() -> None:
    assert sum("qemu" in script.targets for path in SCRIPTS for script in all_loaded(path)) > 500
