# After ata-security.sh, and a start of the machine: $DISK is locked. It begins with /guest.bin at 16 MiB.

security_locked() {
    ran hdparm -I $DISK
    shows "^	*enabled" "^	*locked" "not	frozen"
    fails_with 1 dd if=$DISK of=/tmp/found iflag=direct bs=4096 count=1
    fails_with 1 dd if=/guest.bin of=$DISK oflag=direct bs=4096 count=1
    aborted hdparm --user-master u --security-set-pass other $DISK
    echo "neither read nor written"
}

security_thawed() {
    ran hdparm -I $OTHER
    shows "not	enabled" "not	frozen"
    echo "the other disk is not frozen any more"
}

security_unlocked() {
    aborted hdparm --user-master u --security-unlock wrong $DISK
    ran hdparm -I $DISK
    shows "^	*locked"
    ran hdparm --user-master u --security-unlock secret $DISK
    ran hdparm -I $DISK
    shows "^	*enabled" "not	locked"
    read_disk 16777216 4194304 65536 >/tmp/found
    cmp /tmp/found /guest.bin
    echo "with the right password only; all data is there"
}

security_disabled() {
    watched hdparm --user-master u --security-disable secret $DISK
    is "SECURITY DISABLE PASSWORD" "$(issued ATA_CMD_SEC_DISABLE_PASS)" 1
    ran hdparm -I $DISK
    shows "not	enabled" "not	locked"
    echo "no password any more"
}

security_erased() {
    ran hdparm --user-master u --security-set-pass again $DISK
    aborted hdparm --user-master u --security-erase wrong $DISK
    watched hdparm --user-master u --security-erase again $DISK
    is "SECURITY ERASE PREPARE" "$(issued ATA_CMD_SEC_ERASE_PREP)" 1
    is "SECURITY ERASE UNIT" "$(issued ATA_CMD_SEC_ERASE_UNIT)" 1
    ran hdparm -I $DISK
    shows "not	enabled" "not	locked"
    read_disk 16777216 4194304 65536 >/tmp/found
    head -c 4194304 /dev/zero | cmp - /tmp/found
    echo "all zeroes, and no password"
}

item security-locked security_locked
item security-thawed security_thawed
item security-unlock security_unlocked
item security-disable security_disabled
item security-erase security_erased
