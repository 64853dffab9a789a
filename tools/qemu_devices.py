"""The devices that the installed QEMU has, with the headers of those on PCI: `devmodels/qtest/qemu_devices.txt`.

Types that `-device` does not take, which `-global` may name, are in `qemu_types.txt` beside it.

`python -m tools.qemu_devices` asks `qemu-system-x86_64` for its names, starts it with each of the PCI devices, and
reads their configuration space over qtest.  Those that do not start alone have their names only.
"""

from __future__ import annotations

import json
import re
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

TABLE = Path(__file__).parent.parent / "devmodels/qtest/qemu_devices.txt"
TYPES = TABLE.with_name("qemu_types.txt")
QEMU = "qemu-system-x86_64"
HEAD = """\
# Devices that QEMU 7.2's -device takes (processors apart): name, bus, other names, and of PCI devices vendor:device,
# class, revision, subsystem, interrupt pin, status, latency timer, BARs as index:kind:size.
# Made by tools/qemu_devices.py; the names behind the last comment are of later versions.
"""
HEAD_OF_TYPES = """\
# Types of QEMU 7.2's devices besides those of qemu_devices.txt and processors: abstract ones, and parts of machines.
# Made by tools/qemu_devices.py.
"""
_ROW = re.compile(
    r'name "(?P<name>[^"]+)"(?:, bus (?P<bus>\S+?))?(?:, alias "(?P<alias>[^"]+)")?(?:, desc .*)?'
)
NEEDS = {
    "nvme": ("serial=x", []),
    "virtio-9p-pci": ("fsdev=f,mount_tag=t", ["-fsdev", "synth,id=f"]),
    "virtio-9p-pci-transitional": ("fsdev=f,mount_tag=t", ["-fsdev", "synth,id=f"]),
    "virtio-9p-pci-non-transitional": ("fsdev=f,mount_tag=t", ["-fsdev", "synth,id=f"]),
    "virtio-crypto-pci": ("cryptodev=c", ["-object", "cryptodev-backend-builtin,id=c"]),
    "ivshmem-plain": ("memdev=m", ["-object", "memory-backend-ram,size=1M,share=on,id=m"]),
    "pci-ipmi-bt": ("bmc=b", ["-device", "ipmi-bmc-sim,id=b"]),
    "pci-ipmi-kcs": ("bmc=b", ["-device", "ipmi-bmc-sim,id=b"]),
    "acpi-erst": ("memdev=m", ["-object", "memory-backend-ram,size=64k,share=on,id=m"]),
}
"""What some want besides: properties, and other options."""
COMMAND, HEADER_TYPE, SLOT = 0x04, 0x0E, 8
CHIP_STATUS = 0x06A0
"""Of the status register: what a chip says of a conventional bus."""
KINDS = {0: "memory", 4: "memory64", 8: "prefetchable", 12: "prefetchable64"}


def rows() -> Iterator[tuple[str, str, str]]:
    """Name, bus and other name of all."""
    text = subprocess.run([QEMU, "-device", "help"], capture_output=True, text=True, check=True).stdout
    for line in text.splitlines():
        found = _ROW.fullmatch(line)
        if found and not found["name"].endswith("-cpu"):
            yield found["name"], found["bus"] or "-", found["alias"] or "-"


def _asked(name: str, requests: list[str]) -> list[int] | None:
    """What QEMU answers with this device in its slot; None where it does not start."""
    properties, more = NEEDS.get(name, ("", []))
    device = ",".join(filter(None, (name, properties, f"addr={SLOT}")))
    line = [QEMU, "-M", "q35", "-nodefaults", "-display", "none", "-m", "64M", "-accel", "tcg", "-S", *more]
    process = subprocess.Popen(
        [*line, "-device", device, "-qtest", "stdio"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write("\n".join(requests) + "\n")
        process.stdin.flush()
        answers = [line.split() for _, line in zip(requests, process.stdout, strict=False)]
    except BrokenPipeError:
        return None
    finally:
        process.kill()
        process.wait()
    return (
        [int(words[1], 16) for words in answers if len(words) > 1] if len(answers) == len(requests) else None
    )


def _at(offset: int) -> str:
    return f"outl 0xcf8 {0x80000000 | SLOT << 11 | offset:#x}"


def header(name: str) -> str:
    """The rest of a PCI device's row; empty where it does not start."""
    requests = []
    for offset in range(0, 0x40, 4):
        requests += [_at(offset), "inl 0xcfc"]
    for offset in range(0x10, 0x28, 4):
        requests += [_at(offset), "outl 0xcfc 0xffffffff", "inl 0xcfc"]
    found = _asked(name, requests)
    if found is None or found[0] & 0xFFFF == 0xFFFF:
        return ""
    dwords, masks = found[:16], found[16:]
    bars = []
    index, last = 0, 2 if dwords[3] >> 16 & 0x7F else 6
    while index < last:
        mask = masks[index]
        if mask & 1:
            bars.append(f"{index}:io:{-(mask & ~3) & 0xFFFF or 1 << 16}")
        elif mask:
            wide = bool(mask & 4)
            whole = mask & ~15 | (masks[index + 1] << 32 if wide else 0xFFFFFFFF << 32)
            bars.append(f"{index}:{KINDS[mask & 12]}:{-whole & (1 << 64) - 1}")
            index += wide
        index += 1
    words = [
        f"{dwords[0] & 0xFFFF:04x}:{dwords[0] >> 16:04x}",
        f"{dwords[2] >> 8:06x}",
        f"{dwords[2] & 0xFF:02x}",
    ]
    subsystem = dwords[11] if last == 6 else 0
    words += [f"{subsystem & 0xFFFF:04x}:{subsystem >> 16:04x}", f"{dwords[15] >> 8 & 0xFF}"]
    words += [f"{dwords[1] >> 16 & CHIP_STATUS:04x}", f"{dwords[3] >> 8 & 0xFF:02x}"]
    return " ".join([*words, *bars])


def types() -> Iterator[str]:
    """The names of all types of devices, processors and character devices apart."""
    ask = {"execute": "qom-list-types", "arguments": {"implements": "device", "abstract": True}}
    commands = "".join(
        json.dumps(each) for each in ({"execute": "qmp_capabilities"}, ask, {"execute": "quit"})
    )
    line = [QEMU, "-M", "none", "-display", "none", "-qmp", "stdio"]
    said = subprocess.run(line, input=commands, capture_output=True, text=True, check=True).stdout
    names = (each["name"] for each in json.loads(said.splitlines()[2])["return"])
    return (name for name in names if not name.endswith("-x86_64-cpu") and not name.startswith("chardev"))


def main() -> None:
    """Write the tables anew, with what is of later versions as it was."""
    later = TABLE.read_text().partition("# Later:\n")[2] if TABLE.exists() else ""
    lines = [HEAD]
    found = list(rows())
    others = sorted({*types()} - {name for name, _, _ in found})
    text = textwrap.fill(" ".join(others), 118, break_on_hyphens=False, break_long_words=False)
    TYPES.write_text(f"{HEAD_OF_TYPES}{text}\n")
    for name, bus, alias in found:
        lines.append(f"{name} {bus} {alias} {header(name) if bus == 'PCI' else ''}".rstrip() + "\n")
    TABLE.write_text("".join(lines) + "# Later:\n" + later)


if __name__ == "__main__":
    main()
