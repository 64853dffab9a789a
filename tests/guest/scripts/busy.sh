# Reads and writes until somebody ends it: /host.bin lies at 4 MiB.

busy() {
    read_disk 4194304 4194304 65536 >/tmp/found
    cmp /tmp/found /host.bin
}

item works busy
while true; do
    dd if=/host.bin of=$DISK oflag=direct bs=16384 seek=1024 conv=notrunc 2>/dev/null
    dd if=$DISK iflag=direct bs=16384 skip=1024 count=256 2>/dev/null | cmp - /host.bin
done
