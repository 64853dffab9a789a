"""qemu-io's commands for break points: `break EVENT TAG`, `remove_break TAG`, `resume TAG`, `wait_break TAG`."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, cast

from devmodels.blockbackend.node import BlockNode
from devmodels.blockbackend.permissions import Role


class Debugged(Protocol):
    """A node with break points (`BlkdebugNode`).  The methods raise OSError where something is not there."""

    def debug_breakpoint(self, event: str, tag: str) -> None:
        """Hold the next request that `event` is about."""
        ...

    def debug_remove_breakpoint(self, tag: str) -> None:
        """Drop the break point, and let go on who is held there."""
        ...

    def debug_resume(self, tag: str) -> None:
        """Let one go on."""
        ...

    def debug_is_suspended(self, tag: str) -> bool:
        """Whether a request is held at `tag`."""
        ...

    async def debug_wait(self, tag: str) -> None:
        """Return when one is held."""
        ...


async def _break(node: Debugged | None, event: str, tag: str) -> str:
    return _done(node, lambda there: there.debug_breakpoint(event, tag), "Could not set breakpoint")


async def _remove_break(node: Debugged | None, tag: str) -> str:
    return _done(node, lambda there: there.debug_remove_breakpoint(tag), f"Could not remove breakpoint {tag}")


async def _resume(node: Debugged | None, tag: str) -> str:
    return _done(node, lambda there: there.debug_resume(tag), "Could not resume request")


async def _wait_break(node: Debugged | None, tag: str) -> str:
    if node is not None:
        await node.debug_wait(tag)
    return ""


_COMMANDS: dict[str, tuple[Callable[..., Awaitable[str]], int]] = {
    "break": (_break, 2),
    "remove_break": (_remove_break, 1),
    "resume": (_resume, 1),
    "wait_break": (_wait_break, 1),
}
"""What each does, and how many arguments it takes."""

COMMANDS = frozenset(_COMMANDS)


async def debug_command(node: BlockNode, text: str) -> str:
    """Do one of `COMMANDS` at `node`, or at the first one below it that has break points; returns what qemu-io prints.

    That is nothing where all is well.  `wait_break` returns when a request is held.  KeyError where `text` is another
    command.
    """
    name, *arguments = text.split() or [""]
    command, wanted = _COMMANDS[name]
    if len(arguments) != wanted:
        return _miscounted(name, arguments, wanted)
    return await command(debugged(node), *arguments)


def debugged(node: BlockNode) -> Debugged | None:
    """The first node with break points from `node` down, by way of the children that stand for their parents."""
    at: BlockNode | None = node
    while at is not None and not hasattr(at, "debug_breakpoint"):
        at = next((edge.node for edge in at.children.values() if Role.PRIMARY in edge.role), None)
    return cast("Debugged | None", at)


def _done(node: Debugged | None, action: Callable[[Debugged], None], otherwise: str) -> str:
    if node is None:
        return f"{otherwise}: Operation not supported\n"
    try:
        action(node)
    except OSError as error:
        return f"{otherwise}: {os.strerror(error.errno or 0)}\n"
    return ""


def _miscounted(name: str, given: Sequence[str], wanted: int) -> str:
    return f"bad argument count {len(given)} to {name}, expected {wanted} arguments\n"
