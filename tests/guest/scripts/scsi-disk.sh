# What can be tried on a SCSI disk. /expected gives $sectors, $block_size and the number of request $queues; the host's
# data is in /host.bin and lies at 4 MiB.

. /expected
DEVICE=$SYSFS/device
CLASS=$(ls -d $DEVICE/scsi_disk/*)
GENERIC=/dev/$(ls $DEVICE/scsi_generic)

. /scripts/scsi-trace.sh
. /scripts/scsi-words.sh
. /scripts/scsi-blocks.sh
. /scripts/scsi-state.sh
