"""The page over HTTP: what clients get, and what hostile ones cannot do."""

from __future__ import annotations

import http.client
import os
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devmodels.iocontext import IoContext
from devmodels.telemetry.http import MAX_CONNECTIONS, MAX_REQUEST, PATIENCE_NS, HttpServer

CONTENT = b"x 1\n" * 50_000
GET = b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n"


class Rig:
    def __init__(self, content: bytes = b"x 1\n") -> None:
        self.context = IoContext.stepped()
        self.server = HttpServer("127.0.0.1", 0, self.context, "/metrics", lambda: ("text/plain", content))

    def connect(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.server.port))
        self.context.run_until_idle()
        sock.setblocking(False)
        return sock

    def take(self, sock: socket.socket) -> bytes | None:
        """All that comes until the server ends the connection; None where it has not."""
        data = b""
        while True:
            self.context.run_until_idle()
            try:
                piece = sock.recv(1 << 16)
            except BlockingIOError:
                return None
            except ConnectionResetError:
                return data
            if not piece:
                return data
            data += piece

    def ask(self, request: bytes) -> bytes | None:
        with self.connect() as sock:
            sock.send(request)
            return self.take(sock)

    def close(self) -> None:
        self.server.close()
        self.context.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    before = set(os.listdir("/proc/self/fd"))
    made = Rig()
    yield made
    made.close()
    assert set(os.listdir("/proc/self/fd")) == before


def status(answer: bytes | None) -> int:
    assert answer is not None
    return int(answer.split(b" ", 2)[1])


def test_pythons_client_gets_a_long_page() -> None:
    rig = Rig(CONTENT)
    client = http.client.HTTPConnection("127.0.0.1", rig.server.port)
    found: list[bytes] = []

    def get() -> None:
        client.request("GET", "/metrics?x=1")
        found.append(client.getresponse().read())

    thread = threading.Thread(target=get)
    thread.start()
    while not found:
        rig.context.run_until_idle()
    thread.join()
    client.close()
    rig.close()
    assert found == [CONTENT]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (GET, 200),
        (b"GET /metrics HTTP/1.0\n\n", 200),
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics/../etc HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\n\r\n", 405),
        (b"GET /metrics\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"\xff\xfe\x00 \x00 HTTP/1.1\r\n\r\n", 405),
        (b"GET /metrics HTTP/1.1\r\n" + b"a" * MAX_REQUEST, 431),
    ],
)
def test_requests_and_what_they_are_answered_with(rig: Rig, request_: bytes, expected: int) -> None:
    assert status(rig.ask(request_)) == expected


def test_head_has_no_content(rig: Rig) -> None:
    answer = rig.ask(b"HEAD /metrics HTTP/1.1\r\n\r\n")
    assert answer is not None
    assert b"Content-Length: 4\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


def test_who_takes_long_is_disconnected(rig: Rig) -> None:
    with rig.connect() as silent, rig.connect() as slow:
        slow.send(b"GET /metr")
        rig.context.step(PATIENCE_NS - 1)
        assert rig.take(silent) is None
        rig.context.step(1)
        assert (rig.take(silent), rig.take(slow)) == (b"", b"")


def test_who_does_not_take_the_answer_is_disconnected() -> None:
    rig = Rig(CONTENT * 50)
    with rig.connect() as sock:
        sock.send(GET)
        rig.context.run_until_idle()
        rig.context.step(PATIENCE_NS)
        answer = rig.take(sock)
        assert answer is not None
        assert len(answer) < len(CONTENT) * 50
    assert status(rig.ask(b"GET / HTTP/1.1\n\n")) == 404
    rig.close()


def test_the_oldest_makes_room(rig: Rig) -> None:
    crowd = [rig.connect() for _ in range(MAX_CONNECTIONS)]
    assert status(rig.ask(GET)) == 200
    assert rig.take(crowd[0]) == b""
    assert rig.take(crowd[1]) is None
    for sock in crowd:
        sock.close()
    rig.context.run_until_idle()


pieces = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from([b"GET ", b"/metrics", b" HTTP/1.1", b"\r\n", b"\n", b"\r\n\r\n", b"a" * 5000]),
    ),
    max_size=8,
)


@given(st.lists(st.tuples(pieces, st.booleans()), max_size=4))
@settings(max_examples=25)
def test_whatever_comes_the_next_one_is_served(clients: list[tuple[list[bytes], bool]]) -> None:
    rig = Rig()
    kept: list[socket.socket] = []
    for sent, resets in clients:
        sock = rig.connect()
        for piece in sent:
            try:
                sock.send(piece)
            except OSError:
                break
            rig.context.run_until_idle()
        if resets:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()
        else:
            kept.append(sock)
    rig.context.run_until_idle()
    assert status(rig.ask(GET)) == 200
    for sock in kept:
        sock.close()
    rig.close()
