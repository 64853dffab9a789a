"""What the page of a trace has in it: the tables that its program draws."""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib
from array import array
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from devmodels.trace import EventKind, TraceEvent
from guestsim.cli import app
from guestsim.drivers import virtio_blk
from guestsim.quick import disk_machine
from guestsim.show.filters import Range
from guestsim.show.page.collect import Collector
from guestsim.show.page.columns import NONE, Names, Pack, Table

from .traces import any_events, events_of, one_of_each, record, written

CODES = {"Uint8Array": "B", "Uint16Array": "H", "Uint32Array": "I", "Int32Array": "i", "Float64Array": "d"}


class Page:
    """A page, unpacked as its own program does it."""

    def __init__(self, text: str) -> None:
        found = re.search(r'<script id="trace-data" type="text/plain">([A-Za-z0-9+/=]*)</script>', text)
        assert found is not None
        data = zlib.decompress(base64.b64decode(found[1]))
        (length,) = struct.unpack_from("<I", data)
        self.facts: dict[str, Any] = msgspec.json.decode(data[4 : 4 + length])
        self._data = data[-(-(4 + length) // 8) * 8 :]

    def column(self, table: str, name: str) -> list[float]:
        kind, at, count = self.facts["tables"][table][name]
        values: array[float] = array(CODES[kind])
        values.frombytes(self._data[at : at + count * values.itemsize])
        return list(values)

    def lines(self, table: str) -> list[str]:
        _, at, count = self.facts["tables"][table]["data"]
        data = self._data[at : at + count]
        ends = [int(end) for end in self.column(table, "ends")]
        return [data[start:end].decode() for start, end in zip([0, *ends], ends, strict=False)]

    def details(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(line) for line in self.lines("requestDetails")]


def write(trace: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["show", str(trace), "--html", str(trace.with_suffix(".html")), *options])


def page(trace: Path, *options: str) -> Page:
    result = write(trace, *options)
    assert result.exit_code == 0, result.output
    return Page(trace.with_suffix(".html").read_text())


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return one_of_each(tmp_path_factory.mktemp("traces") / "disk.trace")


def test_every_event_is_in_it_in_words(trace: Path) -> None:
    shown = page(trace)
    events = events_of(trace)
    kinds = [shown.facts["kinds"][int(kind)] for kind in shown.column("events", "kind")]
    assert kinds == [event.kind.value for event in events]
    sources = [shown.facts["sources"][int(source)] for source in shown.column("events", "source")]
    assert sources == [event.source for event in events]
    listed = CliRunner().invoke(app, ["show", str(trace)]).stdout.splitlines()
    for line, text in zip(listed, shown.lines("eventTexts"), strict=True):
        assert text.removesuffix(" …") in line


def test_a_request_has_its_bytes_by_field(trace: Path) -> None:
    write_, read, *_ = page(trace).details()
    header, data, status = write_["sections"]
    assert header["fields"][0] == ["type", 0, 4, "1", "OUT"]
    assert header["fields"][2] == ["sector", 8, 8, "8", ""]
    assert (data["length"], bytes.fromhex(data["data"])) == (512, b"\xa5" * 256)
    assert status["fields"] == [["status", 0, 1, "0", "OK"]]
    assert [piece[2] for piece in read["pieces"]] == [False, True, True, True]
    assert sum(piece[1] for piece in read["pieces"]) == 16 + 1024 + 1
    assert read["table"][1] == 4


def test_data_is_as_long_as_the_user_wants(trace: Path) -> None:
    _, data, _ = page(trace, "--payload", "500").details()[0]["sections"]
    assert bytes.fromhex(data["data"]) == b"\xa5" * 500
    _, data, _ = page(trace, "--payload", "0").details()[0]["sections"]
    assert (data["length"], data["data"]) == (512, "")


def test_the_way_of_a_request_leads_from_table_to_table(trace: Path) -> None:
    shown = page(trace)
    life = shown.column("parts", "life")
    served = dict(zip(shown.column("served", "part"), shown.column("served", "dispatch"), strict=True))
    for step, dispatch in enumerate(shown.column("steps", "dispatch")):
        part = next(part for part, each in served.items() if each == dispatch)
        request = int(life[int(part)])
        begin, end = (shown.column("steps", name)[step] for name in ("begin", "end"))
        assert shown.column("requests", "taken")[request] < begin < end
        assert end < shown.column("requests", "used")[request]
        assert shown.column("steps", "op")[step] == shown.column("requests", "op")[request]
    assert shown.facts["nodes"] == [["disk0", "memory"]]


def test_what_was_wrong_is_told_with_the_request(trace: Path) -> None:
    shown = page(trace)
    flags = shown.column("requests", "flags")
    (refused,) = (number for number, each in enumerate(flags) if int(each) & 1)
    ((clause, place, _, _),) = shown.details()[refused]["violations"]
    assert (clause, place.split()[0]) == ("VIRTIO 1.4 §5.2.6.1", "vd0")
    assert shown.facts["statuses"][str(int(shown.column("requests", "status")[refused]))] == "IOERR"


def test_a_part_of_a_trace_knows_what_came_before(trace: Path) -> None:
    whole = page(trace)
    first = int(whole.column("requests", "taken")[2])
    shown = page(trace, "--events", f"{first}..{first + 40}")
    assert shown.facts["first"] == first
    assert shown.lines("eventTexts") == whole.lines("eventTexts")[first : first + 41]
    assert shown.column("requests", "number")[0] == 2
    assert shown.column("requests", "kicked")[0] == NONE
    assert shown.details()[0]["table"] == whole.details()[2]["table"]
    assert min(shown.details()[0]["events"]) == 0


def test_buffers_of_a_packed_ring_have_their_tables_too(tmp_path: Path) -> None:
    details = page(one_of_each(tmp_path / "packed.trace", packed=True)).details()
    assert [detail["table"][1] for detail in details] == [len(detail["pieces"]) for detail in details]


def test_direct_descriptors_are_no_table(tmp_path: Path) -> None:
    path = tmp_path / "disk.trace"
    with disk_machine(indirect_desc=False) as machine:
        record(machine, path).write(0, bytes(512))
    assert "table" not in page(path).details()[0]


def test_a_refused_request_says_where_it_wanted_to_go(tmp_path: Path) -> None:
    path = tmp_path / "disk.trace"
    with disk_machine(1 << 20) as machine:
        record(machine, path).request(virtio_blk.read(1 << 20, 1024))
    shown = page(path)
    assert (shown.column("requests", "offset"), shown.column("requests", "length")) == ([1 << 20], [1024])


def test_numbers_that_no_device_writes_do_no_harm(tmp_path: Path) -> None:
    kinds = EventKind
    huge = (1 << 64) - 1
    events = [
        ("vd0", kinds.FEATURES, (huge,)),
        ("vd0", kinds.QUEUE, (huge, 8, huge, 0, 0, 0, 0)),
        ("vd0", kinds.KICK, (-5, 0)),
        ("memory", kinds.DMA_READ, (huge, bytes(16))),
        ("vd0", kinds.CHAIN, (huge, huge, 1, 0, 0xFFFF_FFFF, huge, 0xFFFF_FFFF)),
        ("vd0", kinds.REQUEST, (huge, "\0" * 900, huge, huge, huge, huge)),
        ("vd0", kinds.DISPATCH, (1, "READ", -1, huge, huge, 0, huge)),
        ("vd0", kinds.NODE_BEGIN, (1, 1, huge, "n\nn", "d", "op", huge, huge, huge)),
        ("vd0", kinds.DONE, (7, huge, 0, b"")),
        ("vd0", kinds.USED, (huge, huge, huge)),
    ]
    shown = page(written(tmp_path / "forged.trace", events))
    assert len(shown.lines("eventTexts")) == len(events)
    assert shown.column("requests", "head") == [NONE]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--device", "vd0"), "--html goes with --time, --events and --payload only"),
        (("--json",), "--html goes with"),
        (("--perfetto", "x.json"), "--html goes with"),
        (("--events", "9..1"), "expected a first one that is not after the last"),
    ],
)
def test_what_makes_no_sense_is_one_line(trace: Path, options: tuple[str, ...], said: str) -> None:
    result = write(trace, *options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_page_that_cannot_be_written_is_one_line(trace: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "none" / "page.html", trace):
        result = CliRunner().invoke(app, ["show", str(trace), "--html", str(path)])
        assert result.exit_code == 2
        assert result.stderr.startswith(f"guestsim show: --html {path} ")
        assert len(result.stderr.splitlines()) == 1


def test_a_page_that_cannot_be_written_is_told_before_the_trace_is_read(tmp_path: Path) -> None:
    broken = written(tmp_path / "a.trace", [])
    broken.write_bytes(broken.read_bytes()[:-1] + b"\0")
    old = tmp_path / "old.html"
    old.write_text("old")
    assert "cannot be written" in write(broken, "--html", str(tmp_path / "none" / "page.html")).stderr
    assert "its end is damaged" in write(broken, "--html", str(old)).stderr
    assert old.read_text() == "old"


def test_the_page_goes_to_standard_output(trace: Path) -> None:
    result = CliRunner().invoke(app, ["show", str(trace), "--html", "-"])
    assert result.stdout.startswith("<!doctype html>")


def test_a_part_of_a_whole_trace_is_not_cut_short(trace: Path) -> None:
    result = write(trace, "--events", "3..5")
    assert (result.exit_code, result.stderr) == (0, "")


def test_an_empty_trace_has_a_page(tmp_path: Path) -> None:
    assert page(written(tmp_path / "empty.trace", [])).lines("eventTexts") == []


@given(any_events(), st.integers(0, 30))
def test_any_trace_has_a_page(events: list[TraceEvent], first: int) -> None:
    collector = Collector(64, Range(), Range(first))
    collector.collect(events, lambda _count: None)
    pack, facts = collector.pack()
    json.loads(msgspec.json.encode(facts))
    shown = max(len(events) - first, 0)
    assert pack.index["events"]["kind"][2] == shown
    for name in ("taken", "used"):
        kind, at, count = pack.index["requests"][name]
        values: array[int] = array(CODES[kind])
        values.frombytes(bytes(pack.data[at : at + count * 4]))
        assert all(value < shown or value == NONE for value in values)


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 1 << 40), st.integers(-(1 << 31), (1 << 31) - 1)))
)
def test_columns_hold_what_was_put_in(rows: list[tuple[int, int, int]]) -> None:
    table = Table(small="B", large="d", signed="i")
    for row in rows:
        table.add(*row)
    pack = Pack()
    pack.table("rows", table)
    for name, (kind, at, count) in pack.index["rows"].items():
        values: array[float] = array(CODES[kind])
        values.frombytes(bytes(pack.data[at : at + count * values.itemsize]))
        assert at % 8 == 0
        expected = [row[["small", "large", "signed"].index(name)] for row in rows]
        assert list(values) == [min(value, 255) if name == "small" else value for value in expected]


def test_there_are_no_more_names_than_have_numbers() -> None:
    names = Names(3)
    assert [names.number(name) for name in "abcdca"] == [0, 1, 2, 2, 2, 0]
