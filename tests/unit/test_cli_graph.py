"""`devmodels graph`: the nodes of a command line as a tree, as JSON and as a picture."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as Xml
from pathlib import Path

import pytest

from devmodels.blockbackend import BlockBackend, Graph
from devmodels.blockbackend.describe import describe
from devmodels.cli.graph import to_svg
from devmodels.cli.main import main
from devmodels.iocontext import IoContext

NODES = [
    "driver=memory,size=64M,node-name=m0",
    "driver=raw,node-name=r0,offset=1M,file.driver=delay,file.node-name=slow,file.file=m0",
    "driver=raw,node-name=r1,read-only=on,file=m0",
]
SVG = "{http://www.w3.org/2000/svg}"


def graph(monkeypatch: pytest.MonkeyPatch, *arguments: str, nodes: list[str] = NODES) -> int | str | None:
    """The exit status of the command; in this process."""
    blockdevs = [argument for text in nodes for argument in ("--blockdev", text)]
    monkeypatch.setattr(sys, "argv", ["devmodels", "graph", *blockdevs, *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_a_tree(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert graph(monkeypatch) in (0, None)
    assert capsys.readouterr().out.splitlines() == [
        "r0  raw, 63 MiB",
        "└── file: slow  delay, 64 MiB",
        "    └── file: m0  memory, 64 MiB",
        "r1  raw, 64 MiB, read-only",
        "└── file: m0 (see above)",
    ]


def test_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert graph(monkeypatch, "--json") in (0, None)
    data = json.loads(capsys.readouterr().out)
    names = {node["id"]: node["name"] for node in data["nodes"]}
    assert [names[edge["parent"]] + ">" + names[edge["child"]] for edge in data["edges"]] == [
        "r0>slow",
        "slow>m0",
        "r1>m0",
    ]
    assert data["nodes"][0] == {
        "id": 1,
        "type": "block-driver",
        "name": "r0",
        "driver": "raw",
        "size": 63 << 20,
        "read-only": False,
    }


def test_a_picture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "graph.svg"
    assert graph(monkeypatch, "--svg", str(file)) in (0, None)
    picture = Xml.parse(file).getroot()
    ways = [way.get("points", "").split() for way in picture.findall(f"{SVG}polyline")]
    assert len(ways) == 3
    for first, turn, _ in ways:
        assert first.partition(",")[0] == turn.partition(",")[0], "an edge leaves straight down"
    assert len(picture.findall(f"{SVG}rect")) == 1 + 4
    texts = [text.text for text in picture.findall(f"{SVG}text")]
    assert {"m0", "memory, 64 MiB", "raw, 64 MiB, read-only", "file"} <= set(texts)
    places = {(rect.get("x"), rect.get("y")) for rect in picture.findall(f"{SVG}rect")}
    assert len(places) == 5, "no box lies on another"


@pytest.mark.parametrize(
    ("nodes", "arguments", "line"),
    [
        (
            ["driver=raw,node-name=r0,file.driver=memory,file.size=x"],
            [],
            '--blockdev "r0": file.size: "x" is given; expected a number of bytes from 0 to 2**63 - 512',
        ),
        (
            ["driver=raw,node-name=r0,file=m9"],
            [],
            '--blockdev "r0": file: "m9" is given; expected the options of a node',
        ),
        (
            NODES,
            ["--svg", "/no/such/x.svg"],
            "--svg: cannot write '/no/such/x.svg': No such file or directory",
        ),
    ],
)
def test_a_mistake_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    nodes: list[str],
    arguments: list[str],
    line: str,
) -> None:
    assert graph(monkeypatch, *arguments, nodes=nodes) == 2
    assert capsys.readouterr().err == f"devmodels: {line}\n"


def test_nodes_may_name_objects(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [NODES[0], "driver=throttle,node-name=t0,throttle-group=g0,file=m0"]
    assert graph(monkeypatch, "--object", "throttle-group,id=g0", nodes=nodes) in (0, None)
    assert capsys.readouterr().out.splitlines()[0] == "t0  throttle, 64 MiB"


def test_an_image_in_use_can_be_looked_at(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(4096))
    context = IoContext.wall()
    in_use = Graph(context)
    in_use.add({"driver": "file", "filename": str(image)})
    assert graph(monkeypatch, nodes=[f"driver=file,filename={image},node-name=d0"]) in (0, None)
    assert capsys.readouterr().out == "d0  file, 4 KiB\n"
    in_use.close()
    context.close()


def test_backends_and_what_they_do_are_in_it() -> None:
    context = IoContext.virtual()
    nodes = Graph(context)
    backend = BlockBackend(nodes.add({"driver": "memory", "size": 512, "node-name": "m"}), name="<a&b>")
    data = describe(nodes.nodes.values())
    assert data["nodes"][0] == {"id": 1, "type": "block-backend", "name": "<a&b>"}
    assert data["edges"] == [
        {
            "parent": 1,
            "child": 2,
            "name": "root",
            "role": ["data", "primary"],
            "perm": ["consistent-read", "write"],
            "shared-perm": ["consistent-read", "write", "write-unchanged", "resize"],
        }
    ]
    assert "&lt;a&amp;b&gt;" in to_svg(data)
    backend.close()
    nodes.close()
    context.close()
