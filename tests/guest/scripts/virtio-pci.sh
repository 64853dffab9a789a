# Several virtio functions in one machine: what each is, its vectors, its queues, and what its host does to it.
# /functions has a line for each: name, slot, PCI device, $modern, number of vectors; /expected as for queues.sh, with $light
# (1: little is read and written).

. /expected
. /scripts/queue-words.sh
packed=0

# The disk of a function, once it is there; $1 is its place on a SCSI bus, target:LUN.
block() {
    until ls -d /sys/bus/pci/devices/$PCI/virtio*/block/* /sys/bus/pci/devices/$PCI/virtio*/host*/target*/*:"${1:-0:0}"/block/* \
        2>/dev/null | sed 's|.*/||' | grep .; do
        sleep 0.05
    done
}

# function SLOT: what follows is about this one.
function_in() {
    PCI=0000:00:$1.0
    VDEV=$(basename /sys/bus/pci/devices/$PCI/virtio*)
    name=$(block)
    # The kernel gives names in the order in which it happens to find disks.
    ln -sf "$name" /dev/"$function"
    DISK=/dev/$function SYSFS=/sys/block/$name
}

interface() {
    note "cat /sys/bus/pci/devices/$PCI/device /proc/interrupts"
    is "PCI device" "$(cat /sys/bus/pci/devices/$PCI/device)" "$device"
    ring
    is "MSI-X vectors" "$(grep -c "$VDEV-" /proc/interrupts)" "$vectors"
    grep "$VDEV-" /proc/interrupts | grep -v -c MSI | { read -r others; is "vectors that are none of MSI" "$others" 0; }
    echo "$device, $vectors vectors, VERSION_1 is $modern"
}

every_queue() {
    for queue in $(seq 0 $((queues - 1))); do queue_used "$queue"; done
}

# By each queue.
written() {
    for queue in $(seq 0 $((queues - 1))); do
        cpu=$(cut -d , -f 1 $SYSFS/mq/"$queue"/cpu_list)
        /sbin/taskset -c "$cpu" dd if=/host.bin of=$DISK oflag=direct bs=4096 seek=$((64 * queue)) conv=notrunc 2>/dev/null
        /sbin/taskset -c "$cpu" dd if=$DISK iflag=direct bs=16384 skip=$((16 * queue)) count=4 2>/dev/null | cmp - /host.bin
    done
}

# Interrupts for changes of configuration, or for events.
changes() { grep "$VDEV-\(config\|event\)\$" /proc/interrupts | interrupts; }

# size_becomes SECTORS: by an interrupt.
size_becomes() {
    until [ "$(cat $SYSFS/size)" = "$1" ]; do sleep 0.05; done
    test "$(changes)" -gt "$seen" || { echo "no interrupt told of it"; return 1; }
    read_disk $((($1 - 8) * 512)) 4096 4096 | wc -c | { read -r length; is "length of the last block" "$length" 4096; }
    echo "$1 sectors"
}

unit_came() {
    name=$(block 0:1)
    is "its first word" "$(dd if=/dev/$name iflag=direct bs=512 count=1 2>/dev/null | head -n 1)" plugged
    echo "as LUN 1"
}

unit_gone() {
    while ls -d /sys/bus/pci/devices/$PCI/virtio*/host*/target*/*:0:1 2>/dev/null; do sleep 0.05; done
    read_disk 0 4096 4096 | wc -c
    echo "its neighbour goes on"
}

while read -r function slot device modern vectors; do
    function_in "$slot"
    item "$function-interface" interface
    if [ "$light" = 0 ]; then
        item "$function-queues" every_queue
        item "$function-fio" verified random --rw=randwrite --bs=4k
    else
        item "$function-written" written
    fi
    seen=$(changes)
    item "$function-steady" changes
    item "$function-grown" size_becomes 262144
    seen=$(changes)
    item "$function-grown-steady" changes
    item "$function-shrunk" size_becomes 131072
    case $function in
    *scsi*)
        item "$function-unit-came" unit_came
        item "$function-unit-gone" unit_gone
        ;;
    esac
done </functions
