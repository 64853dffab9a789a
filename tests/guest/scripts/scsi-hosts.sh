# Two hosts, and on each a disk that is the same logical unit of an iSCSI target: who has reserved what.

# disk_of HOST: its disk, as /dev/hostHOST.
disk_of() {
    until ls -d /sys/bus/scsi/devices/$1:0:0:0/block/* >/dev/null 2>&1; do sleep 0.05; done
    ln -s -f "$(ls /sys/bus/scsi/devices/$1:0:0:0/block)" /dev/host$1
}
disk_of 0
disk_of 1
A=/dev/host0
B=/dev/host1

# pr DISK OPTION...: PERSISTENT RESERVE IN or OUT.
pr() { disk=$1; shift; ran sg_persist --no-inquiry "$@" $disk; }

writes() { ran dd if=/host.bin of=$1 oflag=direct bs=4096 seek=$2 count=1; }

# 1 is what dd says; the kernel says why.
conflicts() {
    dmesg -c >/dev/null
    fails_with 1 dd if=/host.bin of=$1 oflag=direct bs=4096 seek=$2 count=1
    dmesg | grep "reservation conflict"
}

same_unit() {
    writes $A 0
    ran dd if=$B iflag=direct of=/tmp/found bs=4096 count=1
    head -c 4096 /host.bin | cmp - /tmp/found
    echo "what one has written the other reads"
}

registered() {
    pr $A --out --register --param-sark=aaa
    pr $B --out --register --param-sark=bbb
    pr $A --in --read-keys
    shows "2 registered reservation keys" "0xaaa" "0xbbb"
    pr $B --in --read-full-status
    shows "Key=0xaaa" "Key=0xbbb" "org.example:a," "org.example:b,"
    echo "two keys, of two initiators"
}

reserved() {
    pr $A --out --reserve --param-rk=aaa --prout-type=1
    pr $B --in --read-reservation
    shows "Key=0xaaa" "Write Exclusive$"
    writes $A 1
    conflicts $B 2
    ran dd if=$B iflag=direct of=/tmp/found bs=4096 count=1
    # 24 is RESERVATION CONFLICT.
    fails_with 24 sg_persist --no-inquiry --out --reserve --param-rk=bbb --prout-type=3 $B
    pr $A --out --release --param-rk=aaa --prout-type=1
    writes $B 2
    echo "the other may read, and may write once it is released"
}

preempted() {
    pr $A --out --reserve --param-rk=aaa --prout-type=5
    writes $B 3
    pr $B --out --preempt --param-rk=bbb --param-sark=aaa --prout-type=5
    # 6 is UNIT ATTENTION: who was preempted hears of it.
    fails_with 6 sg_persist --no-inquiry --in --read-keys $A
    shows "Registrations preempted"
    pr $A --in --read-keys
    shows "1 registered reservation key" "0xbbb"
    pr $A --in --read-reservation
    shows "Key=0xbbb"
    conflicts $A 4
    writes $B 4
    pr $B --out --clear --param-rk=bbb
    writes $A 5
    echo "the holder is no longer registered, and may not write until the other has cleared"
}

item same-unit same_unit
item register registered
item reserve reserved
item preempt preempted
