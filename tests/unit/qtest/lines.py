"""Command lines which QEMU 7.2 takes, or refuses, and so does the stand-in."""

from __future__ import annotations

NULL = "-blockdev null-co,size=1048576,node-name="
DISK = f"{NULL}d0 -device virtio-blk-pci,drive=d0"
CDS = ("-device ide-cd", "-device ide-cd", "-device ide-cd")
TAKEN = (
    # Whole numbers, as `strtoll` reads them.
    *(f"-blockdev null-co,node-name=d0,size={size}" for size in ("0x100000", "010000", "+512")),
    *(f"{DISK},num-queues={number}" for number in ("0x2", "010", "+2")),
    f"{DISK},logical_block_size=512,physical_block_size=4k",
    f"{DISK},opt_io_size=1.5k,discard_granularity=1M",
    "-object throttle-group,id=g,x-bps-total=5",
    # Sizes.
    *(f"-drive if=none,driver=null-co,size={size}" for size in ("1M", "1m", "1.5M", "0x10000", "512B", "2E")),
    "-drive if=none,format=raw,file=null-co://,size=64k",
    "-drive if=none,format=raw,file.driver=null-co,file.size=64k",
    *(f"-m {size}" for size in ("1g", "128m", "1.5G", "64B", "100000k", "1000001k", "0", "size=16")),
    # Places of disks and CD drives.
    " ".join(CDS[:2]),
    "-device ide-cd,bus=ide.0,unit=1 -device ide-cd,bus=ide.0",
    *(f"-device ahci -device ahci -device ide-cd,bus=ide.{at}" for at in (0, 2, 8, 13)),
    "-device ahci,id=x -device ahci -device ide-cd,bus=x.5 -device ide-cd,bus=ide.7",
    "-device piix3-ide -device ide-cd,bus=ide.3",
    "-device virtio-scsi-pci,id=x -device virtio-scsi-pci -device scsi-cd,bus=scsi.0",
    # What is nothing here.
    "-fda null-co:// -fdb null-co://",
    "-drive if=floppy,format=raw,file=null-co:// -drive if=floppy,format=raw,file=null-co://",
    "-usb -usbdevice tablet -win2k-hack -full-screen -watchdog-action none -vnc none -rotate 90",
    "-qmp vc -qmp /dev/null -qmp null",
)
"""With `-M pc -nodefaults` in front."""
REFUSED = {
    **{f"-blockdev null-co,node-name=d0,size={size}": "" for size in ("1M", "abc", "1.5", "0b1", "08", '""')},
    "-blockdev raw,node-name=d0,file.driver=null-co,offset=1k": "",
    "-blockdev blkdebug,node-name=d0,image.driver=null-co,align=4k": "",
    '-blockdev {"driver":"null-co","node-name":"d0","size":"1048576"}': "",
    **{f"-drive if=none,driver=null-co,size={size}": "" for size in ("1X", "1Mi", "2kB", ".5k", "1.5")},
    "-drive if=none,format=raw,file=null-co://,iops=1k": "",
    "-drive if=none,format=raw,file=null-co://,throttling.bps-total=1M": "",
    "-object throttle-group,id=g,x-bps-total=1M": "",
    "-object iothread,id=g,poll-max-ns=1k": "",
    **{f"{DISK},{given}": "" for given in ("queue-size=1k", "num-queues=-2", "opt_io_size=64KB")},
    "-device virtio-scsi-pci,max_sectors=1k": "",
    **{f"-m {size}": "" for size in ("1.3", ".5G", "200Mb", "1X")},
    " ".join(CDS): "IDE unit 1 is in use",
    "-device ide-cd,bus=ide.0,unit=0 -device ide-cd,bus=ide.0,unit=0": "IDE unit 0 is in use",
    "-device ide-cd,bus=ide.0,unit=2": "Can't create IDE unit 2, bus supports only 2 units",
    "-device ide-cd,bus=ide.2": "Bus 'ide.2' not found",
    "-device ahci -device ide-cd,bus=ide.8": "Bus 'ide.8' not found",
    "-device ahci,id=x -device ide-cd,bus=ide.2": "Bus 'ide.2' not found",
    "-device ahci -device ide-cd -device ide-cd": "Can't create IDE unit 1, bus supports only 1 units",
    "-drive if=sd,format=raw,file=null-co://": "machine type does not support if=sd,bus=0,unit=0",
    "-drive if=mtd,unit=1,format=raw,file=null-co://": "machine type does not support if=mtd,bus=0,unit=1",
    "-M none -device ide-cd": "No 'IDE' bus found for device 'ide-cd'",
}
"""The same, with the end of what is said where that is QEMU's."""
