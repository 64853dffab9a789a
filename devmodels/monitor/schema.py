"""Introspection: the types of commands and events as QEMU's SchemaInfo (qapi/introspect.json).

Everything is read off the structures that commands take and return.  As in QEMU, the names of types say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

import msgspec
from msgspec import UnsetType

from devmodels.blockbackend.options import NodeRef
from devmodels.monitor.command import Command, Empty, Options

BUILTIN = {str: "str", int: "int", bool: "bool", float: "number", object: "any", Any: "any"}
_JSON = {"str": "string", "int": "int", "bool": "boolean", "number": "number", "any": "value"}

Member = tuple[str, object, bool]
"""Name, type, and whether it may be missing."""


class Schema:
    """Gathers what is asked for; `infos` are the entries."""

    def __init__(self, node_options: Options) -> None:
        self.infos: list[dict[str, object]] = []
        self._names: dict[object, str] = {}
        self._node_options = node_options

    def add_command(self, name: str, command: Command) -> None:
        """A command, and the types that it needs."""
        returns = Empty if command.returns is NoneType else command.returns
        self.infos.append(
            {
                "name": name,
                "meta-type": "command",
                "arg-type": self.name_of(command.arguments),
                "ret-type": self.name_of(returns),
            }
        )

    def add_event(self, name: str, members: type[msgspec.Struct]) -> None:
        """An event, and the types that it needs."""
        self.infos.append({"name": name, "meta-type": "event", "arg-type": self.name_of(members)})

    # --- types

    def name_of(self, kind: object) -> str:
        """The name of a type, entered where it is new."""
        if kind == NodeRef:
            return self._entered(NodeRef, lambda: self._alternate([self._node_options, str]))
        kind = _plain(kind)
        if isinstance(kind, Options):
            return self._entered(id(kind), lambda: self._options(kind))
        if get_origin(kind) in (Union, UnionType):
            kinds = [part for part in get_args(kind) if part not in (NoneType, UnsetType)]
            if len(kinds) == 1:
                return self.name_of(kinds[0])
            return self._entered(kind, lambda: self._alternate(kinds))
        if get_origin(kind) is Literal:
            values = [str(value) for value in get_args(kind)]
            members = [{"name": value} for value in values]
            return self._entered(kind, lambda: {"meta-type": "enum", "values": values, "members": members})
        if get_origin(kind) in (list, tuple, Sequence):
            return self._array(self.name_of(get_args(kind)[0]))
        if isinstance(kind, type) and (issubclass(kind, msgspec.Struct) or is_typeddict(kind)):
            if not _members(kind):
                kind = Empty
            return self._entered(kind, lambda: self._object(_members(kind)))
        return self._builtin(BUILTIN.get(kind, "any"))  # type: ignore[call-overload]

    def _entered(self, key: object, make: Any) -> str:
        """The name for `key`; it is known before its members are asked for, which may be of its own type."""
        name = self._names.get(key)
        if name is None:
            name = self._names[key] = str(len(self._names))
            self.infos.append({"name": name, **make()})
        return name

    def _builtin(self, name: str) -> str:
        if name not in self._names:
            self._names[name] = name
            self.infos.append({"name": name, "meta-type": "builtin", "json-type": _JSON[name]})
        return name

    def _array(self, element: str) -> str:
        name = f"[{element}]"
        if name not in self._names:
            self._names[name] = name
            self.infos.append({"name": name, "meta-type": "array", "element-type": element})
        return name

    def _alternate(self, kinds: Sequence[object]) -> dict[str, object]:
        return {"meta-type": "alternate", "members": [{"type": self.name_of(kind)} for kind in kinds]}

    def _object(self, members: Sequence[Member]) -> dict[str, object]:
        shown: list[dict[str, object]] = []
        for name, kind, optional in members:
            shown.append(
                {"name": name, "type": self.name_of(kind), **({"default": None} if optional else {})}
            )
        return {"meta-type": "object", "members": shown}

    def _options(self, options: Options) -> dict[str, object]:
        """A structure that is one of several: the common members, the tag's values, the others by value."""
        variants = options.variants()
        members = _members(options.base)
        common = {name for name, _, _ in members}
        if options.tag is None:
            return self._object(members)
        tags = Literal[tuple(variants)]  # type: ignore[valid-type]
        out = self._object(
            [(name, tags if name == options.tag else kind, opt) for name, kind, opt in members]
        )
        out["tag"] = options.tag
        out["variants"] = [
            {"case": case, "type": self._variant([m for m in _members(kind) if m[0] not in common])}
            for case, kind in variants.items()
        ]
        return out

    def _variant(self, members: Sequence[Member]) -> str:
        key = tuple((name, repr(kind), optional) for name, kind, optional in members)
        return self._entered(key, lambda: self._object(members)) if members else self.name_of(Empty)


def _plain(kind: object) -> object:
    """An annotated type without what is annotated, but for `Options`."""
    if get_origin(kind) is Annotated:
        inner, *extra = get_args(kind)
        return next((each for each in extra if isinstance(each, Options)), _plain(inner))
    return kind


def _members(kind: object) -> list[Member]:
    if is_typeddict(kind):
        hints = get_type_hints(kind)
        return [(name, hint, name not in kind.__required_keys__) for name, hint in hints.items()]  # type: ignore[attr-defined]
    assert isinstance(kind, type)
    fields = msgspec.structs.fields(kind)
    return [(field.encode_name, field.type, not field.required) for field in fields]


def schema(
    commands: Mapping[str, Command], events: Mapping[str, type[msgspec.Struct]], node_options: Options
) -> list[dict[str, object]]:
    """All of it: `node_options` are those that a child's place in a node's options takes."""
    found = Schema(node_options)
    for name, command in commands.items():
        found.add_command(name, command)
    for name, members in events.items():
        found.add_event(name, members)
    return found.infos
