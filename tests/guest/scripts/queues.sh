# Several queues, each used from its own CPU, and fio over all of them. /expected gives $queues, $packed and $modern
# (0 or 1), and of how many bytes a $part is that each of fio's jobs works on.

. /expected
. /scripts/queue-words.sh

VDEV=virtio0

queue_count() {
    note "ls $SYSFS/mq; cat /proc/interrupts"
    is "hardware queues" "$(ls $SYSFS/mq | wc -l)" "$queues"
    is "interrupts of queues" "$(vectors | wc -l)" "$queues"
    echo "$queues, depth $(cat $SYSFS/queue/nr_requests)"
}

# Every CPU at once, each on its own part of the disk.
all_at_once() {
    for cpu in $(seq 0 $((queues - 1))); do
        note "taskset -c $cpu dd if=/host.bin of=$DISK oflag=direct bs=4096 seek=$((16384 + 1024 * cpu)) &"
        /sbin/taskset -c "$cpu" dd if=/host.bin of=$DISK oflag=direct bs=4096 seek=$((16384 + 1024 * cpu)) conv=notrunc 2>/dev/null &
    done
    wait
    for cpu in $(seq 0 $((queues - 1))); do
        read_disk $((67108864 + 4194304 * cpu)) 4194304 65536 >/tmp/found
        cmp /tmp/found /host.bin
    done
    echo "$queues times 4 MiB"
}

item ring ring
item queue-count queue_count
for queue in $(seq 0 $((queues - 1))); do item "queue-$queue" queue_used "$queue"; done
item all-queues-at-once all_at_once
item fio-randwrite-crc32c verified random --rw=randwrite --bs=4k
item fio-randread-crc32c verified random --rw=randread --bs=4k
item fio-mixed-sizes-crc32c verified mixed --rw=write --bssplit=4k/50:16k/30:128k/20
