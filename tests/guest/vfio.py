"""A PCI function for the guest: `devmodels serve` with a device as a vfio-user export, and its monitor."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from .backends import Backend, offered


def file_node(image: Path, name: str = "d0") -> dict[str, object]:
    """A block node over an image."""
    return {"driver": "file", "filename": str(image), "node-name": name, "discard": "unmap"}


def vfio_serve(
    folder: Path,
    nodes: Sequence[Mapping[str, object]],
    devices: Sequence[str],
    more: Sequence[str] = (),
) -> AbstractContextManager[Backend]:
    """The first of `devices`, which has the id `f0`, at `folder`'s socket, with what others put on its bus."""
    command = [sys.executable, "-m", "devmodels", "serve", "-v"]
    for node in nodes:
        command += ["--blockdev", json.dumps(node)]
    for device in devices:
        command += ["--device", device]
    export = f"type=vfio-user,id=e0,device=f0,addr.type=unix,addr.path={folder / 'vu.sock'}"
    command += ["--export", export, *more]
    command += ["--chardev", f"socket,id=c0,path={folder / 'qmp.sock'},server=on,wait=off"]
    command += ["--monitor", "chardev=c0"]
    return offered("devmodels", command, folder, "vfio")
