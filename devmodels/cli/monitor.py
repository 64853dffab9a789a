"""`devmodels monitor`: a readable shell over a QMP monitor, ours or QEMU's."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import os
import shlex
import sys
import termios
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from qemu.qmp import ConnectError, QMPClient, QMPError

from devmodels.cli.monitor_show import show
from devmodels.cli.monitor_words import Words
from devmodels.options import OptionError, one_line

LEAVE = ("exit", ".q")


class Shell:
    """One session: `words` know the other side's commands."""

    def __init__(self, client: QMPClient, *, as_json: bool) -> None:
        self.client = client
        self.words = Words([])
        self._as_json = as_json

    async def learn(self) -> None:
        """Ask what commands there are and what they take."""
        answer = await self._ask("query-qmp-schema", {})
        try:
            self.words = Words(answer.get("return", []))
        except (AttributeError, KeyError, TypeError):
            _complain("the other side's query-qmp-schema is none: commands are not known here")

    async def do(self, line: Sequence[str]) -> bool:
        """Carry out a line and show its answer; False where it is an error."""
        if line[0] == "help":
            sys.stdout.write(self.words.help(line[1:]))
            return True
        try:
            name, arguments = self.words.command(line)
        except OptionError as error:
            _complain(str(error))
            return False
        answer = await self._ask(name, arguments)
        if "error" in answer:
            _complain(f"{name}: {answer['error']['desc']}")
            return False
        result = answer["return"]
        if self._as_json:
            _show_json(result)
        elif name == "human-monitor-command":
            sys.stdout.write(str(result).replace("\r\n", "\n"))
            return not str(result).startswith(("Error:", "unknown command:"))
        else:
            try:
                show(name, result)
            except (AttributeError, KeyError, TypeError):
                # Another side's answer may have another shape.
                _show_json(result)
        return True

    async def _ask(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        # The answer as it is: an error's text is for the user, and no exception here.
        return dict(await self.client._raw({"execute": name, "arguments": arguments}))

    async def tell_events(self) -> None:
        """Show events as they come."""
        async for event in self.client.events:
            stamp: Any = event.get("timestamp", {})
            at = datetime.datetime.fromtimestamp(stamp.get("seconds", 0)).strftime("%H:%M:%S")
            data = msgspec.json.encode(event.get("data", {})).decode() if event.get("data") else ""
            sys.stdout.write(f"[{at}] {event['event']} {data}".rstrip() + "\n")
            sys.stdout.flush()

    async def read_lines(self) -> None:
        """Until the end of input, `exit`, or the other side's end."""
        with contextlib.suppress(ImportError):
            import readline

            readline.set_completer(self.words.complete)
            readline.set_completer_delims(" ")
            readline.parse_and_bind("tab: complete")
        events = asyncio.create_task(self.tell_events())
        lines = _Lines("(qmp) " if sys.stdin.isatty() else "")
        try:
            while (text := await lines.next()) is not None:
                try:
                    line = shlex.split(text)
                except ValueError as error:
                    _complain(str(error))
                    continue
                if line and line[0] in LEAVE:
                    return
                if line:
                    await self.do(line)
                # Let events that came with the answer be shown before the next prompt.
                await asyncio.sleep(0)
        finally:
            events.cancel()


class _Lines:
    """Lines of the standard input, each asked for; read by a thread that nobody waits for."""

    def __init__(self, prompt: str) -> None:
        self._prompt = prompt
        self._loop = asyncio.get_running_loop()
        self._wanted = threading.Semaphore(0)
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    async def next(self) -> str | None:
        """The next line; None at the end."""
        self._wanted.release()
        return await self._lines.get()

    def _read(self) -> None:
        line: str | None = ""
        while line is not None:
            self._wanted.acquire()
            try:
                line = input(self._prompt)
            except (EOFError, OSError, ValueError):
                line = None
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(self._lines.put_nowait, line)


def _show_json(result: object) -> None:
    text = msgspec.json.format(msgspec.json.encode(result), indent=2).decode()
    sys.stdout.write(f"{text}\n")


def _complain(text: str) -> None:
    sys.stderr.write(f"devmodels: {one_line(text)}\n")


async def _session(path: Path, line: Sequence[str], as_json: bool) -> int:
    client = QMPClient("devmodels-monitor")
    try:
        await client.connect(str(path))
    except ConnectError as error:
        cause = error.exc
        reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else one_line(str(error))
        raise OptionError(f"cannot connect to {str(path)!r}: {reason}") from None
    shell = Shell(client, as_json=as_json)
    status = 0
    try:
        await shell.learn()
        if line:
            status = 0 if await shell.do(line) else 1
        else:
            await shell.read_lines()
    except (QMPError, EOFError):
        _complain("the other side has gone")
        status = 1
    finally:
        with contextlib.suppress(QMPError, EOFError, OSError):
            await client.disconnect()
    return status


def run(path: Path, line: Sequence[str], *, as_json: bool) -> int:
    """The exit status: 0 done, 1 refused by the other side; OptionError where nobody listens at `path`."""
    # What the library says of a connection that ends is said by us.
    logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)
    terminal = termios.tcgetattr(sys.stdin) if sys.stdin.isatty() else None
    try:
        return asyncio.run(_session(path, line, as_json))
    except KeyboardInterrupt:
        if terminal is not None:
            termios.tcsetattr(sys.stdin, termios.TCSANOW, terminal)
        sys.stdout.write("\n")
        sys.stdout.flush()
        # The thread that reads the terminal would be waited for.
        os._exit(130)
