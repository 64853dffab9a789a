"""QEMU's own client drives every command that there is, each with success, but for those of trays and media."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from devmodels.monitor.table import EVERYWHERE, WITH_MACHINE

from .support import DISK, MIB, NODE, Talk, in_machine
from .test_exports import options

FILTER = {"driver": "delay", "node-name": "f0", "file": "d1", "latency-ns": 0}
OURS = {"driver": "delay", "node-name": "f1", "latency-ns": 0}
NO_LIMITS = dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0)
GROUP = {"qom-type": "throttle-group", "id": "t0", "limits": {"bps-total": MIB}}


def session(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    return [
        ("query-version", {}),
        ("query-commands", {}),
        ("query-qmp-schema", {}),
        ("query-status", {}),
        ("stop", {}),
        ("cont", {}),
        ("system_reset", {}),
        ("blockdev-add", {**NODE, "node-name": "d1"}),
        ("blockdev-add", {**NODE, "node-name": "d2"}),
        ("query-named-block-nodes", {"flat": True}),
        ("x-debug-query-block-graph", {}),
        ("block_resize", {"node-name": "d1", "size": 2 * MIB}),
        ("blockdev-set-active", {"node-name": "d1", "active": False}),
        ("blockdev-set-active", {"node-name": "d1", "active": True}),
        ("object-add", GROUP),
        ("query-iothreads", {}),
        ("qom-list", {"path": "/objects"}),
        ("qom-get", {"path": "/objects/t0", "property": "limits"}),
        ("qom-set", {"path": "/objects/t0", "property": "limits", "value": {"iops-total": 5}}),
        ("object-del", {"id": "t0"}),
        ("device-list-properties", {"typename": "virtio-blk-pci"}),
        ("device_add", {**DISK, "id": "v1", "drive": "d1"}),
        ("query-block", {}),
        ("query-blockstats", {"query-nodes": True}),
        ("x-query-in-flight", {}),
        ("block_set_io_throttle", {"id": "v1", **NO_LIMITS, "iops": 100}),
        ("block-latency-histogram-set", {"id": "v1", "boundaries": [1000]}),
        ("blockdev-add", FILTER),
        ("x-blockdev-change", {"parent": "v1", "node": "f0"}),
        ("x-blockdev-change", {"parent": "v1", "child": "root"}),
        ("blockdev-reopen", {"options": [{**FILTER, "file": "d2"}]}),
        ("x-blockdev-insert-filter", {"options": OURS, "above": "d2"}),
        ("x-blockdev-remove-filter", {"node-name": "f1"}),
        ("x-blockdev-replace-node", {"node-name": "d2", "by": "d1"}),
        ("blockdev-del", {"node-name": "f0"}),
        ("human-monitor-command", {"command-line": 'qemu-io d2 "write 0 4k"'}),
        ("device_del", {"id": "v1"}),
        ("block-export-add", options(folder)),
        ("query-block-exports", {}),
        ("block-export-del", {"id": "e0", "mode": "hard"}),
        ("quit", {}),
    ]


TRAYS: list[tuple[str, dict[str, Any]]] = [
    ("blockdev-open-tray", {"id": "v0"}),
    ("blockdev-close-tray", {"id": "v0"}),
    ("blockdev-insert-medium", {"id": "v0", "node-name": "d0"}),
    ("blockdev-remove-medium", {"id": "v0"}),
    ("blockdev-change-medium", {"id": "v0", "filename": "x"}),
    ("eject", {"id": "v0"}),
]


def test_every_command(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        for name, arguments in TRAYS:
            assert (await talk.ask(name, arguments))["class"] == "GenericError"
        for name, arguments in session(tmp_path):
            # Raises where the answer is an error.
            await talk.client.execute(name, arguments)
        told = [name for name, _ in await talk.events()]
        assert told == [
            "STOP",
            "RESUME",
            "RESET",
            "DEVICE_DELETED",
            "DEVICE_DELETED",
            "BLOCK_EXPORT_DELETED",
            "SHUTDOWN",
        ]

    in_machine(tmp_path, story)
    driven = {name for name, _ in [*session(tmp_path), *TRAYS]}
    assert driven == set(EVERYWHERE) | set(WITH_MACHINE)
