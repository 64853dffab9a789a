# A SCSI disk as the kernel and sg3-utils see it. /expected gives $sectors and $block_size; /host.bin lies at 4 MiB.

. /expected
DEVICE=$SYSFS/device
CLASS=$(ls -d $DEVICE/scsi_disk/*)

shows() { grep -q -i -e "$1" /tmp/out || { cat /tmp/out; echo "no '$1' in the above"; return 1; }; }

# ran COMMAND...: its output is in /tmp/out.
ran() { "$@" >/tmp/out 2>&1 || { status=$?; cat /tmp/out; echo "$1: exit status $status"; return 1; }; }

# fails_with STATUS COMMAND...
fails_with() {
    wanted=$1; shift
    status=0
    "$@" >/tmp/out 2>&1 || status=$?
    is "exit status of $1" $status "$wanted" || { cat /tmp/out; return 1; }
}

found() {
    is "disks" "$(ls -d /sys/block/sd* | wc -l)" 1
    is "address" "$(basename "$(readlink -f $DEVICE)")" "0:0:0:0"
    is "queue depth" "$(cat $DEVICE/queue_depth)" 128
    echo "$(cat $DEVICE/vendor $DEVICE/model $DEVICE/rev | tr '\n' ' ')"
}

first_sector() {
    read_disk 0 4096 "$block_size" >/tmp/found
    cmp /tmp/found /sector0.bin
    echo "first bytes: $(od -A n -t x1 -N 8 /tmp/found)"
}

capacity() {
    is "size in sectors" "$(cat $SYSFS/size)" "$sectors"
    is "logical block" "$(cat $SYSFS/queue/logical_block_size)" "$block_size"
    is "rotational" "$(cat $SYSFS/queue/rotational)" 0
    echo "$sectors sectors by $block_size"
}

thin() {
    is "thin provisioning" "$(cat $CLASS/thin_provisioning)" 1
    is "provisioning mode" "$(cat $CLASS/provisioning_mode)" unmap
    test "$(cat $SYSFS/queue/discard_max_bytes)" -gt 0
    test "$(cat $SYSFS/queue/write_zeroes_max_bytes)" -gt 0
    echo "discard $(cat $SYSFS/queue/discard_max_bytes) by $(cat $SYSFS/queue/discard_granularity)"
}

# The WCE bit of the caching page, switched by the kernel's MODE SELECT, as sysfs and sg_modes see it.
cache_type() {
    is "at first" "$(cat $CLASS/cache_type)" "write back"
    is "FUA" "$(cat $CLASS/FUA)" 1
    echo "write through" >$CLASS/cache_type
    is "switched" "$(cat $CLASS/cache_type)" "write through"
    is "queue/write_cache" "$(cat $SYSFS/queue/write_cache)" "write through"
    ran sg_modes -p 8 -r $DISK
    echo "write back" >$CLASS/cache_type
    is "switched back" "$(cat $CLASS/cache_type)" "write back"
    echo "through and back"
}

verified() {
    /sbin/fio --name=verified --filename=$DISK --direct=1 --ioengine=libaio --iodepth=32 --thread \
        --size=16m --offset=16m --rw=randwrite --bssplit=4k/70:128k/30 --verify=crc32c --verify_fatal=1 >/tmp/fio 2>&1 ||
        { tail -n 40 /tmp/fio; return 1; }
    is "jobs without error" "$(grep -c 'err= 0:' /tmp/fio)" 1 || { cat /tmp/fio; return 1; }
    awk '/issued rwts/ { split(substr($3, 7), count, ","); print count[1] " reads, " count[2] " writes" }' /tmp/fio
}

inquiry() {
    ran sg_inq $DISK
    shows "Vendor identification: DEVMODEL"
    shows "PQual=0 .*PDT=0"
    shows "Unit serial number: SN-1"
    echo "$(grep -c . /tmp/out) lines"
}

vpd() {
    ran sg_vpd -a $DISK
    for page in "Supported VPD pages" "Unit serial number" "Device Identification" "Block limits" \
        "Block device characteristics" "Logical block provisioning"; do
        shows "$page"
    done
    shows "Unmap command supported (LBPU): 1"
    ran sg_vpd -p di $DISK
    shows "0x5000c500deadbeef"
    ran sg_vpd -p bl $DISK
    echo "$(grep -i 'Maximum unmap LBA count' /tmp/out)"
}

modes() {
    ran sg_modes -a $DISK
    shows "Caching"
    shows "Control"
    shows "Read-Write error recovery"
    echo "$(grep -c '>>' /tmp/out) pages"
}

luns() {
    ran sg_luns $DISK
    shows "Lun list length = 8"
    ran sg_luns -s 2 $DISK
    shows "c101000000000000"
    echo "with the well known one"
}

readcap() {
    ran sg_readcap $DISK
    ran sg_readcap -l $DISK
    shows "lbpme=1"
    shows "Logical block length=$block_size bytes"
    echo "$(grep -i 'Device size' /tmp/out)"
}

ready() {
    ran sg_turs -v $DISK
    ran sg_requests -s $DISK
    ran sg_sync $DISK
    ran sg_start -s $DISK
    ran sg_verify -l 0 -c 64 $DISK
    ran sg_get_lba_status -l 0 $DISK
    echo "TEST UNIT READY, REQUEST SENSE, SYNCHRONIZE CACHE, START STOP UNIT, VERIFY, GET LBA STATUS"
}

opcodes() {
    ran sg_opcodes $DISK
    count=$(grep -c '^ [0-9a-f][0-9a-f] ' /tmp/out)
    test "$count" -ge 30 || { cat /tmp/out; return 1; }
    ran sg_opcodes -o 0x28 $DISK
    shows "supported"
    echo "$count commands"
}

# Blocks of the host's data at 4 MiB.
AT=$((4 * 1048576 / block_size))

unmap() {
    ran sg_unmap -l $AT -n 2048 -f $DISK
    read_disk 4194304 $((2048 * block_size)) $block_size >/tmp/found
    head -c $((2048 * block_size)) /dev/zero | cmp - /tmp/found
    echo "2048 blocks read as zeroes"
}

write_same() {
    dd if=/host.bin of=/tmp/block bs="$block_size" count=1 2>/dev/null
    ran sg_write_same -i /tmp/block -l $AT -n 100 -x $block_size $DISK
    read_disk 4194304 $((100 * block_size)) $block_size >/tmp/found
    for number in $(seq 100); do cat /tmp/block; done | cmp - /tmp/found
    ran sg_write_same --16 -i /tmp/block -l $((AT + 100)) -n 50 -x $block_size $DISK
    ran sg_write_same --16 --unmap -l $AT -n 50 -x $block_size -i /dev/zero $DISK
    read_disk 4194304 $((50 * block_size)) $block_size >/tmp/found
    head -c $((50 * block_size)) /dev/zero | cmp - /tmp/found
    echo "10 and 16, with and without UNMAP"
}

compare_and_write() {
    dd if=/tmp/block of=/tmp/both bs="$block_size" 2>/dev/null
    head -c $block_size /dev/urandom >/tmp/new
    cat /tmp/block /tmp/new >/tmp/both
    ran sg_compare_and_write -i /tmp/both -l $((AT + 100)) -n 1 -x $((2 * block_size)) $DISK
    read_disk $((4194304 + 100 * block_size)) $block_size $block_size | cmp - /tmp/new
    # 14 is sg3-utils' word for MISCOMPARE.
    fails_with 14 sg_compare_and_write -i /tmp/both -l $((AT + 100)) -n 1 -x $((2 * block_size)) $DISK
    read_disk $((4194304 + 100 * block_size)) $block_size $block_size | cmp - /tmp/new
    echo "once, and a miscompare"
}

reservations() {
    ran sg_persist -n -o -G -S 0xabc $DISK
    ran sg_persist -n -k $DISK
    shows "0xabc"
    ran sg_persist -n -o -R -K 0xabc -T 5 $DISK
    ran sg_persist -n -r $DISK
    shows "Write Exclusive, registrants only"
    ran sg_persist -n -s $DISK
    ran sg_persist -n -c $DISK
    ran sg_persist -n -o -L -K 0xabc -T 5 $DISK
    # 24 is RESERVATION CONFLICT.
    fails_with 24 sg_persist -n -o -C -K 0xdef $DISK
    ran sg_persist -n -o -C -K 0xabc $DISK
    ran sg_persist -n -k $DISK
    shows "no registered reservation keys"
    echo "registered, reserved, released, cleared"
}

sanitize() {
    ran sg_sanitize --quick --block -w $DISK
    read_disk 0 1048576 65536 >/tmp/found
    head -c 1048576 /dev/zero | cmp - /tmp/found
    echo "block erase"
}

# The driver of the kernel has no reset but that of a unit.
resets() {
    ran sg_reset --device $DISK
    sg_turs $DISK || ran sg_turs $DISK
    read_disk 0 4096 4096 >/tmp/found
    echo "of the unit"
}

item found found
item first-sector first_sector
item capacity capacity
item thin thin
item cache-type cache_type
item fio-verified verified
item sg_inq inquiry
item sg_vpd vpd
item sg_modes modes
item sg_luns luns
item sg_readcap readcap
item sg-small-commands ready
item sg_opcodes opcodes
item sg_unmap unmap
item sg_write_same write_same
item sg_compare_and_write compare_and_write
item sg_persist reservations
item sg_reset resets
item sg_sanitize sanitize
