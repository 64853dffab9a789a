# The medium of $CD, an ATAPI drive with a file system on its CD: /cd gives the $blocks of that CD and its $sum,
# /sums has those of its files.

. /cd

NAME=$(readlink $CD)
. /scripts/cd-media.sh

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
    is "contents" "$(contents_of_cd)" "$sum"
    fails_with 1 dd if=/dev/zero of=$CD bs=2048 count=1
    echo "$blocks blocks of 2048 bytes; it cannot be written"
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
