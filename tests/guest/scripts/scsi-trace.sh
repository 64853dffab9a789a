# What the kernel sends to its disks, by its own trace of commands.

TRACING=/sys/kernel/tracing
grep -q " $TRACING " /proc/mounts || mount -t tracefs none $TRACING

# watched COMMAND...: runs it; the CDBs that were sent meanwhile are in /tmp/sent, one a line, in hex.
watched() {
    note "$@"
    echo >$TRACING/trace
    echo 1 >$TRACING/events/scsi/scsi_dispatch_cmd_start/enable
    status=0
    "$@" >/tmp/out 2>&1 || status=$?
    echo 0 >$TRACING/events/scsi/scsi_dispatch_cmd_start/enable
    sed -n 's/.* raw=\([0-9a-f ]*\)).*/\1/p' $TRACING/trace >/tmp/sent
    return $status
}

# sent CDB: how many that begin so.
sent() { grep -c "^$1" /tmp/sent || true; }
