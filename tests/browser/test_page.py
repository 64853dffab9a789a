"""The page of a trace, as somebody uses it who looks at it in a browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .chromium import Tab
from .conftest import Open, page_of
from .traces import of_names

pytestmark = pytest.mark.browser

WRITE, READ, REFUSED = 0, 1, 8
"""Requests of the small trace."""


def row(tab: Tab, number: int) -> str:
    """The selector of a request's row."""
    return f'.row[data-row="{number}"]'


def section(tab: Tab, title: str) -> str:
    """What stands below a title of the details."""
    texts: list[str] = tab.get(
        "[...document.querySelectorAll('#detail section')].map(each => each.innerText)"
    )
    return next((" ".join(text.split()) for text in texts if text.startswith(title)), "")


def place(tab: Tab, lane: str, request: int) -> tuple[float, float]:
    """Where in the window a request's span is, in the middle."""
    x, y = tab.get(
        "(() => { const { timeline, view } = page; const box = timeline.canvas.getBoundingClientRect();"
        f" const lane = timeline.lanes.find(each => each.title === {json.dumps(lane)}), spans = lane.spans;"
        f" const at = spans.request.indexOf({request}); spans.visible(view);"
        " return [box.x + (view.x(spans.begin[at]) + view.x(spans.end[at])) / 2,"
        " box.y + lane.top + spans.top(at) + spans.rowHeight / 2]; })()"
    )
    return x, y


def painted(tab: Tab, selector: str) -> int:
    """How many points of a canvas are not empty."""
    count: int = tab.get(
        f"(() => {{ const canvas = document.querySelector({json.dumps(selector)});"
        " const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);"
        " let count = 0; for (let i = 3; i < data.length; i += 4) count += data[i] > 0; return count; })()"
    )
    return count


# --- a request


def test_a_click_on_a_request_shows_its_bytes_by_field(show: Open) -> None:
    tab = show()
    assert tab.text("#detail") == ""
    tab.click(row(tab, WRITE))
    assert tab.text("#detail h2").split("\n")[0].startswith("WRITE 512 B at 0x1000")
    said = section(tab, "Bytes")
    assert "0 01 00 00 00 type 1 OUT" in said
    assert "8 08 00 00 00 00 00 00 00 sector 8" in said
    assert "74 65 78 74" not in said
    assert "The first 256 of 512 bytes; more with --payload BYTES" in said
    assert "status 0 OK" in said


def test_it_shows_its_chain_its_stations_and_its_events(show: Open) -> None:
    tab = show()
    tab.click(row(tab, READ))
    assert section(tab, "Chain").startswith("Chain – 4 pieces, indirect table of 4 at 0x")
    stations = section(tab, "Stations")
    order = ["notification", "taken", "submitted", "to the disk", "from the disk", "completed", "given back"]
    assert sorted(order, key=stations.index) == order
    assert "10.0 µs" in stations
    events = section(tab, "Events")
    assert "chain" in events
    assert "node-begin" in events


def test_it_shows_its_way_through_the_graph(show: Open) -> None:
    tab = show()
    tab.click(row(tab, READ))
    assert section(tab, "Way through the graph").count("READ 1 KiB at 0x1000") == 3
    label: str = tab.get("document.querySelector('.way').getAttribute('aria-label')")
    assert label.endswith(": backend, then top, then low")


def test_a_merged_request_leads_to_its_neighbour(show: Open) -> None:
    tab = show("#request=6")
    assert "one request of the disk for 2" in section(tab, "Way through the graph")
    tab.click('#detail .links [data-request="7"]')
    assert tab.text("#detail h2").split("\n")[0].startswith("WRITE 512 B at 0x10200")
    assert "#6" in section(tab, "Served together")


def test_a_click_into_the_timeline_selects_what_is_there(show: Open) -> None:
    tab = show()
    for lane in ("Queue 0", "Requests", "Node low"):
        tab.key("Escape")
        tab.click_at(*place(tab, lane, READ))
        assert "Request #1:" in tab.text("#detail header p"), lane


def test_the_pointer_tells_what_is_below_it(show: Open) -> None:
    tab = show()
    x, y = place(tab, "Requests", READ)
    tab.move_to(x, y)
    assert tab.text("#tooltip").startswith("READ 1 KiB at 0x1000")
    assert "request #1" in tab.text("#tooltip")


def test_the_number_of_violations_leads_to_them(show: Open) -> None:
    tab = show()
    assert tab.text("#violations") == "1"
    tab.click("#violations")
    assert f"Request #{REFUSED}:" in tab.text("#detail header p")
    assert "VIRTIO 1.4 §5.2.6.1" in section(tab, "1 violation")
    assert "IOERR" in tab.text("#detail h2")


def test_an_event_is_found_on_the_timeline(show: Open) -> None:
    tab = show("#request=1")
    tab.click("#detail .station .link")
    assert tab.get("page.trace.kindOf(page.look.marked)") == "kick"
    tab.wait("location.hash.includes('event=')")
    tab.click('[data-tab="events"]')
    assert " kick " in " ".join(tab.text(".row[aria-selected=true]").split())


# --- finding


def test_operations_are_chosen_by_their_chips(show: Open) -> None:
    tab = show()
    tab.click(".chip", index=0)
    assert tab.text("#matches") == "2 requests match"
    rows: list[str] = tab.get("[...document.querySelectorAll('.row')].map(each => each.innerText)")
    assert len(rows) == 2
    assert all("READ" in each for each in rows)
    tab.click("#clear")
    assert tab.get("document.querySelectorAll('.row').length") == 9


def test_a_search_finds_addresses_and_words(show: Open) -> None:
    tab = show()
    for text, count in (("0x10200", 1), ("discard", 1), ("GET_ID", 1), ("violation", 1), ("VIRTIO_BLK", 0)):
        tab.key("/")
        tab.get("document.getElementById('text').select()")
        tab.type(text)
        tab.wait(f"document.getElementById('matches').textContent.startsWith('{count} request')")
        tab.key("Escape")


def test_the_list_is_sorted_by_latency(show: Open) -> None:
    tab = show()
    tab.get(
        "[...document.querySelectorAll('.sortable')].find(each => each.innerText.startsWith('latency'))"
        ".setAttribute('id', 'latency')"
    )
    tab.click("#latency")
    found: list[float] = tab.get("[...page.lists.table.order].map(each => page.trace.latency(each))")
    assert found == sorted(found, reverse=True)


def test_events_are_listed_and_searched(show: Open) -> None:
    tab = show()
    tab.click('[data-tab="events"]')
    tab.key("/")
    tab.type("violation")
    tab.wait("document.querySelectorAll('.row').length === 1")
    assert "VIRTIO 1.4 §5.2.6.1" in tab.text(".row")


# --- moving about


def test_wheel_drag_and_overview_move_the_window(show: Open) -> None:
    tab = show()
    x, y = place(tab, "Queue 0", READ)
    whole: float = tab.get("page.view.to - page.view.from")
    for _ in range(6):
        tab.wheel(x, y, -240)
    assert tab.get("page.view.to - page.view.from") < whole / 3
    start: float = tab.get("page.view.from")
    tab.drag((x, y), (x + 100, y))
    assert tab.get("page.view.from") < start
    assert tab.get("page.look.selected") is None
    tab.click("#overview")
    middle: float = tab.get("(page.view.from + page.view.to) / 2")
    assert abs(middle - tab.get("page.trace.duration / 2")) < whole / 50
    tab.key("0")
    assert tab.get("page.view.whole")


def test_everything_can_be_done_with_keys(show: Open) -> None:
    tab = show()
    tab.get("document.querySelector('.grid').focus()")
    tab.key("ArrowDown")
    tab.key("ArrowDown")
    assert "Request #1:" in tab.text("#detail header p")
    assert tab.get("document.querySelector('.row[aria-selected=true]').dataset.row") == "1"
    tab.key("Enter")
    assert not tab.get("page.view.whole")
    tab.key("End")
    assert f"Request #{REFUSED}:" in tab.text("#detail header p")
    tab.key("p")
    assert f"Request #{REFUSED - 1}:" in tab.text("#detail header p")
    tab.key("a")
    assert tab.get("page.view.axis") == "event"
    tab.key("Escape")
    assert tab.text("#detail") == ""
    tab.key("?")
    assert tab.get("document.getElementById('help').open")


def test_an_address_brings_back_what_was_looked_at(show: Open) -> None:
    tab = show("#request=2&axis=event&theme=dark")
    assert "Request #2:" in tab.text("#detail header p")
    assert tab.get("page.view.axis") == "event"
    tab.key("n")
    tab.wait("location.hash.includes('request=3')")
    again = show(tab.get("location.hash"))
    assert again.text("#detail header p") == tab.text("#detail header p")


# --- light and dark, wide and narrow


def test_it_is_dark_where_the_system_is(show: Open) -> None:
    tab = show()
    light: str = tab.get("getComputedStyle(document.body).backgroundColor")
    assert light == "rgb(255, 255, 255)"
    tab.dark(True)
    dark: str = tab.get("getComputedStyle(document.body).backgroundColor")
    assert dark != light
    tab.click("#theme")
    assert tab.get("getComputedStyle(document.body).backgroundColor") == light
    tab.dark(False)


@pytest.mark.parametrize("size", [(1400, 900), (1000, 700), (480, 800)])
def test_it_fits_the_window(show: Open, size: tuple[int, int]) -> None:
    tab = show("#request=1", size=size)
    assert tab.get("document.documentElement.scrollWidth") <= size[0]
    assert tab.get("document.documentElement.scrollHeight") <= size[1]
    assert painted(tab, "#canvas") > 1000


# --- what is in it


def test_a_trace_of_100_000_events_is_drawn_and_scrolled(show: Open, large: Path) -> None:
    tab = show("#request=3000", page=large)
    tab.click(".chip")
    tab.click(".chip")
    assert tab.get("document.querySelector('.row[aria-selected=true]').dataset.row") == "3000"
    tab.key("Escape")
    assert "100,000" in tab.text("#stats")
    assert painted(tab, "#canvas") > 20_000
    assert painted(tab, "#overview") > 5_000
    tab.get("document.querySelector('.grid').focus()")
    tab.key("End")
    last: int = tab.get("page.trace.requestCount - 1")
    assert f"Request #{last}:" in tab.text("#detail header p").replace(",", "")
    assert tab.get("document.querySelectorAll('.row').length") < 80
    tab.click('[data-tab="events"]')
    tab.get("document.querySelector('.grid').focus()")
    tab.key("End")
    assert tab.get("document.querySelector('.row[aria-selected=true]').dataset.row") == "99999"


def test_names_are_text_and_nothing_is_loaded(show: Open, tmp_path: Path) -> None:
    name = "<img src=x onerror='window.taken=1'>"
    tab = show("#request=0", page=page_of(of_names(tmp_path / "<b>names&amp;.trace", name)))
    assert name in tab.text("#detail")
    assert tab.text("h1") == "<b>names&amp;.trace"
    tab.click('[data-tab="events"]')
    tab.click_at(*place(tab, "Queue 0", 0))
    assert tab.get("document.images.length") == 0
    assert tab.get("window.taken === undefined")
    assert tab.get("performance.getEntriesByType('resource').length") == 0
