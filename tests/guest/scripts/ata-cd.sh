# The medium of $CD, an ATAPI drive with a file system on its CD: /cd gives the $blocks of that CD and its $sum,
# /sums has those of its files.

. /cd

exec 3</dev/ttyS2
stty -F /dev/ttyS2 raw -echo

# What udev would do: ask drives for events all the time, and listen.
echo 100 >/sys/module/block/parameters/events_dfl_poll_msecs
touch /tmp/uevents
uevent sh -c 'echo "$ACTION ${DEVPATH##*/} $DISK_MEDIA_CHANGE/$DISK_EJECT_REQUEST" >>/tmp/uevents' &
NAME=$(readlink $CD)

# told EVENT: waits for an event of the drive: media change or eject request.
told() {
    note uevent
    for _ in $(seq 200); do
        grep -q "^change $NAME $1$" /tmp/uevents && { sed -i "\|^change $NAME $1\$|d" /tmp/uevents; return; }
        sleep 0.05
    done
    cat /tmp/uevents
    return 1
}

contents() { dd if=$CD bs=65536 2>/dev/null | sha256sum | cut -d ' ' -f 1; }

cd_found() {
    note "cat /proc/sys/dev/cdrom/info"
    for what in "Can close tray" "Can open tray" "Can lock tray" "Reports media changed" "Can play audio" "Can read DVD"; do
        grep -q "^$what:[[:space:]]*1$" /proc/sys/dev/cdrom/info || { echo "not: $what"; return 1; }
    done
    ran sg_inq $CD
    shows "PDT=5" "RMB=1"
    ran sg_sat_identify --packet $CD
    shows "^ 00 *85 *c0"
    ran sg_get_config --current $CD
    shows "Current profile: CD-ROM" "Physical interface standard: ATAPI"
    echo "a drive that opens, closes, locks, and tells of new media"
}

cd_read() {
    ran sg_readcap $CD
    shows "Last LBA=$((blocks - 1)) " "Logical block length=2048 bytes"
    is "sectors" "$(cat /sys/block/"$NAME"/size)" $((4 * blocks))
    is "contents" "$(contents)" "$sum"
    fails_with 1 dd if=/dev/zero of=$CD bs=2048 count=1
    echo "$blocks blocks of 2048 bytes; it cannot be written"
}

cd_mounted() {
    ran mount -t iso9660 -o ro $CD /mnt
    ran sha256sum -c /sums
    echo "$(grep -c OK /tmp/out) files, as they were made"
}

# The kernel locks the tray while it is in use.
cd_locked() {
    fails_with 5 sg_start --eject -v $CD
    shows "Medium removal prevented"
    ran sg_turs $CD
    echo "it stays closed"
}

# The host's user presses the button.
cd_asked() {
    told /1
    ran sha256sum -c /sums
    echo "an eject request, and the tray stays closed"
}

cd_ejected() {
    ran umount /mnt
    ran sg_start --eject $CD
    fails_with 2 sg_turs -v $CD
    shows "Not Ready" "Medium not present - tray open"
    told 1/
    ran sg_start --load $CD
    until sg_turs $CD 2>/dev/null; do sleep 0.05; done
    told 1/
    is "contents" "$(contents)" "$sum"
    echo "opened and closed by the guest; each is a change of media"
}

# The host puts another CD in.
cd_changed() {
    told 1/
    ran mount -t iso9660 -o ro $CD /mnt
    is "file" "$(cat /mnt/other.txt)" other
    is "files" "$(ls /mnt)" other.txt
    ran umount /mnt
    echo "a change of media, and its file"
}

# The host takes it out.
cd_emptied() {
    told 1/
    fails_with 2 sg_turs -v $CD
    shows "Medium not present"
    fails_with 255 mount -t iso9660 -o ro $CD /mnt
    echo "a change of media; there is none"
}

item cd-found cd_found
item cd-read cd_read
item cd-mount cd_mounted
item cd-locked cd_locked
read -r line <&3
item cd-eject-request cd_asked
item cd-eject cd_ejected
read -r line <&3
item cd-medium-changed cd_changed
read -r line <&3
item cd-medium-gone cd_emptied
