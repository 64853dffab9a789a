"""Command lines which QEMU 7.2 takes, or refuses, and so does the stand-in."""

from __future__ import annotations

NULL = "-blockdev null-co,size=1048576,node-name="
DISK = f"{NULL}d0 -device virtio-blk-pci,drive=d0"
ALIAS = "'throttling.group' and its alias 'group' can't be used at the same time"
EXISTS = "drive with bus=0, unit=1 (index=-1) exists"
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
    "-action panic=none -seed 5 -compat deprecated-input=reject",
    # JSON in single quotes.
    "-device {'driver':'virtio-scsi-pci','id':'s'} -object {'qom-type':'iothread','id':'t'}",
    "-object {'qom-type':'memory-backend-ram','id':'m','size':1048576}",
    "-blockdev {'driver':'null-co','node-name':'d'} -device {'driver':\"ide-hd\",'drive':'d'}",
    "-drive if=none,file=json:{'driver':'null-co'}",
    # Options of drives.
    *(
        f"-drive if=none,format=raw,file=null-co://,discard={mode}"
        for mode in ("on", "off", "unmap", "ignore")
    ),
    "-drive if=none,format=raw,file.driver=null-co,file.discard=on",
    "-drive if=none,format=raw,file=null-co://,iops=10,group=g -drive if=none,driver=null-co,bps=5,group=g",
    "-drive if=none,format=raw,file=null-co://,group=g",
    "-M none -cdrom null-co:// -hda null-co://",
    *("-drive if=ide,bus=0,driver=null-co " * number for number in (1, 3)),
    f"{DISK},serial=0123456789012345678901234",
    # Bridges.
    "-device ioh3420 -device i82801b11-bridge -device pci-bridge,chassis_nr=3",
    "-M q35 -device ioh3420,id=a,chassis=1,slot=3,port=2 -device virtio-scsi-pci,bus=a",
    "-M q35 -device i82801b11-bridge,id=a -device virtio-scsi-pci,bus=a,addr=1",
    "-M q35 -device i82801b11-bridge -device pci-bridge,bus=pci.0,chassis_nr=3 -device virtio-scsi-pci,bus=pci.1",
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
    "-drive if=none,driver=null-co,media=floppy": "'floppy' invalid media",
    "-blockdev null-co,node-name=d,discard=on": "",
    "-drive if=none,driver=null-co,group=h,throttling.group=g": ALIAS,
    "-drive if=none,driver=null-co,index=1 -drive if=none,driver=null-co,unit=1": EXISTS,
    "-drive if=ide,driver=null-co,index=1,bus=1": "index cannot be used with bus and unit",
    "-drive if=ide,driver=null-co,unit=2": "unit 2 too big (max is 1)",
    "-M q35 -drive if=ide,driver=null-co,unit=1": "unit 1 too big (max is 0)",
    "-drive if=ide,driver=null-co,index=4": "machine type does not support if=ide,bus=2,unit=0",
    "-drive if=scsi,driver=null-co": "machine type does not support if=scsi,bus=0,unit=0",
    "-M none -drive if=ide,driver=null-co,index=3": "machine type does not support if=ide,bus=1,unit=1",
    "-M none -fda null-co://": "machine type does not support if=floppy,bus=0,unit=0",
    "-M none -device ide-cd": "No 'IDE' bus found for device 'ide-cd'",
}
"""The same, with the end of what is said where that is QEMU's."""
