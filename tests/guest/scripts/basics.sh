# What the disk says of itself, reads and writes past the page cache, and the write-cache mode.
# Data files: /expected (name=value lines), /host.bin (lies at 4 MiB), /guest.bin (is to be written at 16 MiB).

. /expected

first_sector() {
    read_disk 0 512 512 >/tmp/found
    dd if=/sector0.bin of=/tmp/wanted bs=512 count=1 2>/dev/null
    cmp /tmp/found /tmp/wanted
    echo "first bytes: $(od -A n -t x1 -N 8 /tmp/found)"
}

capacity() {
    is "size in sectors" "$(cat $SYSFS/size)" "$sectors"
    is "read only" "$(cat $SYSFS/ro)" 0
    echo "$sectors sectors, writable"
}

serial() {
    found=$(cat $SYSFS/serial)
    test -n "$found" || { echo "GET_ID gave nothing"; return 1; }
    test ${#found} -le 20 || { echo "'$found' is longer than 20 bytes"; return 1; }
    echo "$found"
}

# The values a driver derives from BLK_SIZE, TOPOLOGY, SEG_MAX and SIZE_MAX hang together.
geometry() {
    cd $SYSFS/queue
    logical=$(cat logical_block_size) physical=$(cat physical_block_size)
    is logical_block_size "$logical" "$block_size"
    test $((physical % logical)) -eq 0 || { echo "physical $physical, logical $logical"; return 1; }
    is alignment_offset "$(cat $SYSFS/alignment_offset)" 0
    test $(($(cat minimum_io_size) % physical)) -eq 0
    test $(($(cat optimal_io_size) % logical)) -eq 0
    test "$(cat max_segments)" -ge 1
    echo "logical $logical, physical $physical, min $(cat minimum_io_size), opt $(cat optimal_io_size)," \
        "segments $(cat max_segments) of $(cat max_segment_size)"
}

limits() {
    cd $SYSFS/queue
    test "$(cat discard_max_bytes)" -gt 0 || { echo "no discard"; return 1; }
    test "$(cat write_zeroes_max_bytes)" -gt 0 || { echo "no write zeroes"; return 1; }
    test $(($(cat discard_granularity) % block_size)) -eq 0
    echo "discard $(cat discard_max_bytes) by $(cat discard_granularity), zeroes $(cat write_zeroes_max_bytes)"
}

read_verified() {
    for block in 4096 65536 1048576; do
        read_disk 4194304 4194304 $block >/tmp/found
        cmp /tmp/found /host.bin
    done
    echo "4 MiB, three block sizes"
}

write_verified() {
    write_disk /guest.bin 16777216 65536
    read_disk 16777216 4194304 4096 >/tmp/found
    cmp /tmp/found /guest.bin
    echo "4 MiB written by 64 KiB, read by 4 KiB"
}

# A lone block at an odd place: what lies left and right of it stays.
write_one_block() {
    dd if=/guest.bin of=/tmp/block bs="$block_size" count=1 2>/dev/null
    read_disk $((24 * 1048576)) $((block_size * 3)) "$block_size" >/tmp/before
    write_disk /tmp/block $((24 * 1048576 + block_size)) "$block_size"
    read_disk $((24 * 1048576)) $((block_size * 3)) "$block_size" >/tmp/after
    { head -c "$block_size" /tmp/before; cat /tmp/block; tail -c "$block_size" /tmp/before; } >/tmp/wanted
    cmp /tmp/after /tmp/wanted
    echo "$block_size bytes"
}

last_block() {
    bytes=$((sectors * 512))
    dd if=/guest.bin of=/tmp/block bs="$block_size" count=1 2>/dev/null
    write_disk /tmp/block $((bytes - block_size)) "$block_size"
    read_disk $((bytes - block_size)) "$block_size" "$block_size" >/tmp/found
    cmp /tmp/found /tmp/block
    echo "at $((bytes - block_size))"
}

item first-sector first_sector
item capacity capacity
item serial serial
item geometry geometry
item limits limits
item read-verified read_verified
item write-verified write_verified
item write-one-block write_one_block
item last-block last_block
