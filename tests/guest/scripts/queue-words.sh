# What is said of a virtio device with several request queues: $VDEV is its name on the virtio bus, $DISK and $SYSFS are the
# disk on it, $packed and $modern (0 or 1) what its driver negotiated, $queues and $part as in queues.sh.

# The features that were negotiated are a string of bits, bit 0 first.
ring() {
    features=/sys/bus/virtio/devices/$VDEV/features
    note "cat $features"
    is "VERSION_1" "$(cut -c 33 $features)" "$modern"
    is "RING_PACKED" "$(cut -c 35 $features)" "$packed"
    if [ "$packed" = 1 ]; then echo packed; else echo split; fi
}

# The vectors of the request queues, a line each, in order.
vectors() { grep "$VDEV-req\(\.[0-9]*\|uest\)\$" /proc/interrupts; }

# Interrupts of the lines of `vectors` that come in, over all CPUs.
interrupts() { awk '{ for (i = 2; $i ~ /^[0-9]+$/; i++) sum += $i } END { print sum + 0 }'; }

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
