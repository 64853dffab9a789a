# Commands that take too long, and commands that fail. LUN 0 is slow when the host says so; LUN 1 has a bad sector, which
# is 1003; LUN 2 fails once in reading and once in writing, and the host's machine stops then. The driver is one that
# does not wait for ever. In the end the guest boots anew.

. /scripts/scsi-units.sh
. /scripts/scsi-trace.sh

# Open all the time: what comes while nobody has the port open is lost.
exec 3</dev/ttyS2
stty -F /dev/ttyS2 raw -echo

# use LUN: the disk that is worked on, as /dev/lunLUN: which name the kernel gives to which unit is a matter of chance.
use() {
    DEVICE=/sys/bus/scsi/devices/0:0:0:$1
    SYSFS=/sys/block/$(disk 0:$1)
    DISK=/dev/lun$1
    ln -s -f "$(disk 0:$1)" $DISK
}

# reads PLACE FILE: reads a block in the background and compares it; what came of it is in /tmp/read.
reads() {
    rm -f /tmp/read
    note "dd if=$DISK iflag=direct bs=4096 skip=$(($1 / 4096)) count=1 &"
    (read_disk "$1" 4096 4096 >/tmp/found; cmp /tmp/found "$2" && echo same || echo differs) >/tmp/read.new 2>&1 &&
        mv /tmp/read.new /tmp/read &
}

first_read() {
    read_disk 0 4096 4096 >/tmp/found
    cmp /tmp/found /sector0.bin
    dmesg -c >/dev/null
}

in_flight() { cat $SYSFS/inflight | awk '{ print $1 }'; }

# logged TEXT: how often the kernel has said so since the log was read last.
logged() { dmesg | grep -c -i -e "$1"; }

until_logged() { until [ "$(logged "$1")" -ge 1 ]; do sleep 0.05; done; }

# The unit has answered nothing, and the reset has ended the command: the kernel sends it again.
reset_in_between() {
    reads "$1" "$2"
    until [ "$(in_flight)" -ge 1 ]; do sleep 0.05; done
    ran sg_reset --device $DISK
    echo "the unit was reset with a command in flight"
}

answered() {
    until [ -e /tmp/read ]; do sleep 0.05; done
    is "what was read" "$(cat /tmp/read)" same
    is "reports" "$(logged "$1")" "$2"
    dmesg -c >/dev/null
    echo "the command was sent again and has read the block"
}

# The first time-out aborts the command, and a second one of the same command resets the unit.
times_out() {
    put 1 $DEVICE/timeout
    reads "$1" "$2"
    until_logged "tag#[0-9]* abort$"
    echo "the kernel aborts a command that takes longer than 1 s"
}

escalates() {
    reads "$1" "$2"
    until_logged "tag#[0-9]* abort$"
    until_logged "device reset$"
    echo "aborted once, it takes too long again, and the kernel resets the unit"
}

at_work() {
    is "state" "$(cat $DEVICE/state)" running
    is "time-outs" "$(cat $DEVICE/iotmo_cnt)" 0x3
    put 30 $DEVICE/timeout
    write_disk /sector0.bin 65536 4096
    read_disk 65536 4096 4096 >/tmp/found
    cmp /tmp/found /sector0.bin
    is "errors" "$(logged "i/o error")" 0
    echo "3 time-outs; nothing has failed, the unit is at work"
}

# A read of many blocks, one of them bad.
bad_sector() {
    use 1
    dmesg -c >/dev/null
    fails_with 1 dd if=$DISK iflag=direct of=/tmp/found bs=32768 skip=15 count=1
    until_logged "critical medium error"
    dmesg >/tmp/out
    shows "Sense Key : Medium Error \[current\]" "Add. Sense: Unrecovered read error" "medium error, .* sector 1003 "
    echo "$(sed -n 's/.*\(critical medium error\), dev [a-z]*, \(sector [0-9]*\).*/\1, \2/p' /tmp/out | tail -n 1)"
}

neighbours() {
    use 1
    ran dd if=$DISK iflag=direct of=/tmp/found bs=512 skip=1000 count=3
    ran dd if=$DISK iflag=direct of=/tmp/found bs=512 skip=1004 count=100
    fails_with 1 dd if=$DISK iflag=direct of=/tmp/found bs=512 skip=1003 count=1
    # 18 is sg3-utils' word for a medium error that says where.
    fails_with 18 sg_verify --lba=1000 --count=16 -v $DISK
    shows "Medium Error" "Unrecovered read error" "Info fld=0x3eb"
    echo "sectors 1000 to 1002 and 1004 to 1103 can be read, 1003 cannot; VERIFY points at it"
}

# The host stops, looks, and lets it go on.
held_read() {
    use 2
    dmesg -c >/dev/null
    reads 409600 /sector0.bin
    until [ -e /tmp/read ]; do sleep 0.05; done
    is "what was read" "$(cat /tmp/read)" same
    is "errors" "$(logged "i/o error")" 0
    echo "no error"
}

held_write() {
    use 2
    note "dd if=/sector1.bin of=$DISK oflag=direct bs=4096 seek=200 count=1"
    write_disk /sector1.bin 819200 4096
    read_disk 819200 4096 4096 >/tmp/found
    cmp /tmp/found /sector1.bin
    is "errors" "$(logged "i/o error")" 0
    echo "no error"
}

# What a reset is to change, and what not.
before_reboot() {
    use 0
    ran sg_persist --no-inquiry --out --register --param-sark=abc $DISK
    put "write through" $DEVICE/scsi_disk/0:0:0:0/cache_type
    ran sg_wr_mode -p 0xa -c a,a,4,10,0,0,0,0,0,0,0,0 $DISK
    echo rebooted >/tmp/mark
    dd if=/tmp/mark of=$DISK bs=512 conv=notrunc,sync,fsync 2>/dev/null
    note reboot -f
    echo "registered, write cache off, descriptor sense data"
}

after_reboot() {
    use 0
    ran sg_persist --no-inquiry --in --read-keys $DISK
    shows "0xabc"
    is "cache type" "$(cat $DEVICE/scsi_disk/0:0:0:0/cache_type)" "write back"
    ran sg_modes -p 0xa $DISK
    shows "^ 00 *0a 0a 00 10 00 "
    write_disk /sector0.bin 65536 4096
    read_disk 65536 4096 4096 >/tmp/found
    cmp /tmp/found /sector0.bin
    echo "the registration and what was written are there, modes are as at first"
}

if [ "$(mark "$(disk 0:0)")" = rebooted ]; then
    item after-reboot after_reboot
    return
fi
use 0
item first-read first_read
read -r line <&3
item reset-while-held reset_in_between 4096 /sector1.bin
item held answered "power-on or device reset occurred" 1
read -r line <&3
item reset-while-slow reset_in_between 8192 /sector2.bin
item slow answered "power-on or device reset occurred" 1
read -r line <&3
item abort times_out 12288 /sector3.bin
item aborted answered "tag#[0-9]* abort$" 1
read -r line <&3
item reset escalates 16384 /sector4.bin
item after-reset answered "device reset$" 1
item at-work at_work
item bad-sector bad_sector
item neighbours neighbours
item rerror-stop held_read
item werror-stop held_write
item before-reboot before_reboot
reboot -f
