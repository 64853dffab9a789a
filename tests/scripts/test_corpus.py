"""What every script of the corpus says of itself."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from guestsim.script.machine import ATA_HOSTS, IDE_UNITS
from tests.scripts.corpus import all_loaded

FOLDER = Path(__file__).parent
SCRIPTS = sorted(FOLDER.rglob("*.guest.yaml"))
HOSTILE = [path for path in SCRIPTS if path.parent.name == "hostile"]


@pytest.mark.parametrize("path", HOSTILE, ids=lambda path: path.name)
def test_a_hostile_script_names_its_oracle(path: Path) -> None:
    head = path.read_text().split("name:")[0]
    assert head.startswith("# ")
    assert "# Oracle: " in head


@pytest.mark.long
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(FOLDER)))
def test_a_script_begins_by_saying_what_it_shows(path: Path) -> None:
    assert path.read_text().startswith("# ")


def test_names_are_not_given_twice() -> None:
    names = [script.name for path in SCRIPTS for script in all_loaded(path)]
    assert len(names) == len(set(names))


def test_hundreds_of_scripts_are_for_each_controller_and_for_disks_and_drives() -> None:
    count: Counter[tuple[str, str]] = Counter()
    for path in SCRIPTS:
        for script in all_loaded(path):
            drivers = {str(device.get("driver")) for device in script.devices}
            for host in drivers & ATA_HOSTS:
                count.update((host, unit) for unit in drivers & IDE_UNITS if "qemu" in script.targets)
    assert count["piix3-ide", "ide-hd"] > 130
    assert count["ich9-ahci", "ide-hd"] > 130
    assert count["piix3-ide", "ide-cd"] > 80
    assert count["ich9-ahci", "ide-cd"] > 80


PAGE = FOLDER.parents[1] / "docs" / "hostile-guests.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| defect")
]


def named(row: list[str]) -> list[str]:
    """The scripts that a row of the page names."""
    return [name for cell in row[1:] for name in re.findall(r"`([a-z0-9-]+)`", cell)]


REPORTED = {
    *("CVE-2011-2212", "CVE-2011-2512", "CVE-2013-4344", "CVE-2014-9718", "CVE-2015-5154", "CVE-2015-5158"),
    *(
        "CVE-2015-6855",
        "CVE-2016-1568",
        "CVE-2016-5403",
        "CVE-2019-20175",
        "CVE-2020-13754",
        "CVE-2020-29443",
    ),
    *("CVE-2021-20255", "CVE-2021-3735", "CVE-2021-3930", "CVE-2022-26353", "CVE-2023-0330", "CVE-2023-3180"),
    *(
        "CVE-2023-42467",
        "CVE-2023-5088",
        "CVE-2024-7409",
        "CVE-2026-16457",
        "CVE-2026-48914",
        "CVE-2026-50626",
    ),
    *("CVE-2026-5747", "CVE-2026-5761", "CVE-2026-5763", "CVE-2026-61476", "QEMU d9f78431d8", "Bochs #105"),
    *("Bochs #678", "osv #1498", "openvmm #2983", "openvmm #4036", "openvmm #4045", "openvmm #4046"),
    *("cloud-hypervisor #4888", "cloud-hypervisor #6586", "cloud-hypervisor #7803", "cloud-hypervisor #8066"),
    *(
        "cloud-hypervisor #8401",
        "propolis #970",
        "firecracker #2364",
        "libkrun #701",
        "renode #640",
        "spdk #3860",
    ),
}
"""What has been reported of devices like these."""


def test_everything_that_was_reported_is_on_the_page() -> None:
    assert {row[0] for row in ROWS if len(row) in (3, 6) and row[0] != ""} == REPORTED


@pytest.mark.parametrize("row", [row for row in ROWS if len(row) == 3], ids=lambda row: row[0])
def test_a_defect_that_no_guest_can_show_has_tests(row: list[str]) -> None:
    tests = re.findall(r"`(tests/[a-z_/]+\.py)::(test_[a-z_]+)`", row[2])
    assert tests
    for path, name in tests:
        assert f"\ndef {name}(" in (FOLDER.parents[1] / path).read_text(), name


@pytest.mark.parametrize("row", [row for row in ROWS if len(row) == 6], ids=lambda row: row[0])
def test_a_defect_has_scripts_that_name_it(row: list[str]) -> None:
    assert named(row)
    # "openvmm #4036 and #4045": the project and the number.
    project, _, number = row[0].rpartition(" ")
    for name in named(row):
        head = (FOLDER / "hostile" / f"{name}.guest.yaml").read_text().split("name:")[0]
        assert number.lstrip("#") in head, name
        assert project in head, name


def test_every_hostile_script_is_on_the_page() -> None:
    assert {name for row in ROWS for name in named(row)} == {
        path.name.removesuffix(".guest.yaml") for path in HOSTILE
    }
