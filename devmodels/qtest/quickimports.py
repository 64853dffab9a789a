"""Modules of this package are found and read with few questions to the file system, which is a tenth of a start.

For each of some two hundred modules importlib looks whether its folder has changed, whether it is a package, and twice
at its file, and reads what is compiled of it through a buffer.  Here a folder is listed once, and the compiled module
is opened and read.  Where it is not there, or not that of the source as it is now, importlib does as always.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import MAGIC_NUMBER
from marshal import loads
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType

_PACKAGE = __name__.partition(".")[0] + "."
_COMPILED = f".{sys.implementation.cache_tag}.pyc"
_BY_TIME = MAGIC_NUMBER + bytes(4)
"""How a compiled module begins that goes by the time and the size of its source (PEP 552)."""
_LONGEST = 1 << 16
"""One that is no shorter is importlib's."""


def _compiled(source: str) -> str:
    """Where what is compiled of a source is."""
    folder, name = os.path.split(source)
    return f"{folder}/__pycache__/{name[:-3]}{_COMPILED}"


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType | None:
        """What the module is compiled to."""
        try:
            file = os.open(_compiled(self.path), os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = os.read(file, _LONGEST)
            finally:
                os.close(file)
            source = os.stat(self.path)
        except OSError:
            return super().get_code(fullname)
        time, size = int(source.st_mtime) & 0xFFFF_FFFF, source.st_size & 0xFFFF_FFFF
        head = _BY_TIME + time.to_bytes(4, "little") + size.to_bytes(4, "little")
        if len(data) == _LONGEST or not data.startswith(head):
            return super().get_code(fullname)
        code: CodeType = loads(memoryview(data)[len(head) :])
        return code


class Finder:
    """One of `sys.meta_path`."""

    def __init__(self) -> None:
        self._folders: dict[str, frozenset[str]] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Where a module of this package is; None for others, which are left to those that come next."""
        if path is None or not name.startswith(_PACKAGE):
            return None
        (folder,) = path
        last = name.rpartition(".")[2]
        names = self._names(folder)
        if f"{last}.py" in names:
            file, inside = f"{folder}/{last}.py", None
        elif last in names and "__init__.py" in self._names(f"{folder}/{last}"):
            file, inside = f"{folder}/{last}/__init__.py", [f"{folder}/{last}"]
        else:
            return None
        spec = ModuleSpec(name, _Loader(name, file), origin=file, is_package=inside is not None)
        spec.submodule_search_locations = inside
        spec.has_location = True
        spec.cached = _compiled(file)
        return spec

    def _names(self, folder: str) -> frozenset[str]:
        names = self._folders.get(folder)
        if names is None:
            try:
                names = frozenset(os.listdir(folder))
            except OSError:
                names = frozenset()
            self._folders[folder] = names
        return names


def install() -> None:
    """From now on; not where what is compiled has another name than usual."""
    if sys.pycache_prefix is None and not sys.flags.optimize:
        sys.meta_path.insert(0, Finder())
