"""From options to a machine: block nodes, backends and devices put together, as a command line or a script names them.

with assemble(
    blockdevs=[{"driver": "memory", "size": 1 << 20, "node-name": "d0"}],
    devices=[{"driver": "virtio-blk-pci", "drive": "d0", "addr": "4"}],
) as assembly:
    assembly.machine.read(...)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from devmodels.lazy import exports

if TYPE_CHECKING:
    from devmodels.assembly.assembly import Assembly
    from devmodels.assembly.build import DEFAULT_RAM, assemble, ram_region
    from devmodels.assembly.hosted import HostedDevices

__all__ = ["DEFAULT_RAM", "Assembly", "HostedDevices", "assemble", "ram_region"]

__getattr__ = exports(
    __name__, {"build": "DEFAULT_RAM assemble ram_region", "assembly": "Assembly", "hosted": "HostedDevices"}
)
"""Who builds a machine in one way imports nothing of the others."""
