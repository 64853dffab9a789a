"""qemu-io by the monitor: what it prints is what qemu-io prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .support import DISK, NODE, Talk, in_daemon, in_machine

DELAY = {"driver": "delay", "node-name": "f0", "file": "d0", "latency-ns": 10**6}


async def qemu_io(talk: Talk, command: str, node: str = "d0") -> str:
    text = await talk("human-monitor-command", command_line=f'qemu-io {node} "{command}"')
    assert isinstance(text, str), text
    assert "\n" not in text.replace("\r\n", "")
    return re.sub(r"(?<=1 ops; )\S.*", "…", text.replace("\r\n", "\n"))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        out = await qemu_io(talk, "write -P 0x61 4k 1k")
        assert out == "wrote 1024/1024 bytes at offset 4096\n1 KiB, 1 ops; …\n"
        out = await qemu_io(talk, "read -P 0x61 -v 5104 32")
        assert out.startswith("Pattern verification failed at offset 5104, 32 bytes\n000013f0:  61 61 61")
        assert "aaaaaaaaaaaaaaaa\n00001400:  00 00" in out
        assert await qemu_io(talk, "read -q -P 97 -s 512 -l 512 4k 1k") == ""
        assert (
            await qemu_io(talk, "write -z -u 4k 512")
            == "wrote 512/512 bytes at offset 4096\n512 bytes, 1 ops; …\n"
        )
        assert await qemu_io(talk, "read -q -P 0 4k 512") == ""
        assert await qemu_io(talk, "discard 0 4k") == "discard 4096/4096 bytes at offset 0\n4 KiB, 1 ops; …\n"
        assert await qemu_io(talk, "flush") == ""
        assert await qemu_io(talk, "length") == "1 MiB\n"

    in_daemon(tmp_path, story)


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("bogus", 'command "bogus" not found\n'),
        ("read 0", "bad argument count 1 to read, expected 2 arguments\n"),
        ("readv 0", "bad argument count 1 to readv, expected at least 2 arguments\n"),
        ("read x 512", "Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- x\n"),
        ("read -Z 0 5", "read: invalid option -- 'Z'\n"),
        ("write -u 0 512", "-u requires -z to be specified\n"),
        ("write -P 300 0 512", "300 is not a valid pattern byte\n"),
        ("write -z -P 1 0 512", "Only one of -z, -P, and -s can be specified at the same time\n"),
        ("read 1M 512", "read failed: Input/output error\n"),
        ("read 0 8E", "Parsing error: argument too large -- 8E\n"),
        ("read 0 4G", "length cannot exceed 2147483136, given 4G\n"),
        ("readv 0 4G", "Argument '4G' exceeds maximum size 2147483136\n"),
        ("readv 0 1G 1G", "The total number of bytes exceed the maximum size 2147483136\n"),
        ("write 0 4G", "length cannot exceed 2147483136 without -n, given 4G\n"),
        ("write -n -z 0 4G", "write failed: Input/output error\n"),
        ("writev 0 4G", "Argument '4G' exceeds maximum size 2147483136\n"),
        ("aio_read 0 4G", "Argument '4G' exceeds maximum size 2147483136\n"),
        ("sleep 8E", "8E is not a valid number\n"),
        ("write 1M 512", "write failed: Input/output error\n"),
        ("aio_read x 512", "Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- x\n"),
    ],
)
def test_what_cannot_be_done(tmp_path: Path, command: str, text: str) -> None:
    async def story(talk: Talk) -> None:
        assert await qemu_io(talk, command) == text

    in_daemon(tmp_path, story)


def test_what_was_begun_is_told_at_the_flush(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        assert await qemu_io(talk, "aio_write -q -P 1 0 512", "f0") == ""
        assert await qemu_io(talk, "aio_read 0 1k", "f0") == ""
        assert await qemu_io(talk, "aio_flush", "f0") == "read 1024/1024 bytes at offset 0\n1 KiB, 1 ops; …\n"
        assert await qemu_io(talk, "aio_flush", "f0") == ""
        assert not talk.world.graph["f0"].parents

    in_daemon(tmp_path, story, nodes=[NODE, DELAY])


def test_break_points_hold_a_request_until_it_is_resumed(tmp_path: Path) -> None:
    blkdebug = {"driver": "blkdebug", "node-name": "b0", "image": "d0"}
    raw = {"driver": "raw", "node-name": "r0", "file": "b0"}

    async def story(talk: Talk) -> None:
        assert await qemu_io(talk, "break write_aio A", "r0") == ""
        assert await qemu_io(talk, "aio_write -P 5 0 512", "r0") == ""
        assert await qemu_io(talk, "wait_break A", "r0") == ""
        assert await qemu_io(talk, "read -q -P 0 0 512", "r0") == "", "it is not written yet"
        assert await qemu_io(talk, "resume A", "r0") == ""
        assert "wrote 512/512 bytes" in await qemu_io(talk, "aio_flush", "r0")
        assert await qemu_io(talk, "read -q -P 5 0 512", "r0") == ""
        assert await qemu_io(talk, "break a") == "bad argument count 1 to break, expected 2 arguments\n"
        assert await qemu_io(talk, "resume A") == "Could not resume request: Operation not supported\n"

    in_daemon(tmp_path, story, nodes=[NODE, blkdebug, raw])


def test_a_node_that_a_device_writes_is_written_by_the_device_only(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        assert "needs 'write' on node 'd0'" in await qemu_io(talk, "write 0 512")
        assert await qemu_io(talk, "read -q 0 512") == ""
        assert await qemu_io(talk, "write -q -P 1 0 512", "-d v0") == ""
        assert talk.world.find("v0").backend.stats.wr_operations == 1
        await talk("stop")
        assert "the machine is stopped" in await qemu_io(talk, "write -q 0 512", "-d v0")

    in_machine(tmp_path, story)


def test_other_lines(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        async def line(text: str) -> str:
            return str(await talk("human-monitor-command", command_line=text))

        assert await line("bogus") == "unknown command: 'bogus'\r\n"
        assert await line("") == ""
        assert await line('qemu-io no "read 0 512"') == "Error: Cannot find device='' nor node-name='no'\r\n"
        assert await line('qemu-io d0 "read 0 512') == "Error: No closing quotation\r\n"
        assert await line('qemu-io -d no "length"') == "Error: Device 'no' not found\r\n"
        assert (await line("qemu-io d0")).startswith("Error: expected qemu-io [-d] NODE")

    in_daemon(tmp_path, story)


def test_an_error_is_told_whatever_the_devices_policy(tmp_path: Path) -> None:
    """Else the answer would wait for `cont`, which the client cannot send before it."""
    rule = {"event": "pwritev", "errno": 5}
    blkdebug = {"driver": "blkdebug", "node-name": "b0", "image": "d0", "inject-error": [rule]}

    async def story(talk: Talk) -> None:
        assert await qemu_io(talk, "write 0 512", "-d v0") == "write failed: Input/output error\n"
        assert (await talk("query-status"))["running"]
        assert await talk.events() == []
        (disk,) = await talk("query-block")
        assert disk["io-status"] == "ok"

    devices = [{**DISK, "drive": "b0", "werror": "stop"}]
    in_machine(tmp_path, story, nodes=[NODE, blkdebug], devices=devices)


def test_memory_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_given: object) -> bytearray:
        raise MemoryError

    async def story(talk: Talk) -> None:
        monkeypatch.setattr("devmodels.monitor.qemuio.bytearray", none, raising=False)
        assert await qemu_io(talk, "read 0 512") == "read failed: Cannot allocate memory\n"
        assert await qemu_io(talk, "aio_write 0 512") == ""
        assert await qemu_io(talk, "aio_flush") == "aio_write failed: Cannot allocate memory\n"

    in_daemon(tmp_path, story)
