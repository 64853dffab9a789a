"""The guest's layouts against the kernel's headers, by a C program that prints what the compiler knows."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from guestsim.drivers import layouts
from guestsim.drivers.layouts import (
    AVAIL,
    BLK_CONFIG,
    BLK_HEADER,
    BLK_RANGE,
    COMMON_CFG,
    DESC,
    LEGACY_CFG,
    MMIO_REGISTERS,
    NOTIFY_MULTIPLIER,
    PACKED_DESC,
    PACKED_EVENT,
    PCI_CAP,
    PCI_CFG_DATA,
    USED,
    USED_ELEM,
    BlkFeature,
    BlkStatus,
    BlkType,
    CapType,
    Feature,
    Layout,
    Status,
)

HEADERS = ("virtio_ring", "virtio_blk", "virtio_pci", "virtio_mmio", "virtio_config")

# The kernel's names where they are not the specification's.
DRIVER_NAMES = {
    "driver_feature_select": "guest_feature_select",
    "driver_feature": "guest_feature",
    "config_msix_vector": "msix_config",
    "queue_desc": "queue_desc_lo",
    "queue_driver": "queue_avail_lo",
    "queue_device": "queue_used_lo",
}
BLK_NAMES = {
    "cylinders": "geometry.cylinders",
    "heads": "geometry.heads",
    "sectors": "geometry.sectors",
    "writeback": "wce",
    "unused0": "unused",
    "unused1_0": "unused1[0]",
    "unused1_1": "unused1[1]",
    "unused1_2": "unused1[2]",
}
STRUCTURES: list[tuple[Layout, str, dict[str, str], set[str]]] = [
    (DESC, "vring_desc", {}, set()),
    (AVAIL, "vring_avail", {}, set()),
    (USED, "vring_used", {}, set()),
    (USED_ELEM, "vring_used_elem", {}, set()),
    (PACKED_DESC, "vring_packed_desc", {}, set()),
    (PACKED_EVENT, "vring_packed_desc_event", {}, set()),
    (BLK_HEADER, "virtio_blk_outhdr", {"reserved": "ioprio"}, set()),
    (BLK_RANGE, "virtio_blk_discard_write_zeroes", {}, set()),
    (PCI_CAP, "virtio_pci_cap", {"padding": "padding[0]"}, set()),
    (
        BLK_CONFIG,
        "virtio_blk_config",
        BLK_NAMES,
        {"max_secure_erase_sectors", "max_secure_erase_seg", "secure_erase_sector_alignment"},
    ),
    (
        COMMON_CFG,
        "virtio_pci_common_cfg",
        DRIVER_NAMES,
        {"queue_notif_config_data", "queue_reset", "admin_queue_index", "admin_queue_num"},
    ),
]
"""Layout, the kernel's structure, its other names, and fields that older headers don't have."""

CONSTANTS: dict[str, int] = {
    "VRING_DESC_F_NEXT": layouts.DESC_NEXT,
    "VRING_DESC_F_WRITE": layouts.DESC_WRITE,
    "VRING_DESC_F_INDIRECT": layouts.DESC_INDIRECT,
    "VRING_AVAIL_F_NO_INTERRUPT": layouts.AVAIL_NO_INTERRUPT,
    "VRING_USED_F_NO_NOTIFY": layouts.USED_NO_NOTIFY,
    "1<<VRING_PACKED_DESC_F_AVAIL": layouts.PACKED_AVAIL,
    "1<<VRING_PACKED_DESC_F_USED": layouts.PACKED_USED,
    "VRING_PACKED_EVENT_FLAG_ENABLE": layouts.EVENT_ENABLE,
    "VRING_PACKED_EVENT_FLAG_DISABLE": layouts.EVENT_DISABLE,
    "VRING_PACKED_EVENT_FLAG_DESC": layouts.EVENT_DESC,
    "1<<VRING_PACKED_EVENT_F_WRAP_CTR": layouts.EVENT_WRAP,
    **{
        name: LEGACY_CFG[field].offset
        for name, field in {
            "VIRTIO_PCI_HOST_FEATURES": "device_feature",
            "VIRTIO_PCI_GUEST_FEATURES": "driver_feature",
            "VIRTIO_PCI_QUEUE_PFN": "queue_pfn",
            "VIRTIO_PCI_QUEUE_NUM": "queue_size",
            "VIRTIO_PCI_QUEUE_SEL": "queue_select",
            "VIRTIO_PCI_QUEUE_NOTIFY": "queue_notify",
            "VIRTIO_PCI_STATUS": "device_status",
            "VIRTIO_PCI_ISR": "isr",
            "VIRTIO_MSI_CONFIG_VECTOR": "config_msix_vector",
            "VIRTIO_MSI_QUEUE_VECTOR": "queue_msix_vector",
        }.items()
    },
    **{
        f"VIRTIO_MMIO_{name}": MMIO_REGISTERS[field].offset
        for name, field in {
            "MAGIC_VALUE": "magic_value",
            "VERSION": "version",
            "DEVICE_ID": "device_id",
            "VENDOR_ID": "vendor_id",
            "DEVICE_FEATURES": "device_feature",
            "DEVICE_FEATURES_SEL": "device_feature_select",
            "DRIVER_FEATURES": "driver_feature",
            "DRIVER_FEATURES_SEL": "driver_feature_select",
            "GUEST_PAGE_SIZE": "guest_page_size",
            "QUEUE_SEL": "queue_select",
            "QUEUE_NUM_MAX": "queue_size_max",
            "QUEUE_NUM": "queue_size",
            "QUEUE_ALIGN": "queue_align",
            "QUEUE_PFN": "queue_pfn",
            "QUEUE_READY": "queue_enable",
            "QUEUE_NOTIFY": "queue_notify",
            "INTERRUPT_STATUS": "interrupt_status",
            "INTERRUPT_ACK": "interrupt_ack",
            "STATUS": "device_status",
            "QUEUE_DESC_LOW": "queue_desc",
            "QUEUE_AVAIL_LOW": "queue_driver",
            "QUEUE_USED_LOW": "queue_device",
            "CONFIG_GENERATION": "config_generation",
        }.items()
    },
    "VIRTIO_MMIO_CONFIG": layouts.MMIO_CONFIG,
    "VIRTIO_MMIO_INT_VRING": layouts.ISR_QUEUE,
    "VIRTIO_MMIO_INT_CONFIG": layouts.ISR_CONFIG,
    "VIRTIO_PCI_CONFIG_OFF(0)": layouts.LEGACY_CONFIG,
    "VIRTIO_PCI_CONFIG_OFF(1)": layouts.LEGACY_CONFIG_MSIX,
    "VIRTIO_PCI_VRING_ALIGN": layouts.LEGACY_PAGE,
    "1<<VIRTIO_PCI_QUEUE_ADDR_SHIFT": layouts.LEGACY_PAGE,
    "VIRTIO_MSI_NO_VECTOR": layouts.NO_VECTOR,
    "VIRTIO_PCI_ISR_CONFIG": layouts.ISR_CONFIG,
    "VIRTIO_PCI_NOTIFY_CAP_MULT": NOTIFY_MULTIPLIER.offset,
    "offsetof(struct virtio_pci_cfg_cap, pci_cfg_data)": PCI_CFG_DATA.offset,
    "VIRTIO_PCI_COMMON_Q_NDATA": COMMON_CFG["queue_notif_config_data"].offset,
    "VIRTIO_PCI_COMMON_Q_RESET": COMMON_CFG["queue_reset"].offset,
    "VIRTIO_BLK_ID_BYTES": layouts.ID_BYTES,
    "VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP": layouts.WRITE_ZEROES_UNMAP,
    "VIRTIO_RING_F_INDIRECT_DESC": Feature.INDIRECT_DESC,
    "VIRTIO_RING_F_EVENT_IDX": Feature.EVENT_IDX,
    **{f"VIRTIO_F_{bit.name}": bit for bit in Feature if not bit.name.startswith(("INDIRECT", "EVENT"))},
    **{f"VIRTIO_BLK_F_{bit.name}": bit for bit in BlkFeature},
    **{f"VIRTIO_BLK_T_{kind.name}": kind for kind in BlkType},
    **{f"VIRTIO_BLK_S_{status.name}": status for status in BlkStatus},
    **{f"VIRTIO_CONFIG_S_{bit.name}": bit for bit in Status if bit.name is not None},
    **{
        f"VIRTIO_PCI_CAP_{kind.name}{suffix}": kind
        for kind, suffix in (
            (CapType.COMMON, "_CFG"),
            (CapType.NOTIFY, "_CFG"),
            (CapType.ISR, "_CFG"),
            (CapType.DEVICE, "_CFG"),
            (CapType.PCI, "_CFG"),
            (CapType.SHARED_MEMORY, "_CFG"),
        )
    },
}


def program() -> str:
    """C that prints `name value` lines; what a header doesn't define is left out."""
    lines = ["#include <stddef.h>", "#include <stdio.h>"]
    lines += [f"#include <linux/{header}.h>" for header in HEADERS]
    lines.append("int main(void) {")
    for layout, structure, names, optional in STRUCTURES:
        if not optional:
            lines.append(f'printf("sizeof {structure} %zu\\n", sizeof(struct {structure}));')
        for name in layout.fields:
            if name in optional:
                continue
            member = names.get(name, name)
            field = f"((struct {structure} *)0)->{member}"
            lines.append(
                f'printf("{structure} {name} %zu %zu\\n", offsetof(struct {structure}, {member}), sizeof({field}));'
            )
    for constant in CONSTANTS:
        printed = f'printf("constant {constant.replace(" ", "_")} %ld\\n", (long)({constant}));'
        guarded = "(" in constant or "<<" in constant
        lines += [printed] if guarded else [f"#ifdef {constant}", printed, "#endif"]
    return "\n".join([*lines, "return 0; }", ""])


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """What the compiler says, a list of words for each line."""
    folder = tmp_path_factory.mktemp("layouts")
    source = folder / "layouts.c"
    source.write_text(program())
    if shutil.which("gcc") is None or not Path("/usr/include/linux/virtio_ring.h").exists():
        reason = "needs gcc and linux-libc-dev"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    subprocess.run(
        ["gcc", "-o", str(folder / "layouts"), str(source)], check=True, capture_output=True, text=True
    )
    printed = subprocess.run([str(folder / "layouts")], check=True, capture_output=True, text=True).stdout
    return [line.split() for line in printed.splitlines()]


@pytest.mark.parametrize("entry", STRUCTURES, ids=lambda entry: entry[1])
def test_a_structure_is_the_kernels(
    compiled: list[list[str]], entry: tuple[Layout, str, dict[str, str], set[str]]
) -> None:
    layout, structure, _, optional = entry
    found = {words[1]: (int(words[2]), int(words[3])) for words in compiled if words[0] == structure}
    assert set(found) == set(layout.fields) - optional
    for name, (offset, size) in found.items():
        field = layout[name]
        # The kernel declares 64-bit registers as two halves.
        halves = structure == "virtio_pci_common_cfg" and field.size == 8
        whole = name == "padding" and structure == "virtio_pci_cap"
        assert field.offset == offset, name
        assert field.size == (size * 2 if halves or whole else size), name
    sizes = {words[1]: int(words[2]) for words in compiled if words[0] == "sizeof"}
    assert sizes.get(structure, layout.size) == layout.size


def test_the_constants_are_the_kernels(compiled: list[list[str]]) -> None:
    known = {name.replace(" ", "_"): value for name, value in CONSTANTS.items()}
    found = {words[1]: int(words[2]) for words in compiled if words[0] == "constant"}
    assert {name: known[name] for name in found} == found
    # Headers older than the specification lack only these.
    missing = set(known) - set(found)
    assert missing <= {
        "VIRTIO_F_NOTIFICATION_DATA",
        "VIRTIO_F_NOTIF_CONFIG_DATA",
        "VIRTIO_BLK_F_LIFETIME",
        "VIRTIO_BLK_F_SECURE_ERASE",
        "VIRTIO_BLK_F_ZONED",
        "VIRTIO_BLK_T_GET_LIFETIME",
        "VIRTIO_BLK_T_SECURE_ERASE",
        "VIRTIO_PCI_COMMON_Q_NDATA",
        "VIRTIO_PCI_COMMON_Q_RESET",
    }


def test_used_event_and_avail_event_lie_behind_the_rings() -> None:
    for size in (1, 2, 256, 32768):
        assert layouts.avail_size(size) == 6 + 2 * size
        assert layouts.used_size(size) == 6 + 8 * size
