"""Nodes over real connections: on other threads, opened by a monitor, where one runs until nothing is left."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from devmodels.blockbackend import BlockBackend, BlockOptionError, Graph, Op, Request
from devmodels.blockbackend.drivers.iscsi.node import IscsiNode
from devmodels.conformance import Profile
from devmodels.events import Events
from devmodels.exports.iscsi.export import IscsiExport
from devmodels.exports.table import Exports
from devmodels.iocontext import IoContext
from devmodels.protocols.iscsi.codes import AsyncEvent
from devmodels.runstate import RunState
from tests.unit.exports.iscsi.initiator import TARGET
from tests.unit.monitor.support import Talk, in_daemon

from .ours import options
from .target import sense

SIZE = 1 << 20


class Home:
    """A graph with an export on the wall clock, and an iothread."""

    def __init__(self) -> None:
        self.graph = Graph(IoContext.wall())
        events = Events()
        self.exports = Exports(self.graph, profile=Profile.STRICT, events=events, run_state=RunState(events))
        self.graph.object_add({"qom-type": "iothread", "id": "t0"})
        self.graph.add({"driver": "memory", "size": SIZE, "node-name": "d0"})
        given = {
            "type": "iscsi",
            "id": "e0",
            "node-name": "d0",
            "target": TARGET,
            "addr": {"type": "inet", "host": "127.0.0.1", "port": 0},
            "writable": True,
        }
        serving = self.exports.add(given).serving
        assert isinstance(serving, IscsiExport)
        self.export = serving

    @property
    def options(self) -> dict[str, object]:
        """A node's options for the export."""
        return options(portal=f"127.0.0.1:{self.export.portal.address[1]}")

    def do(self, backend: BlockBackend, op: Op, offset: int, data: bytearray) -> int:
        """One request, begun where the node is; the export works here meanwhile."""
        ended: list[int] = []
        request = Request(
            op, offset, len(data), [memoryview(data)], done=lambda each: ended.append(each.error)
        )
        backend.context.post(lambda: backend.submit(request))
        while not ended:
            self.graph.context.turn()
            self.graph.context.look_at_descriptors()
        return ended[0]

    def close(self) -> None:
        self.exports.close()
        self.graph.context.run_until_idle()
        self.graph.close()
        self.graph.context.close()


@pytest.fixture
def home() -> Iterator[Home]:
    found = Home()
    yield found
    found.close()


def test_a_session_goes_to_another_thread_and_back(home: Home) -> None:
    node = home.graph.add(home.options)
    backend = BlockBackend(node)
    for number, thread in enumerate((None, "t0", None, "t0")):
        home.graph.context.run(home.graph.set_iothread("i0", thread))
        data = bytearray([number + 1]) * 65536
        assert home.do(backend, Op.WRITE, number << 16, data) == 0
        back = bytearray(65536)
        assert home.do(backend, Op.READ, number << 16, back) == 0
        assert back == data
    assert isinstance(node, IscsiNode)
    assert node._session is not None
    assert node._session.sessions == 1
    # There, too, it logs in again by itself.
    (session,) = home.export.target.sessions.values()
    home.export.target.end_session(session, "a test")
    assert home.do(backend, Op.READ, 0, bytearray(512)) == 0
    assert node._session.sessions == 2
    home.graph.context.run(home.graph.set_iothread("i0", None))
    backend.close()


def test_what_a_node_asks_for_by_itself_does_not_keep_it_from_moving(home: Home) -> None:
    node = home.graph.add(home.options)
    assert isinstance(node, IscsiNode)
    backend = BlockBackend(node)
    (session,) = home.export.target.sessions.values()
    # Told of another size, it is asking how large the unit is, when it moves.
    for connection in session.connections.values():
        connection.announce(AsyncEvent.SCSI, data=b"\0\x12" + sense(6, 0x2A09))
    while node._refreshing is None:
        home.graph.context.turn()
        home.graph.context.look_at_descriptors()
    home.graph.context.run(home.graph.set_iothread("i0", "t0"))
    assert home.do(backend, Op.READ, 0, bytearray(512)) == 0
    while node._refreshing is not None:
        home.graph.context.turn()
        home.graph.context.look_at_descriptors()
    home.graph.context.run(home.graph.set_iothread("i0", None))
    backend.close()


def test_who_runs_until_nothing_is_left_has_what_was_asked_for(home: Home) -> None:
    """As an embedder does: `submit`, `run_until_idle`."""
    node = home.graph.add(home.options)
    backend = BlockBackend(node)
    ended: list[int] = []
    for offset in range(0, SIZE, 65536):
        vectors = [memoryview(bytearray(65536))]
        backend.submit(Request(Op.READ, offset, 65536, vectors, done=lambda each: ended.append(each.error)))
    home.graph.context.run_until_idle()
    assert ended == [0] * 16
    assert not home.graph.context.awaited
    backend.close()


@pytest.mark.parametrize(
    ("portal", "why"),
    [
        ("127.0.0.1:1", "Connection refused"),
        ("[::1]:1", "refused|address"),
        ("x" * 70 + ".invalid", "no name of a host"),
    ],
)
def test_where_nobody_is_nothing_is_opened(portal: str, why: str) -> None:
    graph = Graph(IoContext.wall())
    with pytest.raises(BlockOptionError, match=rf"\$.portal: cannot open LUN 0 of .*({why})"):
        graph.add(options(portal=portal))
    graph.close()
    graph.context.close()


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"portal": "::1"}, '$.portal: "::1" is given; expected host[:port]'),
        ({"portal": "a:0"}, '$.portal: "a:0" is given; expected host[:port]'),
        ({"portal": "a:99999"}, '$.portal: "a:99999" is given; expected host[:port]'),
        ({"portal": ""}, '$.portal: "" is given; expected host[:port]'),
        ({"target": "disk"}, '$.target: "disk" is given; expected a name of iSCSI'),
        ({"target": "iqn." + "é" * 200}, "$.target: more than 223 bytes"),
        ({"lun": 16384}, "$.lun: 16384 is given; expected a number from 0 to 16383"),
        ({"transport": "iser"}, '$.transport: "iser" is given; expected '),
        ({"user": "me"}, "$.user: is given; expected with it password-secret"),
        ({"password_secret": "s"}, "$.password-secret: is given; expected with it user"),
        ({"user": "me", "password_secret": "no"}, '$.password-secret: "no" is given; no secret "no"'),
        (
            {"target_user": "it", "target_password_secret": "s"},
            "$.target-user: is given; expected with it user",
        ),
        ({"header_digest": "md5"}, '$.header-digest: "md5" is given; expected '),
        ({"timeout": -1}, "$.timeout: -1 is given; expected a number of seconds"),
    ],
)
def test_options_that_cannot_be(more: dict[str, object], text: str) -> None:
    graph = Graph(IoContext.wall())
    with pytest.raises(BlockOptionError) as refused:
        graph.add(options(**more))
    assert str(refused.value).startswith(text)
    graph.close()
    graph.context.close()


def test_a_monitor_goes_on_while_a_node_is_opened(tmp_path: Path) -> None:
    """The target listens, and says nothing for a while; other commands are answered."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        portal = f"127.0.0.1:{listener.getsockname()[1]}"

        async def story(talk: Talk) -> None:
            import asyncio

            opening = asyncio.create_task(talk.ask("blockdev-add", options(portal=portal)))
            while not talk.world.graph.context.descriptors.watches:
                await asyncio.sleep(0)
            assert (await talk("query-status"))["status"]
            taken, _ = listener.accept()
            taken.close()
            answer = await opening
            assert "cannot open LUN 0" in answer["desc"]
            assert "i0" not in talk.world.graph.nodes

        in_daemon(tmp_path, story)
