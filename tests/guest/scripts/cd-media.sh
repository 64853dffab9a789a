# A CD that comes and goes in the drive $CD, which the kernel calls $NAME: $sum is that of its contents, /sums has those of
# its files.

exec 3</dev/ttyS2
stty -F /dev/ttyS2 raw -echo

# What udev would do: ask drives for events all the time, and listen.
echo 100 >/sys/module/block/parameters/events_dfl_poll_msecs
touch /tmp/uevents
uevent sh -c 'echo "$ACTION ${DEVPATH##*/} $DISK_MEDIA_CHANGE/$DISK_EJECT_REQUEST" >>/tmp/uevents' &

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

# contents_of_cd: its sum.
contents_of_cd() { dd if=$CD bs=65536 2>/dev/null | sha256sum | cut -d ' ' -f 1; }

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
    is "contents" "$(contents_of_cd)" "$sum"
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
