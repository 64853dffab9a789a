# A unit that does not answer is reset by sg_reset, and the kernel sends the commands again.  (Its virtio driver has no
# timeout of its own: it waits for as long as it takes.)

# Open all the time: what comes while nobody has the port open is lost.
exec 3</dev/ttyS2
stty -F /dev/ttyS2 raw -echo

# reads PLACE FILE: reads a block in the background and compares it; what came of it is in /tmp/read.
reads() {
    rm -f /tmp/read
    (read_disk "$1" 4096 4096 >/tmp/found; cmp /tmp/found "$2" && echo same || echo differs) >/tmp/read.new 2>&1 &&
        mv /tmp/read.new /tmp/read &
}

first_read() {
    read_disk 0 4096 4096 >/tmp/found
    cmp /tmp/found /sector0.bin
}

in_flight() { cat $SYSFS/inflight | awk '{ print $1 }'; }

# The unit has answered nothing, and the reset has ended the command: the kernel sends it again.
reset_in_between() {
    reads "$1" "$2"
    until [ "$(in_flight)" -ge 1 ]; do sleep 0.05; done
    sg_reset --device $DISK
    echo "the unit was reset with a command in flight"
}

answered() {
    until [ -e /tmp/read ]; do sleep 0.05; done
    is "what was read" "$(cat /tmp/read)" same
    dmesg | grep -i "power-on or device reset occurred" | tail -n 1
}

afterwards() {
    is "state" "$(cat $SYSFS/device/state)" running
    write_disk /sector0.bin 65536 4096
    read_disk 65536 4096 4096 >/tmp/found
    cmp /tmp/found /sector0.bin
    ! dmesg | grep -i "i/o error"
    echo "the unit is at work"
}

item first-read first_read
read -r line <&3
item reset-while-held reset_in_between 4096 /sector1.bin
item held answered
read -r line <&3
item reset-while-slow reset_in_between 8192 /sector2.bin
item slow answered
item afterwards afterwards
