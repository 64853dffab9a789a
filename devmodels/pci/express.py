"""The PCI Express capability of an endpoint on the root bus (a root complex integrated endpoint: it has no link).

          31              24 23            16 15             8 7              0
    0x00 |  express capabilities register    |  next pointer  |      0x10      |
    0x04 |                         device capabilities                        |
    0x08 |          device status            |         device control          |
    0x0C |                     link registers (none: 0) ...                   |
    0x24 |                        device capabilities 2                       |
    0x28 |         device status 2           |        device control 2         |
    0x2C |                    link and slot registers (none: 0) ...           |

Writing `initiate_flr` resets the function before the write returns.  Reference: PCI Express 6.0 §7.5.3, §6.6.2.
"""

from __future__ import annotations

from devmodels.pci.capability import Capability
from devmodels.registers import HWINIT, RO, RW, RW1C, SC, Register

ROOT_COMPLEX_INTEGRATED_ENDPOINT = 9


class ExpressCapability(Capability, size=0x3C):
    """Version 2, payloads of 128 bytes, function-level reset."""

    CAP_ID = 0x10

    express = Register(0x02, 2, clause="PCIe 6.0 §7.5.3.2")
    version = express.bits(3, 0, HWINIT, reset=2, doc="of the capability")
    port_type = express.bits(
        7, 4, HWINIT, reset=ROOT_COMPLEX_INTEGRATED_ENDPOINT, doc="root complex integrated endpoint"
    )

    device_capabilities = Register(0x04, 4, clause="PCIe 6.0 §7.5.3.3")
    max_payload_supported = device_capabilities.bits(2, 0, RO, doc="128 bytes")
    extended_tag_supported = device_capabilities.bit(5, HWINIT, reset=1, doc="8-bit tags")
    role_based_error_reporting = device_capabilities.bit(15, HWINIT, reset=1, doc="as demanded")
    flr_capable = device_capabilities.bit(28, HWINIT, reset=1, doc="a function can be reset alone")

    device_control = Register(0x08, 2, clause="PCIe 6.0 §7.5.3.4")
    correctable_reporting = device_control.bit(0, RW, doc="kept; there are no errors to report")
    non_fatal_reporting = device_control.bit(1, RW, doc="kept; there are no errors to report")
    fatal_reporting = device_control.bit(2, RW, doc="kept; there are no errors to report")
    unsupported_reporting = device_control.bit(3, RW, doc="kept; there are no errors to report")
    relaxed_ordering = device_control.bit(4, RW, reset=1, doc="kept, without effect")
    max_payload = device_control.bits(7, 5, RW, doc="kept, without effect")
    extended_tag = device_control.bit(8, RW, reset=1, doc="kept, without effect")
    no_snoop = device_control.bit(11, RW, reset=1, doc="kept, without effect")
    max_read_request = device_control.bits(14, 12, RW, reset=2, doc="kept, without effect")
    initiate_flr = device_control.bit(15, SC, doc="resets the function")

    device_status = Register(0x0A, 2, clause="PCIe 6.0 §7.5.3.5")
    errors_detected = device_status.bits(3, 0, RW1C, doc="never set")

    @initiate_flr.on_change
    def _function_level_reset(self, _value: int) -> None:
        self.function.reset()
