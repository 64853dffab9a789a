# A guest's time with libata, small enough to be kept as a trace: a filesystem on one disk, hdparm and smartctl, a CD; of the
# other disk sector 43 is bad, and it is slow when the host says so. /expected gives the $driver, the ports of $one, $other
# and $cd, what $hangs, and what it is $taken_back by.

. /expected
. /scripts/ata-names.sh

exec 3</dev/ttyS2
stty -F /dev/ttyS2 raw -echo

found() {
    [ $driver != ahci ] || while read -r module; do insmod "/modules/$module"; done </modules/ahci.order
    named disk0 "$one" sd
    named disk1 "$other" sd
    named cd0 "$cd" sr
}

asked() {
    ran hdparm -I /dev/disk0
    ran hdparm -W 0 /dev/disk0
    ran hdparm -W 1 /dev/disk0
    ran smartctl -H -A -l error /dev/disk0
    ran hdparm --user-master u --security-set-pass secret /dev/disk0
    ran hdparm --user-master u --security-disable secret /dev/disk0
}

filled() {
    ran /sbin/mkfs.ext4 -q -F -O ^has_journal -N 64 /dev/disk0 4m
    ran mount -t ext4 /dev/disk0 /mnt
    for number in $(seq 8); do
        dd if=/host.bin of=/mnt/$number bs=1000 skip="$number" count=3 2>/dev/null
    done
    sync
    rm /mnt/1 /mnt/2
    ran fstrim /mnt
    ran umount /mnt
}

cd_used() {
    ran mount -t iso9660 -o ro /dev/cd0 /mnt
    is "file" "$(cat /mnt/small.txt)" small
    fails_with 5 sg_start --eject /dev/cd0
    ran umount /mnt
    ran sg_start --eject /dev/cd0
    fails_with 2 sg_turs /dev/cd0
    ran sg_start --load /dev/cd0
    until sg_turs /dev/cd0 2>/dev/null; do sleep 0.05; done
}

until_logged() {
    for _ in $(seq 600); do
        dmesg | grep -q "$1" && return
        sleep 0.05
    done
    dmesg | tail -n 30
    echo "not logged: $1"
    return 1
}

media_error() {
    fails_with 1 dd if=/dev/disk1 of=/tmp/found iflag=direct bs=512 skip=40 count=8
    until_logged "sector 43"
}

# The host is told of it when it is taken back: what is asked for anew is not slow.
hung_once() {
    read -r _ <&3
    echo 1 >"$(sysfs_of disk1)"/device/timeout
    ($hangs 2>/dev/null; echo $? >/tmp/late.status) &
    until_logged "$taken_back"
}

hung() {
    until [ -e /tmp/late.status ]; do sleep 0.05; done
    is "exit status of dd" "$(cat /tmp/late.status)" 0
}

gone() {
    while block_at "$other" sd >/dev/null; do sleep 0.05; done
}

item found found
item asked asked
item filesystem filled
item cd cd_used
item media-error media_error
item hung-once hung_once
item hung hung
[ $driver = ahci ] || return
item unplugged gone
item plugged named disk1 "$other" sd
