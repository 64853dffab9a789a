# Files on a disk whose image finds no space on the host, twice; the guest is not to notice.

make_filesystem() { /sbin/mkfs.ext4 -q -F $DISK; }

mounted() { mount -t ext4 $DISK /mnt; }

# 40 MiB; each megabyte is on its way before the next one is made.
files_written() {
    for number in $(seq 40); do
        head -c 1048576 /dev/urandom >/mnt/$number
        sync
    done
    (cd /mnt && find . -type f | xargs sha256sum) >/tmp/sums
    echo "$(wc -l </tmp/sums) files"
}

unmounted() { umount /mnt; }

fsck_clean() {
    /sbin/e2fsck -f -n $DISK >/tmp/fsck 2>&1 || { cat /tmp/fsck; return 1; }
    tail -n 1 /tmp/fsck
}

files_read_back() {
    echo 3 >/proc/sys/vm/drop_caches
    mount -t ext4 $DISK /mnt
    (cd /mnt && sha256sum -c /tmp/sums) >/tmp/checked || { grep -v OK /tmp/checked; return 1; }
    echo "$(grep -c OK /tmp/checked) files the same"
}

nothing_noticed() {
    ! dmesg | grep -i -e "i/o error" -e "ext4-fs error" -e "remounting" -e "lost async"
}

item mkfs make_filesystem
item mount mounted
item files-written files_written
item unmount unmounted
item fsck fsck_clean
item files-read-back files_read_back
item nothing-noticed nothing_noticed
