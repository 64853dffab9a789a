# What libata sends to its devices, by its own trace of commands.

TRACING=/sys/kernel/tracing
grep -q " $TRACING " /proc/mounts || mount -t tracefs none $TRACING

# watched COMMAND...: runs it; what was issued meanwhile is in /tmp/issued, a line each.
watched() {
    note "$@"
    echo >$TRACING/trace
    echo 1 >$TRACING/events/libata/ata_qc_issue/enable
    status=0
    "$@" >/tmp/out 2>&1 || status=$?
    echo 0 >$TRACING/events/libata/ata_qc_issue/enable
    grep ata_qc_issue: $TRACING/trace >/tmp/issued || true
    return $status
}

# issued COMMAND: how many, by libata's name.
issued() { grep -c "cmd=$1" /tmp/issued || true; }

# aborted COMMAND...: hdparm has the disk do it, which aborts it; hdparm, to which libata says that by fixed format sense
# data, makes no exit status of it.
aborted() {
    ran "$@"
    shows "sb\[\]:  70 00 0b 00 00 00 00 0a 04 51"
}
