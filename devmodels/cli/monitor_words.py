"""What is typed into `devmodels monitor`, as commands: `block_resize node-name=d0 size=2M`, `info block`, `stop`.

The other side's schema says which types arguments have; what is no command there is a line for its human monitor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from devmodels.options import OptionError, parse_size, shown

INFO = {
    "block": "query-block",
    "blockstats": "query-blockstats",
    "commands": "query-commands",
    "exports": "query-block-exports",
    "graph": "x-debug-query-block-graph",
    "nodes": "query-named-block-nodes",
    "status": "query-status",
    "version": "query-version",
}
SHORT = {"c": "cont", "s": "stop", "q": "quit"}


class Words:
    """Knows the commands of a schema (QEMU's SchemaInfo entries)."""

    def __init__(self, infos: Sequence[dict[str, Any]]) -> None:
        self._infos = {info["name"]: info for info in infos}
        self.commands = sorted(name for name, info in self._infos.items() if info["meta-type"] == "command")

    # --- a line

    def command(self, line: Sequence[str]) -> tuple[str, dict[str, Any]]:
        """A command's name and arguments; OptionError where the arguments are no such."""
        first, *rest = line
        if first == "info" and len(rest) == 1 and INFO.get(rest[0]) in self.commands:
            name = INFO[rest[0]]
            return name, {"flat": True} if name == "query-named-block-nodes" else {}
        name = SHORT.get(first, first)
        if self.commands and name not in self.commands:
            return "human-monitor-command", {"command-line": _joined(line)}
        return name, self._arguments(name, rest)

    def _arguments(self, name: str, given: Sequence[str]) -> dict[str, Any]:
        """`key=value` words, or one JSON object."""
        text = " ".join(given).strip()
        if text.startswith("{"):
            try:
                return msgspec.json.decode(text, type=dict[str, Any])
            except (msgspec.DecodeError, RecursionError) as error:
                raise OptionError(f"{name}: {error}; expected a JSON object or key=value") from None
        out: dict[str, Any] = {}
        for word in given:
            key, equals, value = word.partition("=")
            if not equals or not key:
                raise OptionError(f"{name}: {shown(word)} is given; expected key=value")
            place, kind = out, self._infos.get(name, {}).get("arg-type")
            *path, last = key.split(".")
            for part in path:
                kind = self._member(kind, part, out)
                place = place.setdefault(part, {})
                if not isinstance(place, dict):
                    raise OptionError(f"{name}: {key}: {part} has a value already")
            place[last] = self._value(value, self._member(kind, last, out))
        return out

    def _member(self, kind: str | None, name: str, so_far: dict[str, Any]) -> str | None:
        """The type of a member of an object, where one is known."""
        members = self._members(kind, so_far)
        return members[name]["type"] if name in members else None

    def _members(self, kind: str | None, so_far: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """An object's members by name, with those of the variant that the tag in `so_far` says."""
        info = self._infos.get(kind or "", {})
        if info.get("meta-type") == "alternate":
            for member in info["members"]:
                if self._infos[member["type"]]["meta-type"] == "object":
                    return self._members(member["type"], so_far)
        if info.get("meta-type") != "object":
            return {}
        members = {member["name"]: member for member in info["members"]}
        tag = so_far.get(info.get("tag", ""))
        for variant in info.get("variants", ()):
            if variant["case"] == tag:
                members |= self._members(variant["type"], {})
        return members

    def _value(self, text: str, kind: str | None) -> Any:
        """A value as its type wants it; what does not look like that goes as it is, for the other side to refuse."""
        json_type = self._infos.get(kind or "", {}).get("json-type")
        if kind is not None and self._infos[kind]["meta-type"] == "enum":
            return text
        if json_type == "boolean" and text in ("on", "off", "true", "false"):
            return text in ("on", "true")
        if json_type == "int" and (number := parse_size(text)) is not None:
            return number
        if json_type == "string":
            return text
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            return text

    # --- help

    def help(self, about: Sequence[str]) -> str:
        """The commands, or what one takes."""
        if not about:
            shorts = [*(f"info {word}" for word in sorted(INFO)), *SHORT, "help", "exit"]
            return "\n".join([*self.commands, "", "and: " + ", ".join(shorts), ""])
        name = about[0]
        if name not in self.commands:
            return f"{name}: no such command\n"
        members = self._members(self._infos[name]["arg-type"], {})
        words = [f"[{n}=…]" if "default" in member else f"{n}=…" for n, member in members.items()]
        return " ".join([name, *words]) + "\n"

    def complete(self, text: str, state: int) -> str | None:
        """As readline asks."""
        found = [name for name in (*self.commands, "info", "help", "exit") if name.startswith(text)]
        return found[state] if state < len(found) else None


def _joined(line: Sequence[str]) -> str:
    """Words of a line for the human monitor: those with spaces in quotes."""
    return " ".join(f'"{word}"' if " " in word or not word else word for word in line)
