# hdparm and smartmontools on $DISK, an ATA disk of $sectors sectors whose serial number is SN-1, in the mode $UDMA;
# $QUEUE is how many commands it takes at a time, empty where that is one.

hdparm_identity() {
    ran hdparm -I $DISK
    shows "ATA device, with non-removable media" "Model Number: *DEVMODEL" "Serial Number: *SN-1" \
        "LBA48 *user addressable sectors: *$sectors" "Logical  Sector size: *512 bytes" \
        "\*	Write cache" "\*	48-bit Address feature set" "\*	SMART feature set" "Security Mode feature set" \
        "\*	Data Set Management TRIM supported" "\*	General Purpose Logging feature set" \
        "\*	SMART self-test" "\*	WRITE_UNCORRECTABLE_EXT command" "DMA: .*\*$UDMA " "not	enabled" "not	locked" "not	frozen" "Checksum: correct"
    sed -n 's/.*Model Number: *\(.*[^ ]\) *$/\1/p' /tmp/out
}

hdparm_cache() {
    ran hdparm -W 0 $DISK
    ran hdparm -W $DISK
    shows "write-caching = *0 (off)"
    ran hdparm -I $DISK
    shows "^	 *	Write cache"
    ran hdparm -W 1 $DISK
    ran hdparm -W $DISK
    shows "write-caching = *1 (on)"
    ran hdparm -A $DISK
    shows "look-ahead *= *1 (on)"
    echo "off, on; look-ahead is on"
}

hdparm_power() {
    ran hdparm -C $DISK
    shows "active/idle"
    ran hdparm -y $DISK
    ran hdparm -C $DISK
    shows "standby"
    dd if=$DISK iflag=direct of=/dev/null bs=4096 count=1 2>/dev/null
    ran hdparm -C $DISK
    shows "active/idle"
    echo "active, standby, active when it was read"
}

hdparm_sector() {
    ran hdparm --read-sector 8 $DISK
    ran hdparm -N $DISK
    shows "max sectors *= $sectors/$sectors"
    echo "by READ SECTORS EXT; $sectors sectors native"
}

smart_all() {
    ran smartctl -a $DISK
    shows "Device Model: *DEVMODEL" "Serial Number: *SN-1" "SMART support is: Available" "SMART support is: Enabled" \
        "test result: PASSED" "Reallocated_Sector_Ct" "Power_On_Hours" "Temperature_Celsius" "No Errors Logged" \
        "No self-tests have been logged"
    sed -n 's/^SMART overall-health/overall health/p' /tmp/out
}

smart_logs() {
    ran smartctl -x $DISK
    shows "^General Purpose Log Directory Version 1" "^0x00 *GPL,SL *R/O *1 *Log Directory" \
        "^0x30 *GPL *R/O *[0-9]* *IDENTIFY DEVICE data log"
    logs="log directory"
    # A disk on a cable has no queue.
    if [ -n "$QUEUE" ]; then
        shows "^0x10 *GPL *R/O *1 *NCQ Command Error log"
        logs="$logs, NCQ error log"
    fi
    ran smartctl -l error $DISK
    shows "No Errors Logged"
    echo "$logs, IDENTIFY DEVICE data log; no errors"
}

# Commands and their answers by SCT.
smart_sct() {
    ran smartctl -l scterc,70,80 $DISK
    ran smartctl -l scterc $DISK
    shows "Read: *70 (7.0 seconds)" "Write: *80 (8.0 seconds)"
    ran smartctl -l scttemp $DISK
    shows "Device State: *Active" "Current Temperature: *30 Celsius" "Temperature History Size *(Index): *128"
    ran smartctl -s wcache-sct,off $DISK
    ran hdparm -W $DISK
    shows "write-caching = *0 (off)"
    ran smartctl -s wcache-sct,on $DISK
    ran smartctl -g wcache-sct $DISK
    shows "SCT Write Cache Control: *Force Enable"
    ran smartctl -s wcache-sct,ata $DISK
    echo "recovery timers, 30 degrees, the write cache off and on"
}

smart_self_test() {
    for kind in short long; do
        ran smartctl -t $kind $DISK
        until smartctl -c $DISK | grep -q "previous self-test routine completed"; do sleep 0.1; done
    done
    ran smartctl -l selftest $DISK
    shows "Extended offline *Completed without error" "Short offline *Completed without error"
    ran smartctl -H $DISK
    shows "PASSED"
    echo "short and extended: completed without error"
}

smart_off() {
    ran smartctl -s off $DISK
    ran smartctl -i $DISK
    shows "SMART support is: Disabled"
    ran smartctl -s on $DISK
    ran smartctl -i $DISK
    shows "SMART support is: Enabled"
    echo "off and on"
}

# DATA SET MANAGEMENT, not queued.
hdparm_trim() {
    ran hdparm --please-destroy-my-drive --trim-sector-ranges 65536:8192 $DISK
    shows "succeeded"
    read_disk 33554432 4194304 65536 >/tmp/found
    head -c 4194304 /dev/zero | cmp - /tmp/found
    echo "4 MiB of zeroes"
}

item hdparm-I hdparm_identity
item hdparm-W hdparm_cache
item hdparm-power hdparm_power
item hdparm-sectors hdparm_sector
item hdparm-trim hdparm_trim
item smartctl-a smart_all
item smartctl-x smart_logs
item sct smart_sct
item self-tests smart_self_test
item smart-off smart_off
