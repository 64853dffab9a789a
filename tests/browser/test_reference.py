"""The reference pages in a browser: searched, read on a telephone, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tools.reference.site import DIRECTORY, pages

from .chromium import Browser, Tab

pytestmark = pytest.mark.browser

TELEPHONE = (390, 800)
NAMES = [page.name for page in pages()]


@pytest.fixture
def start(browser: Browser) -> Iterator[Tab]:
    tab = browser.open(DIRECTORY / "index.html")
    yield tab
    assert tab.errors == []
    tab.close()


def test_a_field_is_found_from_any_page(start: Tab) -> None:
    start.key("/")
    start.type("queue_notif_config")
    assert "queue_notif_config_data" in start.text("#hits a")
    start.key("Enter")
    start.wait("location.hash === '#common.queue.queue_notif_config_data'")
    start.wait("document.title.startsWith('Registers')")


def test_arrows_choose_and_escape_forgets(start: Tab) -> None:
    start.key("/")
    start.type("read (10)")
    first = start.text("#hits .chosen")
    start.key("ArrowDown")
    assert start.text("#hits .chosen") != first
    start.key("Escape")
    assert start.get("document.querySelector('#hits').hidden")


@pytest.mark.parametrize("name", NAMES)
def test_a_page_fits_a_telephone(browser: Browser, name: str) -> None:
    tab = browser.open(DIRECTORY / f"{name}.html", size=TELEPHONE)
    assert tab.get("document.documentElement.scrollWidth") <= TELEPHONE[0]
    tab.dark(True)
    assert tab.get("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 29)"
    assert tab.get("performance.getEntriesByType('resource').every(each => each.name.startsWith('file:'))")
    assert tab.errors == []
    tab.close()
