# What libata's error handler does. The disk at port 0 has a bad sector, which is 1003; the one at port 1 is slow when the
# host says so, and is taken out and put in again. /sector0.bin is what both begin with.

exec 3</dev/ttyS2
stty -F /dev/ttyS2 raw -echo

two_disks() {
    while read -r module; do insmod "/modules/$module"; done </modules/ahci.order
    for _ in $(seq 200); do
        [ -e /sys/block/sda ] && [ -e /sys/block/sdb ] && return
        sleep 0.05
    done
    dmesg | grep ata
    return 1
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

sector_read() { dd if=/dev/$1 iflag=direct bs=512 skip="$2" count="$3" 2>/dev/null; }

media_error() {
    dmesg -c >/dev/null
    if sector_read sda 1000 8 >/tmp/found; then echo "a bad sector was read"; return 1; fi
    until_logged 'I/O error, dev sda, sector 1003'
    [ "$(logged 'error: { UNC }')" -ge 1 ] || { dmesg; return 1; }
    [ "$(logged 'failed command: READ FPDMA QUEUED')" -ge 1 ]
    is "links reset" "$(logged 'resetting link')" 0
    dmesg | grep 'I/O error' | head -n 1
}

neighbours() {
    sector_read sda 0 8 >/tmp/found
    cmp /tmp/found /sector0.bin
    # Those of its page go through it.
    for sector in 992 1008; do
        sector_read sda $sector 8 >/tmp/found
        is "bytes read" "$(wc -c </tmp/found)" 4096
    done
}

hung() {
    dmesg -c >/dev/null
    head -c 1 <&3 >/dev/null
    echo 2 >/sys/block/sdb/device/timeout
    (sector_read sdb 0 8 >/tmp/late; echo $? >/tmp/late.status) &
    until_logged 'hard resetting link'
    until_logged 'timeout'
    dmesg | grep 'resetting' | head -n 1
}

answered() {
    for _ in $(seq 600); do
        [ -e /tmp/late.status ] && break
        sleep 0.05
    done
    cmp /tmp/late /sector0.bin || { dmesg | tail -n 40; return 1; }
    dmesg | grep 'SATA link up' | tail -n 1
}

unplugged() {
    head -c 1 <&3 >/dev/null
    for _ in $(seq 600); do
        [ -e /sys/block/sdb ] || { dmesg | grep -i 'link down' | tail -n 1; return; }
        sleep 0.05
    done
    dmesg | tail -n 30
    return 1
}

plugged() {
    head -c 1 <&3 >/dev/null
    for _ in $(seq 600); do
        found=$(ls -d /sys/block/sd[b-z] 2>/dev/null | head -n 1)
        [ -n "$found" ] && break
        sleep 0.05
    done
    [ -n "$found" ] || { dmesg | tail -n 30; return 1; }
    sector_read "${found##*/}" 0 8 >/tmp/found
    cmp /tmp/found /sector0.bin
    echo "${found##*/}"
}

item two-disks two_disks
item media-error media_error
item neighbours neighbours
item hung hung
item answered answered
item unplugged unplugged
item plugged plugged
