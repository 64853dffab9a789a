"""Nothing that a client sends ends the server, or leaves it unable to answer."""

from __future__ import annotations

import json
import logging
import os
import resource
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devmodels.acceptor import RETRY_NS
from devmodels.assembly import assemble
from devmodels.monitor.command import Options
from devmodels.monitor.server import MonitorServer
from devmodels.monitor.table import commands
from devmodels.monitor.world import World

from .support import DISK, MIB, NODE

HELLO = b'{"execute": "qmp_capabilities"}\n'
MARK = b'\n{"execute": "query-version", "id": "mark"}\n'


@contextmanager
def client() -> Iterator[tuple[World, socket.socket]]:
    with (
        tempfile.TemporaryDirectory() as folder,
        assemble(blockdevs=[NODE], devices=[DISK], ram=MIB) as assembly,
        socket.socket(socket.AF_UNIX) as sock,
    ):
        world = World.of(assembly)
        monitor = MonitorServer(str(Path(folder) / "qmp.sock"), world)
        sock.connect(monitor.path)
        sock.sendall(HELLO)
        yield world, sock
        assembly.context.run_until_idle()
        monitor.close()
        world.exports.close()
        assembly.context.run_until_idle()


def exchange(world: World, sock: socket.socket, data: bytes) -> list[dict[str, Any]]:
    """Send, and read all that comes."""
    sock.sendall(data)
    world.context.run_until_idle()
    sock.setblocking(False)
    got = b""
    while True:
        try:
            part = sock.recv(1 << 20)
        except BlockingIOError:
            break
        if not part:
            break
        got += part
        world.context.run_until_idle()
    return [json.loads(line) for line in got.splitlines()]


def judge(answers: list[dict[str, Any]]) -> None:
    for answer in answers:
        assert {"return", "error", "QMP", "event"} & set(answer)
        if "error" in answer:
            assert set(answer["error"]) == {"class", "desc"}
            assert "\n" not in answer["error"]["desc"]


@given(
    st.lists(st.binary(max_size=60) | st.sampled_from([b"{", b"}", b'"', b"\\", b"\n", b"[", b'{"execute":']))
)
@settings(max_examples=10)
def test_any_bytes(pieces: list[bytes]) -> None:
    with client() as (world, sock):
        answers = exchange(world, sock, b"".join(pieces) + MARK)
        judge(answers)
        # An open brace swallows what follows; the next client is served all the same.
        if answers[-1].get("id") != "mark":
            sock.shutdown(socket.SHUT_WR)
            world.context.run_until_idle()


leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(
        ["d0", "v0", "/", "/objects", "e0", "raw", "memory", "throttle-group", "virtio-blk-pci"]
    )
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)
NOT_HERE = {"quit", "query-qmp-schema"}


def members(kind: type[msgspec.Struct] | Options) -> list[str]:
    base = [kind] if not isinstance(kind, Options) else [kind.base, *kind.variants().values()]
    return sorted({field.encode_name for each in base for field in msgspec.structs.fields(each)})


with assemble(ram=MIB) as _assembly:
    TABLE = {name: members(each.arguments) for name, each in commands(World.of(_assembly)).items()}


@st.composite
def requests(draw: st.DrawFn) -> dict[str, object]:
    name = draw(st.sampled_from(sorted(set(TABLE) - NOT_HERE)))
    keys = st.sampled_from(TABLE[name]) if TABLE[name] else st.nothing()
    arguments = draw(st.dictionaries(keys | st.text(max_size=6), values, max_size=5))
    if name == "human-monitor-command" and draw(st.booleans()):
        arguments = {"command-line": "qemu-io d0 " + draw(st.text(max_size=20))}
    arguments.pop("filename", None)
    return {"execute": name, "arguments": arguments}


@pytest.mark.long
@given(st.lists(requests(), min_size=1, max_size=6))
@settings(max_examples=10, deadline=None)
def test_any_command_with_any_arguments(many: list[dict[str, object]]) -> None:
    attempt(many)


def attempt(many: list[dict[str, object]]) -> None:
    """Every command is answered, and none ends with an error that nobody expected."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign, assignment]
    logger = logging.getLogger("devmodels.monitor")
    logger.addHandler(handler)
    try:
        with client() as (world, sock):
            answers = exchange(world, sock, b"".join(json.dumps(each).encode() for each in many) + MARK)
            judge(answers)
            assert answers[-1]["id"] == "mark"
    finally:
        logger.removeHandler(handler)
    assert not [record for record in records if record.exc_info], "an error that nobody expected"


def test_what_is_said_of_names_with_ends_of_lines_is_one_line() -> None:
    attempt([{"execute": "device_del", "arguments": {"id": "a\nb"}}, {"execute": "a\nb"}, {"a\nb": 1}])


@pytest.mark.parametrize("many", [1, 200])
def test_a_client_that_never_reads_costs_only_itself(many: int) -> None:
    with client() as (world, sock):
        sock.sendall(b'{"execute": "query-commands"}\n' * many)
        world.context.run_until_idle()


@pytest.mark.long
def test_no_command_is_done_for_a_client_that_does_not_read() -> None:
    """Its answers would pile up here; it finds all of them when it reads."""
    many = 20
    with client() as (world, sock):
        world.context.run_until_idle()
        sock.sendall(b'{"execute":"query-qmp-schema"}' * many + b'{"execute":"stop"}')
        world.context.run_until_idle()
        assert world.run_state.running
        assert len(exchange(world, sock, MARK)) == many + 5
        assert not world.run_state.running


def test_want_of_descriptors_is_waited_for() -> None:
    with client() as (world, sock):
        with os.fdopen(os.dup(sock.fileno()), "rb") as lowest_free:
            limit = lowest_free.fileno()
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
        try:
            for _ in range(10):
                world.context.turn()
                world.context.run_ready()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        answers = exchange(world, sock, MARK)
        assert answers[-1]["id"] == "mark"
        assert world.context.now_ns() >= RETRY_NS


def test_a_command_without_end_holds_up_its_own_client_only() -> None:
    wait = b'{"execute": "human-monitor-command", "arguments": {"command-line": "qemu-io b0 \\"wait_break A\\""}}'
    with client() as (world, sock):
        world.graph.add({"driver": "blkdebug", "node-name": "b0", "image": {**NODE, "node-name": "d1"}})
        path = sock.getpeername()
        assert exchange(world, sock, wait + MARK)[2:] == [], "after greeting and negotiation, nothing"
        sock.shutdown(socket.SHUT_RDWR)
        world.context.run_until_idle()
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(path)
            answers = exchange(world, other, HELLO + MARK)
        assert answers[-1]["id"] == "mark"


def test_a_client_that_only_says_that_it_sends_no_more_gets_its_answers() -> None:
    slow = b'{"execute": "human-monitor-command", "arguments": {"command-line": "qemu-io d0 \\"sleep 5\\""}}'
    with client() as (world, sock):
        sock.sendall(slow + slow + MARK)
        sock.shutdown(socket.SHUT_WR)
        answers = exchange_all(world, sock)
        assert answers[-1]["id"] == "mark"


def exchange_all(world: World, sock: socket.socket) -> list[dict[str, Any]]:
    """All that comes until the other side ends the connection."""
    world.context.run_until_idle()
    got = b""
    while part := sock.recv(1 << 20):
        got += part
        world.context.run_until_idle()
    return [json.loads(line) for line in got.splitlines()]
