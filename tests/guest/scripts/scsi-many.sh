# Many logical units, each marked in its first block with its place; some come and go while the guest runs.
# /expected gives $units, and /units has their places in order (target:lun).

. /expected
. /scripts/scsi-units.sh

# BusyBox's listener of the kernel's netlink socket: what udev listens to.
uevent sh -c 'echo "$ACTION $DEVPATH" >>/tmp/uevents' &

count() { ls -d /sys/bus/scsi/devices/[0-9]*:*:*:* 2>/dev/null | wc -l; }

all_found() {
    until [ "$(count)" -ge "$units" ]; do sleep 0.05; done
    is "units" "$(count)" "$units"
    while read -r place; do
        is "mark of $place" "$(mark "$(disk "$place")")" "unit $place"
    done </units
    note "ls /sys/bus/scsi/devices"
    echo "$units units, in $(ls -d /sys/bus/scsi/devices/target* | wc -l) targets"
}

luns_reported() {
    ran sg_luns "$(named 0:0)"
    shows "Lun list length = 128 " "^ *0000000000000000" "^ *000f000000000000"
    # All units of the host, in the words of virtio.
    ran sg_luns -s 1 "$(named 0:0)"
    echo "16 LUNs of target 0"
}

# named PLACE: the unit's disk, by a name that does not depend on who was found first.
named() {
    ln -s -f "$(disk "$1")" /dev/unit"$1"
    echo /dev/unit"$1"
}

# Every unit at once, each verified on its own.
all_at_once() {
    jobs=
    number=0
    while read -r place; do
        jobs="$jobs --name=unit$number --filename=/dev/$(disk "$place")"
        number=$((number + 1))
    done </units
    note "fio --direct=1 --ioengine=libaio --iodepth=4 --rw=randwrite --bs=4k --verify=crc32c … ($units jobs)"
    /sbin/fio --direct=1 --ioengine=libaio --iodepth=4 --thread --disk_util=0 --size=128k --offset=512k --rw=randwrite --bs=4k \
        --verify=crc32c --verify_fatal=1 $jobs >/tmp/fio 2>&1 || { tail -n 40 /tmp/fio; return 1; }
    is "jobs without error" "$(grep -c 'err= 0:' /tmp/fio)" "$units" || { cat /tmp/fio; return 1; }
    echo "$units jobs"
}

# came PLACE: the unit has appeared, its disk can be read, and there was an event for it.
came() {
    name=$(disk "$1")
    is "mark of $1" "$(mark "$name")" "unit $1"
    until grep -q "^add .*/0:0:$1/block/$name$" /tmp/uevents; do sleep 0.05; done
    note "uevent"
    grep "^add .*0:0:$1" /tmp/uevents
    echo "add …/0:0:$1/block/sd…"
}

# gone PLACE
gone() {
    while [ -e /sys/bus/scsi/devices/0:0:"$1" ]; do sleep 0.05; done
    until grep -q "^remove .*/0:0:$1$" /tmp/uevents; do sleep 0.05; done
    note "uevent"
    grep "^remove .*0:0:$1" /tmp/uevents
    echo "remove …/0:0:$1"
}

grown() {
    name=$(disk 0:0)
    until [ "$(cat /sys/block/"$name"/size)" = 8192 ]; do sleep 0.05; done
    until grep -q "^change .*/0:0:0:0" /tmp/uevents; do sleep 0.05; done
    note "uevent"
    note "cat /sys/bus/scsi/devices/0:0:0:0/block/sd…/size"
    echo "change …/0:0:0:0, 8192 sectors"
}

# The host plugs one and unplugs one while the machine stands still, so that no ring is there to tell of it.
missed() {
    came 6:0
    gone 0:5
    echo "add …/0:0:6:0/block/sd…, remove …/0:0:0:5: the driver looks at everything again"
}

# Blocks of one unit, copied to another of the same target by the target itself.
copied() {
    mkdir -p /dev/block
    for place in 0:1 0:2; do ln -s -f "$(named $place)" /dev/block/"$(cat /sys/block/"$(disk $place)"/dev)"; done
    ran sg_xcopy if="$(named 0:1)" of="$(named 0:2)" bs=512 skip=0 seek=100 count=1
    ran dd if="$(named 0:2)" iflag=direct of=/tmp/found bs=512 skip=100 count=1
    is "what was copied" "$(head -n 1 /tmp/found)" "unit 0:1"
    echo "from LUN 1 to LUN 2"
}

units_left() { is units "$(count)" "$units"; echo "$units units"; }

item all-found all_found
item luns-reported luns_reported
item all-at-once all_at_once
say "RESULT ready ok 0.00 for the host to plug"
item unit-came came 5:0
item unit-of-a-known-target-came came 0:77
item unit-gone gone 0:77
item target-gone gone 5:0
item unit-grown grown
item sg_xcopy copied
item events-missed missed
item units-left units_left
