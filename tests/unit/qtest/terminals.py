"""Keys for the human monitor: of the stand-in, and of QEMU."""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

KEYS = [
    b"abc\x01x",
    b"abc\x1b[D\x1b[Dx\x1b[C\x1b[Cy",
    b"abc\x7f\x7f\x08\x08\x08",
    b"foo bar\x17baz",
    b" foo\x17bar\x1b[D\x1b[D\x17",
    b"foo  \x17w",
    b" \x17 w",
    b"abc\x01\x04\x05\x04",
    b"abc\x1b[1~x\x1b[4~y\x1b[1~\x1b[3~\x1b[12~\x1b[5D",
    b"abc\x1bOHx\x1bOFy\x1bODz\x1bOCz\x1bOAz\x1bOBz\x1b[Hz",
    b"ab\x0cc\x1b[D\x0c",
    b"ab\x03\x10\x0e\x15\x0b\x00c",
    b"a\x1b\x1b[Db\x1bxc\x1b[1xd\x1b[ze",
    b"\xc3\xa9z\x9bDy",
    b"quiet\r\n",
    b"stop\ncont\n\x1b[A\x1b[A\x1b[A\x1b[B\x1b[B\x1b[B",
    b"v\nw\nv\n\x1b[A\x1b[A\x1b[A",
    b"\x1b[A\x1b[A!\n\x1b[F\x1b[E",
    b"a\x1b[Bb",
    b"info status",
    b"help nothing",
    b"info nothing",
    b"  info   nothing",
    b"  stop   now",
    b"c" * 100 + b"\x01" + b"d",
]
_PIECES = [b"a", b"b", b" ", b"\x01", b"\x04", b"\x05", b"\x08", b"\x17", b"\r", b"\x0c"] + [
    b"\x1b[" + key for key in (b"A", b"B", b"C", b"D", b"1~", b"3~", b"4~")
]


def random_keys(seed: int, count: int) -> bytes:
    """Keys that edit lines of no sense."""
    pick = random.Random(seed)
    return b"".join(pick.choices(_PIECES, weights=[4, 4, 3, *[1] * (len(_PIECES) - 3)], k=count))


def said_to(program: Sequence[str], keys: bytes) -> bytes:
    """All that a program with `-monitor stdio` says to keys, and `quit` behind them; without QEMU's version."""
    words = [*program, "-S", "-nodefaults", "-display", "none", "-monitor", "stdio"]
    ended = subprocess.run(words, input=keys + b"\rquit\r", stdout=subprocess.PIPE, timeout=60, check=True)
    return re.sub(rb"^QEMU [0-9.]+ monitor", b"QEMU monitor", ended.stdout)


def chardevs(program: Sequence[str], folder: Path, port: int) -> dict[str, str]:
    """`info chardev` of monitors by their short forms, and what they are but for whether somebody is there."""
    words = [
        *("-qmp", f"unix:{folder}/q,server=on,wait=off", "-chardev", "null,id=n", "-qtest", "null"),
        *("-monitor", f"telnet:127.0.0.1:{port},server=on,wait=off"),
    ]
    said = said_to([*program, "-M", "none", *words], b"info chardev").decode()
    return dict(re.findall(r"(\w+): filename=(?:disconnected:)?(.*)\r", said))
