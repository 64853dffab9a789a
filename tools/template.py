"""Files with places for text: `{{NAME}}`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def filled(template: Path, parts: Mapping[str, str]) -> str:
    """The file's text, each of `parts` in its place."""
    text = template.read_text(encoding="utf-8")
    for name, part in parts.items():
        text = text.replace(f"{{{{{name}}}}}", part)
    return text
