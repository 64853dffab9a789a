"""Files that a user gives to commands of guestsim and of the tools: accesses, reproducers, tables of conformance.

Each is done, or refused with the class of errors that is declared for it, in one line.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory, mkdtemp

from devmodels.options import OptionError
from fuzz.choices import Choices
from fuzz.standin.session import Session
from fuzz.target import Run
from fuzz.targets.parsers import edit, one_line

SEQUENCES = 6
"""Of each device, whose lines are put together anew."""
MOST_LINES = 60


def accesses() -> Run:
    """`guestsim diff FILE`: lines of good files with others between them, played on two machines of ours."""
    from guestsim.diff.access import AccessFileError, lines, parse
    from guestsim.diff.devices import DEVICES, check_of
    from tests.unit.guestsim.diff.machines import with_twin

    good = {
        name: [
            [*lines(name, device.grammar.lower(device.grammar.sequence(Random(seed), 4)))][:MOST_LINES]
            for seed in range(SEQUENCES)
        ]
        for name, device in DEVICES.items()
    }
    words = [
        "0",
        "-1",
        "0x1000000",
        "0x103ffff",
        "0xffffffffffffffff",
        "1",
        "8",
        "3",
        "rest",
        "wait",
        "loose",
        "ram",
    ]
    words += [
        "common+0x14",
        "pci",
        "failed-data",
        "order",
        "good",
        "nowhere+0",
        "00",
        "step",
        "read",
        "write",
    ]

    def run(data: bytes) -> None:
        choices = Choices(data)
        text = list(choices.choice(good[choices.choice(list(good))]))
        while choices.left and text:
            edit(text, words, choices)
        try:
            name, steps = parse("\n".join(text), "f", check_of)
        except AccessFileError as error:
            one_line(error)
            return
        with TemporaryDirectory() as folder, with_twin(Path(folder), DEVICES[name])() as player:
            found = player.play(steps)
            assert found is None, str(found)

    return run


def reproducers() -> Run:
    """`guestsim replay FILE.qtest`: a bug report's text, with a command line, requests, and what is neither."""
    from guestsim.replay.reproducer import reproduce

    path = Path(mkdtemp(), "a.qtest")
    starts = ("", "$ ", "cat << EOF | ./", "| ", "./build/", "'")
    programs = (
        "qemu-system-x86_64 ",
        "qemu-fuzz-i386-target ",
        "devmodels-system-x86_64 -M q35 ",
        "qemu-system-i386",
    )
    options: tuple[str, ...] = (
        "-M q35 -nodefaults ",
        "-machine pc,accel=qtest ",
        "-m 1M ",
        "-display none ",
        "-device ide-hd,drive=d0 ",
    )
    options += (
        "-drive file=null-co://,if=none,format=raw,id=d0 ",
        "-qtest stdio ",
        "2>&1 ",
        "< a ",
        "'",
        '"',
        "\\\n",
        "\0",
    )
    bars = [(False, 0xE000_0000), (True, 0xC000)]

    def run(data: bytes) -> None:
        choices = Choices(data)
        text = choices.choice(starts) + choices.choice(programs)
        text += "".join(choices.choice(options) for _ in range(choices.randrange(6))) + "\n"
        session = Session(choices, bars)
        for _ in range(12):
            if not choices.left:
                break
            line = session.line().decode(errors="replace")
            text += choices.choice(("", "", "> ", "  ")) + line + "\n"
        path.write_text(text)
        try:
            result = reproduce(path)
        except OptionError as error:
            one_line(error)
            return
        assert 0 < result.requests <= text.count("\n")
        assert all(answer.startswith(("FAIL", "ERR")) for _, _, answer in result.refused)

    return run


def tables() -> Run:
    """Tables of what specifications demand, with lines missing, doubled, moved and spoilt."""
    from tools.conformance.table import TABLES, TableError, read, write

    whole = [path.read_text().splitlines()[:MOST_LINES] for path in sorted(TABLES.glob("*.tsv"))]
    words = ["\t", "clause", "document", "part", "test", "check", "n/a", "open", "; ", "!", "::", "-1"]
    path = Path(mkdtemp(), "a.tsv")

    def run(data: bytes) -> None:
        choices = Choices(data)
        text = list(choices.choice(whole))
        while choices.left and text:
            edit(text, words, choices)
        path.write_text("\n".join(text), encoding="utf-8")
        try:
            table = read(path)
        except TableError as error:
            one_line(error)
            return
        if any(clause.rows for clause in table.clauses):
            write(table)
            again = read(path)
            assert [row for _, row in again.rows] == [row for _, row in table.rows], (
                "what is written is not read"
            )

    return run
