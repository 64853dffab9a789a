# The kernel's own iSCSI initiator (iscsi_tcp) logs in to a target on the host, over the user network. /login has what
# `iscsistart` is given, /network the modules in order.

DISK=/dev/sda
SYSFS=/sys/block/sda

network_up() {
    while read -r module; do insmod "/network-modules/$module"; done </network
    ip link set lo up
    ip link set eth0 up
    ip addr add 10.0.2.15/24 dev eth0
    ip route add default via 10.0.2.2
    cat /sys/class/net/eth0/address
}

logged_in() {
    # shellcheck disable=SC2046
    chmod 755 /iscsistart
    /iscsistart $(cat /login)
    count=0
    until [ -e $DISK ]; do
        count=$((count + 1))
        [ $count -lt 200 ] || { echo "no disk"; return 1; }
        sleep 0.05
    done
    cat /sys/class/iscsi_session/session1/targetname
}

agreed() {
    cd /sys/class/iscsi_connection/connection1:0
    echo "digests $(cat header_digest) $(cat data_digest), exp_statsn $(cat exp_statsn)"
    is "header digests" "$(cat header_digest)" "$(cat /digests)"
    is "data digests" "$(cat data_digest)" "$(cat /digests)"
}

is_thin() {
    is "vendor" "$(cat $SYSFS/device/vendor | tr -d ' ')" DEVMODEL
    is "discards" "$(cat $SYSFS/queue/discard_granularity)" "$(cat /granularity)"
    is "cache" "$(cat $SYSFS/queue/write_cache)" "write back"
    echo "$(cat $SYSFS/device/model) of $(cat $SYSFS/size) sectors"
}

item network network_up
item iscsi-login logged_in
item iscsi-agreed agreed
item iscsi-disk is_thin
. /scripts/ext4.sh
