"""The SCSI host's layouts, the guest's and the device's, against the kernel's header (linux/virtio_scsi.h)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path

import pytest

from devmodels.virtio_scsi import layout as device
from guestsim.drivers import scsi_layouts as guest

HEADER = "/usr/include/linux/virtio_scsi.h"

SIZES: dict[str, tuple[int, int]] = {
    "virtio_scsi_cmd_req": (guest.COMMAND.size + guest.CDB_SIZE, device.COMMAND_FIXED.size + 32),
    "virtio_scsi_cmd_resp": (
        guest.RESPONSE.size + guest.SENSE_SIZE,
        device.RESPONSE_FIXED.size + 96,
    ),
    "virtio_scsi_ctrl_tmf_req": (guest.TMF.size, device.TMF.size),
    "virtio_scsi_ctrl_an_req": (guest.ASYNC.size, device.ASYNC.size),
    "virtio_scsi_ctrl_an_resp": (guest.ASYNC_ANSWER.size, device.ASYNC_ANSWER.size),
    "virtio_scsi_event": (guest.EVENT.size, device.EVENT.size),
    "virtio_scsi_config": (guest.SCSI_CONFIG.size, device.CONFIG.size),
}
"""The kernel's structure; how long it is to the guest, and to the device."""

OFFSETS: dict[str, dict[str, int]] = {
    "virtio_scsi_cmd_req": {**device.COMMAND_FIXED.offsets, "tag": 8},
    "virtio_scsi_cmd_resp": {**device.RESPONSE_FIXED.offsets, "resid": 4},
    "virtio_scsi_ctrl_tmf_req": {**device.TMF.offsets, "tag": 16},
    "virtio_scsi_ctrl_an_req": device.ASYNC.offsets,
    "virtio_scsi_ctrl_an_resp": device.ASYNC_ANSWER.offsets,
    "virtio_scsi_event": device.EVENT.offsets,
    "virtio_scsi_config": device.CONFIG.offsets,
}
_OTHERWISE = {
    ("virtio_scsi_cmd_req", "id"),
    ("virtio_scsi_cmd_resp", "residual"),
    ("virtio_scsi_ctrl_tmf_req", "id"),
}
"""Names that the kernel has not got."""


def _named(prefix: str, *kinds: type[IntEnum]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for kind in kinds:
        for each in kind:
            name = each.name.removeprefix(prefix)
            found.setdefault(f"{prefix}{name}", []).append(int(each))
    return found


CONSTANTS: dict[str, list[int]] = {
    **_named("VIRTIO_SCSI_F_", guest.ScsiFeature, device.ScsiFeature),
    **_named("VIRTIO_SCSI_S_", guest.ScsiResponse, device.ScsiResponse),
    **_named("VIRTIO_SCSI_T_TMF_", guest.Tmf, device.TmfType),
    **_named("VIRTIO_SCSI_T_", guest.ControlType, device.ControlType),
    **_named("VIRTIO_SCSI_T_", guest.EventType, device.EventType),
    **_named("VIRTIO_SCSI_EVT_RESET_", guest.ResetReason, device.ResetReason),
    **_named("VIRTIO_SCSI_S_", guest.TaskAttribute),
    "VIRTIO_SCSI_T_EVENTS_MISSED": [guest.EVENTS_MISSED, device.EVENTS_MISSED],
    "VIRTIO_SCSI_CDB_DEFAULT_SIZE": [guest.CDB_SIZE, device.DEFAULT_CDB_SIZE],
    "VIRTIO_SCSI_SENSE_DEFAULT_SIZE": [guest.SENSE_SIZE, device.DEFAULT_SENSE_SIZE],
}


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, int]:
    """What the compiler says, by an expression's name; constants that are not there are left out."""
    if shutil.which("gcc") is None or not Path(HEADER).exists():
        reason = "needs gcc and linux-libc-dev"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    lines = [
        "#include <stddef.h>",
        "#include <stdio.h>",
        f"#include <{HEADER.split('include/')[1]}>",
        "int main(void) {",
    ]
    for structure in SIZES:
        lines.append(f'printf("{structure} %zu\\n", sizeof(struct {structure}));')
        lines += [
            f'printf("{structure}.{name} %zu\\n", offsetof(struct {structure}, {name}));'
            for name in OFFSETS[structure]
            if (structure, name) not in _OTHERWISE
        ]
    for name in CONSTANTS:
        lines += [f"#ifdef {name}", f'printf("{name} %lu\\n", (unsigned long)(unsigned)({name}));', "#endif"]
    source = tmp_path_factory.mktemp("layouts") / "layouts.c"
    source.write_text("\n".join([*lines, "return 0; }", ""]))
    program = source.with_suffix("")
    subprocess.run(["gcc", "-o", str(program), str(source)], check=True, capture_output=True)
    printed = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
    return {name: int(value) for name, value in (line.split() for line in printed.splitlines())}


@pytest.mark.parametrize("structure", SIZES)
def test_a_structure_is_the_kernels(kernel: Mapping[str, int], structure: str) -> None:
    assert SIZES[structure] == (kernel[structure],) * 2
    for name, offset in OFFSETS[structure].items():
        if (structure, name) not in _OTHERWISE:
            assert kernel[f"{structure}.{name}"] == offset, name


def test_fields_that_the_kernel_calls_otherwise_lie_where_it_has_them() -> None:
    assert device.COMMAND_FIXED.offsets["id"] == OFFSETS["virtio_scsi_cmd_req"]["tag"]
    assert device.RESPONSE_FIXED.offsets["residual"] == OFFSETS["virtio_scsi_cmd_resp"]["resid"]
    assert device.TMF.offsets["id"] == OFFSETS["virtio_scsi_ctrl_tmf_req"]["tag"]


def test_the_guest_s_configuration_space_is_the_device_s() -> None:
    offsets = {name: field.offset for name, field in guest.SCSI_CONFIG.fields.items()}
    assert offsets == device.CONFIG.offsets


def test_the_constants_are_the_kernels(kernel: Mapping[str, int]) -> None:
    for name, values in CONSTANTS.items():
        if name in kernel:
            assert values == [kernel[name]] * len(values), name
    missing = set(CONSTANTS) - set(kernel)
    # Of the header's own words for what came later, or that it has under other names.
    assert missing <= {"VIRTIO_SCSI_F_T10_PI"}, missing
