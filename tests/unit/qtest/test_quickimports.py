"""The stand-in's way to its own modules: what importlib would find, and nothing that is out of date."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from py_compile import PycInvalidationMode
from py_compile import compile as compile_file
from types import ModuleType

import pytest

from devmodels.qtest import quickimports
from devmodels.qtest.quickimports import Finder

NAME = "devmodels.some"


def found(folder: Path, name: str = NAME) -> ModuleSpec:
    """Where it is."""
    spec = Finder().find_spec(name, [str(folder)])
    assert spec is not None
    return spec


def imported(folder: Path) -> ModuleType:
    """The module, run."""
    spec = found(folder)
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "some.py"
    path.write_text("VALUE = 1\n")
    return path


def test_a_module_is_compiled_once_and_read_then(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    module = imported(source.parent)
    assert module.__cached__ is not None
    compiled = Path(module.__cached__)
    assert compiled.exists(), "importlib has written it"
    # What is compiled is what counts, as long as it is of this source: the same time and size.
    before = source.stat()
    other = source.parent / "other.py"
    other.write_text("VALUE = 2\n")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    compile_file(str(other), cfile=str(compiled), doraise=True)
    assert imported(source.parent).VALUE == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda path: os.utime(path, (1, 1)),
        lambda path: path.write_text("VALUE = 1_0\n"),
    ],
    ids=["time", "size"],
)
def test_a_source_that_has_changed_is_compiled_again(source: Path, change: object) -> None:
    assert callable(change)
    stale = source.parent / "stale.py"
    stale.write_text("VALUE = 9\n")
    times = source.stat()
    os.utime(stale, ns=(times.st_atime_ns, times.st_mtime_ns))
    cached = found(source.parent).cached
    assert cached is not None
    compile_file(str(stale), cfile=cached, doraise=True)
    assert imported(source.parent).VALUE == 9
    change(source)
    assert imported(source.parent).VALUE in (1, 10)


def test_what_is_compiled_otherwise_is_importlibs(source: Path) -> None:
    cached = found(source.parent).cached
    assert cached is not None
    compile_file(str(source), cfile=cached, invalidation_mode=PycInvalidationMode.CHECKED_HASH, doraise=True)
    assert imported(source.parent).VALUE == 1
    Path(cached).write_bytes(b"rubbish")
    assert imported(source.parent).VALUE == 1
    source.write_text(f"VALUE = {'x' * 70_000!r}\n")
    compile_file(str(source), cfile=cached, doraise=True)
    assert len(imported(source.parent).VALUE) == 70_000


def test_what_there_is_not_is_left_to_others(tmp_path: Path) -> None:
    finder = Finder()
    assert finder.find_spec(NAME, [str(tmp_path)]) is None
    assert finder.find_spec(NAME, [str(tmp_path / "nowhere")]) is None
    assert finder.find_spec("devmodels", None) is None
    assert finder.find_spec("json.decoder", [str(tmp_path)]) is None
    (tmp_path / "some").mkdir()
    finder = Finder()
    assert finder.find_spec(NAME, [str(tmp_path)]) is None, "a folder alone is no package of ours"


@pytest.mark.parametrize("name", ["devmodels.qtest", "devmodels.qtest.main", "devmodels.scsi.disk"])
def test_a_spec_says_what_importlibs_says(name: str) -> None:
    parent = import_module(name.rpartition(".")[0])
    ours, theirs = Finder().find_spec(name, parent.__path__), PathFinder.find_spec(name, parent.__path__)
    assert ours is not None
    assert theirs is not None
    for what in ("name", "origin", "cached", "has_location", "parent", "submodule_search_locations"):
        assert getattr(ours, what) == getattr(theirs, what), what


def test_the_stand_in_finds_its_modules_so() -> None:
    code = (
        "import sys; from devmodels.qtest import quickimports; quickimports.install();"
        "import devmodels.qtest.commandline as module; print(type(module.__loader__).__module__)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stdout == "devmodels.qtest.quickimports\n"


def test_not_where_what_is_compiled_has_another_place(monkeypatch: pytest.MonkeyPatch) -> None:
    before = list(sys.meta_path)
    monkeypatch.setattr(sys, "meta_path", list(before))
    monkeypatch.setattr(sys, "pycache_prefix", "/nowhere")
    quickimports.install()
    assert sys.meta_path == before
