# What libata's error handler does. The disk at port 0 has a bad sector, which is 1003; the one at port 1 is slow when the
# host says so, and is taken out and put in again. /sector0.bin is what both begin with.

. /scripts/ata-names.sh

exec 3</dev/ttyS2
stty -F /dev/ttyS2 raw -echo

two_disks() {
    while read -r module; do insmod "/modules/$module"; done </modules/ahci.order
    note "insmod ahci.ko"
    named disk0 1 sd
    named disk1 2 sd
    echo "at ports 0 and 1"
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

# sector_read DISK FIRST NUMBER
sector_read() {
    note "dd if=/dev/$1 iflag=direct bs=512 skip=$2 count=$3"
    dd if=/dev/"$1" iflag=direct bs=512 skip="$2" count="$3" 2>/dev/null
}

media_error() {
    dmesg -c >/dev/null
    if sector_read disk0 1000 8 >/tmp/found; then echo "a bad sector was read"; return 1; fi
    until_logged "I/O error, dev $(readlink /dev/disk0), sector 1003"
    [ "$(logged 'error: { UNC }')" -ge 1 ] || { dmesg; return 1; }
    [ "$(logged 'failed command: READ FPDMA QUEUED')" -ge 1 ]
    is "links reset" "$(logged 'resetting link')" 0
    echo "sector 1003, of which log 10h tells: UNC; no reset"
}

neighbours() {
    sector_read disk0 0 8 >/tmp/found
    cmp /tmp/found /sector0.bin
    # Those of its page go through it.
    for sector in 992 1008; do
        sector_read disk0 $sector 8 >/tmp/found
        is "bytes read" "$(wc -c </tmp/found)" 4096
    done
    echo "those around it are read"
}

# What the disk itself has kept of it.
error_log() {
    fails_with 64 smartctl -l error /dev/disk0
    shows "^ATA Error Count: [1-9]" "Error: UNC .*at LBA = 0x0*3eb = 1003"
    echo "UNC at LBA 1003"
}

hung() {
    dmesg -c >/dev/null
    head -c 1 <&3 >/dev/null
    note "echo 2 >/sys/block/disk1/device/timeout"
    # What is read ahead is not read again.
    echo 0 >"$(sysfs_of disk1)"/queue/read_ahead_kb
    echo 2 >"$(sysfs_of disk1)"/device/timeout
    (sector_read disk1 0 8 >/tmp/late; echo $? >/tmp/late.status) &
    until_logged 'hard resetting link'
    until_logged 'timeout'
    echo "COMRESET after 2 s"
}

answered() {
    note "dmesg"
    late_read_is /sector0.bin
    until_logged 'SATA link up'
    echo "the link is up again, and the command was given again"
}

unplugged() {
    note "dmesg"
    head -c 1 <&3 >/dev/null
    for _ in $(seq 600); do
        block_at 2 sd >/dev/null || { until_logged 'SATA link down'; echo "the link is down, the disk is gone"; return; }
        sleep 0.05
    done
    dmesg | tail -n 30
    return 1
}

plugged() {
    head -c 1 <&3 >/dev/null
    named disk1 2 sd
    sector_read disk1 0 8 >/tmp/found
    cmp /tmp/found /sector0.bin
    echo "found again, and read"
}

item two-disks two_disks
item media-error media_error
item smart-error-log error_log
item neighbours neighbours
item hung hung
item answered answered
item unplugged unplugged
item plugged plugged
