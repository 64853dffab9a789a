# Many logical units, each marked in its first block with its place; some come and go while the guest runs.
# /expected gives $units, and /units has their places in order (target:lun).

. /expected
. /scripts/scsi-units.sh

uevent sh -c 'echo "$ACTION $DEVPATH" >>/tmp/uevents' &

count() { ls -d /sys/bus/scsi/devices/[0-9]*:*:*:* 2>/dev/null | wc -l; }

all_found() {
    until [ "$(count)" -ge "$units" ]; do sleep 0.05; done
    is "units" "$(count)" "$units"
    while read -r place; do
        is "mark of $place" "$(mark "$(disk "$place")")" "unit $place"
    done </units
    echo "$units units, in $(ls -d /sys/bus/scsi/devices/target* | wc -l) targets"
}

luns_reported() {
    ran=$(sg_luns -q /dev/"$(disk 0:0)" | grep -c .)
    test "$ran" -ge $((units / 4)) || { sg_luns /dev/"$(disk 0:0)"; return 1; }
    echo "$ran LUNs of target 0"
}

# Every unit at once, each verified on its own.
all_at_once() {
    jobs=
    number=0
    while read -r place; do
        jobs="$jobs --name=unit$number --filename=/dev/$(disk "$place")"
        number=$((number + 1))
    done </units
    /sbin/fio --direct=1 --ioengine=libaio --iodepth=4 --thread --size=128k --offset=512k --rw=randwrite --bs=4k \
        --verify=crc32c --verify_fatal=1 $jobs >/tmp/fio 2>&1 || { tail -n 40 /tmp/fio; return 1; }
    is "jobs without error" "$(grep -c 'err= 0:' /tmp/fio)" "$units" || { cat /tmp/fio; return 1; }
    echo "$units jobs"
}

# came PLACE: the unit has appeared, its disk can be read, and there was an event for it.
came() {
    name=$(disk "$1")
    is "mark of $1" "$(mark "$name")" "unit $1"
    until grep -q "^add .*/0:0:$1/block/$name$" /tmp/uevents; do sleep 0.05; done
    echo "$name: $(grep -c "^add .*0:0:$1" /tmp/uevents) events"
}

# gone PLACE
gone() {
    while [ -e /sys/bus/scsi/devices/0:0:"$1" ]; do sleep 0.05; done
    until grep -q "^remove .*/0:0:$1$" /tmp/uevents; do sleep 0.05; done
    echo "$(grep -c "^remove .*0:0:$1" /tmp/uevents) events"
}

grown() {
    name=$(disk 0:0)
    until [ "$(cat /sys/block/"$name"/size)" = 8192 ]; do sleep 0.05; done
    until grep -q "^change .*/0:0:0:0" /tmp/uevents; do sleep 0.05; done
    echo "8192 sectors"
}

item all-found all_found
item luns-reported luns_reported
item all-at-once all_at_once
say "RESULT ready ok 0.00 for the host to plug"
item unit-came came 5:0
item unit-of-a-known-target-came came 0:77
item unit-gone gone 0:77
item target-gone gone 5:0
item unit-grown grown
item units-left is units "$(count)" "$units"
