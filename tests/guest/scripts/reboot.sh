# The machine boots twice: the first time it marks its disk and starts again, the second time it finds the mark.

first() {
    echo "marked before the reboot" >/tmp/mark
    dd if=/tmp/mark of=$DISK bs=4096 seek=100 conv=notrunc,fsync 2>/dev/null
    dd if=/host.bin of=$DISK oflag=direct bs=65536 seek=16 conv=notrunc 2>/dev/null
    echo marked
}

second() {
    dd if=$DISK iflag=direct bs=65536 skip=16 count=64 2>/dev/null | cmp - /host.bin
    dd if=/host.bin of=$DISK oflag=direct bs=4096 seek=8192 conv=notrunc 2>/dev/null
    dd if=$DISK iflag=direct bs=4096 skip=8192 count=1024 2>/dev/null | cmp - /host.bin
    echo "found what was written before, and works on"
}

if [ "$(dd if=$DISK bs=4096 skip=100 count=1 2>/dev/null | head -c 6)" != marked ]; then
    item before-the-reboot first
    reboot -f
    sleep 100
fi
item after-the-reboot second
