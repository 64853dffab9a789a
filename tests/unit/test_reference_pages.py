"""The reference pages are those of the tables, and have everything that is declared."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import IntEnum
from functools import cache
from html import unescape

import pytest

from devmodels.ata.disk.commands import COMMANDS as ATA_DISK
from devmodels.ata.packet.commands import COMMANDS as ATAPI
from devmodels.scsi.disk.commands import COMMANDS as SCSI_DISK
from devmodels.scsi.mmc.commands import COMMANDS as DRIVE
from devmodels.virtio.constants import Feature
from devmodels.virtio_blk.layout import BlkFeature
from devmodels.virtio_scsi.layout import ScsiFeature
from devmodels.wire import Codec
from tools.reference.declared import GROUPS, ROOT, declared, shown
from tools.reference.features import WORDS
from tools.reference.layouts import MEMORY, SCSI, Module, structures
from tools.reference.opcodes import MAPS, anchor
from tools.reference.page import Page
from tools.reference.site import DIRECTORY, MARKDOWN, files, markdown, pages

TOO_LARGE = 300_000


@cache
def made() -> tuple[list[Page], dict[str, str]]:
    """The pages, and all files."""
    every = pages()
    return every, files(every)


@pytest.mark.long
def test_the_files_are_what_would_be_written_now() -> None:
    every, expected = made()
    assert {each.name for each in DIRECTORY.iterdir()} == set(expected)
    for name, text in expected.items():
        assert (DIRECTORY / name).read_text() == text, f"{name}: run python -m tools.reference"
        assert len(text.encode()) < TOO_LARGE
    assert MARKDOWN.read_text() == markdown(every), "run python -m tools.reference"


@pytest.mark.long
def test_links_lead_somewhere_and_nothing_comes_from_elsewhere() -> None:
    every, texts = made()
    for page in every:
        text = texts[page.file]
        anchors = re.findall(r'\bid="([^"]*)"', text)
        assert len(anchors) == len(set(anchors))
        assert set(re.findall(r'href="#([^"]*)"', text)) <= set(anchors)
        assert {hit.anchor for hit in page.hits} <= set(anchors)
        assert not re.search(r'(?:src|href)="(?:https?:)?//|@import|url\((?!#)', text)


def test_each_declared_register_is_shown() -> None:
    missing = declared() - shown()
    assert not missing, "add them to tools/reference/declared.py"


def test_each_field_of_each_register_has_its_place() -> None:
    text = made()[1]["registers.html"]
    for file in (file for group in GROUPS for file in group.files):
        for register in file.registers.layout().registers:
            for each in register.fields:
                assert f'id="{file.anchor}.{register.name}.{each.name}"' in text


def test_links_between_pages_lead_somewhere() -> None:
    anchors = {name: set(re.findall(r'\bid="([^"]*)"', text)) for name, text in made()[1].items()}
    for text in made()[1].values():
        for name, place in re.findall(r'href="([\w-]+\.html)(?:#([^"]*))?"', text):
            assert not place or place in anchors[name]


@pytest.mark.parametrize("commands", [SCSI_DISK, DRIVE, ATA_DISK, ATAPI], ids=len)
def test_each_command_is_shown(commands: Sequence[object]) -> None:
    assert any(len(each.rows) == len(commands) for each in MAPS)
    assert all(f'id="{anchor(each, row)}"' in made()[1]["opcodes.html"] for each in MAPS for row in each.rows)


@pytest.mark.parametrize("module", [*MEMORY, *SCSI], ids=lambda module: module.anchor)
def test_each_structure_is_drawn_to_its_last_byte(module: Module) -> None:
    for each in structures(module):
        places = [(part.offset, part.size) for part in each.parts]
        assert [at for at, _ in places] == [sum(size for _, size in places[:n]) for n in range(len(places))]
        assert sum(size for _, size in places) == each.size == Codec.of(each.declaration).size
        for part in each.parts:
            assert not part.bits or sum(bits.high - bits.low + 1 for bits in part.bits) == 8 * part.size


def test_no_module_with_structures_is_left_out() -> None:
    named = {module.name for module in (*MEMORY, *SCSI)}
    files = {
        path for path in (ROOT / "devmodels").rglob("*.py") if "from construct import" in path.read_text()
    }
    assert {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files} - named == OWN


OWN = {"devmodels.exports.vhost_inflight", "devmodels.blockbackend.writelog"}
"""What nobody but the code itself reads."""


@pytest.mark.parametrize(
    ("feature", "shown_as"), [("VIRTIO_F_RING_PACKED", "packed=on"), ("VIRTIO_BLK_F_MQ", "num-queues=2")]
)
def test_a_feature_is_offered_with_the_option_that_is_named(feature: str, shown_as: str) -> None:
    row = re.search(rf'<td><code id="{feature}">.*?</tr>', made()[1]["features.html"])
    assert row is not None
    assert "with an option" in row[0]
    assert shown_as in row[0]


@pytest.mark.parametrize("features", [Feature, BlkFeature, ScsiFeature])
def test_each_feature_has_its_own_words(features: type[IntEnum]) -> None:
    text = made()[1]["features.html"]
    for each in features:
        row = re.search(rf'<tr>(?:(?!</tr>).)*<code id="{each.name}">.*?</tr>', text, re.DOTALL)
        assert row is not None
        assert WORDS[each.name][1] in unescape(row[0])
        assert WORDS[each.name][0] in row[0]


def test_words_of_one_device_are_no_words_of_another() -> None:
    text = made()[1]["features.html"]
    assert "size_max limits a segment" in text
    assert text.count("one command can have data both ways") == 1
    assert {each.name for kind in (Feature, BlkFeature, ScsiFeature) for each in kind} == set(WORDS)
