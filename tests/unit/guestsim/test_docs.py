"""docs/scripts.md knows every key that a script may have, and its scripts run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

import devmodels.blockbackend.drivers.memory  # noqa: F401 - pytester forgets what is first imported inside it
from guestsim.script import schema
from guestsim.script.load import parse_all
from guestsim.script.run import Options, YamlScript, read_scripts

pytest_plugins = ["pytester"]

DOCS = Path(__file__).parents[3] / "docs"
TEXT = (DOCS / "scripts.md").read_text()


def structures(kind: type[msgspec.Struct], seen: set[type[msgspec.Struct]]) -> None:
    """Every structure that `kind` is made of."""
    if kind in seen:
        return
    seen.add(kind)
    for field in msgspec.structs.fields(kind):
        stack: list[object] = [field.type]
        while stack:
            hint = stack.pop()
            if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
                structures(hint, seen)
            stack += get_args(hint)


def test_every_key_is_in_the_reference() -> None:
    seen: set[type[msgspec.Struct]] = set()
    structures(schema.Script, seen)
    plain = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
    code = " ".join(re.findall(r"`([^`]+)`", plain))
    words = set(
        re.findall(r"on (?:qemu-storage-daemon|vhost-user|vfio-user|qemu|devmodels)|[a-z][a-z-]*", code)
    )
    missing = {field.encode_name for kind in seen for field in msgspec.structs.fields(kind)} - words
    assert not missing


def test_the_yaml_in_the_reference_runs() -> None:
    texts = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    scripts = [script for text in texts for script in parse_all(text, "scripts.md")]
    assert [YamlScript(*each).run(Options()).failures for each in scripts] == [[]] * 4


def test_the_python_in_the_reference_runs(tmp_path: Path) -> None:
    (text,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    path = tmp_path / "x.guest.py"
    path.write_text(text)
    (script,) = read_scripts(path)
    assert script.run(Options()).failures == []


@pytest.mark.parametrize("number", [0, 1])
def test_the_python_in_the_guide_runs(number: int, pytester: pytest.Pytester) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "guestsim.md").read_text(), re.DOTALL)
    (pytester.path / "test_guide.py").write_text(blocks[number])
    if number == 0:
        pytester.runpytest().assert_outcomes(passed=2)
    else:
        exec(compile(blocks[number], "guestsim.md", "exec"), {})
