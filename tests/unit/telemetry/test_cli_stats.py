"""`devmodels serve --telemetry`, `--prometheus`, and `devmodels stats`."""

from __future__ import annotations

import io
import json
import socket
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from devmodels.blockbackend import Op, Request
from devmodels.cli.main import main
from devmodels.cli.serve import Server
from devmodels.cli.stats import decoded, in_words, table
from devmodels.options import OptionError
from devmodels.telemetry.figures import Figures
from devmodels.telemetry.options import host_and_port
from tests.unit.telemetry.world import world


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(poll_max_ns=0, strict=False) as server:
        server.add_blockdev("driver=memory,size=1M,node-name=d0")
        path = tmp_path / "vu.sock"
        server.add_export(f"type=vhost-user-blk,id=e0,node-name=d0,addr.type=unix,addr.path={path}")
        yield server


def beside(server: Server, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> object:
    """The command's exit status, while the daemon runs."""
    monkeypatch.setattr(sys, "argv", ["devmodels", *arguments])
    status: list[object] = []

    def run() -> None:
        try:
            main()
        except SystemExit as ended:
            status.append(ended.code)
        finally:
            server.context.post(server.stop)

    thread = threading.Thread(target=run)
    thread.start()
    server.run()
    thread.join()
    return status[0]


def test_lines_and_table_from_a_daemon(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "t.sock")
    server.add_telemetry(f"{path},interval=10ms")
    assert beside(server, ["stats", path, "--json", "--count", "2"], monkeypatch) is None
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [[each["device"] for each in line["backends"]] for line in lines] == [["e0"]] * 2
    server.stopping = False
    assert beside(server, ["stats", path, "--count", "2"], monkeypatch) is None
    out = capsys.readouterr().out
    assert out.count("e0 on d0") == 2
    assert "read/s" in out


def test_page_from_a_daemon(server: Server) -> None:
    server.add_prometheus("127.0.0.1:0")
    found: list[bytes] = []

    def get() -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.pages[0].port}/metrics") as answer:
            found.append(answer.read())
        server.context.post(server.stop)

    thread = threading.Thread(target=get)
    thread.start()
    server.run()
    thread.join()
    assert b'devmodels_block_operations_total{device="e0",node="d0",op="read"} 0.0\n' in found[0]


@pytest.mark.long
@pytest.mark.parametrize(
    ("option", "text", "said"),
    [
        (
            "--telemetry",
            "x,interval=soon",
            '--telemetry: interval: "soon" is given; expected a time of at least 10ms, such as 250ms or 1s',
        ),
        (
            "--telemetry",
            "x,interval=9ms",
            '--telemetry: interval: "9ms" is given; expected at least 10ms',
        ),
        (
            "--telemetry",
            "x,requests=many",
            '--telemetry: requests: "many" is given; expected an integer from 0 to 1024',
        ),
        ("--telemetry", "interval=1s", "--telemetry: path: missing; expected a string"),
        (
            "--telemetry",
            "/no/such/dir/t.sock",
            "--telemetry: path: cannot listen at '/no/such/dir/t.sock': No such file or directory",
        ),
        (
            "--prometheus",
            "9184",
            '--prometheus: "9184" is given; expected ADDRESS:PORT, such as 127.0.0.1:9184',
        ),
        ("--prometheus", "a..b:80", "--prometheus: cannot listen at a..b:80: "),
        ("--prometheus", "203.0.113.1:80", "--prometheus: cannot listen at 203.0.113.1:80: Cannot assign"),
    ],
)
def test_wrong_options_are_one_line(
    tmp_path: Path,
    option: str,
    text: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    export = f"type=vhost-user-blk,id=e0,node-name=d0,addr.type=unix,addr.path={tmp_path}/vu.sock"
    blockdev = "driver=memory,size=1M,node-name=d0"
    arguments = ["serve", "--blockdev", blockdev, "--export", export, option, text]
    monkeypatch.setattr(sys, "argv", ["devmodels", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"devmodels: {said}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:0", ("::1", 0)), ("localhost:65535", ("localhost", 65535))],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert host_and_port(text, what="x") == expected


@pytest.mark.parametrize(
    "text", ["", ":80", "h:", "h:65536", "h:-1", "::1:80", "h:٣", "[h]:80:", "h:999999999"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="expected ADDRESS:PORT"):
        host_and_port(text, what="x")


@given(st.text(max_size=12) | st.from_regex(r"[\\[\\]a1:.]{0,8}:[0-9]{0,7}", fullmatch=True))
def test_any_text_is_an_address_or_told(text: str) -> None:
    try:
        host, port = host_and_port(text, what="x")
    except OptionError:
        return
    assert host
    assert 0 <= port <= 65535
    assert text.partition("]" if text.startswith("[") else ":")[0].lstrip("[") == host


def test_socket_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["devmodels", "stats", f"{tmp_path}/t.sock"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        f"devmodels: {tmp_path}/t.sock: cannot connect: No such file or directory\n"
    )


def shown(before: Figures | None, now: Figures) -> dict[str, list[str]]:
    """The table's rows by device or node."""
    texts = [msgspec.json.encode(each) for each in (before, now) if each is not None]
    lines = list(decoded("x", iter(texts)))
    console = Console(file=io.StringIO(), width=160)
    console.print(table(lines[0] if before is not None else None, lines[-1]))
    assert isinstance(console.file, io.StringIO)
    rows = [line.split() for line in console.file.getvalue().splitlines()[2:]]
    return {row[0]: row[1:] for row in rows}


def test_a_row_is_the_difference_of_two_lines() -> None:
    with world() as rig:
        before = rig.source.take(0)
        for at in range(20):
            rig.submit(Op.READ, 2048 * at, 1024)
        rig.submit(Op.READ, 1 << 30)
        rig.context.step(10)
        rig.submit(Op.WRITE, 0)
        rig.context.step(10)
        rows = shown(before, rig.source.take(0))
    # 20 reads of 1 KiB in 20 ns; 21 requests of 10 ns in 20 ns.
    assert rows["vd0"][2:8] == ["1G", "50M", "0", "0", "1024G", "25.6G"]
    assert rows["vd0"][8:] == ["0.000", "0.000", "10.5", "0", "0.0", "1"]


@pytest.mark.parametrize(("account_failed", "mean"), [(True, "2.000"), (False, "3.000")])
def test_mean_latencies_are_of_all_that_is_timed(account_failed: bool, mean: str) -> None:
    with world() as rig:
        stats = rig.backend.stats
        stats.account_failed = account_failed
        before = rig.source.take(0)
        for latency, failed in ((3_000_000, 0), (1_000_000, 5)):
            for op in (Op.READ, Op.WRITE):
                stats.account(Request(op, 0, 512), latency, 0, failed)
        rig.context.step(10)
        rows = shown(before, rig.source.take(0))
    assert rows["vd0"][8:10] == [mean, mean]


def test_one_line_alone_has_no_rates() -> None:
    with world() as rig:
        rig.submit(Op.READ)
        rows = shown(None, rig.source.take(0))
    assert rows["vd0"] == ["on", "s"] + ["-"] * 9 + ["1", "-", "0"]
    assert rows["s"] == ["delay"] + ["-"] * 9 + ["1", "-", "0"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.25, "0.25"), (999, "999"), (1234, "1.23k"), (56_780_000, "56.8M"), (2.5e12, "2500G")],
)
def test_numbers_in_words(value: float, text: str) -> None:
    assert in_words(value) == text


def test_what_is_no_telemetry_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)

        def answer() -> None:
            sock, _ = listener.accept()
            sock.send(b'{"QMP": {}}\n')
            sock.close()

        thread = threading.Thread(target=answer)
        thread.start()
        monkeypatch.setattr(sys, "argv", ["devmodels", "stats", str(path)])
        with pytest.raises(SystemExit) as ended:
            main()
        thread.join()
    assert ended.value.code == 2
    assert "what comes is no telemetry: Object missing required field" in capsys.readouterr().err
