# Two disks at the ports of an HBA that has a message for each port.

. /scripts/ata-names.sh

found() {
    while read -r module; do insmod "/modules/$module"; done </modules/ahci.order
    note "insmod ahci.ko"
    named disk0 1 sd
    named disk1 2 sd
    note "dmesg"
    dmesg | grep -q '0000:00:04.0: .*SATA mode' || dmesg | grep -q 'ahci 0000:00:04.0'
    echo "at ports 0 and 1"
}

# told PORT: how many interrupts the port has had.
told() { awk '$NF == "ahci'"$1"'" { print $2 }' /proc/interrupts; }

vectors() {
    note "cat /proc/interrupts"
    grep -E 'ahci[01]$' /proc/interrupts
    is "vectors" "$(grep -c -E 'PCI-MSI.* ahci[01]$' /proc/interrupts)" 2
    echo "one for each port"
}

# used PORT: reads of its disk interrupt it, and the other port not at all.
used() {
    mine=$(told "$1")
    others=$(told $((1 - $1)))
    ran dd if=/dev/disk"$1" of=/dev/null iflag=direct bs=4096 count=64
    test $(($(told "$1") - mine)) -ge 64
    is "interrupts of the other port" "$(told $((1 - $1)))" "$others"
    echo "64 reads, its own interrupts and no others"
}

item disks found
item vectors vectors
item port-0 used 0
item port-1 used 1
