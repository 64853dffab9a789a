"""What there is: `query-commands`, `query-qmp-schema`."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec
from msgspec import UNSET, UnsetType, field

from devmodels.monitor.block import BlockdevOptions
from devmodels.monitor.events import EVENTS
from devmodels.monitor.schema import schema
from devmodels.monitor.world import World


class CommandInfo(msgspec.Struct):
    """A command's name."""

    name: str


class SchemaInfoMember(msgspec.Struct):
    """A member: of an object with name and type, of an alternate with its type, of an enumeration with its name."""

    name: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    default: UnsetType | None = UNSET


class SchemaInfoVariant(msgspec.Struct):
    """What an object has besides where its tag is `case`."""

    case: str
    type: str


class SchemaInfo(msgspec.Struct, rename="kebab"):
    """A command, an event or a type."""

    name: str
    meta_type: Literal["builtin", "enum", "array", "object", "alternate", "command", "event"]
    json_type: str | UnsetType = UNSET
    values: list[str] | UnsetType = UNSET
    members: list[SchemaInfoMember] | UnsetType = UNSET
    element_type: str | UnsetType = UNSET
    tag: str | UnsetType = UNSET
    variants: list[SchemaInfoVariant] | UnsetType = UNSET
    arg_type: str | UnsetType = UNSET
    ret_type: str | UnsetType = UNSET
    features: list[str] | UnsetType = field(default=UNSET)


async def query_commands(world: World) -> list[CommandInfo]:
    """The commands that there are."""
    from devmodels.monitor.table import commands  # the table names this module

    return [CommandInfo(name) for name in commands(world)]


async def query_qmp_schema(world: World) -> list[SchemaInfo]:
    """Commands, events and all their types."""
    from devmodels.monitor.table import commands

    options = get_args(BlockdevOptions)[1]
    return msgspec.convert(schema(commands(world), EVENTS, options), list[SchemaInfo])
