"""qemu-io on one side, our nodes on the other: the same options, the same commands, what each of them says."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence

import pytest

from devmodels.blockbackend import Flags, Op
from tests.unit.blockbackend.support import Disk

_NUMBERS = {os.strerror(number): number for number in sorted(errno.errorcode, reverse=True)}


def need(*tools: str) -> None:
    """Skip the test where a tool is not installed; fail it on CI."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        text = f"not installed: {', '.join(missing)}"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)


def theirs(
    options: dict[str, object], commands: Sequence[str], objects: Sequence[str] = ()
) -> tuple[list[int], bool]:
    """The errno of each command but the flushes, of which qemu-io says nothing, and whether any command failed."""
    arguments = [word for each in objects for word in ("--object", each)]
    arguments += [word for command in commands for word in ("-c", command)]
    answer = subprocess.run(
        # Without -t each write would be followed by a flush.
        ["qemu-io", "-t", "writeback", *arguments, "json:" + json.dumps(options)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "can't open" not in answer.stderr, answer.stderr
    found = []
    for line in (answer.stdout + answer.stderr).splitlines():
        if failed := re.match(r"(read|write|discard) failed: (.*)", line):
            found.append(_NUMBERS[failed[2]])
        elif re.match(r"(read|wrote|discard) \d+/\d+ bytes", line):
            found.append(0)
    return found, answer.returncode != 0


def refused(options: dict[str, object]) -> str:
    """What qemu-io says of options that it does not take; empty where it does."""
    answer = subprocess.run(
        ["qemu-io", "-c", "help", "json:" + json.dumps(options)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return answer.stderr.strip()


def do(disk: Disk, command: str) -> int:
    """One of qemu-io's commands, as far as the tests use them, on our disk; its errno."""
    name, *words = command.split()
    flags, pattern = Flags.NONE, 0xCD
    zero = False
    while words and words[0].startswith("-"):
        match words.pop(0):
            case "-z":
                zero = True
            case "-u":
                flags |= Flags.MAY_UNMAP
            case "-f":
                flags |= Flags.FUA
            case "-n":
                flags |= Flags.NO_FALLBACK
            case "-P":
                pattern = int(words.pop(0), 0)
    if name == "flush":
        return disk.do(Op.FLUSH)
    offset, length = (int(word.removesuffix("k")) << (10 if word.endswith("k") else 0) for word in words)
    if name == "read":
        return disk.do(Op.READ, offset, length)
    if name == "discard":
        return disk.do(Op.DISCARD, offset, length)
    assert name == "write"
    if zero:
        return disk.do(Op.WRITE_ZEROES, offset, length, flags=flags)
    return disk.write(offset, bytes([pattern]) * length, flags)


def ours(disk: Disk, commands: Sequence[str]) -> tuple[list[int], bool]:
    """As `theirs`."""
    found = [(do(disk, command), command) for command in commands]
    return [each for each, command in found if command != "flush"], any(each for each, _ in found)
