"""Packages whose names are imported when they are asked for."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

PACKAGES = (
    "devmodels.assembly",
    "devmodels.ata.disk",
    "devmodels.ata.packet",
    "devmodels.blockbackend.throttling",
    "devmodels.pci",
    "devmodels.scsi",
    "devmodels.scsi.disk",
    "devmodels.scsi.mmc",
    "devmodels.tracefile",
    "guestsim.replay",
)


@pytest.mark.parametrize("package", PACKAGES)
def test_everything_that_it_exports_is_found(package: str) -> None:
    module = import_module(package)
    for name in module.__all__:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("package", PACKAGES)
def test_a_name_that_it_has_not(package: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'Nonsense'"):
        import_module(package).Nonsense  # noqa: B018


def test_one_name_brings_no_others() -> None:
    program = "import sys; from devmodels.scsi.disk import DiskOptions; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"devmodels.scsi.disk.options", "devmodels.scsi.disk.disk"} & {*done.stdout.split()} == {
        "devmodels.scsi.disk.options"
    }
