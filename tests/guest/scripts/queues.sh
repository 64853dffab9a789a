# Several queues, each used from its own CPU, and fio over all of them. /expected gives $queues, $packed and $modern
# (0 or 1), and of how many bytes a $part is that each of fio's jobs works on.

. /expected

VIRTIO=/sys/bus/virtio/devices/virtio0

# The features that were negotiated are a string of bits, bit 0 first.
ring() {
    note "cat $VIRTIO/features"
    is "VERSION_1" "$(cut -c 33 $VIRTIO/features)" "$modern"
    is "RING_PACKED" "$(cut -c 35 $VIRTIO/features)" "$packed"
    if [ "$packed" = 1 ]; then echo packed; else echo split; fi
}

# The vectors of the request queues, a line each, in order.
vectors() { grep 'virtio0-req\(\.[0-9]*\|uest\)$' /proc/interrupts; }

# Interrupts of the lines of `vectors` that come in, over all CPUs.
interrupts() { awk '{ for (i = 2; $i ~ /^[0-9]+$/; i++) sum += $i } END { print sum + 0 }'; }

queue_count() {
    note "ls $SYSFS/mq; cat /proc/interrupts"
    is "hardware queues" "$(ls $SYSFS/mq | wc -l)" "$queues"
    is "interrupts of queues" "$(vectors | wc -l)" "$queues"
    echo "$queues, depth $(cat $SYSFS/queue/nr_requests)"
}

# queue_used NUMBER: reads and writes of the queue's CPU go by that queue: its interrupts come, and no other's.
queue_used() {
    cpu=$(cut -d , -f 1 $SYSFS/mq/"$1"/cpu_list)
    line=$(($1 + 1))
    before=$(vectors | sed -n "${line}p" | interrupts) others=$(vectors | sed "${line}d" | interrupts)
    place=$((1024 + 256 * $1))
    note "taskset -c $cpu dd if=/host.bin of=$DISK oflag=direct bs=16384 seek=$place"
    /sbin/taskset -c "$cpu" dd if=/host.bin of=$DISK oflag=direct bs=16384 seek=$place conv=notrunc 2>/dev/null
    /sbin/taskset -c "$cpu" dd if=$DISK iflag=direct bs=16384 skip=$place count=256 of=/tmp/found 2>/dev/null
    count=$(($(vectors | sed -n "${line}p" | interrupts) - before))
    cmp /tmp/found /host.bin
    test "$count" -ge 256 || { echo "only $count interrupts for 512 requests"; return 1; }
    is "interrupts of other queues" "$(($(vectors | sed "${line}d" | interrupts) - others))" 0
    echo "$count interrupts for the queue of CPU $cpu"
    echo "CPU $cpu, 512 requests, its own interrupts and no others"
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

# verified NAME OPTION...: fio, one job a CPU on a part of its own, depth 32; its own end and every job's error must be 0.
verified() {
    name=$1; shift
    ran /sbin/fio --name="$name" --filename=$DISK --direct=1 --ioengine=libaio --iodepth=32 --thread \
        --verify=crc32c --verify_fatal=1 --size="$part" --offset_increment="$part" \
        --numjobs="$queues" --cpus_allowed=0-$((queues - 1)) --cpus_allowed_policy=split "$@"
    errors=$(grep -c 'err= 0:' /tmp/out)
    is "jobs without error" "$errors" "$queues" || { cat /tmp/out; return 1; }
    awk '/issued rwts/ { split(substr($3, 7), count, ","); reads += count[1]; writes += count[2] }
        END { print "verification errors 0; " reads " reads, " writes " writes" }' /tmp/out
}

item ring ring
item queue-count queue_count
for queue in $(seq 0 $((queues - 1))); do item "queue-$queue" queue_used "$queue"; done
item all-queues-at-once all_at_once
item fio-randwrite-crc32c verified random --rw=randwrite --bs=4k
item fio-randread-crc32c verified random --rw=randread --bs=4k
item fio-mixed-sizes-crc32c verified mixed --rw=write --bssplit=4k/50:16k/30:128k/20
