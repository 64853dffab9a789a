# Disks and drives by libata's ports: the kernel gives them names in the order in which it happens to find them.

FUNCTION=/sys/devices/pci0000:00/0000:00:04.0

# block_at PORT KIND: what the kernel calls the disk (sd) or drive (sr) at a port, counted from 1; nothing if none is there.
block_at() { ls $FUNCTION/ata"$1"/host*/target*/*/block 2>/dev/null | grep "^$2"; }

# named NAME PORT KIND: waits for it, and gives it a name in /dev that is the same in every run.
named() {
    for _ in $(seq 400); do
        found=$(block_at "$2" "$3") && { ln -sf "$found" /dev/"$1"; return; }
        sleep 0.05
    done
    dmesg | grep -i ata | tail -n 20
    echo "nothing at port $2"
    return 1
}

# sysfs_of NAME: where the kernel describes what was named.
sysfs_of() { echo /sys/block/"$(readlink /dev/"$1")"; }

# late_read_is FILE: waits for what was read into /tmp/late by somebody who left its end in /tmp/late.status; the same.
late_read_is() {
    for _ in $(seq 600); do
        [ -e /tmp/late.status ] && break
        sleep 0.05
    done
    cmp /tmp/late "$1" || { dmesg | tail -n 40; return 1; }
}
