"""A SCSI host for the guest: `devmodels serve` with a logical unit for each image, and its monitor."""

from __future__ import annotations

import json
import os
import random
import re
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from guestsim.targets.qmp import QmpClient

from .backends import Backend, offered
from .initramfs import SCRIPTS

MIB = 1 << 20


def pattern(seed: int, length: int) -> bytes:
    """Bytes without a structure of their own, the same for the same seed."""
    return random.Random(seed).randbytes(length)


def image(folder: Path, name: str, content: bytes, size: int = 0) -> Path:
    """A file that begins with `content`, of `size` bytes where that is given."""
    path = folder / name
    path.write_bytes(content)
    if size:
        os.truncate(path, size)
    return path


def items(script: str) -> list[str]:
    """What a script reports, where it names each on a line of its own."""
    return re.findall(r"^item (\S+)", (SCRIPTS / script).read_text(), re.MULTILINE)


def all_items(script: str) -> list[str]:
    """The same with what it takes from other scripts, in the order of the run; each once."""
    text = (SCRIPTS / script).read_text()
    found: list[str] = []
    for item, part in re.findall(r"^(?:item (\S+)|\. /scripts/(\S+))", text, re.MULTILINE):
        found += all_items(part) if part else [item]
    return list(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Unit:
    """A logical unit over an image; `options` are further ones of its export.

    `driver` makes a node of the image, and `node` are the options of one over that, whose child `below` it is.
    """

    image: Path
    target: int = 0
    lun: int = 0
    options: str = ""
    read_only: bool = False
    driver: str = "file"
    node: dict[str, object] = field(default_factory=dict)
    below: str = "file"

    @property
    def name(self) -> str:
        """What the node is called, and with an `e` before it the export."""
        return f"d{self.target}.{self.lun}"

    def blockdev(self) -> dict[str, object]:
        """The node, over one for the file where there is more than that."""
        file: dict[str, object] = {"driver": self.driver, "filename": str(self.image)}
        file |= {"read-only": True} if self.read_only else {"discard": "unmap"}
        if not self.node:
            return {**file, "node-name": self.name}
        over = {**self.node, "discard": "unmap", "node-name": self.name}
        return {**over, self.below: {**file, "node-name": f"{self.name}-file"}}

    def reopened(self, **options: object) -> dict[str, object]:
        """The node with other options, for blockdev-reopen."""
        return {**self.blockdev(), self.below: f"{self.name}-file", **options}

    def export(self, folder: Path) -> str:
        """The export."""
        more = f",{self.options}" if self.options else ""
        return (
            f"type=vhost-user-scsi,id=e{self.name},node-name={self.name},writable={'off' if self.read_only else 'on'},"
            f"scsi-id={self.target},lun={self.lun},addr.type=unix,addr.path={folder / 'vu.sock'}{more}"
        )


def scsi_serve(
    units: Sequence[Unit], folder: Path, queues: int = 1, more: Sequence[str] = ()
) -> AbstractContextManager[Backend]:
    """The units as one host at `folder`'s socket, and a monitor beside it."""
    command = [sys.executable, "-m", "devmodels", "serve", "-v"]
    for number, unit in enumerate(units):
        command += ["--blockdev", json.dumps(unit.blockdev())]
        command += ["--export", unit.export(folder) + ("" if number else f",num-queues={queues}")]
    command += ["--chardev", f"socket,id=c0,path={folder / 'qmp.sock'},server=on,wait=off"]
    command += ["--monitor", "chardev=c0", *more]
    return offered("devmodels", command, folder, "scsi")


@contextmanager
def monitor(folder: Path) -> Iterator[QmpClient]:
    """A session with the daemon's monitor."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(folder / "qmp.sock"))
        client = QmpClient(connection.dup(), lambda: "the daemon has gone")
        try:
            yield client
        finally:
            client.close()
