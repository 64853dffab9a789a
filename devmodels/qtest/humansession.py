"""The human monitor at a terminal, a pipe or a socket: a prompt, lines, what they print."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import cast

from devmodels.monitor.channel import ObjectChannel
from devmodels.monitor.table import commands
from devmodels.monitor.world import World
from devmodels.options import one_line
from devmodels.qtest.lineeditor import LineEditor

log = logging.getLogger("devmodels.monitor")
PROMPT = b"(qemu) "


class HumanSession:
    """One client's session over a connected socket, which it owns; somebody has sent greeting and prompt.

    `on_end()` is called once when the client has left.  It works when the world's context does.
    """

    def __init__(self, sock: socket.socket, world: World, on_end: Callable[[], None]) -> None:
        self._world = world
        self._run = commands(world)["human-monitor-command"]
        self._channel = ObjectChannel(
            sock,
            world.context,
            self._line,
            on_end,
            splitter=LineEditor(PROMPT, lambda keys: self._channel.put(keys)),
            encode=bytes,
        )

    def close(self) -> None:
        """End the session. Idempotent."""
        self._channel.close()

    def _line(self, line: bytes) -> None:
        """Do it; what it prints, and the next prompt, go to the client, if that is still there."""

        async def serve() -> None:
            given = {"command-line": line.decode(errors="surrogateescape")}
            try:
                printed = cast(str, await self._run(self._world, given))
            except Exception as error:
                log.exception("a line of the human monitor failed")
                printed = f"Error: {type(error).__name__}: {one_line(str(error))}\r\n"
            text = printed.encode(errors="surrogateescape")
            if self._world.quit_requested:
                # No prompt, and nothing that was typed behind it is done.
                self._channel.put(text)
            else:
                self._channel.answer(text + PROMPT)

        self._world.context.start(serve())
