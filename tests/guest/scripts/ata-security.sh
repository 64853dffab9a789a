# The security feature set, by hdparm: $DISK gets a password, $OTHER is frozen. Then the machine starts again
# (ata-locked.sh).

security_set() {
    ran hdparm --user-master u --security-set-pass secret $DISK
    ran hdparm -I $DISK
    shows "^	*enabled" "not	locked" "not	frozen"
    read_disk 0 4096 4096 >/tmp/found
    is "bytes read" "$(wc -c </tmp/found)" 4096
    echo "enabled, and not locked before the next start"
}

security_frozen() {
    ran hdparm --security-freeze $OTHER
    ran hdparm -I $OTHER
    shows "^	*frozen" "not	enabled"
    aborted hdparm --user-master u --security-set-pass secret $OTHER
    echo "no password is taken any more"
}

marked() {
    echo "marked before the reboot" >/tmp/mark
    ran dd if=/tmp/mark of=$OTHER bs=4096 seek=100 conv=notrunc,fsync
    echo "by which the next start is known"
}

item security-set security_set
item security-freeze security_frozen
item marked marked
reboot -f
sleep 100
