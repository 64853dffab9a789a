# Two ATA disks and a CD drive at AHCI ports, by libata: found, identified, read and written with NCQ, a filesystem on
# one. /expected gives $sectors, and what ata-cd.sh wants; the host's data is in /host.bin and lies at 4 MiB.

. /expected

driver_loaded() {
    note "insmod ahci.ko"
    while read -r module; do insmod "/modules/$module"; done </modules/ahci.order
    named disk0 1 sd
    named disk1 2 sd
    named cd0 3 sr
    echo "two disks and a CD drive"
}

. /scripts/ata-names.sh
item ahci driver_loaded
DISK=/dev/disk0
OTHER=/dev/disk1
CD=/dev/cd0
UDMA=udma6
QUEUE=32
SYSFS=$(sysfs_of disk0)
DEVICE=$SYSFS/device

. /scripts/ata-trace.sh
if [ "$(dd if=$OTHER bs=4096 skip=100 count=1 2>/dev/null | head -c 6)" = marked ]; then
    . /scripts/ata-locked.sh
    return
fi

link_up() {
    note "dmesg"
    is "links that are up" "$(dmesg | grep -c 'SATA link up 6.0 Gbps')" 3
    echo "three at 6.0 Gb/s"
}

identified() {
    note "dmesg"
    is "size in sectors" "$(cat $SYSFS/size)" "$sectors"
    dmesg | grep 'ata[12].00: ATA' >/tmp/out
    is "disks" "$(wc -l </tmp/out)" 2
    dmesg | grep 'ata3.00: ATAPI' >>/tmp/out
    sed -n 's/.*ata\([13]\).00: /\1: /p' /tmp/out | sort | cut -d ' ' -f 2- | tr '\n' ';' | sed 's/;$//; s/;/; /g'
}

queue_depth() {
    note "cat /sys/block/disk0/device/queue_depth"
    is "queue depth" "$(cat $DEVICE/queue_depth)" 32
    dmesg | grep -i 'NCQ (depth 32' >/dev/null || { dmesg | grep -i ncq; return 1; }
    echo "NCQ depth 32"
}

# MODE SELECT of libata becomes SET FEATURES.
write_cache() {
    type=$(ls -d $DEVICE/scsi_disk/*)/cache_type
    for wanted in "write through" "write back"; do
        note "echo $wanted >/sys/block/disk0/device/scsi_disk/*/cache_type"
        echo "$wanted" >"$type"
        is "cache type" "$(cat "$type")" "$wanted"
    done
    echo "off and on"
}

discarded() {
    test "$(cat $SYSFS/queue/discard_max_bytes)" -gt 0
    watched /sbin/blkdiscard -o 16777216 -l 4194304 $DISK
    is "SEND FPDMA QUEUED" "$(issued ATA_CMD_FPDMA_SEND)" 1
    is "DATA SET MANAGEMENT" "$(issued ATA_CMD_DSM)" 0
    read_disk 16777216 4194304 65536 >/tmp/found
    head -c 4194304 /dev/zero | cmp - /tmp/found
    echo "by SEND FPDMA QUEUED; 4 MiB of zeroes"
}

read_verified() {
    note "dd if=$DISK iflag=direct bs=4k, 64k, 1M"
    for block in 4096 65536 1048576; do
        read_disk 4194304 4194304 $block >/tmp/found
        cmp /tmp/found /host.bin
    done
    echo "4 MiB, three block sizes"
}

write_verified() {
    note "dd of=$DISK oflag=direct bs=64k"
    write_disk /guest.bin 16777216 65536
    read_disk 16777216 4194304 4096 >/tmp/found
    cmp /tmp/found /guest.bin
    echo "4 MiB"
}

fio_verified() {
    ran /sbin/fio --name=v --filename=$DISK --direct=1 --ioengine=libaio --iodepth=32 --thread --numjobs=4 \
        --size=8m --offset=24m --offset_increment=8m --rw=randwrite --bssplit=4k/70:128k/30 \
        --verify=crc32c --verify_fatal=1
    is "jobs without error" "$(grep -c 'err= 0:' /tmp/out)" 4
    echo "4 jobs"
}

both_disks() {
    ran /sbin/fio --direct=1 --ioengine=libaio --iodepth=32 --thread --size=4m --offset=48m --rw=randwrite --bs=16k \
        --verify=crc32c --verify_fatal=1 --name=a --filename=$DISK --name=b --filename=$OTHER
    is "jobs without error" "$(grep -c 'err= 0:' /tmp/out)" 2
    echo "both disks at once"
}

item link link_up
item identity identified
item ncq queue_depth
item read read_verified
item write write_verified
item write-cache write_cache
item blkdiscard discarded
item fio-depth-32-crc32c fio_verified
item fio-two-disks both_disks

no_errors() {
    note "dmesg"
    note "cat /proc/interrupts"
    if dmesg | grep -E 'ata[0-9.]+: (exception|failed|error|hard resetting|COMRESET)' ; then return 1; fi
    grep 'ahci\[0000:00:04' /proc/interrupts >/tmp/out
    shows "PCI-MSI"
    echo "none; interrupts are messages"
}

item no-errors no_errors
. /scripts/ext4.sh
. /scripts/ata-cd.sh
. /scripts/ata-tools.sh
item no-errors-at-the-end no_errors
write_disk /guest.bin 16777216 65536
. /scripts/ata-security.sh
