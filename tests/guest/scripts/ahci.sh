# An ATA disk at an AHCI port, by libata: found, identified, read and written with NCQ, a filesystem on it.
# /expected gives $sectors; the host's data is in /host.bin and lies at 4 MiB.

. /expected

driver_loaded() {
    while read -r module; do insmod "/modules/$module"; done </modules/ahci.order
    for _ in $(seq 200); do
        for found in /sys/block/sd*; do
            [ -e "$found" ] && { echo "${found##*/}"; return; }
        done
        sleep 0.05
    done
    dmesg | grep -i ata | tail -n 20
    echo "no disk"
    return 1
}

item ahci driver_loaded
SYSFS=$(ls -d /sys/block/sd* | head -n 1)
DISK=/dev/${SYSFS##*/}
DEVICE=$SYSFS/device

link_up() {
    dmesg | grep -i 'SATA link up' || { dmesg | grep ata; return 1; }
}

identified() {
    is "size in sectors" "$(cat $SYSFS/size)" "$sectors"
    cat $DEVICE/model
    dmesg | grep -i 'ata[0-9]*.00: ATA' | tail -n 1
}

queue_depth() {
    is "queue depth" "$(cat $DEVICE/queue_depth)" 32
    dmesg | grep -i 'NCQ (depth 32' >/dev/null || { dmesg | grep -i ncq; return 1; }
    echo "NCQ depth 32"
}

# MODE SELECT of libata becomes SET FEATURES.
write_cache() {
    type=$(ls -d $DEVICE/scsi_disk/*)/cache_type
    for wanted in "write through" "write back"; do
        put "$wanted" "$type"
        is "cache type" "$(cat "$type")" "$wanted"
    done
    echo "off and on"
}

discarded() {
    test "$(cat $SYSFS/queue/discard_max_bytes)" -gt 0
    ran /sbin/blkdiscard -o 16777216 -l 4194304 $DISK
    read_disk 16777216 4194304 65536 >/tmp/found
    head -c 4194304 /dev/zero | cmp - /tmp/found
}

read_verified() {
    for block in 4096 65536 1048576; do
        read_disk 4194304 4194304 $block >/tmp/found
        cmp /tmp/found /host.bin
    done
    echo "4 MiB, three block sizes"
}

write_verified() {
    write_disk /guest.bin 16777216 65536
    read_disk 16777216 4194304 4096 >/tmp/found
    cmp /tmp/found /guest.bin
}

fio_verified() {
    /sbin/fio --name=v --filename=$DISK --direct=1 --ioengine=libaio --iodepth=32 --thread --numjobs=4 \
        --size=8m --offset=24m --offset_increment=8m --rw=randwrite --bssplit=4k/70:128k/30 \
        --verify=crc32c --verify_fatal=1 >/tmp/fio 2>&1 || { tail -n 40 /tmp/fio; return 1; }
    is "jobs without error" "$(grep -c 'err= 0:' /tmp/fio)" 4
}

item link link_up
item identity identified
item ncq queue_depth
item read read_verified
item write write_verified
item write-cache write_cache
item blkdiscard discarded
item fio-depth-32-crc32c fio_verified

no_errors() {
    if dmesg | grep -E 'ata[0-9.]+: (exception|failed|error|hard resetting|COMRESET)' ; then return 1; fi
    grep -i ahci /proc/interrupts
}

item no-errors no_errors
. /scripts/ext4.sh
item no-errors-at-the-end no_errors
