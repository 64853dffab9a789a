"""What specifications demand is in tables whose rows point at tests and reports that are there."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools.conformance.__main__ import VIRTIO, main
from tools.conformance.checks import checks, matching
from tools.conformance.extract import digest_of, statements_of
from tools.conformance.judge import complaints, drift, updated
from tools.conformance.offered import COMMANDS, unaccounted
from tools.conformance.page import HTML, MARKDOWN, html, markdown
from tools.conformance.table import ROOT, Clause, Row, State, Table, TableError, read, tables, write
from tools.conformance.tests import cases_in, exists, names_in

TABLES = tables()
STATEMENTS = 392
IDS = "82d2445e"
"""Of VIRTIO's statements: how many, and a hash of their ids and hashes, so that no row is lost."""


@pytest.mark.long
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.path.stem)
def test_every_row_points_at_what_is_there(table: Table) -> None:
    assert complaints(table) == []


def test_every_row_names_a_test_that_is_written() -> None:
    """By the text of files alone, which takes no time: of all tests that rows name, each is somewhere in its file."""
    written = re.compile(r"^ *(?:async )?(?:def|class) (\w+)|^(\w+) = .*\.TestCase$", re.MULTILINE)
    there: dict[str, set[str]] = {}
    for table in TABLES:
        for clause, row in table.rows:
            for pointer in row.pointers:
                file, _, name = pointer.partition("::")
                if file.startswith("!"):
                    continue
                where = f"{table.path.name} §{clause.number}/{row.number}: {pointer}"
                if file not in there:
                    assert (ROOT / file).is_file(), where
                    source = (ROOT / file).read_text(encoding="utf-8")
                    there[file] = {one for found in written.findall(source) for one in found}
                assert not name or there[file].issuperset(name.partition("[")[0].split("::")), where


def test_pages_of_tables_that_are_wrong_are_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = Row(1, "-", "MUST", State.TEST, ("tests/unit/test_dance.py::test_polka",), "")
    table = Table(tmp_path / "dance.tsv", "Dance", "", [Clause("1", "device", "", "", [row])])
    monkeypatch.setattr("tools.conformance.__main__.tables", lambda: [*TABLES, table])
    monkeypatch.setattr(
        "tools.conformance.__main__.complaints", lambda of: [] if of is not table else complaints(of)
    )
    pages = [tmp_path / "page.md", tmp_path / "page.html"]
    for name, page in zip(("MARKDOWN", "HTML"), pages, strict=True):
        monkeypatch.setattr(f"tools.conformance.__main__.{name}", page)
    assert main([]) == 1
    assert "dance.tsv: §1/1: there is no test tests/unit/test_dance.py::test_polka" in capsys.readouterr().out
    assert not any(page.exists() for page in pages)


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extract", str(tmp_path)]) == 2
    expected = f"{tmp_path}: there is no main.tex, expected a checkout of oasis-tcs/virtio-spec\n"
    assert capsys.readouterr().err == expected


def test_no_statement_of_virtio_is_missing() -> None:
    lines = [f"{clause.number}/{row.number} {row.digest} {row.level}" for clause, row in read(VIRTIO).rows]
    assert len(lines) == STATEMENTS
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest().startswith(IDS)


def test_every_command_that_is_offered_has_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unaccounted(TABLES) == []
    command = next(each for each in COMMANDS["ATA disk"] if each.name == "FLUSH CACHE")
    monkeypatch.setitem(COMMANDS, "ATA disk", [*COMMANDS["ATA disk"], SimpleNamespace(name="DANCE")])
    assert unaccounted(TABLES) == ["no row is about the command ATA disk: DANCE"]
    monkeypatch.setitem(COMMANDS, "ATA disk", [each for each in COMMANDS["ATA disk"] if each is not command])
    assert "nobody offers the command ATA disk: FLUSH CACHE" in unaccounted(TABLES)


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("ahci-1.3.1", "no row is about PortRegisters.ci, AHCI 1.3.1 §3.3.14"),
        ("virtio-registers", "no row is about QueueRegisters.queue_desc, VIRTIO 1.4 §4.1.4.3"),
        ("virtio-registers", "no row is about LegacyHeader.isr_status, VIRTIO 1.4 §4.1.4.10"),
        ("virtio-registers", "no row is about virtio_blk_config.capacity, virtio_blk_config"),
        ("pci-3.0", "no row is about MsixEntry.vector_control, PCI 3.0 §6.8.2.9"),
    ],
)
def test_every_register_that_is_offered_has_a_row(table: str, line: str) -> None:
    assert line in unaccounted([each for each in TABLES if each.path.stem != table])


def test_registers_of_a_clause_that_is_about_several_are_named() -> None:
    named = ("CommonConfig.queue_select", "CommonConfig.queue_dance")
    clause = Clause("VIRTIO 1.4 §4.1.4.3", "device", "", "", [Row(1, "-", "MUST", State.OPEN, (), "")])
    lines = unaccounted([Table(Path("t"), "", "", [replace(clause, registers=named)])])
    assert "no row is about CommonConfig.num_queues, VIRTIO 1.4 §4.1.4.3" in lines
    assert "no row is about CommonConfig.queue_select, VIRTIO 1.4 §4.1.4.3" not in lines
    assert lines[-1] == "nobody offers the register CommonConfig.queue_dance"


@pytest.mark.long
def test_the_pages_are_those_of_the_tables() -> None:
    assert MARKDOWN.read_text() == markdown(TABLES), "run python -m tools.conformance"
    assert HTML.read_text() == html(TABLES), "run python -m tools.conformance"


# --- the specification

SOURCE = r"""
\section{Lamps}\label{sec:Lamps}
A lamp MUST NOT be counted: this is no conformance clause.
\devicenormative{\subsection}{Lamps}{Lamps}
The device MUST light \field{lamp}
when asked.  It does so at once. % It MUST NOT be counted.
\begin{note}
It MUST NOT be counted.
\end{note}
\begin{itemize}
\item The device MAY blink; % never
\item it SHOULD NOT burn.
\end{itemize}
\drivernormative{\subsection}{Lamps}{Lamps}
The driver SHALL look.
\section{More}
Nothing MUST follow.
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Sources of a specification with lamps only."""
    (tmp_path / "device-types" / "blk").mkdir(parents=True)
    (tmp_path / "device-types" / "scsi").mkdir()
    (tmp_path / "main.tex").write_text("\\chapter{One}\\input{content}")
    (tmp_path / "content.tex").write_text(SOURCE)
    for name in ("split-ring", "packed-ring", "shared-mem", "transport-pci", "transport-mmio"):
        (tmp_path / f"{name}.tex").write_text("")
    for name in ("blk", "scsi"):
        (tmp_path / "device-types" / name / "description.tex").write_text("")
    return tmp_path


def test_statements_are_the_sentences_that_demand_something() -> None:
    found = statements_of(SOURCE, "basic")
    assert [(each.side, each.number, each.level, each.text) for each in found] == [
        ("device", 1, "MUST", "The device MUST light lamp when asked."),
        ("device", 2, "MAY", "The device MAY blink;"),
        ("device", 3, "SHOULD", "it SHOULD NOT burn."),
        ("driver", 1, "MUST", "The driver SHALL look."),
    ]
    assert found[0].digest == digest_of("The device MUST light lamp when asked.")


def test_a_table_that_agrees_with_the_specification_keeps_what_it_says(checkout: Path) -> None:
    table = Table(checkout / "lamps.tsv", "Lamps 1", "Of lamps.", [])
    updated(table, checkout)
    assert [(clause.number, clause.side, len(clause.rows)) for clause in table.clauses] == [
        ("1.1.1", "device", 3),
        ("1.1.2", "driver", 1),
    ]
    row = table.clauses[0].rows[1]
    row.state, row.words = State.NOT_APPLICABLE, "ours does not blink"
    write(table)
    again = read(table.path)
    updated(again, checkout)
    assert again.clauses == table.clauses
    assert drift(again, checkout) == []


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("MAY blink", "MAY shine", ["§1.1.1/2: the specification says something else"]),
        ("The driver SHALL look.", "", ["§1.1.2/1: not in the specification"]),
        ("SHALL look.", "SHALL look. It MUST wait.", ["§1.1.2/2: not in the table"]),
    ],
)
def test_a_specification_that_has_changed_is_noticed(
    checkout: Path, old: str, new: str, lines: list[str]
) -> None:
    table = Table(checkout / "lamps.tsv", "Lamps 1", "Of lamps.", [])
    updated(table, checkout)
    (checkout / "content.tex").write_text(SOURCE.replace(old, new))
    assert drift(table, checkout) == lines


def test_what_cannot_be_read_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extract", str(tmp_path)]) == 2
    assert "main.tex" in capsys.readouterr().err
    bad = tmp_path / "bad.tsv"
    bad.write_text("document\tA\tB\nclause\t1\tdevice\tC\n1\t-\tMUST\tperhaps\t\t\n")
    with pytest.raises(TableError, match=r"bad\.tsv:3: .*perhaps"):
        read(bad)


# --- rows


def row(state: State, *pointers: str, words: str = "") -> list[str]:
    """What is complained of in a row."""
    clause = Clause("1", "driver", "Lamps", "", [Row(1, "-", "MUST", state, pointers, words)])
    return [line.rpartition("§1/1: ")[2] for line in complaints(Table(Path("t"), "", "", [clause]))]


TEST = "tests/unit/test_traceability.py::test_what_cannot_be_read_is_one_line"
REPORT = "!devmodels/virtio/negotiation.py: clears bits of"


@pytest.mark.long
def test_a_row_must_point_at_what_is_there() -> None:
    assert row(State.TEST, TEST) == row(State.CHECK, REPORT, TEST) == []
    assert row(State.OPEN) == row(State.NOT_APPLICABLE, words="none is offered") == []
    assert row(State.TEST) == row(State.TEST, TEST, REPORT) == ["state test: needs tests, and no check"]
    assert row(State.CHECK, REPORT) == ["state check: needs a check and a test that sees it"]
    assert row(State.NOT_APPLICABLE) == ["state n/a: needs a reason"]
    assert row(State.TEST, TEST + "_not") == [f"there is no test {TEST}_not"]
    assert row(State.CHECK, TEST, "!devmodels/virtio/negotiation.py: dances") == [
        "no reports are devmodels/virtio/negotiation.py: dances"
    ]
    assert row(State.CHECK, TEST, "!devmodels/virtio/negotiation.py: status") == [
        "3 reports are devmodels/virtio/negotiation.py: status"
    ]


def test_tests_and_scripts_are_found_in_their_files() -> None:
    assert "test_tests_and_scripts_are_found_in_their_files" in names_in("tests/unit/test_traceability.py")
    assert exists("tests/scripts/flush.guest.yaml")
    assert not exists("tests/scripts/nothing.guest.yaml")
    assert not exists("tests/unit/test_traceability.py::TABLES")


@pytest.mark.long
@pytest.mark.parametrize("case", ["one", "two, with [brackets]"])
def test_a_pointer_may_be_to_a_case_of_a_test(case: str) -> None:
    test = "tests/unit/test_traceability.py::test_a_pointer_may_be_to_a_case_of_a_test"
    assert row(State.TEST, test) == []
    assert row(State.TEST, f"{test}[{case}]") == []
    assert row(State.TEST, f"{test}[three]") == [f"there is no test {test}[three]"]
    assert row(State.TEST, f"{TEST}[one]") == [f"there is no test {TEST}[one]"]
    assert not cases_in("tests/unit/nothing.py")


def test_a_test_that_is_gone_or_has_another_name_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "def test_a() -> None: ...\n\n\nclass TestB:\n    def test_c(self) -> None: ...\n"
    monkeypatch.setattr("tools.conformance.tests.ROOT", tmp_path)
    for name, text, there in (
        ("a.py", source, (True, True)),
        ("b.py", source.replace("test_a", "test_z"), (False, True)),
        ("c.py", source.replace("TestB", "TestZ"), (True, False)),
        ("d.py", source.replace("    def test_c", "    def helper"), (True, False)),
        ("e.py", 'TEXT = """\n' + source + '"""\n', (False, False)),
        ("f.py", "@pytest.mark.skip\n" + source, (False, True)),
        ("g.py", '@pytest.mark.skipif(True, reason="")\n' + source, (False, True)),
        ("h.py", "@pytest.mark.xfail(strict=True)\n" + source, (False, True)),
        ("i.py", "@pytest.mark.slow\n" + source, (True, True)),
        ("j.py", source.replace("class", "@pytest.mark.skip\nclass"), (True, False)),
        (
            "k.py",
            source.replace(":\n    def", ":\n    pytestmark = pytest.mark.skip\n\n    def"),
            (True, False),
        ),
        ("l.py", "pytestmark = pytest.mark.qemu\n" + source, (True, True)),
        ("m.py", "pytestmark = pytest.mark.skip\n" + source, (False, False)),
        (
            "n.py",
            'pytestmark = [pytest.mark.qemu, pytest.mark.skipif(True, reason="")]\n' + source,
            (False, False),
        ),
        ("o.py", 'pytest.skip("not now", allow_module_level=True)\n' + source, (False, False)),
        (
            "p.py",
            source.replace("test_a() -> None: ...", 'test_a() -> None: pytest.skip("later")'),
            (False, True),
        ),
    ):
        (tmp_path / name).write_text(text)
        assert (exists(f"{name}::test_a"), exists(f"{name}::TestB::test_c")) == there, name


def test_reports_are_found_with_clause_and_words() -> None:
    assert {check.clause for check in matching("!devmodels/virtio/negotiation.py: clears bits of")} == {
        "VIRTIO 1.4 §2.1.1"
    }
    # The clause of a constant of another module, and words that depend on what was wrong.
    assert [check.clause for check in matching("!devmodels/virtio_blk/limits.py: write to a read-only")] == [
        "VIRTIO 1.4 §5.2.6.2"
    ]
    assert [check.clause for check in matching("!devmodels/virtio_blk/limits.py: seg_max is")] == [
        "VIRTIO 1.4 §5.2.3"
    ]
    assert len({(check.file, check.words) for check in checks()}) > 100
