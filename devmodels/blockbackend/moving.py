"""Nodes move to another context, with all nodes and backends that hang together with them.

A node, its children and its users belong to one context, whose thread alone may use them.  They move together, drained:
what has begun is awaited, what comes meanwhile waits and goes on where they are then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from devmodels.blockbackend.backend import BlockBackend
from devmodels.blockbackend.drain import below, drained
from devmodels.blockbackend.node import BlockNode
from devmodels.iocontext import Coro, Future, Hold, IoContext, IoThread

T = TypeVar("T")


class PinnedError(Exception):
    """Somebody who would have to move cannot; the text says who."""


async def move_to(home: IoContext, node: BlockNode, source: IoThread | None, target: IoThread | None) -> None:
    """Let `node`, and all that hangs together with it, go from one thread to another; None is `home`, where this runs.

    PinnedError, and nothing changed, where a device or an export works with it: those stay where they are.  OSError,
    and nothing changed, where a driver does not get there what it needs.
    """
    before = node.context
    context = home if target is None else target.context
    nodes, _ = _together(node)
    section = drained(*nodes)
    await _on(home, source, section.__aenter__())
    with Hold(thread for thread in (source, target) if thread is not None):
        moved: list[BlockNode | BlockBackend] = []
        try:
            nodes, backends = _together(node)
            everybody: list[BlockNode | BlockBackend] = [*nodes, *backends]
            for each in everybody:
                each.moved(context)
                moved.append(each)
        except BaseException:
            for each in moved:
                each.moved(before)
            raise
        finally:
            # It suspends nowhere: those who waited go on, on what is held here.
            await section.__aexit__(None, None, None)


def _together(node: BlockNode) -> tuple[list[BlockNode], list[BlockBackend]]:
    """All nodes and all backends that hang together with `node`; PinnedError where one of these has to stay."""
    nodes: dict[BlockNode, None] = {}
    backends: dict[BlockBackend, None] = {}
    todo = [node]
    while todo:
        for each in below(todo):
            nodes[each] = None
        users = [edge.user_object for each in nodes for edge in each.parents]
        for user in users:
            if isinstance(user, BlockBackend) and not user.pinned:
                backends[user] = None
            elif not isinstance(user, BlockNode):
                raise PinnedError(f"{user.description} works with it")
        todo = [user for user in users if isinstance(user, BlockNode) and user not in nodes]
    return list(nodes), list(backends)


async def _on(home: IoContext, thread: IoThread | None, coro: Coro[T]) -> T:
    """Run `coro` on a thread and wait for it at `home`."""
    if thread is None:
        return await coro
    future: Future[T] = Future(home)

    def done(result: T | None, error: BaseException | None) -> None:
        def tell() -> None:
            if error is None:
                future.set_result(result)  # type: ignore[arg-type]
            else:
                future.set_error(error)

        home.post(tell)

    thread.context.post(lambda: _start(thread.context, coro, done))
    return await future


def _start(context: IoContext, coro: Coro[T], done: Callable[[T | None, BaseException | None], None]) -> None:
    context.start(coro, done)
