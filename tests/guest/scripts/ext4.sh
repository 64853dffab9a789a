# A filesystem's life. /host.bin is content for the files.

make_filesystem() {
    ran /sbin/mkfs.ext4 -q -F $DISK
    echo "on $(($(cat $SYSFS/size) / 2048)) MiB"
}

mounted() {
    ran mount -t ext4 $DISK /mnt
    grep "^$DISK /mnt ext4" /proc/mounts
}

files_written() {
    mkdir -p /mnt/small /mnt/large
    for number in $(seq 200); do
        dd if=/host.bin of=/mnt/small/$number bs=1000 skip=$number count=$((number % 9 + 1)) 2>/dev/null
    done
    cp /host.bin /mnt/large/one
    cat /host.bin /host.bin /host.bin /host.bin >/mnt/large/four
    ln -s ../large/one /mnt/small/link
    (cd /mnt && find . -type f | xargs sha256sum) >/tmp/sums
    ran sync
    echo "$(wc -l </tmp/sums) files"
}

unmounted() { ran umount /mnt; }

fsck_clean() {
    ran /sbin/e2fsck -f -n $DISK
    tail -n 1 /tmp/out
    sed -n '$s|.*: \([0-9]*\)/\([0-9]*\) files.*|clean, \1 of \2 inodes|p' /tmp/out
}

# Past the page cache: the filesystem is mounted anew.
files_read_back() {
    echo 3 >/proc/sys/vm/drop_caches
    ran mount -t ext4 $DISK /mnt
    note "cd /mnt && sha256sum -c /tmp/sums"
    (cd /mnt && sha256sum -c /tmp/sums) >/tmp/checked || { grep -v OK /tmp/checked; return 1; }
    cmp /mnt/small/link /host.bin
    echo "$(grep -c OK /tmp/checked) files the same"
}

files_deleted() {
    rm -r /mnt/large/four /mnt/small/1*
    sync
    ran fstrim -v /mnt
    (cd /mnt && find . -type f | xargs sha256sum) >/tmp/left
    grep -v -F -f /tmp/left /tmp/sums >/tmp/gone
    is "files left" "$(wc -l </tmp/left)" "$(($(wc -l </tmp/sums) - $(wc -l </tmp/gone)))"
    umount /mnt
    echo "$(wc -l </tmp/gone) files gone, the rest trimmed"
}

item mkfs.ext4 make_filesystem
item mount mounted
item files-written files_written
item unmount unmounted
item fsck fsck_clean
item files-read-back files_read_back
item files-deleted-fstrim files_deleted
item fsck-again fsck_clean
