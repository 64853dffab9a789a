"""Targets in processes of their own: `tgtd`, and our own daemon."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from benchmarks.iscsi_servers import free_port, listens
from tests.unit.blockbackend.qemuio import need

TGTD_TARGET = "iqn.2026-11.org.example:tgtd"


class Tgtd:
    """`tgtd` with LUN 1 over an image; it can be ended and begun again at the same port.

    `chap`: user and secret that an initiator needs; `proof`: those of the target's own.
    """

    def __init__(
        self,
        image: Path,
        *,
        chap: tuple[str, str] | None = None,
        proof: tuple[str, str] | None = None,
        parameters: str = "",
    ) -> None:
        need("tgtd", "tgtadm")
        self.image = image
        self._chap = chap
        self._proof = proof
        self._parameters = parameters
        self.port = free_port()
        self._control = str(self.port % 20000 + 100)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def options(self) -> dict[str, object]:
        """A node's options for it."""
        return {
            "driver": "iscsi",
            "transport": "tcp",
            "portal": f"127.0.0.1:{self.port}",
            "target": TGTD_TARGET,
            "lun": 1,
            "node-name": "i0",
            "discard": "unmap",
        }

    @property
    def url(self) -> str:
        """For other people's initiators."""
        return f"iscsi://127.0.0.1:{self.port}/{TGTD_TARGET}/1"

    def start(self) -> None:
        """Begin, or begin again."""
        portal = f"portal=127.0.0.1:{self.port}"
        self._process = subprocess.Popen(
            ["tgtd", "-f", "-C", self._control, "--iscsi", portal],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while not listens(self.port):
            assert self._process.poll() is None, "tgtd has ended"
            assert time.monotonic() < deadline, "tgtd does not listen"
            time.sleep(0.02)
        self.tell(f"--mode target --op new --tid 1 -T {TGTD_TARGET}")
        self.tell(f"--mode logicalunit --op new --tid 1 --lun 1 -b {self.image}")
        if self._parameters:
            self.tell(f"--mode logicalunit --op update --tid 1 --lun 1 --params {self._parameters}")
        for found, kind in ((self._chap, ""), (self._proof, " --outgoing")):
            if found is not None:
                self.tell(f"--mode account --op new --user {found[0]} --password {found[1]}")
                self.tell(f"--mode account --op bind --tid 1 --user {found[0]}{kind}")
        self.tell("--mode target --op bind --tid 1 -I ALL")

    def tell(self, words: str) -> None:
        """Have `tgtadm` do something."""
        command = ["tgtadm", "-C", self._control, "--lld", "iscsi", *words.split()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr

    def stop(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()  # It does not end by itself while it has targets.
            self._process.wait()
            self._process = None
