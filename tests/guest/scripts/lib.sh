# What a run's script is written with.

DISK=/dev/vda
SYSFS=/sys/block/vda
if grep -q virtio_scsi /sys/class/scsi_host/host*/proc_name 2>/dev/null; then
    DISK=/dev/sda
    SYSFS=/sys/block/sda
    # The kernel looks for disks in its own time, and gives names in the order in which it happens to find them.
    until [ -e $DISK ]; do sleep 0.05; done
    for unit in /sys/bus/scsi/devices/*:0:0:0; do
        [ "$(cat "$unit"/type)" = 0 ] || continue
        until [ -e "$unit"/block ]; do sleep 0.05; done
        DISK=/dev/$(ls "$unit"/block)
        SYSFS=/sys/block/$(ls "$unit"/block)
        until [ -e "$DISK" ]; do sleep 0.05; done
        break
    done
fi

# say LINE: to the host.
say() { echo "$1" >/dev/ttyS1; }

# item NAME COMMAND...: runs the command (a function, say) under `set -e` and reports it:
#   RAN NAME COMMAND<tab>COMMAND<tab>...         what was noted as worth telling, if anything
#   RESULT NAME ok|FAIL SECONDS LAST-LINE-OF-ITS-OUTPUT
# All it printed goes to the console.
item() {
    name=$1; shift
    rm -f /tmp/noted
    begun=$(cut -d ' ' -f 1 /proc/uptime)
    (set -e; "$@") >/tmp/output 2>&1
    status=$?
    ended=$(cut -d ' ' -f 1 /proc/uptime)
    if [ $status -eq 0 ]; then verdict=ok; else verdict=FAIL; fi
    echo "item $name: $verdict, exit status $status"
    cat /tmp/output
    [ ! -e /tmp/noted ] || say "RAN $name $(uniq /tmp/noted | tr '\n' '\t')"
    say "RESULT $name $verdict $(echo "$begun $ended" | awk '{ printf "%.2f", $2 - $1 }') $(tail -n 1 /tmp/output)"
}

# note WORD...: a command that the host shall hear of.
note() { echo "$*" >>/tmp/noted; }

# ran COMMAND...: it must succeed; its output is in /tmp/out.
ran() {
    note "$@"
    "$@" >/tmp/out 2>&1 || { status=$?; cat /tmp/out; echo "$1: exit status $status"; return 1; }
}

# fails_with STATUS COMMAND...: it must fail so; noted with its status.
fails_with() {
    wanted=$1; shift
    note "$@" "# $wanted"
    status=0
    "$@" >/tmp/out 2>&1 || status=$?
    is "exit status of $1" $status "$wanted" || { cat /tmp/out; return 1; }
}

# shows PATTERN...: each is in the output of what was run last.
shows() {
    for pattern; do
        grep -q -i -e "$pattern" /tmp/out || { cat /tmp/out; echo "no '$pattern' in the above"; return 1; }
    done
}

# put VALUE FILE: into a file of the kernel's.
put() { note "echo $1 >$2"; echo "$1" >"$2"; }

# is WHAT FOUND EXPECTED: fails with a line that says what differs.
is() {
    [ "$2" = "$3" ] && return
    echo "$1 is '$2', expected '$3'"
    return 1
}

# read_disk OFFSET LENGTH BLOCK: bytes of the disk, past the page cache; all three in bytes, multiples of BLOCK.
read_disk() {
    dd if=$DISK iflag=direct bs="$3" skip=$(($1 / $3)) count=$(($2 / $3)) 2>/dev/null
}

# write_disk FILE OFFSET BLOCK: a whole file onto the disk, past the page cache.
write_disk() {
    dd if="$1" of=$DISK oflag=direct bs="$3" seek=$(($2 / $3)) conv=notrunc 2>/dev/null
}
