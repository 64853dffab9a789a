"""What `info` of the human monitor prints, from what queries of QMP answer, in the form of QEMU's."""

from __future__ import annotations

from typing import Any

from devmodels.monitor.stats import BlockDeviceStats

LIMITS = ("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr")
ALL_LIMITS = (
    *LIMITS[:3],
    *(f"{name}_max" for name in LIMITS[:3]),
    *LIMITS[3:],
    *(f"{name}_max" for name in LIMITS[3:]),
    "iops_size",
)
STATS = (
    "rd_bytes",
    "wr_bytes",
    "rd_operations",
    "wr_operations",
    "flush_operations",
    "wr_total_time_ns",
    "rd_total_time_ns",
    "flush_total_time_ns",
    "rd_merged",
    "wr_merged",
    "idle_time_ns",
)
assert set(STATS) <= set(BlockDeviceStats.__struct_fields__)
MIGRATION = """\
globals:
store-global-state: on
only-migratable: off
send-configuration: on
send-section-footer: on
decompress-error-check: on
clear-bitmap-shift: 18
"""
"""QEMU's settings as they are at first; nothing here depends on them."""
UNITS = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


def block(found: Any, device: str | None, *, verbose: bool) -> str:
    """`info block`: all drives, or the one of that name."""
    wanted = [(at, each) for at, each in enumerate(found) if device in (None, each["device"])]
    return "".join(("\n" if at else "") + _drive(each, verbose=verbose) for at, each in wanted)


def nodes(found: Any, *, verbose: bool) -> str:
    """`info block -n`: all nodes."""
    return "\n".join(f"{each['node-name']}: {_inserted(each, verbose=verbose)}" for each in found)


def _drive(told: Any, *, verbose: bool) -> str:
    inserted = told.get("inserted")
    name = told["device"]
    if inserted is None:
        text = f"{name or told.get('qdev', '')}: [not inserted]\n"
        return text + _place(told)
    label = f"{name} ({inserted['node-name']})" if name else inserted["node-name"]
    return f"{label}: {_inserted(inserted, _place(told), verbose=verbose)}"


def _place(told: Any) -> str:
    """Where a drive is, and what of it can be taken out."""
    text = f"    Attached to:      {told['qdev']}\n" if "qdev" in told else ""
    if told["removable"]:
        lock, tray = "" if told["locked"] else "not ", "open" if told.get("tray_open") else "closed"
        text += f"    Removable device: {lock}locked, tray {tray}\n"
    if told.get("io-status", "ok") != "ok":
        text += f"    I/O status:       {told['io-status']}\n"
    return text


def _inserted(told: Any, place: str = "", *, verbose: bool) -> str:
    cache = told["cache"]
    mode = "writeback" if cache["writeback"] else "writethrough"
    mode += ", direct" if cache["direct"] else ""
    mode += ", ignore flushes" if cache["no-flush"] else ""
    text = f"{told['file']} ({told['drv']}{', read-only' if told['ro'] else ''})\n{place}"
    text += f"    Cache mode:       {mode}\n"
    if told["detect_zeroes"] != "off":
        text += f"    Detect zeroes:    {told['detect_zeroes']}\n"
    if any(told[name] for name in LIMITS):
        limits = " ".join(f"{name}={told.get(name, 0)}" for name in ALL_LIMITS)
        text += f"    I/O throttling:   {limits} group={told.get('group', '')}\n"
    if verbose:
        image = told["image"]
        size = image["virtual-size"]
        text += f"\nImages:\nimage: {image['filename']}\nfile format: {image['format']}\n"
        text += f"virtual size: {human_size(size)} ({size} bytes)\ndisk size: {human_size(image['actual-size'])}\n"
    return text


def human_size(size: int) -> str:
    """With three digits, and the unit that makes it less than 1000."""
    at, value = 0, float(size)
    while value >= 1000 and at < len(UNITS) - 1:
        at, value = at + 1, value / 1024
    return f"{value:.3g} {UNITS[at]}B"


def blockstats(found: Any) -> str:
    """`info blockstats`: a line for each drive."""
    lines = []
    for each in found:
        numbers = " ".join(f"{name}={each['stats'].get(name, 0)}" for name in STATS)
        lines.append(f"{each.get('device', '')}: {numbers}\n")
    return "".join(lines)


def chardevs(found: Any) -> str:
    """`info chardev`."""
    return "".join(f"{each['label']}: filename={each['filename']}\n" for each in found)


def iothreads(found: Any) -> str:
    """`info iothreads`."""
    lines = []
    for each in found:
        lines.append(f"{each['id']}:\n  thread_id={each['thread-id']}\n")
        lines += [
            f"  {name}={each[name]}\n"
            for name in ("poll-max-ns", "poll-grow", "poll-shrink", "aio-max-batch")
        ]
    return "".join(lines)


def status(told: Any) -> str:
    """`info status`."""
    if told["running"]:
        return "VM status: running\n"
    why = "" if told["status"] == "paused" else f" ({told['status']})"
    return f"VM status: paused{why}\n"


# --- PCI


def pci(buses: Any) -> str:
    """`info pci`."""
    return "".join(_function(each) for bus in buses for each in bus["devices"])


def _function(told: Any) -> str:
    who, kind = told["id"], told["class_info"]
    name = kind["desc"] or f"Class {kind['class']:04d}"
    text = f"  Bus {told['bus']:2d}, device {told['slot']:3d}, function {told['function']}:\n"
    text += f"    {name}: PCI device {who['vendor']:04x}:{who['device']:04x}\n"
    if who.get("subsystem-vendor") and who.get("subsystem"):
        text += f"      PCI subsystem {who['subsystem-vendor']:04x}:{who['subsystem']:04x}\n"
    if "irq" in told:
        text += f"      IRQ {told['irq']}, pin {chr(ord('A') + told['irq_pin'] - 1)}\n"
    if "pci_bridge" in told:
        text += _bridge(told["pci_bridge"]["bus"])
    text += "".join(_region(each) for each in told["regions"])
    text += f'      id "{told["qdev_id"]}"\n'
    behind = told.get("pci_bridge", {}).get("devices", [])
    return text + "".join(_function(each) for each in behind)


def _bridge(told: Any) -> str:
    io, memory, prefetchable = (told[f"{name}_range"] for name in ("io", "memory", "prefetchable"))
    return (
        f"      BUS {told['number']}.\n"
        f"      secondary bus {told['secondary']}.\n"
        f"      subordinate bus {told['subordinate']}.\n"
        f"      IO range [0x{io['base']:04x}, 0x{io['limit']:04x}]\n"
        f"      memory range [0x{memory['base']:08x}, 0x{memory['limit']:08x}]\n"
        f"      prefetchable memory range [0x{prefetchable['base']:08x}, 0x{prefetchable['limit']:08x}]\n"
    )


ONES = (1 << 64) - 1


def _region(told: Any) -> str:
    address, last = told["address"] & ONES, told["address"] + told["size"] - 1 & ONES
    bar = f"      BAR{told['bar']}: "
    if told["type"] == "io":
        # Nowhere, and its end: the end of a range that begins at the last address.
        return f"{bar}I/O at 0x{address:04x} [0x{last:04x}].\n"
    kind = "64" if told["mem_type_64"] else "32"
    prefetch = " prefetchable" if told["prefetch"] else ""
    return f"{bar}{kind} bit{prefetch} memory at 0x{address:08x} [0x{last:08x}].\n"


def migrate(told: Any) -> str:
    """`info migrate`: the state, if there was one, and why it failed."""
    if "status" not in told:
        return MIGRATION
    why = f" ({told['error-desc']})" if "error-desc" in told else ""
    total = "total time: 0 ms\n" if told["status"] == "failed" else ""
    return f"{MIGRATION}Migration status: {told['status']}{why}\n{total}"
