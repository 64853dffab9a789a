# A guest's usual day, to be recorded: a filesystem is made and mounted, files come and go, fio writes and verifies on it.
# /host.bin is content for the files; /expected gives the $size of fio's file.

. /expected

mounted() {
    /sbin/mkfs.ext4 -q -F $DISK
    mount -t ext4 $DISK /mnt
    grep "^$DISK /mnt ext4" /proc/mounts
}

files() {
    for number in $(seq 40); do
        dd if=/host.bin of=/mnt/$number bs=1000 skip=$number count=$((number % 9 + 1)) 2>/dev/null
    done
    cp /host.bin /mnt/one
    (cd /mnt && find . -type f | xargs sha256sum) >/tmp/sums
    umount /mnt
    echo 3 >/proc/sys/vm/drop_caches
    mount -t ext4 $DISK /mnt
    (cd /mnt && sha256sum -c /tmp/sums) >/tmp/checked || { grep -v OK /tmp/checked; return 1; }
    echo "$(grep -c OK /tmp/checked) files the same"
}

# verified NAME OPTION...: fio on a file of the filesystem, past the page cache.
verified() {
    name=$1; shift
    /sbin/fio --name="$name" --filename=/mnt/fio --direct=1 --ioengine=libaio --iodepth=32 --thread --size="$size" \
        --randseed=1 --verify=crc32c --verify_fatal=1 "$@" >/tmp/fio 2>&1 || { tail -n 40 /tmp/fio; return 1; }
    awk '/issued rwts/ { split(substr($3, 7), count, ","); reads += count[1]; writes += count[2] }
        END { print reads " reads, " writes " writes" }' /tmp/fio
}

deleted() {
    rm /mnt/fio /mnt/1*
    fstrim -v /mnt
    umount /mnt
}

item mount mounted
item files files
item fio-4k verified random --rw=randwrite --bs=4k
item fio-sizes verified sizes --rw=randrw --bssplit=4k/50:16k/30:64k/20
item unmount deleted
