"""Modules whose source is another one than their file's, in this process: what is tried out touches no file."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path

ROOT = Path(__file__).parents[1]


class Replaced(MetaPathFinder, InspectLoader):
    """Finds the modules at these paths, relative to the repository, each with the source given for it.

    To be put first into `sys.meta_path`, before any of them is imported.
    """

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._modules = {_name(path): (path, source) for path, source in sources.items()}

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        """The module's specification, with this as its loader."""
        if fullname not in self._modules:
            return None
        path, _source = self._modules[fullname]
        return spec_from_file_location(fullname, str(ROOT / path), loader=self)

    def get_source(self, fullname: str) -> str:
        """What was given for it."""
        return self._modules[fullname][1]


def _name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
