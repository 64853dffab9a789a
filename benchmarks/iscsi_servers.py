"""iSCSI targets to compare: ours and `tgtd`, each with one disk, for as long as a block lasts."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.peers import START_SECONDS, Running, ServerError

TARGET = "iqn.2026-11.org.example:bench"
TGTD = "tgtd"


@contextmanager
def ours(blockdev: Mapping[str, object], export: str = "writable=on") -> Iterator[tuple[str, Running]]:
    """`devmodels serve` with a node of these options; the URL of the disk, and the process."""
    port = free_port()
    where = f"addr.type=inet,addr.host=127.0.0.1,addr.port={port}"
    command = [sys.executable, "-m", "devmodels", "serve"]
    command += ["--blockdev", json.dumps({**blockdev, "node-name": "d0"})]
    command += ["--export", f"type=iscsi,id=e0,node-name=d0,target={TARGET},{where},{export}"]
    with _process(command, port) as running:
        yield f"iscsi://127.0.0.1:{port}/{TARGET}/0", running


@contextmanager
def tgtd(image: Path, parameters: str = "", options: Sequence[str] = ()) -> Iterator[tuple[str, Running]]:
    """`tgtd` over a file; `options` of the logical unit as it is made, `parameters` of the one that is there."""
    if shutil.which(TGTD) is None:
        raise ServerError(f"{TGTD} is not on the PATH")
    port = free_port()
    control = str(port % 1000 + 100)
    unit = "--mode logicalunit --tid 1 --lun 1"
    with _process([TGTD, "-f", "-C", control, "--iscsi", f"portal=127.0.0.1:{port}"], port) as running:
        for words in (
            f"--mode target --op new --tid 1 -T {TARGET}",
            f"{unit} --op new -b {image} {' '.join(options)}",
            f"{unit} --op update --params {parameters}" if parameters else "",
            "--mode target --op bind --tid 1 -I ALL",
        ):
            command = ["tgtadm", "-C", control, "--lld", "iscsi", *words.split()]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
            if words and done.returncode:
                raise ServerError(f"tgtadm: {done.stderr.strip()}")
        yield f"iscsi://127.0.0.1:{port}/{TARGET}/1", running


@contextmanager
def _process(command: Sequence[str], port: int) -> Iterator[Running]:
    """A server that listens at `port` until the block ends."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + START_SECONDS
            while not listens(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise ServerError(f"{command[0]}: {log.read().strip().rpartition(chr(10))[2]}")
                time.sleep(0.01)
            yield Running(Path(), process.pid)
        finally:
            process.kill()  # tgtd does not end while it has targets.
            process.wait()


def listens(port: int) -> bool:
    """Whether somebody listens at that port of this host."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A port of this host at which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
