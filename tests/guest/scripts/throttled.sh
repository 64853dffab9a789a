# How much comes through when the disk is in a throttle group. /expected has lines of:
#   name, options of fio's, what of fio's terse output is summed (iops or bw), what it must be, within a twentieth.

# measured WHAT EXPECTED OPTIONS...: fio at full load for some seconds, after what a burst may have left is used up.
measured() {
    what=$1; expected=$2; shift 2
    /sbin/fio --name=measured --filename=$DISK --direct=1 --ioengine=libaio --iodepth=32 --size=64m \
        --time_based --ramp_time=1 --runtime=8 --minimal "$@" >/tmp/fio || { cat /tmp/fio; return 1; }
    # Terse output, version 3: bandwidth in KiB/s and operations a second, of reads and of writes.
    awk -F ';' -v what="$what" -v expected="$expected" '$1 == 3 {
            found = what == "iops" ? $8 + $49 : ($7 + $48) * 1024
            printf "%d instead of %d: %+.2f %%\n", found, expected, (found / expected - 1) * 100
            wrong = found < expected * 0.95 || found > expected * 1.05
            seen = 1
        }
        END { exit wrong || !seen }' /tmp/fio
}

while read -r name what expected options; do
    # shellcheck disable=SC2086 # several options
    item "$name" measured "$what" "$expected" $options
done </expected
