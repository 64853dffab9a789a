# The write-cache mode, switched at run time: CONFIG_WCE through cache_type, the block layer's own view in write_cache.

# The flush requests the disk was sent so far (Documentation/block/stat.rst).
flushes() { awk '{ print $16 }' $SYSFS/stat; }

# How many flushes one written and synchronised block costs.
flushes_of_a_write() {
    before=$(flushes)
    dd if=/guest.bin of=$DISK bs=4096 count=1 conv=notrunc,fsync 2>/dev/null
    echo $(($(flushes) - before))
}

# switched MODE FLUSHED: the device took the mode, the block layer follows, and flushes are sent only where a cache is.
switched() {
    echo "$1" >$SYSFS/cache_type
    is cache_type "$(cat $SYSFS/cache_type)" "$1"
    is queue/write_cache "$(cat $SYSFS/queue/write_cache)" "$1"
    count=$(flushes_of_a_write)
    if [ "$2" = flushed ]; then test "$count" -ge 1; else is flushes "$count" 0; fi
    echo "$1; $count flushes for one synchronised write"
}

starts_with() {
    is queue/write_cache "$(cat $SYSFS/queue/write_cache)" "$(cat $SYSFS/cache_type)"
    echo "starts as $(cat $SYSFS/cache_type)"
}

# queue/write_cache is the block layer's alone: the device keeps its mode.
block_layer_only() {
    echo "write through" >$SYSFS/queue/write_cache
    is queue/write_cache "$(cat $SYSFS/queue/write_cache)" "write through"
    is cache_type "$(cat $SYSFS/cache_type)" "write back"
    is flushes "$(flushes_of_a_write)" 0
    echo "write back" >$SYSFS/queue/write_cache
    is queue/write_cache "$(cat $SYSFS/queue/write_cache)" "write back"
    test "$(flushes_of_a_write)" -ge 1
    echo "through and back"
}

kept_data() {
    write_disk /guest.bin 0 65536
    echo "write through" >$SYSFS/cache_type
    read_disk 0 4194304 65536 >/tmp/found
    cmp /tmp/found /guest.bin
    echo "write back" >$SYSFS/cache_type
    read_disk 0 4194304 65536 >/tmp/found
    cmp /tmp/found /guest.bin
    echo "4 MiB the same in both modes"
}

item cache-start starts_with
item cache-write-through switched "write through" unflushed
item cache-write-back switched "write back" flushed
item cache-queue-write_cache block_layer_only
item cache-data kept_data
