"""Clients of a program over its sockets, one after the other: of the stand-in's, and of QEMU's."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

GREETED = b'{"execute": "qmp_capabilities"}\n'


def connected(path: Path) -> socket.socket:
    """A connection to a server that is about to listen."""
    deadline = time.monotonic() + 60
    while True:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(60)
        try:
            client.connect(str(path))
        except OSError:
            client.close()
            assert time.monotonic() < deadline
        else:
            return client


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


RAISE = b"irq_intercept_in ioapic\nset_irq_in ioapic unnamed-gpio-in 5 1\n"
LOWER = b"set_irq_in ioapic unnamed-gpio-in 5 0\nset_irq_in ioapic unnamed-gpio-in 5 1\n"
CLIENTS = (
    (RAISE, b"OK\nIRQ raise 5\nOK\n"),
    (LOWER, b"OK\nIRQ raise 5\nOK\n"),  # It has heard of no line that was high.
    (b"endianness\n", b"OK little\n"),
)
"""What each says, and is answered."""


def check_clients_of_qtest(program: Sequence[str], folder: Path, *, wait: str) -> list[str]:
    """They come one after the other, and the control socket does not wait for the first one, either, with wait=off.

    Returns what the log has of their coming and going.
    """
    path, control, log = (folder / name for name in ("qtest", "qmp", "log"))
    command = [*program, "-M", "q35", "-nodefaults", "-display", "none", "-qtest-log", str(log)]
    command += [
        *("-qtest", f"unix:{path},server=on,wait={wait}"),
        "-qmp",
        f"unix:{control},server=on,wait=off",
    ]
    with subprocess.Popen(command) as process:
        try:
            if wait == "off":
                with connected(control) as client:
                    assert b'"QMP"' in client.recv(4096)
            for says, hears in CLIENTS:
                with connected(path) as client, client.makefile("rb") as answers:
                    client.sendall(says)
                    assert answers.read(len(hears)) == hears
            with connected(control) as client:
                assert b'"QMP"' in client.recv(4096)
                client.sendall(GREETED + b'{"execute": "quit"}\n')
                assert process.wait(60) == 0
        finally:
            process.kill()
    steps = [line for line in log.read_text().splitlines() if line.startswith("[I")]
    return [line.partition("] ")[2] for line in steps]
