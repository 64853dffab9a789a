"""The stand-in: its client's requests, its command line, its monitor, state that comes from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from devmodels.options import OptionError
from fuzz.choices import Choices
from fuzz.standin import machines
from fuzz.standin.lines import line
from fuzz.standin.session import Session, place_bars
from fuzz.target import Run

LINES = 40
"""Of a session, at most."""
PIECES = (1, 2, 7, 64, 1 << 20)
"""Bytes that come at once."""


def qtest() -> Run:
    """Sessions in any pieces: each line has one answer, and what lines tell is interrupts; then a reset."""
    before = {}
    for name, words in machines.MACHINES.items():
        with machines.machine(words) as assembling:
            before[name] = machines.registers(assembling.board) if name != "none" else {}

    def run(data: bytes) -> None:
        choices = Choices(data)
        name = choices.choice(list(machines.MACHINES))
        with machines.machine(machines.MACHINES[name]) as assembling:
            board = assembling.board
            session = Session(choices, place_bars(board) if name != "none" else [])
            asked, answered = 0, 0
            for _ in range(LINES):
                if not choices.left:
                    break
                text = session.line() + b"\n"
                piece = choices.choice(PIECES)
                for at in range(0, len(text), piece):
                    assert board.qtest.feed(text[at : at + piece])
                asked += text.count(b"\n")
                answered += len(machines.answers(machines.said(board)))
                assert answered == asked, text
                if not choices.randrange(4):
                    board.context.run_ready()
                    assert not machines.answers(machines.said(board)), "an answer to nothing"
            machines.check_reset(board, before[name])

    return run


def command_line() -> Run:
    """A line of options: a machine that works, or one line that says why not."""

    def run(data: bytes) -> None:
        try:
            with machines.machine(line(Choices(data))) as assembling:
                board = assembling.board
                assert machines.ask(board, b"endianness") == b"OK little"
                board.context.run_ready()
                board.machine.reset()
                board.context.run_ready()
                assert machines.ask(board, b"inb 0x1f7").startswith(b"OK 0x00")
        except OptionError as error:
            if not str(error):
                raise AssertionError("a refusal without a reason") from error

    return run


def control() -> Run:
    """Commands on the control socket while requests come: each is answered in its turn; then a reset.

    What waits for a break point or for time may have no answer yet, and nor have those behind it.
    """
    from fuzz.standin.monitor import HELLO, NOISE, Client, command

    def run(data: bytes) -> None:
        choices = Choices(data)
        name = choices.choice(list(machines.MACHINES))
        with machines.machine(machines.MACHINES[name]) as assembling:
            board = assembling.board
            session = Session(choices, place_bars(board) if name != "none" else [])
            client = Client(assembling)
            client.say(HELLO)
            client.read()
            asked, answered = list[int](), list[object]()
            for number in range(LINES):
                if not choices.left:
                    break
                kind = choices.randrange(16)
                if kind == 15:
                    assert board.qtest.feed(session.line() + b"\n")
                elif kind == 14:
                    # What is broken may swallow what follows, up to the end of a line.
                    client.say(choices.choice(NOISE) + b"\n")
                else:
                    client.say(json.dumps(command(choices) | {"id": number}).encode())
                    asked.append(number)
                answered += [each["id"] for each in client.read() if "id" in each]
            assert answered == [each for each in asked if each in answered], "answers in another order"
            machines.check_reset(board, {})
            client.close()

    return run


def migration() -> Run:
    """A machine waits and something comes: its state, or one line says why not; then a reset."""
    from fuzz.standin.moves import CHANGES, Waiting, busy

    good = {name: busy(name) for name in machines.MACHINES if name != "none"}

    def run(data: bytes) -> None:
        choices = Choices(data)
        name, change = choices.choice(list(good)), choices.choice(CHANGES)
        piece = choices.choice((1 << 20, 5000, 1000))
        whole = change(good[name], choices)
        words = [*machines.MACHINES[name], "-incoming", "defer"]
        with machines.machine(words) as assembling, TemporaryDirectory() as folder:
            board = assembling.board
            before = machines.registers(board)
            waiting = Waiting(assembling, Path(folder))
            waiting.take(whole, piece)
            status = waiting.status
            assert (status, len(waiting.problems)) in (("failed", 1), ("completed", 0)), waiting.problems
            if status == "completed":
                machines.check_reset(board, before)
            else:
                assert not board.assembly.run_state.running
                assert waiting.problems[0]
            waiting.close()

    return run
