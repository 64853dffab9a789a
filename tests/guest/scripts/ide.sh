# A disk and a CD drive on one IDE channel, by ata_piix in native mode; on the other one a disk with a bad sector, which
# is 1003, and which is slow when the host says so. /expected gives the $sectors of each. /sector0.bin and /bad0.bin are
# what the disks begin with. Then the machine starts again, with a disk that is locked.

. /expected

. /scripts/ata-names.sh
DISK=/dev/disk0
BAD=/dev/disk1
OTHER=$BAD
CD=/dev/cd0
UDMA=udma2
QUEUE=

. /scripts/ata-trace.sh

found() {
    note "dmesg"
    named disk0 1 sd
    named cd0 1 sr
    named disk1 2 sd
    dmesg | grep -e "ata[0-9].*configured for" -e "ATAPI" -e "ata_piix"
    ls /sys/bus/pci/drivers/ata_piix | grep "^0000:"
    is "sectors" "$(cat "$(sysfs_of disk0)"/size)" "$sectors"
    is "up to UDMA/133" "$(dmesg | grep -c 'ata[12]\.0[01]: .*max UDMA/133')" 3
    echo "two disks and a drive, up to UDMA/133"
}

# DATA SET MANAGEMENT, by DMA.
discarded() {
    test "$(cat "$(sysfs_of disk0)"/queue/discard_max_bytes)" -gt 0
    write_disk /guest.bin 16777216 65536
    watched /sbin/blkdiscard -o 16777216 -l 4194304 $DISK
    is "DATA SET MANAGEMENT" "$(issued ATA_CMD_DSM)" 1
    read_disk 16777216 4194304 65536 >/tmp/found
    head -c 4194304 /dev/zero | cmp - /tmp/found
    echo "by DATA SET MANAGEMENT; 4 MiB of zeroes"
}

first_sectors() {
    note "dd if=$DISK | cmp"
    dd if=$DISK bs=4096 count=1 iflag=direct 2>/dev/null | cmp - /sector0.bin
    echo "as the host wrote them"
}

verified() {
    ran fio --name=v --filename=$DISK --direct=1 --rw=randrw --bs=4k --size=4m --offset=8m --iodepth=4 --ioengine=libaio \
        --verify=crc32c --verify_fatal=1 --do_verify=1
    echo "4 MiB"
}

filesystem() {
    ran mkfs.ext4 -q $DISK 32m
    mkdir -p /mnt
    mount -t ext4 $DISK /mnt
    dd if=/dev/urandom of=/mnt/a bs=64k count=64 2>/dev/null
    sum=$(md5sum </mnt/a)
    umount /mnt
    ran e2fsck -f -n $DISK
    mount -t ext4 $DISK /mnt
    is "content" "$(md5sum </mnt/a)" "$sum"
    umount /mnt
    echo "made, mounted, checked"
}

logged() { dmesg | grep -c -i -e "$1"; }

until_logged() {
    for _ in $(seq 600); do
        [ "$(logged "$1")" -ge 1 ] && return
        sleep 0.05
    done
    dmesg | tail -n 30
    echo "not logged: $1"
    return 1
}

sector_read() { dd if=$BAD iflag=direct bs=512 skip="$1" count="$2" 2>/dev/null; }

# libata's error handler says which sector it is.
media_error() {
    note "dd if=$BAD iflag=direct bs=512 skip=1000 count=8"
    dmesg -c >/dev/null
    if sector_read 1000 8 >/tmp/found; then echo "a bad sector was read"; return 1; fi
    until_logged "I/O error, dev $(readlink $BAD), sector 1003"
    [ "$(logged 'error: { UNC }')" -ge 1 ] || { dmesg; return 1; }
    [ "$(logged 'failed command: READ DMA')" -ge 1 ]
    is "links reset" "$(logged 'soft resetting link')" 0
    for sector in 0 992 1008; do
        sector_read $sector 8 >/tmp/found
        is "bytes read" "$(wc -c </tmp/found)" 4096
    done
    echo "sector 1003, of which UNC tells; those around it are read"
}

# A command that does not end is taken back by a software reset, and given again.
hung() {
    note "echo 2 >/sys/block/disk1/device/timeout"
    note "dd if=$BAD iflag=direct bs=512 count=8"
    dmesg -c >/dev/null
    # What is read ahead is not read again.
    echo 0 >"$(sysfs_of disk1)"/queue/read_ahead_kb
    echo 2 >"$(sysfs_of disk1)"/device/timeout
    (sector_read 0 8 >/tmp/late; echo $? >/tmp/late.status) &
    until_logged 'soft resetting link'
    until_logged 'timeout'
    echo "a software reset after 2 s"
}

answered() {
    note "dmesg"
    late_read_is /bad0.bin
    [ "$(logged 'configured for UDMA/33')" -ge 1 ] || { dmesg | tail -n 40; return 1; }
    echo "configured anew, and read"
}

clean_log() {
    note "dmesg"
    if dmesg | grep -e "exception Emask" -e "SError" -e "lost interrupt" -e "Unhandled error"; then return 1; fi
    echo "nothing of errors"
}

named disk0 1 sd
named disk1 2 sd
if [ "$(dd if=$OTHER bs=4096 skip=100 count=1 2>/dev/null | head -c 6)" = marked ]; then
    . /scripts/ata-locked.sh
    return
fi

item found found
item first-sectors first_sectors
item blkdiscard discarded
item fio-crc32c verified
item filesystem filesystem
. /scripts/ata-cd.sh
. /scripts/ata-tools.sh
item kernel-log clean_log
item media-error media_error
read -r line <&3
item hung hung
item answered answered

# What the disk itself has kept of it.
error_log() {
    fails_with 64 smartctl -l error $BAD
    shows "^ATA Error Count: [1-9]" "Error: UNC .*at LBA = 0x0*3eb = 1003"
    echo "UNC at LBA 1003"
}

item smart-error-log error_log
write_disk /guest.bin 16777216 65536
. /scripts/ata-security.sh
