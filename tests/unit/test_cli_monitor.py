"""`devmodels monitor` as a user meets it: words in, tables or JSON out."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devmodels.cli.monitor import Shell
from devmodels.cli.monitor_show import show
from devmodels.cli.monitor_words import Words
from devmodels.cli.serve import Server
from devmodels.options import OptionError

from .test_cli_serve import MEMORY, export, run
from .test_monitor import CHARDEV

Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Ask]:
    """Runs `devmodels monitor SOCKET …` against a daemon on another thread: exit status, output, errors."""
    path = tmp_path / "qmp.sock"
    ready = threading.Event()
    server: list[Server] = []

    def serve() -> None:
        server[0].context.adopt()
        ready.set()
        server[0].run()

    # Signals are the main thread's.
    with Server(poll_max_ns=0, strict=False) as made:
        server.append(made)
        made.add_blockdev(MEMORY)
        made.add_export(export(tmp_path))
        made.add_chardev(CHARDEV.format(path=path))
        made.add_monitor("chardev=c0")
        thread = threading.Thread(target=serve)
        thread.start()
        ready.wait()

        def one(*words: str) -> tuple[int, str, str]:
            capsys.readouterr()
            before = [word for word in words if word == "--json"]
            rest = [word for word in words if word != "--json"]
            status = run(["monitor", *before, str(path), *rest], monkeypatch)
            return status, *capsys.readouterr()

        yield one
        made.context.post(made.stop)
        thread.join()
        made.context.adopt()


@pytest.mark.long
def test_one_command_each(ask: Ask) -> None:
    status, out, _ = ask("info", "block")
    assert status == 0
    assert out.split("\n")[1].split() == ["device", "node", "driver", "size", "mode"]
    assert out.split("\n")[3].split() == ["e0", "d0", "memory", "1", "MiB", "read-only"]
    assert ask("block_resize", "node-name=d0", "size=2M") == (0, "", "")
    status, out, _ = ask("--json", "query-named-block-nodes")
    assert json.loads(out)[0]["image"]["virtual-size"] == 2 << 20
    status, out, _ = ask("query-status")
    assert out == "running: yes\nsinglestep: no\nstatus: running\n"
    status, out, _ = ask("info", "blockstats")
    assert [line.split()[:2] for line in out.split("\n")[3:5]] == [["e0", "read"], ["write", "0"]]


@pytest.mark.long
def test_what_is_refused_is_one_line_and_status_1(ask: Ask) -> None:
    assert ask("block_resize", "node-name=no", "size=2M") == (
        1,
        "",
        "devmodels: block_resize: Cannot find device='' nor node-name='no'\n",
    )
    assert ask("bogus", "words") == (1, "unknown command: 'bogus'\n", "")
    status, _, err = ask("block_resize", "size")
    assert (status, err) == (1, 'devmodels: block_resize: "size" is given; expected key=value\n')


def test_lines_are_read_and_events_are_told(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = 'stop\n\nhelp block_resize\nqemu-io d0 "read -q -P 0 0 512"\nhelp \'x\nexit\nquery-version\n'
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    status, out, err = ask()
    assert status == 0
    assert out.split("\n")[0].endswith("] STOP")
    assert "block_resize size=… [device=…] [node-name=…]\n" in out
    assert "package" not in out
    assert err == "devmodels: No closing quotation\n"


@pytest.mark.parametrize("name", ["no.sock", "file"])
def test_nobody_there_is_one_line_and_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "file").touch()
    assert run(["monitor", str(tmp_path / name), "query-status"], monkeypatch) == 2
    reason = "No such file or directory" if name == "no.sock" else "Connection refused"
    assert capsys.readouterr().err == f"devmodels: cannot connect to '{tmp_path / name}': {reason}\n"


# --- words

SCHEMA: list[dict[str, Any]] = [
    {"name": "str", "meta-type": "builtin", "json-type": "string"},
    {"name": "int", "meta-type": "builtin", "json-type": "int"},
    {"name": "bool", "meta-type": "builtin", "json-type": "boolean"},
    {"name": "add", "meta-type": "command", "arg-type": "1", "ret-type": "0"},
    {"name": "0", "meta-type": "object", "members": []},
    {
        "name": "1",
        "meta-type": "object",
        "members": [{"name": "driver", "type": "2"}, {"name": "on", "type": "bool", "default": None}],
        "tag": "driver",
        "variants": [{"case": "file", "type": "3"}, {"case": "raw", "type": "4"}],
    },
    {"name": "2", "meta-type": "enum", "values": ["file", "raw"]},
    {"name": "3", "meta-type": "object", "members": [{"name": "size", "type": "int"}]},
    {"name": "4", "meta-type": "object", "members": [{"name": "file", "type": "5"}]},
    {"name": "5", "meta-type": "alternate", "members": [{"type": "1"}, {"type": "str"}]},
]


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("add driver=file size=2k on=on", {"driver": "file", "size": 2048, "on": True}),
        ("add driver=raw file=7", {"driver": "raw", "file": 7}),
        (
            "add driver=raw file.driver=file file.on=off",
            {"driver": "raw", "file": {"driver": "file", "on": False}},
        ),
        ('add {"driver": "file", "size": 1}', {"driver": "file", "size": 1}),
        ("add unknown=[1]", {"unknown": [1]}),
    ],
)
def test_words_are_arguments_of_the_types_that_the_schema_says(line: str, arguments: object) -> None:
    assert Words(SCHEMA).command(line.split()) == ("add", arguments)


@given(st.lists(st.text(), min_size=1))
@settings(max_examples=10)
def test_any_words_are_a_command_or_are_refused(line: list[str]) -> None:
    words = Words(SCHEMA)
    for each in (line, ["add", *line]):
        refused = ""
        try:
            name, arguments = words.command(each)
        except OptionError as error:
            refused = str(error)
        else:
            assert name in ("add", "human-monitor-command")
            assert isinstance(arguments, dict)
        assert "\n" not in refused
    words.help(line)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(values)
@settings(max_examples=10)
def test_any_answer_is_shown(value: object) -> None:
    show("no-such", value)


@pytest.mark.parametrize("schema", [5, [5], [{"name": "x"}]])
def test_another_sides_answers_may_have_any_shape(capsys: pytest.CaptureFixture[str], schema: object) -> None:
    class Other:
        async def _raw(self, message: dict[str, object]) -> dict[str, object]:
            return {"return": schema if message["execute"] == "query-qmp-schema" else [{"a": 5}]}

    async def story() -> None:
        shell = Shell(Other(), as_json=False)  # type: ignore[arg-type]
        await shell.learn()
        await shell.do(["query-block"])

    asyncio.run(story())
    out, err = capsys.readouterr()
    assert json.loads(out) == [{"a": 5}]
    assert err.count("\n") == 1
