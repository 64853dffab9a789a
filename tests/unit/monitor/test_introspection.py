"""The schema says what there is, and the documentation says the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from devmodels.monitor.events import EVENTS
from devmodels.monitor.table import EVERYWHERE, WITH_DEVICES, WITH_MACHINE

from .qemu_commands import NEWER, STORAGE_DAEMON, SYSTEM
from .schemas import form_errors
from .support import Talk, in_daemon, in_machine

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "qmp.md"


def test_schema_is_whole_and_has_every_command_and_event(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        infos = await talk("query-qmp-schema")
        assert list(form_errors(infos)) == []
        found = {info["name"]: info["meta-type"] for info in infos}
        commands = {each["name"] for each in await talk("query-commands")}
        assert {name for name, meta in found.items() if meta == "command"} == commands
        assert {name for name, meta in found.items() if meta == "event"} == set(EVENTS)

    in_machine(tmp_path, story)


def test_schema_shows_arguments(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        infos: dict[str, dict[str, Any]] = {info["name"]: info for info in await talk("query-qmp-schema")}
        assert "device_add" not in infos
        resize = infos[infos["block_resize"]["arg-type"]]
        assert resize["members"] == [
            {"name": "size", "type": "int"},
            {"name": "device", "type": "str", "default": None},
            {"name": "node-name", "type": "str", "default": None},
        ]
        add = infos[infos["blockdev-add"]["arg-type"]]
        drivers = {each["case"]: infos[each["type"]] for each in add["variants"]}
        (file,) = (each for each in drivers["raw"]["members"] if each["name"] == "file")
        child = infos[file["type"]]
        assert child["meta-type"] == "alternate"
        assert {each["type"] for each in child["members"]} == {"str", add["name"]}

    in_daemon(tmp_path, story)


def test_no_event_is_told_that_the_schema_does_not_have() -> None:
    told = set()
    for source in (ROOT / "devmodels").rglob("*.py"):
        for name in re.findall(r"events\.emit\(([^,)]*)", source.read_text()):
            told |= set(re.findall(r'"([A-Z_]+)"', name))
    assert told == set(EVENTS)


def test_every_command_of_qemus_has_its_row() -> None:
    rows = dict(
        re.findall(r"^\| `([a-z0-9_-]+)` \| (offered|devices|machine|missing) ", PAGE.read_text(), re.M)
    )
    offered = set(EVERYWHERE) | {"qmp_capabilities"}
    known = [*STORAGE_DAEMON, *SYSTEM, *NEWER]
    ours = sorted((offered | set(WITH_MACHINE)) - set(known))
    assert all(name.startswith("x-") for name in ours)
    for name in [*known, *ours]:
        where = {"offered": offered, "devices": WITH_DEVICES, "machine": WITH_MACHINE, "missing": known}
        expected = next(word for word, commands in where.items() if name in commands)
        assert rows.pop(name, None) == expected, name
    assert not rows


def test_every_event_is_on_the_page() -> None:
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", PAGE.read_text(), re.M)) == set(EVENTS)
