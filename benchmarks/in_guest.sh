# The same disk in several ways beside each other in one guest: fio on each, in turn. /ways has their names with what each
# is known as (virtio-blk; else by the vendor of its INQUIRY data, or how the name of its model begins), /loads a name and
# fio's options on each line; $rounds, $seconds and $hosts are in /expected.

. /expected

# device KNOWN-AS: the disk.
device() {
    [ "$1" = virtio-blk ] && { echo /dev/vda; return; }
    for each in /sys/block/sd*; do
        cat "$each"/device/vendor "$each"/device/model | grep -q "^$1" && echo /dev/"$(basename "$each")"
    done
}

# Requests a second, of fio's terse output: reads, or writes where there were none.
measured() {
    /sbin/fio --minimal --name=x --filename="$1" --direct=1 --ioengine=libaio --time_based --runtime="$seconds" \
        --ramp_time=0.3 --randrepeat=0 $2 >/tmp/terse
    awk -F ';' '{ print ($8 > 0 ? $8 : $49) }' /tmp/terse
}

[ "$hosts" = scsi ] || while read -r module; do insmod "/modules/$module"; done </modules/"$hosts".order
until [ "$(ls -d /sys/block/sd* 2>/dev/null | wc -l)" -ge 2 ]; do sleep 0.05; done
for round in $(seq "$rounds"); do
    while read -r load options; do
        while read -r way vendor; do
            say "RESULT $load/$way/$round ok 0.00 $(measured "$(device "$vendor")" "$options")"
        done </ways
    done </loads
done
