"""SCSI hosts in `guestsim show`: commands by the table that units work by, what came of them, units and events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from devmodels.scsi.disk.commands import COMMANDS
from guestsim.blocklog.events import Begin, Losses
from guestsim.blocklog.traces import read_trace
from guestsim.cli import app
from guestsim.forms import CommandForm
from guestsim.show import scsi as words
from guestsim.story import lives
from tests.unit.guestsim.show.test_page import page
from tests.unit.guestsim.show.traces import cd, events_of, scsi


def lines(*arguments: str | Path) -> list[str]:
    result = CliRunner().invoke(app, ["show", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scsi(tmp_path_factory.mktemp("traces") / "scsi.trace")


def test_requests_are_commands_with_what_came_of_them(trace: Path) -> None:
    found = [
        line.split("s0")[1].split("  ", 1)[1].split("0.0  ")[0].split()
        for line in lines(trace, "--requests")[1:]
    ]
    told = [" ".join(each) for each in found]
    assert [text.split(" ", 2)[2] for text in told[:12]] == [
        "TEST UNIT READY of 0:3 6/29/00",
        "INQUIRY page 0x83 of 0:3 GOOD",
        "WRITE (10) 1 block at LBA 8 of 0:3 GOOD",
        "READ (16) 2 blocks at LBA 8 of 0:3 GOOD",
        "READ (10) 1 block at LBA 1048576 of 0:3 5/21/00",
        "MODE SENSE (6) page 0x08 of 0:3 GOOD",
        "INQUIRY of 7:0 BAD_TARGET",
        "LOGICAL UNIT RESET of 0:3 OK",
        "TRANSPORT_RESET of 2:300: RESCAN TRANSPORT_RESET",
    ] + [text.split(" ", 2)[2] for text in told[9:12]]
    assert lines(trace, "--requests")[1].endswith("UNIT ATTENTION 29/00 POWER ON OR RESET")


def test_requests_as_json(trace: Path) -> None:
    first, _, write, *_ = map(json.loads, lines(trace, "--requests", "--json"))
    assert (first["type"], first["status"]) == ("TEST UNIT READY", "UNIT ATTENTION 29/00 POWER ON OR RESET")
    assert (write["type"], write["text"]) == ("WRITE (10)", "WRITE (10) 1 block at LBA 8 of 0:3")
    assert write["steps-ns"].keys() >= {"submitted", "dispatched", "done", "completed"}, "its unit's request"


@pytest.mark.parametrize("disable_modern", [False, True])
def test_events_are_in_words(tmp_path: Path, disable_modern: bool) -> None:
    text = "\n".join(lines(scsi(tmp_path / "a.trace", disable_modern=disable_modern)))
    for part in (
        "scsi-hd on s0 drive=d0 id=u0 scsi-id=0 lun=3; disk d0, 1 MiB",
        "SCSI_F_INOUT|SCSI_F_HOTPLUG|SCSI_F_CHANGE",
        "config.cdb_size = 40",
        "header: lun 0x3400001 0:3, id 3, task_attr 0 SIMPLE, prio 0, crn 0, opcode 42 WRITE (10), lba 8",
        "response: sense_len 18, residual 0, status_qualifier 0, status 2 CHECK CONDITION, response 0 OK, ",
        "sense_key 5 ILLEGAL REQUEST",
        "ILLEGAL REQUEST 21/00 LBA OUT OF RANGE",
        "request: type 0, subtype 5 LOGICAL UNIT RESET, lun 0x3400001 0:3, id 0",
        "event: event 1 TRANSPORT_RESET, lun 0x2c410201 2:300, reason 0x1",
        "u0           request       #",
    ):
        assert part in text, part


def test_a_request_of_a_unit_belongs_to_its_hosts_buffer(trace: Path) -> None:
    numbers = {
        json.loads(line)["request"] for line in lines(trace, "--requests", "--json", "--grep", "WRITE")
    }
    (number,) = numbers
    text = "\n".join(lines(trace, "--request", str(number)))
    assert "u0           dispatch" in text
    assert "s0           used" in text


def test_the_page_has_commands_by_field(trace: Path) -> None:
    shown = page(trace)
    details: list[dict[str, Any]] = shown.details()
    operations = [shown.facts["operations"][int(number)] for number in shown.column("requests", "op")]
    write = operations.index("WRITE")
    assert operations[write - 1] == "INQUIRY"
    header, command, data, response, sense = details[write]["sections"]
    assert (header["layout"], response["layout"], sense["title"]) == (
        "virtio_scsi_req_cmd",
        "virtio_scsi_resp_cmd",
        "sense",
    )
    assert command["length"] == 40
    assert ["lba", 2, 4, "8", ""] in command["fields"]
    assert data["length"] == 512
    statuses = [
        shown.facts["statuses"].get(str(int(code)), "") for code in shown.column("requests", "status")
    ]
    assert statuses[write] == "GOOD"
    failed = [shown.facts["statuses"][str(code)] for code in shown.facts["failures"]]
    assert sorted(failed) == [
        "BAD_TARGET",
        "ILLEGAL REQUEST 21/00 LBA OUT OF RANGE",
        "UNIT ATTENTION 29/00 POWER ON OR RESET",
    ]
    assert [each["name"] for each in shown.facts["devices"]] == ["s0", "u0", "u1"]


def test_a_picture_has_commands_and_the_disks_of_units(trace: Path, tmp_path: Path) -> None:
    picture = tmp_path / "a.json"
    lines(trace, "--perfetto", picture)
    events = json.loads(picture.read_text())["traceEvents"]
    names = {event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert {"s0", "u0"} <= names
    assert {"WRITE (10) 1 block at LBA 8 of 0:3", "WRITE"} <= {event["name"] for event in events}
    (write,) = [event for event in events if event["name"] == "WRITE (10) 1 block at LBA 8 of 0:3"]
    assert write["args"]["status"] == "GOOD"


def test_a_log_of_block_requests_has_those_of_units(trace: Path) -> None:
    losses = Losses()
    begun = [event for event in read_trace(events_of(trace), losses) if isinstance(event, Begin)]
    assert [(each.op.name, each.offset, each.length, each.disk) for each in begun] == [
        ("WRITE", 4096, 512, "u0"),
        ("READ", 4096, 1024, "u0"),
    ]


def test_a_log_is_of_lives(trace: Path) -> None:
    assert all(life.header is None for life in lives(events_of(trace)))


def test_a_drive_has_commands_of_its_own(tmp_path: Path) -> None:
    path = cd(tmp_path)
    asked = [json.loads(line)["text"] for line in lines(path, "--requests", "--json")]
    assert asked == [
        "TEST UNIT READY of 0:3",
        "READ TOC/PMA/ATIP of 0:3",
        "GET EVENT STATUS NOTIFICATION of 0:3",
        "TEST UNIT READY of 0:3",
        "READ CD 1 block at LBA 20 of 0:3",
        "READ SUB-CHANNEL of 0:4",
    ]
    text = "\n".join(lines(path))
    for part in (
        "scsi-cd on s0 drive=d0 id=u0 scsi-id=0 lun=3 load-time=10; disk d0, 1 MiB, read-only",
        "scsi-cd on s0 id=u1 scsi-id=0 lun=4; no disc",
        "opcode 67 READ TOC/PMA/ATIP",
        "tray          the user opens the tray",
        "disc          a disc of 4 tracks, 110 blocks",
        "timer         goes off",
    ):
        assert part in text, part
    assert {"READ CD", "READ SUB-CHANNEL"} <= set(page(path).facts["operations"])


@pytest.mark.parametrize(
    ("text", "told"), [("plain", "a disc of data"), ("{}", "not a disc: Object missing required")]
)
def test_any_disc_has_words(text: str, told: str) -> None:
    assert words.disc_words(text).startswith(told)


def test_every_command_of_the_table_has_its_name() -> None:
    for command in COMMANDS:
        fields = {"opcode": command.opcode} | (
            {} if command.action is None else {"service_action": command.action}
        )
        made = command.layout.pack(**fields)
        assert words.command_name(made) == command.name
        assert words.cdb_words(made).startswith(command.name)
        assert words.cdb_fields(made + bytes(16))[0][:4] == ("opcode", 0, 1, command.opcode)


@given(st.binary(max_size=70))
@example(b"")
@example(b"\x9e")
@example(b"\x72" + bytes(40))
def test_any_bytes_have_words(data: bytes) -> None:
    """Whatever a driver puts where a CDB, a LUN, an event is, or a device where sense data is."""
    for say in (
        words.cdb_words,
        words.control_words,
        words.event_words,
    ):
        assert isinstance(say(data), str)
    for form in (CommandForm(), CommandForm(drives={(0, 0)})):
        assert words.request_words(form, data)
        assert words.operation(form, data)
        form.parts(data, 100, writable=False)
    words.cdb_fields(data)
    words.cdb_fields(data, drive=True)
    words.cdb_words(data, drive=True)
    words.sense_fields(data)
    assert words.lun_words(data[:8].ljust(8, b"\0"))


@given(st.integers(0, (1 << 31) - 1))
def test_any_number_has_words(code: int) -> None:
    assert words.status_words(code)
    assert words.is_failure(code) in (True, False)
