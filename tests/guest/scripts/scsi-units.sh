# Several units on one host: which disk is where.

# disk TARGET:LUN: the name of that unit's disk, once it is there.
disk() {
    until ls -d /sys/bus/scsi/devices/0:0:$1/block/* 2>/dev/null; do sleep 0.05; done | sed 's|.*/||'
}

# mark DISK: what its first block says.
mark() { dd if=/dev/"$1" iflag=direct bs=512 count=1 2>/dev/null | head -n 1; }
