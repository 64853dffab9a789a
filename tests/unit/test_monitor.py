"""The monitor of `devmodels serve`, spoken to by the client library that QEMU's own tools use, and by hand."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qemu.qmp import ExecuteError, QMPClient

from devmodels.cli.serve import Server
from devmodels.monitor.channel import Splitter
from devmodels.options import OptionError
from devmodels.singlequotes import double_quoted
from tests.unit.test_cli_serve import connect, daemon

MIB = 1 << 20
CHARDEV = "socket,id=c0,path={path},server=on,wait=off"


class Client:
    """A client by hand: lines out, lines in, with the server's context run in between."""

    def __init__(self, server: Server, path: Path) -> None:
        self._server = server
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.socket.setblocking(False)
        self._data = b""

    def put(self, data: bytes) -> None:
        self.socket.sendall(data)
        self._server.context.run_until_idle()

    def line(self) -> dict[str, Any] | None:
        """The next answer; None where there is none yet."""
        self._server.context.run_until_idle()
        with suppress(BlockingIOError):
            self._data += self.socket.recv(1 << 16)
        line, found, rest = self._data.partition(b"\n")
        if not found:
            return None
        self._data = rest
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, **request: object) -> dict[str, Any]:
        self.put(json.dumps(request).encode() + b"\n")
        answer = self.line()
        assert answer is not None
        return answer


@contextmanager
def monitored(folder: Path, *blockdevs: str) -> Iterator[tuple[Server, Client]]:
    """A daemon with a monitor, and a client that has read the greeting and negotiated."""
    path = folder / "qmp.sock"
    with Server(poll_max_ns=0, strict=False) as server:
        for blockdev in blockdevs:
            server.add_blockdev(blockdev)
        server.add_chardev(CHARDEV.format(path=path))
        server.add_monitor("chardev=c0")
        client = Client(server, path)
        try:
            assert "QMP" in (client.line() or {})
            assert client.ask(execute="qmp_capabilities") == {"return": {}}
            yield server, client
        finally:
            client.socket.close()
            server.context.run_until_idle()


MEMORY = "driver=memory,size=1M,node-name=d0"


def test_greeting_says_what_speaks(tmp_path: Path) -> None:
    with Server(poll_max_ns=0, strict=False) as server:
        server.add_chardev(CHARDEV.format(path=tmp_path / "qmp.sock"))
        server.add_monitor("c0")
        client = Client(server, tmp_path / "qmp.sock")
        greeting = client.line()
        assert greeting is not None
        assert set(greeting["QMP"]["version"]["qemu"]) == {"major", "minor", "micro"}
        assert greeting["QMP"]["version"]["package"] == "devmodels"
        refused = client.ask(execute="query-version")
        assert refused["error"]["class"] == "CommandNotFound"
        client.socket.close()


def test_commands_are_told(tmp_path: Path) -> None:
    with monitored(tmp_path) as (_, client):
        names = {each["name"] for each in client.ask(execute="query-commands")["return"]}
        assert names >= {"block_resize", "quit", "query-version"}


def test_an_answer_has_the_id_of_its_command(tmp_path: Path) -> None:
    with monitored(tmp_path) as (_, client):
        assert client.ask(execute="query-version", id=[1, "x"])["id"] == [1, "x"]
        assert client.ask(execute="no-such", id=7)["id"] == 7


@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"", b" \n\n"])
def test_commands_in_one_piece_are_answered_in_order(tmp_path: Path, end: bytes) -> None:
    with monitored(tmp_path) as (_, client):
        client.put(b"".join(b'{"execute": "query-version", "id": %d}%s' % (n, end) for n in range(50)))
        assert [(client.line() or {})["id"] for _ in range(50)] == list(range(50))


@pytest.mark.parametrize(
    ("line", "kind", "text"),
    [
        (b"nonsense", "GenericError", "JSON parse error"),
        (b"[1]", "GenericError", "JSON parse error"),
        (b"{}", "GenericError", "lacks member 'execute'"),
        (b'{"execute": 7}', "GenericError", "lacks member 'execute'"),
        (b'{"execute": "no-such"}', "CommandNotFound", "no-such"),
        (b'{"execute": "quit", "arguments": []}', "GenericError", "must be an object"),
        (b'{"execute": "quit", "control": 1}', "GenericError", "'control' is unexpected"),
        (b'{"execute": "quit", "arguments": {"now": true}}', "GenericError", "Parameter 'now' is unexpected"),
        (b'{"execute": "block_resize", "arguments": {"size": 1}}', "GenericError", "Cannot find device=''"),
        (b"\xff\xfe", "GenericError", "JSON parse error"),
        (b'{"execute": ' + b"[" * 9999 + b"]" * 9999 + b"}", "GenericError", "JSON parse error"),
    ],
)
def test_what_is_no_command_is_an_error_of_one_line(
    tmp_path: Path, line: bytes, kind: str, text: str
) -> None:
    with monitored(tmp_path) as (server, client):
        client.put(line + b"\n")
        answer = client.line()
        assert answer is not None
        assert answer["error"]["class"] == kind
        assert text in answer["error"]["desc"]
        assert "\n" not in answer["error"]["desc"]
        assert "return" in client.ask(execute="query-version")
        assert not server.stopping


@pytest.mark.long
def test_line_without_end_ends_the_connection_and_the_next_client_is_served(tmp_path: Path) -> None:
    with monitored(tmp_path) as (server, client):
        for _ in range(20):
            try:
                client.put(b"x" * (MIB // 8))
            except (BrokenPipeError, BlockingIOError):
                server.context.run_until_idle()
        following = Client(server, tmp_path / "qmp.sock")
        assert "QMP" in (following.line() or {})
        following.socket.close()


def test_client_that_goes_leaves_nothing(tmp_path: Path) -> None:
    with monitored(tmp_path) as (server, client):
        before = len(os.listdir("/proc/self/fd"))
        client.socket.close()
        server.context.run_until_idle()
        assert len(os.listdir("/proc/self/fd")) == before - 2


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.long
@given(st.lists(st.dictionaries(st.text(), values, max_size=3)), st.data())
def test_stream_is_cut_into_its_objects_however_it_arrives(
    objects: list[dict[str, object]], data: st.DataObject
) -> None:
    ends = [data.draw(st.sampled_from(["", "\n", " ", "\r\n"])) for _ in objects]
    stream = "".join(json.dumps(each) + end for each, end in zip(objects, ends, strict=True)).encode()
    splitter = Splitter()
    found = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        splitter.feed(stream[:size])
        stream = stream[size:]
        while (piece := splitter.next()) is not None:
            found.append(json.loads(piece))
    assert found == objects


def in_single_quotes(text: str) -> str:
    """A JSON text with its strings in single quotes."""

    def turned(found: re.Match[str]) -> str:
        inner = found[1].replace('\\"', '"').replace("'", "\\'")
        return f"'{inner}'"

    return re.sub(r'"((?:[^"\\]|\\.)*)"', turned, text)


@given(st.dictionaries(st.text(), values, max_size=3))
def test_strings_may_be_in_single_quotes(thing: dict[str, object]) -> None:
    text = in_single_quotes(json.dumps(thing)).encode()
    assert json.loads(double_quoted(text)) == thing
    assert json.loads(double_quoted(json.dumps(thing).encode())) == thing
    splitter = Splitter()
    splitter.feed(text + b"{}")
    assert (splitter.next(), splitter.next()) == (text, b"{}")


def test_a_command_in_single_quotes_is_done(tmp_path: Path) -> None:
    with monitored(tmp_path) as (_, client):
        client.put(b"{'execute': 'query-version', 'id': 'a\"}'}\n")
        answer = client.line()
        assert answer is not None
        assert answer["id"] == 'a"}'
        assert "return" in answer


# --- commands


def resize(client: Client, node: str, size: int) -> dict[str, Any]:
    return client.ask(execute="block_resize", arguments={"node-name": node, "size": size})


def test_node_is_resized(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(MIB))
    with monitored(tmp_path, f"driver=file,filename={image},node-name=d0,aio=sync") as (_, client):
        assert resize(client, "d0", 3 * MIB) == {"return": {}}
        assert image.stat().st_size == 3 * MIB
        assert resize(client, "d0", MIB) == {"return": {}}
        assert image.stat().st_size == MIB


@pytest.mark.parametrize(
    ("blockdev", "node", "size", "text"),
    [
        (MEMORY, "d7", MIB, "Cannot find device='' nor node-name='d7'"),
        (MEMORY, "d0", 1000, "expected a multiple of 512"),
        (MEMORY, "d0", -512, "Parameter 'size' expects a >0 size"),
        (f"{MEMORY},read-only=on", "d0", MIB, "read-only"),
    ],
)
def test_resize_that_cannot_be_says_why(
    tmp_path: Path, blockdev: str, node: str, size: int, text: str
) -> None:
    with monitored(tmp_path, blockdev) as (_, client):
        assert text in resize(client, node, size)["error"]["desc"]


def test_image_that_somebody_else_uses_is_not_resized(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(MIB))
    node = f"driver=file,filename={image},aio=sync,node-name="
    with monitored(tmp_path, f"{node}d0,active=on", f"{node}d1") as (_, client):
        assert "in use elsewhere" in resize(client, "d1", 2 * MIB)["error"]["desc"]
        assert image.stat().st_size == MIB


@pytest.mark.long
def test_qemus_client_resizes_and_quits(tmp_path: Path) -> None:
    path = tmp_path / "qmp.sock"
    more = ["--chardev", CHARDEV.format(path=path), "--monitor", "chardev=c0"]

    async def talk() -> None:
        client = QMPClient("test")
        await client.connect(str(path))
        await client.execute("block_resize", {"node-name": "d0", "size": 2 * MIB})
        with pytest.raises(ExecuteError, match="nor node-name='no'"):
            await client.execute("block_resize", {"node-name": "no", "size": MIB})
        await client.execute("quit")
        with suppress(EOFError):  # it has gone
            await client.disconnect()

    with daemon(tmp_path, *more) as process:
        while not path.exists():
            assert process.poll() is None
        connect(path).close()
        asyncio.run(talk())
        assert process.wait(10) == 0
    assert not path.exists()


def test_a_client_that_does_not_read_is_not_told_of_errors_without_end(tmp_path: Path) -> None:
    """What a guest on a broken disk causes takes no more memory than this; that it was stopped is always told."""
    error = {"device": "e0", "action": "report", "reason": "x" * 1000}
    with monitored(tmp_path) as (server, client):
        for _ in range(5000):
            server.events.emit("BLOCK_IO_ERROR", error)
        server.events.emit("BLOCK_IO_ERROR", {**error, "action": "stop"})
        server.run_state.stop("io-error")
        events = []
        while (event := client.line()) is not None:
            events.append((event["event"], event.get("data", {}).get("action")))
    assert 10 < len(events) < 1000
    assert events[-2:] == [("BLOCK_IO_ERROR", "stop"), ("STOP", None)]


def test_a_daemon_with_nothing_but_a_monitor_gets_all_by_it(tmp_path: Path) -> None:
    path = tmp_path / "vu.sock"
    with monitored(tmp_path) as (_, client):
        node = {"driver": "memory", "size": MIB, "node-name": "d0"}
        assert client.ask(execute="blockdev-add", arguments=node) == {"return": {}}
        address = {"type": "unix", "path": str(path)}
        export = {"type": "vhost-user-blk", "id": "e0", "node-name": "d0", "addr": address}
        assert client.ask(execute="block-export-add", arguments=export) == {"return": {}}
        connect(path).close()
    assert not path.exists()


# --- options


@pytest.mark.parametrize(
    ("chardev", "monitor", "line"),
    [
        ("pipe,id=c0,path=x", "c0", '--chardev "c0": backend: "pipe" is given; expected "socket"'),
        ("socket,path=x,server=on,wait=off", "c0", "--chardev: id: missing; expected a string"),
        ("socket,id=c0,path=x", "c0", '--chardev "c0": server=on,wait=off are the only ones there are'),
        (CHARDEV, "c1", '--monitor: chardev: "c1" is given; expected "c0"'),
        (CHARDEV, "c0,mode=readline", '--monitor: mode: "readline" is given; expected "control"'),
        (
            "socket,id=c0,path=/no/where,server=on,wait=off",
            "c0",
            "--chardev \"c0\": path: cannot listen at '/no/where': No such file or directory",
        ),
    ],
)
def test_wrong_options(tmp_path: Path, chardev: str, monitor: str, line: str) -> None:
    def start(server: Server) -> None:
        server.add_chardev(chardev.format(path=tmp_path / "qmp.sock"))
        server.add_monitor(monitor)

    with Server(poll_max_ns=0, strict=False) as server, pytest.raises(OptionError) as caught:
        start(server)
    assert str(caught.value) == line
