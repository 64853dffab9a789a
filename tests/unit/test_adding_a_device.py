"""docs/adding-a-device.md names what is there."""

from __future__ import annotations

import re
from pathlib import Path

from devmodels.assembly.devices import DEVICES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/adding-a-device.md").read_text(encoding="utf-8")


def test_every_file_and_folder_that_it_names_is_there() -> None:
    named = set(re.findall(r"`([\w./-]+/[\w./-]*)`", TEXT))
    assert len(named) > 30
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


def test_the_table_of_devices_is_as_it_says() -> None:
    """A name of its own for each, a place that the page names, and a module with its kind."""
    for each in DEVICES.values():
        assert f"`{each.place}`" in TEXT
        assert (ROOT / f"devmodels/assembly/{each.module}.py").is_file()
