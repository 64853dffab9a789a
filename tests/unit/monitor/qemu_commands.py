"""QEMU's commands for storage, by name: what docs/qmp.md has a row for."""

from __future__ import annotations

_STORAGE_DAEMON = """
block-commit block-dirty-bitmap-add block-dirty-bitmap-clear block-dirty-bitmap-disable block-dirty-bitmap-enable
block-dirty-bitmap-merge block-dirty-bitmap-remove block-export-add block-export-del block-job-cancel
block-job-complete block-job-dismiss block-job-finalize block-job-pause block-job-resume block-job-set-speed
block-set-write-threshold block-stream block_resize blockdev-add blockdev-backup blockdev-create blockdev-del
blockdev-mirror blockdev-reopen blockdev-snapshot blockdev-snapshot-delete-internal-sync
blockdev-snapshot-internal-sync blockdev-snapshot-sync change-backing-file chardev-add chardev-change chardev-remove
chardev-send-break drive-backup drive-mirror job-cancel job-complete job-dismiss job-finalize job-pause job-resume
nbd-server-add nbd-server-remove nbd-server-start nbd-server-stop object-add object-del qmp_capabilities qom-get
qom-list qom-list-properties qom-list-types qom-set query-block query-block-exports query-block-jobs query-blockstats
query-chardev query-chardev-backends query-commands query-jobs query-named-block-nodes query-qmp-schema query-version
quit ringbuf-read ringbuf-write transaction x-blockdev-amend x-blockdev-change x-blockdev-set-iothread
x-debug-block-dirty-bitmap-sha256 x-debug-query-block-graph
"""
STORAGE_DAEMON = _STORAGE_DAEMON.split()
"""Those of qemu-storage-daemon 7.2."""

_SYSTEM = """
block-latency-histogram-set block_set_io_throttle blockdev-change-medium blockdev-close-tray blockdev-insert-medium
blockdev-open-tray blockdev-remove-medium cont device-list-properties device_add device_del eject
human-monitor-command query-iothreads query-pr-managers query-status stop system_reset
"""
SYSTEM = _SYSTEM.split()
"""Those of QEMU's system emulator 7.2 besides that are about storage, or that a machine is controlled by."""

NEWER = ["blockdev-set-active"]
"""Of later versions: 10.0."""
