"""Two schemas side by side: what one has that the other has not, and what is of another type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

Infos = Sequence[dict[str, Any]]

META = {
    "builtin": ({"json-type"}, set()),
    "enum": ({"values"}, {"members"}),
    "array": ({"element-type"}, set()),
    "object": ({"members"}, {"tag", "variants"}),
    "alternate": ({"members"}, set()),
    "command": ({"arg-type", "ret-type"}, {"allow-oob"}),
    "event": ({"arg-type"}, set()),
}
"""By meta-type: the members that an entry has, and those that it may have (QEMU's qapi/introspect.json)."""


def form_errors(infos: Infos) -> Iterator[str]:
    """What is wrong with the form: of entries, or with types that are named and not there."""
    names = [info["name"] for info in infos]
    yield from (f"{name}: twice" for name in set(names) if names.count(name) > 1)
    for info in infos:
        must, may = META[info["meta-type"]]
        keys = set(info) - {"name", "meta-type", "features"}
        if not must <= keys <= must | may:
            yield f"{info['name']}: has {sorted(keys)}"
        if ("tag" in info) != ("variants" in info):
            yield f"{info['name']}: a tag and variants go together"
        for named in types_named(info):
            if named not in names:
                yield f"{info['name']}: type {named} is not there"


def types_named(info: dict[str, Any]) -> Iterator[str]:
    """The types that an entry refers to."""
    yield from (info[key] for key in ("arg-type", "ret-type", "element-type") if key in info)
    if info["meta-type"] in ("object", "alternate"):
        yield from (member["type"] for member in info["members"])
    yield from (variant["type"] for variant in info.get("variants", ()))


class Comparison:
    """Ours against theirs: `differences` are lines of where and what."""

    def __init__(self, ours: Infos, theirs: Infos) -> None:
        self.ours = {info["name"]: info for info in ours}
        self.theirs = {info["name"]: info for info in theirs}
        self.differences: list[str] = []
        self._seen: set[tuple[str, str]] = set()

    def command(self, name: str) -> None:
        """Arguments and result of a command that both have."""
        mine, other = self.ours[name], self.theirs[name]
        self._types(f"{name}", mine["arg-type"], other["arg-type"], argument=True)
        self._types(f"{name} -> ", mine["ret-type"], other["ret-type"], argument=False)

    def event(self, name: str) -> None:
        """Members of an event that both have."""
        self._types(name, self.ours[name]["arg-type"], self.theirs[name]["arg-type"], argument=False)

    def _types(self, where: str, mine: str, other: str, *, argument: bool) -> None:
        if (mine, other) in self._seen:
            return
        self._seen.add((mine, other))
        one, two = self.ours[mine], self.theirs[other]
        kind = one["meta-type"]
        if kind != two["meta-type"]:
            self.differences.append(f"{where}: {kind}, theirs is {two['meta-type']}")
        elif kind == "builtin" and one["json-type"] != two["json-type"]:
            self.differences.append(f"{where}: {one['json-type']}, theirs is {two['json-type']}")
        elif kind == "enum":
            more = sorted(set(one["values"]) - set(two["values"]))
            self.differences.extend(f"{where}: {value} is ours" for value in more)
        elif kind == "array":
            self._types(f"{where}[]", one["element-type"], two["element-type"], argument=argument)
        elif kind == "object":
            self._members(where, one, two, argument=argument)
            cases = {variant["case"]: variant["type"] for variant in two.get("variants", ())}
            for variant in one.get("variants", ()):
                if variant["case"] in cases:
                    place = f"{where}<{variant['case']}>"
                    self._types(place, variant["type"], cases[variant["case"]], argument=argument)

    def _members(self, where: str, one: dict[str, Any], two: dict[str, Any], *, argument: bool) -> None:
        mine = {member["name"]: member for member in one["members"]}
        others = {member["name"]: member for member in two["members"]}
        for name, member in mine.items():
            place = f"{where}.{name}"
            if name not in others:
                self.differences.append(f"{place}: ours only")
                continue
            if argument and "default" not in member and "default" in others[name]:
                self.differences.append(f"{place}: has to be given")
            if not argument and "default" in member and "default" not in others[name]:
                self.differences.append(f"{place}: may be missing")
            self._types(place, member["type"], others[name]["type"], argument=argument)
        for name, member in others.items():
            if name not in mine and (argument or "default" not in member):
                self.differences.append(f"{where}.{name}: theirs only")
