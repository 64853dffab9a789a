# A disk and a CD drive on one IDE channel, by ata_piix in native mode. /expected gives $blocks, of the disc.

. /expected

DISK=/dev/sda
CD=/dev/sr0

found() {
    note "dmesg"
    until [ -e $DISK ] && [ -e $CD ]; do sleep 0.05; done
    dmesg | grep -e "ata[0-9].*configured for" -e "ATAPI" -e "ata_piix"
    ls /sys/bus/pci/drivers/ata_piix | grep "^0000:"
    is "sectors" "$(cat /sys/block/sda/size)" "$sectors"
    is "in UDMA modes" "$(dmesg | grep -c 'ata[12]\.0[01]: .*UDMA/133')" 2
    echo "a disk and a drive, UDMA/133"
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

drive() {
    ran sg_inq $CD
    shows "PDT=5" "RMB=1"
    is "blocks" "$(cat /sys/block/sr0/size)" $((blocks * 4))
    dd if=$CD bs=2048 2>/dev/null | md5sum | cut -d ' ' -f 1 >/tmp/sum
    is "content" "$(cat /tmp/sum)" "$md5"
    echo "$blocks blocks"
}

ejected() {
    ran sg_start --eject $CD
    fails_with 1 dd if=$CD of=/dev/null bs=2048 count=1
    ran sg_start --load $CD
    until dd if=$CD of=/dev/null bs=2048 count=1 2>/dev/null; do sleep 0.1; done
    echo "out and in again"
}

clean_log() {
    if dmesg | grep -e "exception Emask" -e "SError" -e "lost interrupt" -e "Unhandled error"; then return 1; fi
    echo "nothing of errors"
}

item found found
item first-sectors first_sectors
item fio-crc32c verified
item filesystem filesystem
item drive drive
item eject ejected
item kernel-log clean_log
