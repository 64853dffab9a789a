# Media that come and go: LUN 0 is a drive with a file system on its CD, LUN 1 one with a CD of two tracks, the second of
# them audio, LUN 2 a disk that can be taken out. /expected gives the $blocks of the first CD and its $sum, /audio.bin
# is what the audio track holds.

. /expected

. /scripts/cd-media.sh

# The drives are called in the order in which they are found.
for lun in 0 1; do
    until ls /sys/bus/scsi/devices/0:0:0:$lun/block/* >/dev/null 2>&1; do sleep 0.05; done
    ln -s "$(ls /sys/bus/scsi/devices/0:0:0:$lun/block)" /dev/cd$lun
done
CD=/dev/cd0
AUDIO=/dev/cd1
DISK=/dev/disk2
ln -s "$(ls /sys/bus/scsi/devices/0:0:0:2/block)" $DISK
# Who has the disk itself open keeps its medium in.
GENERIC=/dev/generic2
ln -s "$(ls /sys/bus/scsi/devices/0:0:0:2/scsi_generic)" $GENERIC
NAME=$(readlink $CD)

found() {
    note "cat /proc/sys/dev/cdrom/info"
    is "drives" "$(grep -c '^change\|sr[01]' /proc/sys/dev/cdrom/info)" 1
    for what in "Can close tray" "Can open tray" "Can lock tray" "Reports media changed" "Can play audio" "Can read DVD"; do
        grep -q "^$what:[[:space:]]*1[[:space:]]*1$" /proc/sys/dev/cdrom/info || { echo "not: $what"; return 1; }
    done
    is "removable" "$(cat /sys/block/"$NAME"/removable)" 1
    is "events" "$(cat /sys/block/"$NAME"/events)" "media_change eject_request"
    echo "two drives; they open, close, lock, tell of new media, play audio, read DVDs"
}

inquiry() {
    ran sg_inq $CD
    shows "PDT=5" "RMB=1" "Product identification: BD-ROM"
    ran sg_vpd -p di $CD
    shows "NAA" "vendor id: DEVMODEL"
    echo "a CD/DVD device with a removable medium"
}

configuration() {
    ran sg_get_config --current $CD
    shows "Current profile: CD-ROM" "Core feature" "Morphing" "Loading mechanism: Tray type" "Load=1, Eject=1" \
        "Logical block size=0x800" "CD read feature" "Real time streaming feature"
    echo "CD-ROM, in a tray"
}

capabilities() {
    ran sg_modes -p 0x2a $CD
    shows "^ 00 *2a "
    ran sg_modes -p 1 $CD
    shows "^ 00 *01 0a "
    echo "pages 01h and 2Ah"
}

capacity() {
    ran sg_readcap $CD
    shows "Last LBA=$((blocks - 1)) " "Logical block length=2048 bytes"
    is "sectors" "$(cat /sys/block/"$NAME"/size)" $((4 * blocks))
    ran dd if=$CD of=/tmp/found bs=65536
    is "contents" "$(sha256sum </tmp/found | cut -d ' ' -f 1)" "$sum"
    fails_with 1 dd if=/dev/zero of=$CD bs=2048 count=1
    echo "$blocks blocks of 2048 bytes, read; it cannot be written"
}

# READ TOC, READ DISC INFORMATION, MECHANISM STATUS.
contents() {
    ran sg_raw -r 20 $CD 43 00 00 00 00 00 00 00 14 00
    shows "00     00 12 01 01 00 14 01 00"
    ran sg_raw -r 28 $AUDIO 43 00 00 00 00 00 00 00 1c 00
    shows "00     00 1a 01 02 00 14 01 00  00 00 00 00 00 10 02 00"
    ran sg_raw -r 8 $CD 51 00 00 00 00 00 00 00 08 00
    shows "00     00 20 0e 01 01 01 01 20"
    ran sg_raw -r 8 $CD bd 00 00 00 00 00 00 00 00 08 00 00
    echo "one track of data; one of data and one of audio"
}

audio() {
    # An audio track is not for READ (10).
    fails_with 1 dd if=$AUDIO of=/tmp/found bs=2048 skip=$((blocks + 160)) count=1
    # READ CD of CD-DA, user data of 2352 bytes: the track's first two sectors, after a pregap of two seconds.
    lba=$(printf '%04x' $((blocks + 150)))
    ran sg_raw -r 4704 -o /tmp/found $AUDIO be 04 00 00 "${lba%??}" "${lba#??}" 00 00 02 10 00 00
    head -c 4704 /audio.bin | cmp - /tmp/found
    echo "two sectors of 2352 bytes by READ CD; READ (10) is refused"
}

# libcdio, by its own READ TOC (it takes CD-TEXT apart, but has no tables here to show ISO 8859-1), READ SUB-CHANNEL, MODE SENSE, GET CONFIGURATION.
described() {
    ran cd-info --no-cddb --no-header $AUDIO
    shows "Disc mode is listed as: CD-DATA" "  1: 00:02:00  000000 data " \
        "  2: .*  $(printf '%06d' $((blocks + 150))) audio  false  no    2        no" \
        "170: .*  $(printf '%06d' $((blocks + 450))) leadout" "(MCN): 1234567890123" "TRACK  2 ISRC: DEVMD2600007" \
        "Language 0 'English'" "CD-TEXT for Disc:" "CD-TEXT for Track  2:" "mixed mode CD" "CD-ROM with ISO 9660 filesystem"
    ran cd-info --no-cddb --no-header -C $CD
    shows "Can read C2 Errors *: Yes" "Can play audio *: Yes" "Can write DVD-R *: No" "ISO 9660: $blocks blocks"
    echo "tracks, catalogue number, ISRC and CD-TEXT, the file system of its first track"
}

# And by its own READ CD.
sectors() {
    ran cd-read --no-header --mode audio --start $((blocks + 150)) --number 2 --output-file /tmp/found $AUDIO
    head -c 4704 /audio.bin | cmp - /tmp/found
    echo "two sectors of audio"
}

removable_disk() {
    is "removable" "$(cat /sys/block/"$(readlink $DISK)"/removable)" 1
    ran sg_prevent $GENERIC
    fails_with 5 sg_start --eject -v $GENERIC
    shows "Medium removal prevented"
    ran sg_prevent --allow $GENERIC
    fails_with 5 sg_start --eject $DISK
    ran sg_start --eject $GENERIC
    fails_with 2 sg_turs -v $GENERIC
    shows "Medium not present"
    ran sg_start --load $GENERIC
    until sg_turs $GENERIC 2>/dev/null; do sleep 0.05; done
    ran dd if=$DISK of=/tmp/found bs=4096 count=1
    echo "prevented, allowed, taken out, put in"
}

item found found
item sg_inq inquiry
item sg_get_config configuration
item sg_modes capabilities
item sg_readcap capacity
item contents contents
item audio audio
item cd-info described
item cd-read sectors
item mount cd_mounted
item locked cd_locked
read -r line <&3
item eject-request cd_asked
item eject cd_ejected
read -r line <&3
item medium-changed cd_changed
read -r line <&3
item medium-gone cd_emptied
item removable-disk removable_disk
