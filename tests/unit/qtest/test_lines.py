"""Lines of options, taken and refused as by QEMU, which `tests/qemu/test_standin_lines.py` asks."""

from __future__ import annotations

import pytest

from devmodels.blockbackend.options import BlockOptionError
from devmodels.options import OptionError
from devmodels.qtest.numbers import size, whole
from tests.unit.qtest.bench import machine
from tests.unit.qtest.lines import REFUSED, TAKEN

BOARD = ("-M", "pc", "-nodefaults", "-m", "1M")


@pytest.mark.parametrize("line", TAKEN)
def test_what_is_taken(line: str) -> None:
    with machine(*BOARD, *line.split()):
        pass


@pytest.mark.parametrize("line", REFUSED)
def test_what_is_refused(line: str) -> None:
    with pytest.raises((OptionError, BlockOptionError)) as caught, machine(*BOARD, *line.split()):
        pass
    assert str(caught.value).endswith(REFUSED[line])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("0", 0), ("12", 12), ("0x1F", 31), ("0X1f", 31), ("017", 15), ("-3", -3), ("+0x10", 16)),
        *((text, None) for text in ("", "1k", "09", "0x", "1.0", " 1", "--1", "1_0")),
    ],
)
def test_whole_numbers(text: str, number: int | None) -> None:
    assert whole(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(
            ("0", 0),
            ("010", 10),
            ("0x10", 16),
            ("1k", 1024),
            ("1K", 1024),
            ("1.5M", 3 << 19),
            ("1.23k", 1259),
        ),
        *(("512B", 512), ("2e", 2 << 60), ("1.0", 1), ("+1", 1)),
        *((text, None) for text in ("", "k", ".5k", "1.5", "1.5B", "1Mi", "1kB", "-1", "0x1.8k", "1.k")),
    ],
)
def test_sizes(text: str, number: int | None) -> None:
    assert size(text) == number


def test_limits_of_a_group_are_called_otherwise_on_a_line() -> None:
    with machine(*BOARD, *["-object", "throttle-group,id=g,x-bps-total=5,x-iops-total=0x10"]) as client:
        limits = client.board.assembly.graph.throttle_group("g").limits
        assert (limits.bps_total, limits.iops_total) == (5, 16)


@pytest.mark.parametrize(("given", "held"), [("1000001k", 1024008192), ("0", 128 << 20), ("3", 3 << 20)])
def test_ram_is_rounded_up(given: str, held: int) -> None:
    with machine("-M", "pc", "-nodefaults", "-m", given) as client:
        assert client.board.ram == held


def test_drives_that_the_board_has_nothing_for_are_drives_still() -> None:
    with machine(*BOARD, "-fdb", "null-co://", "-pflash", "null-co://") as client:
        assert [*client.assembling.drives] == ["floppy1", "pflash0"]
        assert {backend.name for backend in client.board.assembly.drives.values()} == set()
