"""Two SCSI hosts of a Linux guest share a logical unit: reservations of one are conflicts of the other."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.unit.exports.iscsi.served import TARGET, serving

from . import transcript
from .backends import offered
from .conftest import Check, needed
from .scsi import items, pattern
from .vm import GuestRun, run_guest

pytestmark = pytest.mark.guest
PAGE = transcript.SCSI


def daemon(folder: Path, port: int) -> list[str]:
    """The command for two hosts, each with an iSCSI initiator of its own; the one at `vu.sock` is the last made."""
    command = [sys.executable, "-m", "devmodels", "serve", "-v"]
    for name, path in (("b", "other.sock"), ("a", "vu.sock")):
        node = {
            "driver": "iscsi",
            "node-name": name,
            "transport": "tcp",
            "portal": f"127.0.0.1:{port}",
            "target": TARGET,
            "initiator-name": f"iqn.2026-11.org.example:{name}",
        }
        export = (
            f"type=vhost-user-scsi,id=e{name},node-name={name},writable=on,reservations=passthrough,"
            f"addr.type=unix,addr.path={folder / path}"
        )
        command += ["--blockdev", json.dumps(node), "--export", export]
    return command


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> GuestRun:
    folder = tmp_path_factory.mktemp("hosts")
    other = [
        *("-chardev", f"socket,id=other,path={folder / 'other.sock'}"),
        *("-device", "vhost-user-scsi-pci,chardev=other"),
    ]
    with (
        needed(),
        serving(folder) as served,
        offered("devmodels", daemon(folder, served.port), folder, "scsi") as backend,
    ):
        return run_guest(
            "scsi-hosts.sh", backend, files={"host.bin": pattern(6, 4096)}, arguments=other, timeout=240
        )


@pytest.mark.parametrize("item", items("scsi-hosts.sh"))
def test_two_hosts_share_a_unit(shared: GuestRun, documented: Check, item: str) -> None:
    """Two hosts

    Each host's disk is an `iscsi` node with an initiator name of its own, on one logical unit of an iSCSI export of
    ours; `reservations=passthrough` leaves reservations to that.
    """
    documented(shared, item)
