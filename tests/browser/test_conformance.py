"""The page of what specifications demand, as somebody uses it who looks for a clause."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.conformance.page import HTML
from tools.conformance.table import tables

from .chromium import Browser

pytestmark = pytest.mark.browser

ROWS = sum(len(clause.rows) for table in tables() for clause in table.clauses)


def test_words_and_states_choose_rows(browser: Browser, tmp_path: Path) -> None:
    tab = browser.open(HTML)
    assert tab.text("#count") == f"{ROWS} rows"
    tab.click("#words")
    tab.type("§2.7.7.2")
    assert tab.text("#count") == "6 rows"
    assert tab.get("[...document.querySelectorAll('section')].filter(each => !each.hidden).length") == 1
    tab.type(" crossing")
    assert tab.text("#count") == "2 rows"
    assert tab.get("[...document.querySelectorAll('tbody')].filter(each => !each.hidden).length") == 1
    for state in ("test", "check", "n/a"):
        tab.click(f'#tools input[value="{state}"]')
    assert tab.text("#count") == "0 rows"
    tab.resize(400, 800)
    assert tab.get("document.documentElement.scrollWidth <= innerWidth")
    tab.screenshot(tmp_path / "page.png")
    assert tab.errors == []
    tab.close()


def test_each_document_can_be_looked_at_alone(browser: Browser) -> None:
    tab = browser.open(HTML)
    for table in tables():
        choose = f"(() => {{ const all = document.querySelector('#parts'); all.value = '{table.path.stem}';"
        tab.get(f"{choose} all.dispatchEvent(new Event('change')); return 1; }})()")
        assert tab.text("#count") == f"{sum(len(each.rows) for each in table.clauses)} rows"
    tab.close()


def test_links_lead_to_tests_and_code_that_are_there(browser: Browser) -> None:
    tab = browser.open(HTML)
    links = set(tab.get("[...document.querySelectorAll('a')].map(each => each.getAttribute('href'))"))
    assert len(links) > 80
    assert [each for each in links if not (HTML.parent / each).is_file()] == []
    tab.close()
