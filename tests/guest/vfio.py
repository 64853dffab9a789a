"""PCI functions for the guest: `devmodels serve` with devices as vfio-user exports, and its monitor."""

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
    """Functions: those of `devices` that are on no bus, which have the ids `f0`, `f1`, …, a socket for each."""
    command = [sys.executable, "-m", "devmodels", "serve", "-v"]
    for node in nodes:
        command += ["--blockdev", json.dumps(node)]
    for device in devices:
        command += ["--device", device]
    functions = [device for device in devices if "bus=" not in device]
    sockets = [folder / ("vu.sock" if not number else f"vu{number}.sock") for number in range(len(functions))]
    for number, path in enumerate(sockets):
        command += [
            "--export",
            f"type=vfio-user,id=e{number},device=f{number},addr.type=unix,addr.path={path}",
        ]
    command += ["--chardev", f"socket,id=c0,path={folder / 'qmp.sock'},server=on,wait=off"]
    command += ["--monitor", "chardev=c0", *more]
    return offered("devmodels", command, folder, "vfio", tuple(sockets[1:]))
