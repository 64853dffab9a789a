"""Options of a disk: what is not one is told in one line."""

from __future__ import annotations

from typing import Any

import pytest

from devmodels.scsi.disk import DiskOptions


@pytest.mark.parametrize(
    "options",
    [
        {"logical_block_size": 520},
        {"physical_block_size": 256},
        {"physical_block_size": 3 << 12},
        {"physical_block_size": 2 << 20},
        {"min_io_size": 100},
        {"min_io_size": 512 << 16},
        {"opt_io_size": -512},
        {"max_io_size": 0},
        {"max_unmap_size": 0},
        {"queue_depth": 0},
        {"queue_depth": 1 << 17},
        {"vendor": "much too long"},
        {"product": "\n"},
        {"serial": "é"},
        {"wwn": 1 << 64},
        {"wwn": -1},
        {"rotation_rate": 1 << 16},
    ],
)
def test_what_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected") as error:
        DiskOptions(**options)
    assert next(iter(options)).split("_")[0] in str(error.value)
    assert "\n" not in str(error.value)


def test_what_can() -> None:
    options = DiskOptions(logical_block_size=4096, physical_block_size=1 << 20, min_io_size=65536, wwn=1)
    assert options.max_io_size == 32 << 20
