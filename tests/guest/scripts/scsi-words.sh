# What a disk says of itself, to the kernel and to sg3-utils.

found() {
    note "cat $DEVICE/vendor $DEVICE/model $DEVICE/rev $DEVICE/queue_depth $DEVICE/scsi_level"
    is "disks" "$(ls -d /sys/block/sd* | wc -l)" 1
    is "address" "$(basename "$(readlink -f $DEVICE)")" "0:0:0:0"
    is "queue depth" "$(cat $DEVICE/queue_depth)" 128
    is "SCSI level" "$(cat $DEVICE/scsi_level)" 7
    echo "0:0:0:0 $(cat $DEVICE/vendor $DEVICE/model $DEVICE/rev | tr '\n' ' '), queue depth 128"
}

first_sector() {
    note "dd if=$DISK iflag=direct bs=$block_size count=$((4096 / block_size))"
    read_disk 0 4096 "$block_size" >/tmp/found
    cmp /tmp/found /sector0.bin
    echo "first bytes: $(od -A n -t x1 -N 8 /tmp/found)"
}

capacity() {
    note "cat $SYSFS/size $SYSFS/queue/logical_block_size $SYSFS/queue/rotational"
    is "size in sectors" "$(cat $SYSFS/size)" "$sectors"
    is "logical block" "$(cat $SYSFS/queue/logical_block_size)" "$block_size"
    is "rotational" "$(cat $SYSFS/queue/rotational)" 0
    echo "$sectors sectors by $block_size"
}

# A vector each for changes of the configuration and for every queue; those of the request queues have been used.
interrupts_come() {
    note "cat /proc/interrupts"
    is "vectors" "$(grep -c 'PCI-MSI.* virtio0-' /proc/interrupts)" $((queues + 3))
    for name in config control event; do
        is "vectors for $name" "$(grep -c "PCI-MSI.* virtio0-$name" /proc/interrupts)" 1
    done
    used=$(awk '/virtio0-request/ { for (i = 2; $i ~ /^[0-9]+$/; i++) sum += $i } END { print sum + 0 }' /proc/interrupts)
    test "$used" -gt 0
    echo "$((queues + 3)) vectors: config, control, event, $queues for requests"
}

inquiry() {
    ran sg_inq $DISK
    shows "PQual=0 .*PDT=0 .*RMB=0" "version=0x06" "Resp_data_format=2" "CmdQue=1" "3PC=1" \
        "Vendor identification: DEVMODEL" "Product identification: DISK" "Product revision level: 1.0" \
        "Unit serial number: SN-1"
    ran sg_inq --id $DISK
    shows "0x5000c500deadbeef"
    # VPD page C0 there is none; 5 is ILLEGAL REQUEST.
    fails_with 5 sg_inq --page=0xc0 --force $DISK
    echo "DEVMODEL DISK 1.0, SPC-4, SN-1, naa.5000c500deadbeef"
}

vpd() {
    ran sg_vpd -a $DISK
    shows "Unit serial number: SN-1" "0x5000c500deadbeef" "Relative target port: 0x1" "HEADSUP=1 ORDSUP=1 SIMPSUP=1" \
        "Policy: shared" "Extended copy(LID1)" "Maximum compare and write length: 255 blocks" \
        "Maximum unmap LBA count: $((536870912 / block_size))" "Maximum unmap block descriptor count: 256" \
        "Write same non-zero (WSNZ): 1" "Non-rotating medium" "FUAB=1" "(LBPU): 1" "(LBPWS): 1" "(LBPWS10): 1" \
        "read zeros (LBPRZ): 1" "Provisioning type: 2 (thin"
    echo "serial number, identification, policies, third party copy, limits, characteristics, thin provisioning"
}

modes() {
    ran sg_modes -a $DISK
    shows "DpoFua=1" "WP=0" "Read-Write error recovery" "Caching" "Control" "Informational exceptions"
    for control in 0:"08 12 04" 1:"08 12 04" 2:"08 12 04"; do
        ran sg_modes -p 8 -c ${control%%:*} $DISK
        shows "^ 00 *${control#*:} "
    done
    ran sg_modes -6 -p 0xa $DISK
    shows "parameter header from MODE SENSE(6)" "^ 00 *0a 0a "
    # 5 is ILLEGAL REQUEST: there are no such page, and no saved values.
    fails_with 5 sg_modes -p 0x19 $DISK
    fails_with 5 sg_modes -p 8 -c 3 $DISK
    echo "error recovery, caching, control, exceptions; WCE is set, changeable, and set by default; nothing is saved"
}

# SWP of the control page, which the kernel sees when it looks again, and D_SENSE.
modes_changed() {
    ran sg_wr_mode -p 0xa -c a,a,0,10,8,0,0,0,0,0,0,0 $DISK
    ran sg_modes -p 0xa $DISK
    shows "WP=1"
    put 1 $DEVICE/rescan
    is "read-only" "$(cat $SYSFS/ro)" 1
    # 7 is DATA PROTECT.
    fails_with 7 sg_write_same --10 --lba=0 --num=1 --xferlen=$block_size $GENERIC
    ran sg_wr_mode -p 0xa -c a,a,0,10,0,0,0,0,0,0,0,0 $GENERIC
    put 1 $DEVICE/rescan
    is "read-only" "$(cat $SYSFS/ro)" 0
    ran sg_wr_mode -p 0xa -c a,a,4,10,0,0,0,0,0,0,0,0 $DISK
    fails_with 5 sg_inq --page=0xc0 --force -v $DISK
    shows "Descriptor format, current; Sense key: Illegal Request" "Field pointer"
    ran sg_wr_mode -p 0xa -c a,a,0,10,0,0,0,0,0,0,0,0 $DISK
    fails_with 5 sg_inq --page=0xc0 --force -v $DISK
    shows "Fixed format, current; Sense key: Illegal Request"
    echo "SWP: the kernel's disk is read-only meanwhile; D_SENSE: descriptor sense data meanwhile"
}

luns() {
    ran sg_luns $DISK
    shows "Lun list length = 8 " "^ *0000000000000000"
    ran sg_luns -s 2 $DISK
    shows "c101000000000000"
    echo "LUN 0, and the well known one"
}

readcap() {
    for options in "" --16; do
        ran sg_readcap $options $DISK
        shows "Last LBA=$((sectors * 512 / block_size - 1)) " "Logical block length=$block_size bytes"
    done
    shows "prot_en=0" "lbpme=1, lbprz=1" "physical block exponent=0" "Lowest aligned LBA=0"
    echo "$((sectors * 512 / block_size)) blocks of $block_size bytes, by both"
}

opcodes() {
    ran sg_opcodes $DISK
    test "$(grep -c '^ [0-9a-f][0-9a-f] ' /tmp/out)" -ge 72
    ran sg_opcodes -t $DISK
    shows "Abort task$" "Abort task set" "Clear task set" "Logical unit reset" "Query task$" "I_T nexus reset"
    ran sg_opcodes -o 0x28 $DISK
    shows "Command is supported" "Usage data: 28 18 ff ff ff ff 00 ff ff 00"
    ran sg_opcodes -o 0x9e,0x10 $DISK
    shows "Command is supported"
    ran sg_opcodes -o 0x95 $DISK
    shows "not supported"
    echo "every command; READ (10), READ CAPACITY (16), no REPORT ZONES"
}

ready() {
    ran sg_turs -n 100 -v $DISK
    shows "Completed 100 Test Unit Ready commands with 0 errors"
    echo "100 times"
}

requests() {
    ran sg_requests $DISK
    shows "Fixed format, current; Sense key: No Sense"
    ran sg_requests -d $DISK
    shows "Descriptor format, current; Sense key: No Sense"
    echo "nothing to tell, in both formats"
}

# 9 is sg3-utils' word for an unknown operation code.
zones_refused() {
    fails_with 9 sg_rep_zones $DISK
    is "zoned" "$(cat $SYSFS/queue/zoned)" none
    echo "an invalid operation code"
}

logs() {
    ran sg_logs -l $DISK
    shows "0x00 .*\[sp\]" "0x02 .*\[we\]" "0x03 .*\[re\]" "0x0c .*\[lbp\]" "0x19 .*\[gsp\]" "0x2f .*\[ie\]"
    for page in we re; do
        ran sg_logs -p $page $DISK
        shows "Total bytes processed = [1-9]" "Total uncorrected errors = 0"
    done
    ran sg_logs -p lbp $DISK
    shows "Used LBA mapping threshold resource count: [1-9]"
    ran sg_logs -p ie $DISK
    shows "IE asc = 0x0, ascq = 0x0"
    echo "bytes written and read, none with errors"
}
