# fio writes and verifies over and over, while the host does what it likes to the back end, or moves the guest, until it
# says so.

stty -F /dev/ttyS2 raw -echo
(head -n 1 </dev/ttyS2 >/tmp/told; touch /tmp/done) &

# Every pass writes each block of two times 16 MiB once, in an order and with contents of its own, large and small pieces
# side by side, and reads back what it has written meanwhile: requests overtake one another.
verified_pass() {
    /sbin/fio --name=pass --filename=$DISK --direct=1 --ioengine=libaio --iodepth=32 --thread \
        --numjobs=2 --size=16m --offset_increment=16m --cpus_allowed=0-1 --cpus_allowed_policy=split \
        --rw=randwrite --bssplit=4k/70:128k/30 --randseed="$1" \
        --verify=crc32c --verify_fatal=1 --verify_backlog=64 $(cat /fio-options 2>/dev/null) >/tmp/fio 2>&1 &&
        is "jobs without error" "$(grep -c 'err= 0:' /tmp/fio)" 2 || { tail -n 40 /tmp/fio; return 1; }
}

verified() {
    passes=0
    until [ -e /tmp/done ]; do
        passes=$((passes + 1))
        verified_pass $passes
    done
    awk '/issued rwts/ { split(substr($3, 7), count, ","); reads += count[1]; writes += count[2] }
        END { printf "the last of '$passes' passes: %d writes, %d reads\n", writes, reads }' /tmp/fio
}

# What the device has put into the page cache is still there when it is looked at, perhaps elsewhere: /sums has the sums of
# pieces of 8 MiB behind fio's part. Nobody but the device writes these pages.
cached() {
    looks=0
    until [ -e /tmp/done ]; do
        # Other pieces than those before, so that what an older read has left in the same pages is wrong.
        head -n 4 /sums >/tmp/now
        tail -n +5 /sums >/tmp/later
        cat /tmp/later /tmp/now >/sums
        echo 1 >/proc/sys/vm/drop_caches
        while read -r sum place; do
            dd if=$DISK of=/dev/null bs=1048576 skip="$place" count=8 2>/dev/null
        done </tmp/now
        while read -r sum place; do
            found=$(dd if=$DISK bs=1048576 skip="$place" count=8 2>/dev/null | md5sum | cut -d ' ' -f 1)
            is "sum of 8 MiB at $place MiB" "$found" "$sum" || return 1
            looks=$((looks + 1))
        done </tmp/now
    done
    echo "$looks times 8 MiB"
}

cached_well() {
    while [ ! -e /tmp/cached-well ] && kill -0 $reader 2>/dev/null; do sleep 0.1; done
    cat /tmp/cached
    [ -e /tmp/cached-well ]
}

say "RESULT ready ok 0.00 begins"
if [ -e /sums ]; then
    (set -e; cached >/tmp/cached 2>&1; touch /tmp/cached-well) &
    reader=$!
fi
item fio-verified verified
[ -e /sums ] && item page-cache cached_well
