# What a disk keeps in mind, and what makes it forget.

# The WCE bit of the caching page, switched by the kernel's MODE SELECT, as sysfs and sg_modes see it.
cache_type() {
    is "at first" "$(cat $CLASS/cache_type)" "write back"
    is "FUA" "$(cat $CLASS/FUA)" 1
    watched sh -c "echo write through >$CLASS/cache_type"
    is "MODE SELECT" "$(($(sent 15) + $(sent 55)))" 1
    is "switched" "$(cat $CLASS/cache_type)" "write through"
    is "queue/write_cache" "$(cat $SYSFS/queue/write_cache)" "write through"
    ran sg_modes -p 8 $DISK
    shows "^ 00 *08 12 00 "
    put "write back" $CLASS/cache_type
    is "switched back" "$(cat $CLASS/cache_type)" "write back"
    ran sg_modes -p 8 $DISK
    shows "^ 00 *08 12 04 "
    echo "through and back, by MODE SELECT"
}

# pr_out OPTION...: PERSISTENT RESERVE OUT.
pr_out() { ran sg_persist --no-inquiry --out "$@" $DISK; }
# pr_in OPTION...: PERSISTENT RESERVE IN.
pr_in() { ran sg_persist --no-inquiry --in "$@" $DISK; }

reservations() {
    pr_out --register --param-sark=abc
    pr_in --read-keys
    shows "0xabc"
    pr_out --reserve --param-rk=abc --prout-type=5
    pr_in --read-reservation
    shows "Key=0xabc" "Write Exclusive, registrants only"
    pr_in --read-full-status
    shows "Key=0xabc" "Reservation holder" "Relative port address: 0x1"
    # 24 is RESERVATION CONFLICT: the key is another one.
    fails_with 24 sg_persist --no-inquiry --out --clear --param-rk=def $DISK
    # A holder may preempt itself, which changes the type.
    pr_out --preempt --param-rk=abc --param-sark=abc --prout-type=3
    pr_in --read-reservation
    shows "Exclusive Access$"
    read_disk 0 4096 4096 >/tmp/found
    pr_out --preempt-abort --param-rk=abc --param-sark=abc --prout-type=1
    pr_in --read-reservation
    shows "Write Exclusive$"
    pr_out --release --param-rk=abc --prout-type=1
    pr_in --read-reservation
    shows "there is NO reservation held"
    pr_out --register-ignore --param-sark=123
    pr_in --read-keys
    shows "0x123" "1 registered reservation key"
    pr_out --clear --param-rk=123
    pr_in --read-keys
    shows "there are NO registered reservation keys"
    pr_in --report-capabilities
    shows "Type Mask Valid(TMV): 1" "All Target Ports Capable(ATP_C): 1"
    echo "register, reserve, preempt, preempt and abort, release, register and ignore, clear"
}

# The driver of the kernel has no reset but that of a unit.
resets() {
    for kind in --target --bus --host; do fails_with 1 sg_reset --no-escalate $kind $DISK; done
    ran sg_reset --no-escalate --device $DISK
    # 6 is UNIT ATTENTION.
    fails_with 6 sg_turs -v $DISK
    shows "Bus device reset function occurred"
    ran sg_turs $DISK
    read_disk 0 4096 4096 >/tmp/found
    echo "of the unit, which says so once; the driver has no other"
}

start_stop() {
    ran sg_start --stop $DISK
    # 2 is NOT READY.
    fails_with 2 sg_turs $DISK
    ran sg_start --start $DISK
    # There is nothing to eject.
    fails_with 5 sg_start --eject $DISK
    ran sg_prevent $DISK
    ran sg_prevent --allow $DISK
    ran sg_turs $DISK
    echo "stop and start; no ejecting"
}

buffers() {
    head -c 512 /host.bin >/tmp/buffer
    ran sg_write_buffer --mode=data --in=/tmp/buffer --length=512 $DISK
    # sg_read_buffer of 1.46 asks for nothing.
    ran sg_raw -r 512 -o /tmp/found $DISK 3c 02 00 00 00 00 00 02 00 00
    cmp /tmp/found /tmp/buffer
    ran sg_senddiag --test $DISK
    echo "what was written is read; the self test passes"
}

clean_log() {
    note dmesg
    ! dmesg | grep -i -e "i/o error" -e "aborted" -e "offline"
    echo "no errors"
}
