"""Command lines in QEMU's syntax: options with values that they may have, one of which is another one, perhaps.

No image is named but those that are no file, so that nothing outside is touched.
"""

from __future__ import annotations

from collections.abc import Sequence

from devmodels.qtest.commandline import IGNORED, IGNORED_WITH_VALUE
from fuzz.choices import Choices

GOOD: dict[str, Sequence[str]] = {
    "-M": ("pc", "q35", "none", "pc-q35-7.2", "type=pc,accel=kvm", "pc,usb=off", "q35,accel=qtest,x=1"),
    "-machine": ("pc", "q35", "type=none", "pc-i440fx-6.0", "pc,memory-backend=m", "accel=qtest,q35"),
    "-accel": ("qtest", "kvm", "tcg,thread=single", ""),
    "-m": ("1M", "4", "size=2M,slots=4", "1G", "0", "5G", "1T", "3K", "1E"),
    "-qtest": ("unix:/none", "stdio", "unix:/none,server=on,wait=off", "unix:", "tcp:x:1"),
    "-chardev": ("socket,path=/none,id=c0", "null,id=c1", "socket,id=c0", "socket,path=/none,server,id=c2"),
    "-mon": ("chardev=c0,mode=control", "c1,mode=control", "c0", "chardev=c2,mode=readline"),
    "-qmp": ("none", "unix:/none", "unix:/none,server,nowait"),
    "-monitor": ("none", "null", "stdio"),
    "-global": (
        "ide-hd.serial=x",
        "virtio-blk-pci.packed=on",
        "driver=ide-hd,property=serial,value=y",
        "virtio-pci.disable-legacy=on",
        "isa-debugcon.iobase=0x402",
        "ide-device.wwn=1",
    ),
    "-object": (
        "iothread,id=t0",
        "throttle-group,id=g0,x-iops-total=10",
        '{"qom-type": "throttle-group", "id": "g1", "limits": {"iops-total": 9}}',
        "memory-backend-ram,id=m,size=1M",
        "secret,id=s0,data=abc",
        "x,id=y",
    ),
    "-blockdev": (
        "memory,node-name=n0,size=1048576",
        "driver=null-co,node-name=n1,size=64k",
        '{"driver": "memory", "node-name": "n2", "size": 4096}',
        "driver=throttle,throttle-group=g0,node-name=n3,file.driver=memory,file.size=1M",
        "driver=raw,node-name=n4,file=n0,offset=512,size=4096",
        "driver=blkdebug,node-name=n5,image=n0,inject-error.0.event=read_aio",
        "copy-on-read,node-name=n6,file=n1",
        "overlay,node-name=n7,file.driver=memory,file.size=1M,backing=n0",
    ),
    "-drive": (
        "if=none,id=a0,file=null-co://,format=raw",
        "if=ide,index=0,file=null-co://",
        "if=virtio,file=blkdebug::null-co://,format=raw",
        "if=scsi,bus=0,unit=1,file=null-aio://",
        "if=none,id=a1,driver=memory,size=1M,cache=writethrough,werror=stop,rerror=report",
        'if=none,id=a2,file=json:{"driver": "memory"%2c "size": 4096}',
        "if=ide,media=cdrom",
        "if=none,id=a3,file.driver=memory,file.size=1M,iops=10,bps_rd=1000,iops_size=512",
        "if=none,id=a4,file=null-co://,throttling.iops-total=3,throttling.group=g0,cache.direct=on",
        "if=none,id=a5,file=null-co://,snapshot=on",
        "if=none,id=a6,file=null-co://,copy-on-read=on,aio=io_uring,discard=unmap,serial=1",
        "if=none,id=a7,file=nbd:x:1",
        "if=none,id=a8,file=null-co://,format=qcow2",
        "if=floppy,file=null-co://",
        "if=none,id=a9,file.driver=throttle,file.throttle-group=g0,file.file=n1",
    ),
    "-device": (
        "ide-hd,drive=a0,id=d0",
        "ide-cd,bus=ide.1,unit=0",
        "virtio-blk-pci,drive=n0,addr=4,num-queues=2,iothread=t0",
        "virtio-scsi-pci,id=s,addr=5.0",
        "scsi-hd,drive=n1,bus=s.0,scsi-id=1,lun=2",
        "scsi-cd,id=cd",
        "ich9-ahci,id=h,addr=6,multifunction=on",
        "piix3-ide,id=p,addr=7",
        "piix4-ide",
        "ide-hd,bus=h.0,drive=n2,lcyls=10,lheads=4,lsecs=17",
        "pcie-root-port,id=r0,addr=8",
        "pci-bridge,id=b0,chassis_nr=1,addr=9.1",
        "pcie-pci-bridge,id=b1,bus=r0",
        "virtio-blk-pci-non-transitional,drive=n4,bus=b0,addr=1",
        "virtio-blk,drive=n3,logical_block_size=4096,bootindex=1",
        '{"driver": "virtio-blk-pci", "drive": "n5", "queue-size": 128}',
        "virtio-blk-device,drive=n0",
        "sdhci-pci",
        "qxl-vga,addr=2.1",
        "e1000,netdev=n0,bus=r0",
    ),
    "-vga": ("none", "std", "cirrus", "qxl,retrace=dumb", "x"),
    "-net": ("none", "nic", "nic,model=pcnet,addr=9", "user", "nic,model=x", "type=nic", ""),
    "-nic": ("none", "user,model=virtio", "model=rtl8139", "user,hostfwd=a,hostfwd=b", "user,addr=7"),
    "-cdrom": ("null-co://", "json:{}"),
    "-hda": ("null-co://", "blkdebug::null-co://"),
    "-incoming": ("defer", "unix:/none", "tcp:x", "x"),
    **{f"-{name}": ("x", "") for name in IGNORED_WITH_VALUE.split()[:3]},
}
SWITCHES = (
    "-S",
    "-nodefaults",
    "-snapshot",
    "-version",
    "-x",
    "x",
    "-",
    "--",
    *(f"-{each}" for each in IGNORED.split()[:3]),
)
WORDS = (
    *(
        "",
        "=",
        ",",
        ",,",
        ".",
        "0",
        "-1",
        "1.5",
        "0x10",
        "18446744073709551616",
        "on",
        "off",
        "{",
        "}",
        "[]",
        "null",
    ),
    *(
        '{"',
        '"driver"',
        ":",
        "é",
        "\0",
        "\n",
        "\udcff",
        "s" * 300,
        "id=",
        "file.",
        "driver=",
        "unit=9",
        "bus=x",
        "addr=20",
    ),
    *("addr=ff.f", "addr=-1", "x.y.z=1", "x.0=1", "x=1,x.y=2", "if=none", "index=99999", "%2c"),
)
BASES = ("", "nodes", "nodes", "pc", "q35")
"""What a line begins with: nothing, the nodes that devices name, and a machine besides."""
OPTIONS = 8
"""Of a line, at most."""


def line(choices: Choices) -> list[str]:
    """A command line without the program's name."""
    words = _base(choices.choice(BASES))
    for _ in range(1 + choices.randrange(OPTIONS)):
        if not choices.randrange(8):
            words.append(choices.choice(SWITCHES))
            continue
        option = choices.choice(list(GOOD))
        value = choices.choice(GOOD[option])
        while not choices.randrange(3) and choices.left:
            value = _spoilt(value, option, choices)
        words.append("-" + option if not choices.randrange(8) else option)
        words.append(value.replace("%2c", ",,"))
    if not choices.randrange(16):
        words.pop()
    return words


def _base(name: str) -> list[str]:
    words = ["-M", name] if name in ("pc", "q35") else []
    if name:
        words += [
            word
            for option in ("-object", "-blockdev")
            for each in GOOD[option][:5]
            for word in (option, each)
        ]
        words += ["-drive", GOOD["-drive"][0]]
    return words


def _spoilt(value: str, option: str, choices: Choices) -> str:
    pieces = value.split(",")
    at = choices.randrange(len(pieces))
    match choices.randrange(6):
        case 0:
            del pieces[at]
        case 1:
            pieces.insert(at, choices.choice(WORDS))
        case 2:
            pieces.insert(at, choices.choice(choices.choice(GOOD[option]).split(",")))
        case 3:
            key, _, _ = pieces[at].partition("=")
            pieces[at] = f"{key}={choices.choice(WORDS)}"
        case 4:
            there = choices.randrange(len(pieces[at]) + 1)
            pieces[at] = pieces[at][:there] + choices.choice(WORDS) + pieces[at][there:]
        case _:
            pieces[at] = pieces[at][: choices.randrange(len(pieces[at]) + 1)]
    return ",".join(pieces)
