# Commands that work on a disk's blocks.

# The host's data at 4 MiB: its place in bytes, and its first block.
PLACE=4194304
AT=$((PLACE / block_size))

# blocks AT COUNT: their contents, into /tmp/found.
blocks() { read_disk $(($1 * block_size)) $(($2 * block_size)) $block_size >/tmp/found; }

zeroes() { head -c $(($1 * block_size)) /dev/zero; }

# mapped AT STATE: the first block range that GET LBA STATUS tells of from there on.
mapped() {
    ran sg_get_lba_status -l $1 -m 32 $DISK
    shows "^\[1\] LBA: $(printf 0x%016x $1) .* $2"
}

thin() {
    note "cat $CLASS/thin_provisioning $CLASS/provisioning_mode $SYSFS/queue/discard_max_bytes"
    is "thin provisioning" "$(cat $CLASS/thin_provisioning)" 1
    is "provisioning mode" "$(cat $CLASS/provisioning_mode)" unmap
    is "most that is discarded" "$(cat $SYSFS/queue/discard_max_bytes)" 536870912
    test "$(cat $SYSFS/queue/write_zeroes_max_bytes)" -gt 0
    echo "discard $(cat $SYSFS/queue/discard_max_bytes) by $(cat $SYSFS/queue/discard_granularity)"
}

# provisioned MODE CDB: the kernel discards 1 MiB of data at 8 MiB with such a command; the blocks are gone afterwards.
provisioned() {
    put $1 $CLASS/provisioning_mode
    is "mode" "$(cat $CLASS/provisioning_mode)" $1
    write_disk /host.bin 8388608 65536
    mapped $((8388608 / block_size)) mapped
    watched /sbin/blkdiscard --offset 8388608 --length 1048576 $DISK
    test "$(sent "$2")" -ge 1 || { cat /tmp/sent; echo "no $2"; return 1; }
    mapped $((8388608 / block_size)) deallocated
    blocks $((8388608 / block_size)) 8
    zeroes 8 | cmp - /tmp/found
}

provisioning_modes() {
    provisioned unmap "42 00"
    provisioned writesame_16 "93 08"
    provisioned writesame_10 "41 08"
    put disabled $CLASS/provisioning_mode
    fails_with 1 /sbin/blkdiscard --offset 8388608 --length 1048576 $DISK
    put unmap $CLASS/provisioning_mode
    echo "UNMAP, WRITE SAME (16) and (10) with UNMAP; nothing"
}

# zeroed CDB STATE COMMAND...: 1 MiB of data at 8 MiB becomes zeroes by such a command, and is in that state then.
zeroed() {
    cdb=$1 state=$2; shift 2
    write_disk /host.bin 8388608 65536
    watched "$@"
    test "$(sent "$cdb")" -ge 1 || { cat /tmp/sent; echo "no $cdb"; return 1; }
    blocks $((8388608 / block_size)) 8
    zeroes 8 | cmp - /tmp/found
    mapped $((8388608 / block_size)) $state
}

# Zeroes that are to be stored are one thing, and holes another, for which the kernel goes by the mode.
zeroing_modes() {
    is "at first" "$(cat $CLASS/zeroing_mode)" writesame_16_unmap
    zeroed "93 00" "" /sbin/blkdiscard --zeroout --offset 8388608 --length 1048576 $DISK
    zeroed "93 08" deallocated /sbin/fallocate --punch-hole --offset 8388608 --length 1048576 $DISK
    put writesame_10_unmap $CLASS/zeroing_mode
    zeroed "41 08" deallocated /sbin/fallocate --punch-hole --offset 8388608 --length 1048576 $DISK
    put writesame_16_unmap $CLASS/zeroing_mode
    echo "WRITE SAME (16), with UNMAP for a hole; WRITE SAME (10) with UNMAP"
}

# The generic driver sends what it is given: each size of READ and WRITE.
every_size() {
    for size in 6 10 12 16; do
        flags=oflag=fua,dpo
        [ $size != 6 ] || flags=
        ran sg_dd if=/host.bin of=$GENERIC bs=$block_size seek=$AT count=32 bpt=16 cdbsz=$size $flags
        rm /tmp/found
        ran sg_dd if=$GENERIC of=/tmp/found bs=$block_size skip=$AT count=32 bpt=16 cdbsz=$size
        head -c $((32 * block_size)) /host.bin | cmp - /tmp/found
        ran sg_write_same --16 --ndob --lba=$AT --num=32 $DISK
    done
    echo "READ and WRITE (6), (10), (12) and (16)"
}

# What sg3-utils have no command for, at block 0x4000.
raw() {
    read_disk $((16384 * block_size)) $((2 * block_size)) $block_size >/tmp/before
    ran sg_raw $DISK 34 00 00 00 40 00 00 00 40 00
    ran sg_raw -s $((2 * block_size)) -i /host.bin $DISK 9c 00 00 00 00 00 00 00 40 00 00 00 00 02 00 00
    blocks 16384 2
    head -c $((2 * block_size)) /host.bin | cmp - /tmp/found
    # OR with all ones.
    head -c $block_size /dev/zero | tr '\0' '\377' >/tmp/ones
    ran sg_raw -s $block_size -i /tmp/ones $DISK 8b 00 00 00 00 00 00 00 40 01 00 00 00 01 00 00
    blocks 16385 1
    cmp /tmp/found /tmp/ones
    ran sg_raw -r 4 $DISK 37 00 08 00 00 00 00 00 04 00
    shows "00     00 08 00 00"
    echo "PRE-FETCH (10), WRITE ATOMIC (16), ORWRITE (16), READ DEFECT DATA (10): none"
}

verified() {
    ran /sbin/fio --name=verified --filename=$DISK --direct=1 --ioengine=libaio --iodepth=32 --thread \
        --size=16m --offset=16m --rw=randwrite --bssplit=4k/70:128k/30 --verify=crc32c --verify_fatal=1
    is "jobs without error" "$(grep -c 'err= 0:' /tmp/out)" 1 || { cat /tmp/out; return 1; }
    awk '/issued rwts/ { split(substr($3, 7), count, ","); print count[1] " reads, " count[2] " writes, all verified" }' \
        /tmp/out
}

unmap() {
    ran sg_unmap --lba=$AT --num=2048 --force $DISK
    blocks $AT 2048
    zeroes 2048 | cmp - /tmp/found
    # Two ranges, and what is between them stays.
    write_disk /host.bin $PLACE 65536
    ran sg_unmap --lba=$AT,$((AT + 64)) --num=32,32 --force $DISK
    blocks $AT 128
    head -c $((128 * block_size)) /host.bin >/tmp/wanted
    zeroes 32 | dd of=/tmp/wanted conv=notrunc 2>/dev/null
    zeroes 32 | dd of=/tmp/wanted conv=notrunc bs=$block_size seek=64 2>/dev/null
    cmp /tmp/found /tmp/wanted
    echo "one range, two ranges; they read as zeroes, their neighbours are as they were"
}

lba_status() {
    write_disk /host.bin $PLACE 65536
    ran sg_unmap --lba=$((AT + 256)) --num=256 --force $DISK
    ran sg_get_lba_status --lba=$AT --maxlen=56 $DISK
    shows "^\[1\] LBA: $(printf 0x%016x $AT)  blocks: *256  mapped" \
        "^\[2\] LBA: $(printf 0x%016x $((AT + 256)))  blocks: *256  deallocated" \
        "^\[3\] LBA: $(printf 0x%016x $((AT + 512))) .* mapped"
    echo "256 blocks mapped, 256 deallocated, the rest mapped"
}

# same AT COUNT: each of these blocks, at most 125, holds what /tmp/block does.
same() {
    blocks $1 $2
    head -c $(($2 * block_size)) /tmp/125 | cmp - /tmp/found
}

write_same() {
    write_disk /host.bin $PLACE 65536
    dd if=/host.bin of=/tmp/block bs="$block_size" skip=7 count=1 2>/dev/null
    cd /tmp && cat block block block block block >5 && cat 5 5 5 5 5 >25 && cat 25 25 25 25 25 >125
    ran sg_write_same --10 --in=/tmp/block --lba=$AT --num=100 --xferlen=$block_size $DISK
    same $AT 100
    ran sg_write_same --16 --in=/tmp/block --lba=$((AT + 100)) --num=50 --xferlen=$block_size $DISK
    same $((AT + 100)) 50
    ran sg_write_same --16 --unmap --in=/dev/zero --lba=$AT --num=50 --xferlen=$block_size $DISK
    ran sg_write_same --16 --ndob --lba=$((AT + 50)) --num=25 $DISK
    blocks $AT 75
    zeroes 75 | cmp - /tmp/found
    same $((AT + 75)) 75
    # No block at all (WSNZ) is an ILLEGAL REQUEST; 22 is sg3-utils' word for LBA OUT OF RANGE.
    fails_with 5 sg_write_same --16 --in=/tmp/block --lba=$AT --num=0 --xferlen=$block_size $DISK
    fails_with 22 sg_write_same --16 --in=/tmp/block --lba=$((sectors * 512 / block_size)) --num=1 \
        --xferlen=$block_size $DISK
    echo "10 and 16, UNMAP, NDOB; nothing, and beyond the end, is refused"
}

compare_and_write() {
    blocks $AT 1
    head -c $block_size /dev/urandom >/tmp/new
    cat /tmp/found /tmp/new >/tmp/both
    ran sg_compare_and_write --in=/tmp/both --lba=$AT --num=1 --xferlen=$((2 * block_size)) $DISK
    blocks $AT 1
    cmp /tmp/found /tmp/new
    # 14 is sg3-utils' word for MISCOMPARE.
    fails_with 14 sg_compare_and_write --in=/tmp/both --lba=$AT --num=1 --xferlen=$((2 * block_size)) $DISK
    blocks $AT 1
    cmp /tmp/found /tmp/new
    echo "once, and a miscompare"
}

verify() {
    write_disk /host.bin $PLACE 65536
    ran sg_verify --lba=$AT --count=64 $DISK
    ran sg_verify --16 --lba=$AT --count=64 $DISK
    head -c $((16 * block_size)) /host.bin >/tmp/same
    ran sg_verify --lba=$AT --count=16 --ebytchk=1 --ndo=$((16 * block_size)) --in=/tmp/same $DISK
    printf x | dd of=/tmp/same conv=notrunc bs=1 seek=$((9 * block_size)) 2>/dev/null
    fails_with 14 sg_verify --lba=$AT --count=16 --ebytchk=1 --ndo=$((16 * block_size)) --in=/tmp/same $DISK
    echo "10 and 16; the same bytes, and a miscompare"
}

extended_copy() {
    # Where udev would have put it.
    mkdir -p /dev/block && ln -s -f $DISK /dev/block/"$(cat $SYSFS/dev)"
    write_disk /host.bin $PLACE 65536
    ran sg_xcopy if=$DISK of=$DISK bs=$block_size skip=$AT seek=$((33554432 / block_size)) count=512
    blocks $((33554432 / block_size)) 512
    head -c $((512 * block_size)) /host.bin | cmp - /tmp/found
    echo "512 blocks"
}

synchronize() {
    ran sg_sync $DISK
    ran sg_sync --16 --lba=8 --count=16 $DISK
    watched dd if=/host.bin of=$DISK bs=4096 count=1 conv=notrunc,fsync
    is "SYNCHRONIZE CACHE (10) of the kernel" "$(sent 35)" 1
    echo "10 and 16; one for each fsync"
}

# FUA writes are what the kernel makes of synchronous ones while there is a write cache.
fua() {
    is "queue/fua" "$(cat $SYSFS/queue/fua)" 1
    for mode in "write back" "write through"; do
        put "$mode" $CLASS/cache_type
        watched /sbin/fio --name=fua --filename=$DISK --direct=1 --sync=dsync --rw=write --bs=4k --size=32k --offset=12m
        echo "$mode: $(sent "2a 08") with FUA, $(sent "2a 00") without, $(sent 35) SYNCHRONIZE CACHE" >>/tmp/counts
    done
    put "write back" $CLASS/cache_type
    # The flushes are for what else fdatasync(2) is to make stable.
    is "commands" "$(head -n 1 /tmp/counts)" "write back: 8 with FUA, 0 without, 8 SYNCHRONIZE CACHE"
    is "commands" "$(tail -n 1 /tmp/counts)" "write through: 0 with FUA, 8 without, 0 SYNCHRONIZE CACHE"
    echo "$(tr '\n' ';' </tmp/counts | sed 's/;$//; s/;/; /')"
}

# The whole disk reads as the given byte.
filled_with() {
    for place in 0 $PLACE 33554432 $((sectors * 512 - 65536)); do
        read_disk $place 65536 65536 >/tmp/found
        head -c 65536 /dev/zero | tr '\0' "$1" | cmp - /tmp/found
    done
}

sanitize() {
    head -c $block_size /dev/zero | tr '\0' Z >/tmp/pattern
    ran sg_sanitize --quick --overwrite --pattern=/tmp/pattern --ipl=$block_size --wait $DISK
    filled_with Z
    ran sg_sanitize --quick --block --wait $DISK
    filled_with '\0'
    mapped 0 deallocated
    write_disk /host.bin $PLACE 65536
    ran sg_sanitize --quick --crypto --early $DISK
    until sg_turs $DISK >/dev/null 2>&1; do sleep 0.05; done
    filled_with '\0'
    ran sg_sanitize --quick --fail --wait $DISK
    echo "overwrite, block erase, cryptographic erase, exit failure mode"
}

format() {
    write_disk /host.bin $PLACE 65536
    ran sg_format --format --quick --wait $DISK
    filled_with '\0'
    ran sg_readcap --brief $DISK
    shows "^$(printf 0x%x $((sectors * 512 / block_size))) $(printf 0x%x $block_size)$"
    echo "everything reads as zeroes"
}
