# Work on a filesystem and past it, with the kernel's own record of it on the console, each line after BLK.

traced() {
    mount -t debugfs none /sys/kernel/debug
    chmod 755 /blktrace /blkparse
    mkdir /tmp/bt
    /blktrace -d $DISK -D /tmp/bt -o t &
    tracer=$!
    until [ -e /sys/kernel/debug/block/vda/trace0 ]; do usleep 10000; done

    /sbin/mkfs.ext4 -q -F $DISK
    mount -t ext4 $DISK /mnt
    for number in 1 2 3 4 5 6; do
        dd if=/host.bin of=/mnt/$number bs=30k count=$number 2>/dev/null
    done
    sync
    rm /mnt/3 /mnt/5
    sync
    fstrim /mnt
    echo 3 >/proc/sys/vm/drop_caches
    cat /mnt/? >/dev/null
    umount /mnt
    /sbin/blkdiscard -f -z -o 192M -l 1M $DISK
    write_disk /host.bin $((200 << 20)) 4096
    read_disk $((200 << 20)) $((1 << 19)) 65536 >/dev/null
    /sbin/fio --name=a --filename=$DISK --rw=randrw --bs=4k-16k --io_size=512k --offset=210m --size=16m \
        --ioengine=libaio --iodepth=8 --direct=1 --minimal >/dev/null

    kill -INT $tracer
    wait $tracer
    /blkparse -D /tmp/bt -i t | sed 's/^/BLK /' >/dev/ttyS0
}

item traced traced
