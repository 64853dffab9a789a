"""Hosts of ATA devices in `guestsim show`: registers, structures in memory, FISes, commands and how they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from devmodels.ata.taskfile import TaskFile
from guestsim.cli import app
from guestsim.drivers import ata
from guestsim.show import ata as words
from tests.unit.recording.atastory import AhciStory, IdeStory


def lines(*arguments: str | Path) -> list[str]:
    result = CliRunner().invoke(app, ["show", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def said(*arguments: str | Path) -> list[str]:
    """Without number, time, source and kind."""
    return [line.split(maxsplit=4)[-1] for line in lines(*arguments)]


@pytest.fixture(scope="module")
def ahci(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two commands at once, one beyond the end, a packet by PIO."""
    path = tmp_path_factory.mktemp("show") / "ahci.trace"
    story = AhciStory(path)
    story.send(0, [ata.write_queued(64, b"a" * 512), ata.read_queued(8, 2)])
    story.settle()
    story.send(0, [ata.read_dma_ext(1 << 30, 1)])
    story.settle()
    story.send(1, [ata.AtaCommand(0xA0, packet=bytes(12))])
    story.settle()
    story.close()
    return path


@pytest.fixture(scope="module")
def ide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A read by DMA, a packet."""
    path = tmp_path_factory.mktemp("show") / "ide.trace"
    story = IdeStory(path, native=True)
    story.transfer(100, 3, dma=True, out=False)
    story.packet(2, 1, 2048, dma=False)
    story.close()
    return path


def test_a_queued_command_from_its_header_to_its_end(ahci: Path) -> None:
    told = [line for line in said(ahci) if "port0" in line or line.startswith("queue")]
    begin = next(at for at, line in enumerate(told) if "WRITE FPDMA QUEUED 1 sector at LBA 64 tag" in line)
    told = told[begin - 1 : begin + 20]
    slot = told[0].split()[3]
    assert told[0].startswith(f"sata0 port0 slot {slot} header: 5 dwords WRITE")
    assert told[1] == f"sata0 port0 slot {slot} FIS: WRITE FPDMA QUEUED 1 sector at LBA 64 tag {slot}"
    assert told[2].startswith(f"sata0 port0 slot {slot} PRD 0: 0x")
    assert told[2].endswith("+512")
    text = "\n".join(told)
    assert f"sata0 port0 received FIS: DMA Setup, tag {slot}, 512 bytes to the device" in text
    assert f"sata0 port0 slot {slot} data 0 to 512 of WRITE FPDMA QUEUED 1 sector at LBA 64" in text
    assert "sata0 port0 received FIS: Set Device Bits, tags " in text


def test_an_error_and_a_sense_key(ahci: Path) -> None:
    told = said(ahci)
    assert any("received FIS: Register, DRDY|DSC|ERR error IDNF at LBA 1073741824" in line for line in told)
    assert any("port1 slot" in line and line.endswith("packet: TEST UNIT READY") for line in told)
    assert any(
        "port1 received FIS: Register, DRDY|DSC|ERR error sense key 6 UNIT ATTENTION" in line for line in told
    )
    assert any(line.startswith("sata0 port1.tfd = 0x6051 DRDY|DSC|ERR error sense key 6") for line in told)


def test_registers_are_called_as_the_specification_calls_them(ahci: Path) -> None:
    told = lines(ahci, "--register", "port0.*")
    assert any("sata0 port0.ci = " in line and " slots " in line for line in told)
    assert any("sata0 port0.is = " in line and "sdbs" in line for line in told)
    assert any("sata0 port0.cmd = " in line and "st|sud|pod|fre" in line for line in told)
    assert any("sata0 port0.ssts = 0x133 det=0x3|spd=0x3|ipm=0x1" in line for line in told)
    assert not any("port1" in line for line in told)
    assert all("+" not in line.split("sata0", 1)[-1] for line in lines(ahci, "--kind", "access-*"))


def test_everything_in_memory_has_a_name(ahci: Path, ide: Path) -> None:
    assert all("sata0 port" in line for line in lines(ahci, "--kind", "dma-*"))
    assert all("ide0 ide0" in line for line in lines(ide, "--kind", "dma-*"))


def test_fields_of_a_fis_as_json(ahci: Path) -> None:
    events = [json.loads(line) for line in lines(ahci, "--json", "--grep", "Set Device Bits")]
    fields = {field["name"]: field["meaning"] for field in events[0]["fields"]}
    assert fields.keys() == {"type", "flags", "status", "error", "sactive"}
    assert fields["type"] == "SET_DEVICE_BITS"


def test_a_channels_commands_and_packets(ide: Path) -> None:
    told = said(ide)
    assert "ide0 ide0.command = 0xc8 READ DMA 3 sectors at LBA 100, device 0" in told
    assert "ide0 ide0.command = 0xa0 PACKET, device 1" in told
    assert any(line.endswith("PACKET READ (10) 1 block at LBA 2") for line in told if "ide0.data = " in line)
    assert any(line.startswith("ide0 ide0 region 0: 0x") and line.endswith(" last") for line in told)
    assert any(line.startswith("ide0 ide0 data 0 to ") and " of READ DMA 3 sectors" in line for line in told)
    assert any(line.startswith("ide0 bm0.status = ") for line in told)
    assert any(line == "ide0 ide0.status = 0x50 DRDY|DSC" for line in told)
    assert any(
        line.startswith("ide0 ide0.error = ") and "sense key 6 UNIT ATTENTION" in line for line in told
    )


def rows(trace: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in lines(trace, "--requests", "--json")]


def test_commands_of_an_hba_and_how_they_ended(ahci: Path) -> None:
    told = {str(row["text"]): row for row in rows(ahci)}
    write = next(
        row for text, row in told.items() if text.startswith("WRITE FPDMA QUEUED 1 sector at LBA 64")
    )
    assert (write["device"], write["queue"], write["status"]) == ("sata0", 0, "ok")
    assert told["READ DMA EXT 1 sector at LBA 1073741824"]["status"] == "IDNF"
    assert told["PACKET TEST UNIT READY"]["status"] == "sense key 6 UNIT ATTENTION"
    assert told["PACKET TEST UNIT READY"]["queue"] == 1
    assert len({row["request"] for row in rows(ahci)}) == len(rows(ahci))


def test_commands_of_a_channel_and_how_they_ended(ide: Path) -> None:
    told = {str(row["text"]): row for row in rows(ide)}
    read, packet = told["READ DMA 3 sectors at LBA 100"], told["PACKET READ (10) 1 block at LBA 2"]
    assert (read["queue"], read["head"], read["status"]) == (0, 0, "ok")
    assert (packet["queue"], packet["head"]) == (0, 1)


def test_a_command_that_was_dropped_and_one_that_is_not_over(tmp_path: Path) -> None:
    story = AhciStory(tmp_path / "a.trace", latency_ns=1000)
    story.send(0, [ata.read_queued(0, 8)])
    story.turn()
    story.comreset(0)
    story.settle()
    story.send(0, [ata.read_queued(8, 8)])
    story.turn()
    story.close()
    first, second = (row for row in rows(tmp_path / "a.trace") if "QUEUED" in str(row["text"]))
    assert (first["status"], second["status"]) == ("dropped", "not over")
    assert first["latency-ns"] is None


def test_lines_of_commands(ahci: Path) -> None:
    (line,) = lines(ahci, "--requests", "--grep", "TEST UNIT READY")[1:]
    assert line.split()[2:9] == ["sata0", "1", "0", "PACKET", "TEST", "UNIT", "READY"]
    assert "key 6" in line
    assert line.endswith("UNIT ATTENTION")


@pytest.mark.parametrize(
    ("taskfile", "text"),
    [
        (TaskFile(0x25, count=0, lba=1 << 40), f"READ DMA EXT 65536 sectors at LBA {1 << 40}"),
        (TaskFile(0xC8, count=0, lba=7, device=0x41), f"READ DMA 256 sectors at LBA {(1 << 24) + 7}"),
        (
            TaskFile(0x20, count=1, lba=0x000201, device=3),
            "READ SECTOR(S) 1 sector at cylinder 2 head 3 sector 1",
        ),
        (TaskFile(0x60, features=8, count=3 << 3, lba=9), "READ FPDMA QUEUED 8 sectors at LBA 9 tag 3"),
        (TaskFile(0x2F, count=1, lba=0x10), "READ LOG EXT log 0x10"),
        (TaskFile(0xEC), "IDENTIFY DEVICE"),
        (TaskFile(0xF4), "SECURITY ERASE UNIT"),
        (TaskFile(0x02), "command 0x02"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_commands_in_words(taskfile: TaskFile, text: str) -> None:
    assert words.command_words(taskfile) == text


@given(st.binary(max_size=24))
def test_no_bytes_do_harm(data: bytes) -> None:
    assert words.h2d_words(data)
