# fio writes and verifies over and over, while the host does what it likes to the back end. It says when it has done.

stty -F /dev/ttyS2 raw -echo
(head -n 1 </dev/ttyS2 >/tmp/told; touch /tmp/done) &

# Every pass writes each block of two times 16 MiB once, in an order and with contents of its own, large and small pieces
# side by side, and reads back what it has written meanwhile: requests overtake one another.
verified_pass() {
    /sbin/fio --name=pass --filename=$DISK --direct=1 --ioengine=libaio --iodepth=32 --thread \
        --numjobs=2 --size=16m --offset_increment=16m --cpus_allowed=0-1 --cpus_allowed_policy=split \
        --rw=randwrite --bssplit=4k/70:128k/30 --randseed="$1" \
        --verify=crc32c --verify_fatal=1 --verify_backlog=64 >/tmp/fio 2>&1 &&
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

say "RESULT ready ok 0.00 begins"
item fio-verified verified
