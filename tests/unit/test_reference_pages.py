"""The reference pages are those of the tables, and have everything that is declared."""

from __future__ import annotations

import re

import pytest

from tools.reference.declared import GROUPS, declared, shown
from tools.reference.page import Page
from tools.reference.site import DIRECTORY, MARKDOWN, files, markdown, pages

PAGES = pages()
FILES = files(PAGES)
TOO_LARGE = 300_000


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_what_would_be_written_now(name: str) -> None:
    assert (DIRECTORY / name).read_text() == FILES[name], "run python -m tools.reference"
    assert len(FILES[name].encode()) < TOO_LARGE


def test_there_are_no_others() -> None:
    assert {each.name for each in DIRECTORY.iterdir()} == set(FILES)
    assert MARKDOWN.read_text() == markdown(PAGES), "run python -m tools.reference"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere_and_nothing_comes_from_elsewhere(page: Page) -> None:
    text = FILES[page.file]
    anchors = re.findall(r'\bid="([^"]*)"', text)
    assert len(anchors) == len(set(anchors))
    assert set(re.findall(r'href="#([^"]*)"', text)) <= set(anchors)
    assert {hit.anchor for hit in page.hits} <= set(anchors)
    assert not re.search(r'(?:src|href)="(?:https?:)?//|@import|url\(', text)


def test_each_declared_register_is_shown() -> None:
    missing = declared() - shown()
    assert not missing, "add them to tools/reference/declared.py"


def test_each_field_of_each_register_has_its_place() -> None:
    text = FILES["registers.html"]
    for file in (file for group in GROUPS for file in group.files):
        for register in file.registers.layout().registers:
            for each in register.fields:
                assert f'id="{file.anchor}.{register.name}.{each.name}"' in text
