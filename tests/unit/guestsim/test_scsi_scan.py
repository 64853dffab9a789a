"""The initiator's scan of targets that answer as they like: an error that says so, or an end; never anything else."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guestsim.drivers.cdb import Cdb
from guestsim.drivers.scsi import ScsiError, Sense, parse_sense, scan

ABSENT = bytes((0x7F,)) + bytes(35)
DISK = bytes((0, 0, 6, 2, 31, 0, 0, 0)) + b"DEVMODELDISK            1.0 "
LIST = bytes((0, 0, 0, 8)) + bytes(12)


@dataclass
class Answer:
    """As a port gives it."""

    data: bytes = b""
    status: int = 0
    sense: Sense | None = None
    delivered: bool = True


@dataclass
class Port:
    """Answers by operation code, the last one again and again."""

    answers: dict[int, list[Answer]]
    asked: list[bytes] = field(default_factory=list)

    async def send(self, target: int, lun: int, command: Cdb, data: bytes = b"") -> Answer:
        del target, lun, data
        self.asked.append(command.data)
        assert len(self.asked) < 1000, "it never ends"
        given_ = self.answers.get(command.data[0], [Answer()])
        answer = given_.pop(0) if len(given_) > 1 else given_[0]
        return Answer(answer.data[: command.room], answer.status, answer.sense, answer.delivered)


def found(**answers: Answer | list[Answer]) -> list[str]:
    """What a scan of one target finds; the answers by "c" and the operation code."""
    usual: dict[int, list[Answer]] = {
        0x12: [Answer(DISK)],
        0xA0: [Answer(LIST)],
        0x25: [Answer(bytes((0, 0, 0, 7, 0, 0, 2, 0)))],
    }
    usual |= {
        int(name[1:], 16): value if isinstance(value, list) else [value] for name, value in answers.items()
    }
    return [str(unit) for unit in asyncio.run(scan(Port(usual), [0]))]


def test_a_disk() -> None:
    inquiries = [
        Answer(DISK),
        Answer(DISK),
        Answer(bytes((0, 0, 0, 1, 0x80))),
        Answer(bytes((0, 0x80, 0, 0))),
    ]
    assert found(c12=inquiries) == ["0:0 DEVMODEL DISK, 8 blocks of 512"]


def test_where_nothing_is() -> None:
    assert found(c12=Answer(delivered=False)) == []
    assert found(c12=Answer(ABSENT)) == []


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        ({"ca0": Answer(b"\xff\xff\xff\xff" + bytes(12))}, "REPORT LUNS of target 0 says 4294967303 bytes"),
        ({"ca0": Answer(bytes(7))}, "returned 7 bytes, expected 8"),
        ({"c12": Answer(DISK[:35])}, "returned 35 bytes, expected 36"),
        ({"c25": Answer(bytes(7))}, "returned 7 bytes, expected 8"),
        ({"c25": Answer(b"\xff" * 8), "c9e": Answer(bytes(11))}, "returned 11 bytes, expected 12"),
        ({"c00": Answer(status=2, sense=Sense(6, 0x29, 0))}, "more than 16 unit attention conditions"),
        ({"c00": Answer(status=2, sense=Sense(2, 4, 1))}, "is not ready"),
        ({"c00": Answer(status=8)}, "is not ready"),
    ],
)
def test_what_cannot_be_is_said(answers: dict[str, Answer], text: str) -> None:
    with pytest.raises(ScsiError, match=text):
        found(**answers)


replies = st.builds(
    Answer,
    st.binary(max_size=64) | st.sampled_from((DISK, LIST, ABSENT)),
    st.sampled_from((0, 0, 0, 2, 8, 0x18)),
    st.none() | st.builds(Sense, st.integers(0, 15), st.integers(0, 255), st.integers(0, 255)),
    st.sampled_from((True, True, True, False)),
)


@given(st.dictionaries(st.sampled_from(("c00", "c12", "ca0", "c25", "c9e")), st.lists(replies, min_size=1)))
def test_any_answers(answers: dict[str, list[Answer]]) -> None:
    try:
        found(**answers)
    except ScsiError:
        return


@given(st.binary(max_size=300))
def test_any_sense_data(data: bytes) -> None:
    sense = parse_sense(data)
    assert sense is None or sense.key <= 15
