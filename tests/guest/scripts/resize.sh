# The disk becomes larger and smaller while it is in use.

# size_becomes SECTORS: waits for the kernel to learn of it.
size_becomes() {
    until [ "$(cat $SYSFS/size)" = "$1" ]; do sleep 0.1; done
    echo "$1 sectors"
}

# What is new reads as zeroes and can be written.
new_part() {
    read_disk 67108864 1048576 65536 >/tmp/found
    head -c 1048576 /dev/zero | cmp - /tmp/found
    head -c 1048576 /dev/urandom >/tmp/data
    write_disk /tmp/data 132120576 65536
    read_disk 132120576 1048576 4096 >/tmp/found
    cmp /tmp/found /tmp/data
    echo "read and written"
}

item size-at-first size_becomes 131072
item size-grown size_becomes 262144
item new-part new_part
item size-shrunk size_becomes 65536
