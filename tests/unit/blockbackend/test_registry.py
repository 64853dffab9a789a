"""Drivers of third parties: an entry point and one class."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest

from devmodels.blockbackend import BlockNode, BlockOptionError, Op, Request, open_node, registry
from devmodels.blockbackend.filters import FilterNode
from devmodels.blockbackend.options import NodeOptions
from devmodels.blockbackend.status import Status
from devmodels.iocontext import IoContext
from tests.unit.blockbackend.support import Disk


class OnesOptions(NodeOptions, frozen=True, kw_only=True):
    size: int = 4096


class Ones(BlockNode):
    Options = OnesOptions

    @classmethod
    def open(cls, options: NodeOptions, context: IoContext, children: Mapping[str, BlockNode]) -> BlockNode:
        assert isinstance(options, OnesOptions)
        return cls(options, context, options.size)

    async def read(self, request: Request) -> None:
        for vector in request.vectors:
            vector[:] = b"\1" * len(vector)


class Counting(FilterNode):
    reads = 0

    async def read(self, request: Request) -> None:
        self.reads += 1
        await self.file.read(request)


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    names = {"ones": "Ones", "counting": "Counting", "file": "Ones", "absent": "Absent", "odd": "IoContext"}
    entries = [
        importlib.metadata.EntryPoint(name, f"{__name__}:{value}", registry.ENTRY_POINTS)
        for name, value in names.items()
    ]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: entries)
    registry.driver.cache_clear()
    yield
    registry.driver.cache_clear()


def test_they_are_opened_like_our_own() -> None:
    disk = Disk({"driver": "counting", "file": {"driver": "ones", "size": 1024}})
    assert disk.read(0, 1024) == b"\1" * 1024
    assert isinstance(disk.node, Counting)
    assert disk.node.reads == 1
    assert disk.do(Op.WRITE, 0, data=b"x") != 0
    disk.close()


def test_our_own_names_are_ours() -> None:
    assert registry.driver("file") is not Ones


def test_the_pages_classes_work(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[3] / "docs" / "block-drivers.md").read_text()
    module = ModuleType("my_package")
    for code in re.findall(r"```python\n(.*?)```", page, re.S):
        exec(code, module.__dict__)
    monkeypatch.setitem(sys.modules, "my_package", module)
    entries = [
        importlib.metadata.EntryPoint(name, f"my_package:{value}", registry.ENTRY_POINTS)
        for name, value in (("one-slow-block", "OneSlowBlock"), ("counting", "Counting"))
    ]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: entries)
    disk = Disk({"driver": "counting", "file": {"driver": "one-slow-block", "size": 4096, "latency-ns": 50}})
    assert disk.read(0, 512) == disk.read(512, 512) == bytes(512)
    assert disk.context.now_ns() == 50
    assert disk.node.reads == 2  # type: ignore[attr-defined]
    request = disk.submit(Op.BLOCK_STATUS, 512, 1024)
    assert disk.wait(request) == 0
    assert Status.ZERO in request.status.flags
    assert request.status.pnum == 1024
    disk.close()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("absent", f"{__name__}:Absent cannot be loaded: AttributeError("),
        ("odd", f"{__name__}:IoContext is not a BlockNode"),
        ("other", 'expected one of "absent", '),
    ],
)
def test_one_that_cannot_be_had_is_one_line(name: str, text: str) -> None:
    context = IoContext.virtual()
    with pytest.raises(BlockOptionError) as caught:
        open_node({"driver": name}, context)
    assert str(caught.value).startswith(f'$.driver: "{name}" is given; {text}')
    context.close()
