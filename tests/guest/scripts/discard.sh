# Discard and write zeroes. The disk is full of the host's pattern; /host.bin is its first 4 MiB.
MIB=1048576

zeroes() { head -c "$1" /dev/zero; }

discarded() {
    ran /sbin/blkdiscard --offset $((16 * MIB)) --length $((16 * MIB)) $DISK
    read_disk $((16 * MIB)) $((16 * MIB)) $MIB >/tmp/found
    zeroes $((16 * MIB)) >/tmp/wanted
    if cmp -s /tmp/found /tmp/wanted; then echo "16 MiB, read back as zeroes"; else echo "16 MiB"; fi
}

zeroed() {
    ran /sbin/blkdiscard --zeroout --offset $((40 * MIB)) --length $((8 * MIB)) $DISK
    read_disk $((40 * MIB)) $((8 * MIB)) $MIB >/tmp/found
    zeroes $((8 * MIB)) >/tmp/wanted
    cmp /tmp/found /tmp/wanted
    echo "8 MiB"
}

# A few sectors, which no host block holds whole.
zeroed_small() {
    ran /sbin/blkdiscard --zeroout --offset $((52 * MIB + 1536)) --length 1024 $DISK
    read_disk $((52 * MIB + 1536)) 1024 512 >/tmp/found
    zeroes 1024 >/tmp/wanted
    cmp /tmp/found /tmp/wanted
    echo "1 KiB at an odd sector"
}

untouched() {
    read_disk 0 $((4 * MIB)) $MIB >/tmp/found
    cmp /tmp/found /host.bin
    echo "first 4 MiB"
}

item blkdiscard discarded
item blkdiscard-z zeroed
item blkdiscard-z-small zeroed_small
item neighbours untouched
