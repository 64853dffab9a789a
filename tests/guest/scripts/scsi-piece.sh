# A guest's time with SCSI units, small enough to be kept as a trace: a filesystem on one, sg3-utils, another that comes
# and goes.

. /scripts/scsi-units.sh

GENERIC=/dev/sg0

# The kernel's own numbers for what a command should end with: 14 is a miscompare, 5 an illegal request, 24 a reservation
# conflict.
ends_with() {
    expected=$1; shift
    status=0
    "$@" >/tmp/out 2>&1 || status=$?
    [ "$status" = "$expected" ] || { cat /tmp/out; echo "$* ended with $status, not $expected"; return 1; }
}

asked() {
    ends_with 0 sg_inq $DISK
    ends_with 0 sg_vpd -p bl $DISK
    ends_with 5 sg_inq --page=0xc0 --force $DISK
    ends_with 0 sg_luns $DISK
    ends_with 0 sg_logs -p gsp $DISK
    ends_with 0 sg_wr_mode -p 8 -c 8,12,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0 $GENERIC
    ends_with 0 sg_wr_mode -p 8 -c 8,12,4,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0 $GENERIC
}

changed() {
    head -c 512 /dev/zero >/tmp/old
    head -c 512 /host.bin >/tmp/new
    cat /tmp/old /tmp/new >/tmp/both
    ends_with 0 sg_compare_and_write --in=/tmp/both --lba=4000 --num=1 --xferlen=1024 $DISK
    ends_with 14 sg_compare_and_write --in=/tmp/both --lba=4000 --num=1 --xferlen=1024 $DISK
    ends_with 0 sg_write_same --16 --in=/tmp/new --lba=4008 --num=64 --xferlen=512 $DISK
    ends_with 0 sg_unmap --lba=4008 --num=8 --force $DISK
    ends_with 0 sg_get_lba_status --lba=4000 $DISK
}

reserved() {
    ends_with 0 sg_persist --no-inquiry --out --register --param-sark=abc $DISK
    ends_with 0 sg_persist --no-inquiry --out --reserve --param-rk=abc --prout-type=1 $DISK
    ends_with 24 sg_persist --no-inquiry --out --clear --param-rk=def $DISK
    ends_with 0 sg_persist --no-inquiry --in --read-full-status $DISK
    ends_with 0 sg_persist --no-inquiry --out --clear --param-rk=abc $DISK
    ends_with 0 sg_reset --device $DISK
}

came() {
    name=$(disk 1:0)
    [ "$(mark "$name")" = "unit 1:0" ]
}

gone() {
    while [ -e /sys/bus/scsi/devices/0:0:1:0 ]; do sleep 0.05; done
}

grown() {
    until [ "$(cat $SYSFS/size)" = 16384 ]; do sleep 0.05; done
}

filled() {
    /sbin/mkfs.ext4 -q -F -O ^has_journal -N 64 $DISK 4m
    mount -t ext4 $DISK /mnt
    for number in $(seq 8); do
        dd if=/host.bin of=/mnt/$number bs=1000 skip=$number count=3 2>/dev/null
    done
    sync
    rm /mnt/1 /mnt/2
    fstrim /mnt
    umount /mnt
}

item ready true
item unit-came came
item asked asked
item changed changed
item reserved reserved
item filesystem filled
item settled true
item unit-gone gone
item unit-grown grown
