"""What a logical unit is known by: serial number, names, and the pages of vital product data that say them."""

from __future__ import annotations

from typing import Protocol

from devmodels.names import number_of
from devmodels.scsi.constants import DeviceType
from devmodels.scsi.fields import Layout
from devmodels.scsi.layout import vpd
from devmodels.scsi.task import Task

_HEADER = Layout(vpd.HEADER)
_DESIGNATOR = Layout(vpd.DESIGNATOR)

BINARY, ASCII, UTF8 = 1, 2, 3
"""Code sets, SPC-4 §7.8.6.1."""
UNIT, PORT, TARGET = 0, 1, 2
"""What a designator is associated with."""
T10_VENDOR, NAA, RELATIVE_PORT, NAME_STRING = 1, 3, 4, 8
"""Types of designators."""
LOCALLY_ASSIGNED = 0x3 << 60
"""The NAA format of names that somebody has made up."""

TEXTS = {"vendor": 8, "product": 16, "ver": 4, "serial": 36, "device_id": 236}
"""Options that are text, and how long it may be."""


class IdentityOptions(Protocol):
    """The options that say what a unit is; the first three are as standard INQUIRY data has them."""

    @property
    def vendor(self) -> str:
        """T10 vendor identification."""
        ...

    @property
    def product(self) -> str:
        """Product identification."""
        ...

    @property
    def ver(self) -> str:
        """Product revision level."""
        ...

    @property
    def serial(self) -> str:
        """Unit serial number; empty where it is made of the unit's name."""
        ...

    @property
    def device_id(self) -> str:
        """What follows the vendor in its T10 vendor identification designator; empty for its serial number."""
        ...

    @property
    def wwn(self) -> int:
        """Its NAA name; 0 where it is made of its serial number."""
        ...


def check_identity(options: IdentityOptions) -> None:
    """ValueError where they do not fit their places."""
    for name, length in TEXTS.items():
        text = getattr(options, name)
        if len(text) > length or not text.isascii() or not (text.isprintable() or not text):
            raise ValueError(f"{name} is {text!r}, expected at most {length} printable ASCII characters")
    if not 0 <= options.wwn < 1 << 64:
        raise ValueError(f"wwn is {options.wwn:#x}, expected 64 bits")


class Identity:
    """Of a unit called `name`, with `options`."""

    __slots__ = ("_name", "_options")

    def __init__(self, options: IdentityOptions, name: str) -> None:
        self._options = options
        self._name = name

    @property
    def serial(self) -> str:
        """The unit serial number: as given, or made of what the unit is called."""
        return self._options.serial or f"{number_of(self._name):08x}"

    @property
    def naa(self) -> int:
        """The unit's NAA name: as given, or a locally assigned one made of its serial number (SPC-4 §7.8.6.6)."""
        return self._options.wwn or LOCALLY_ASSIGNED | number_of(self.serial)

    def designators(self) -> dict[int, bytes]:
        """What the logical unit is known by, by type: its NAA name, and its T10 vendor identification."""
        options = self._options
        identification = options.vendor.ljust(8) + (options.device_id or self.serial)
        return {NAA: self.naa.to_bytes(8, "big"), T10_VENDOR: identification.encode()}

    def identification(self, task: Task) -> bytes:
        """The body of the device identification page: the unit, and the target port that is asked (SPC-4 §7.8.6)."""
        port = task.nexus.port
        parts = [
            _designator(kind, ASCII if kind == T10_VENDOR else BINARY, name)
            for kind, name in self.designators().items()
        ]
        relative = bytes(2) + port.relative.to_bytes(2, "big")
        parts.append(_designator(RELATIVE_PORT, BINARY, relative, association=PORT, protocol=port.protocol))
        if port.name:
            for association, name in ((PORT, port.name), (TARGET, port.name.partition(",")[0])):
                text = name.encode() + b"\0"
                text = text.ljust(-(-len(text) // 4) * 4, b"\0")
                parts.append(
                    _designator(NAME_STRING, UTF8, text, association=association, protocol=port.protocol)
                )
        return b"".join(parts)


def vital_page(device_type: DeviceType, code: int, body: bytes) -> bytes:
    """A page of vital product data with its header (SPC-4 §7.8.1)."""
    return _HEADER.pack(device_type=device_type, page_code=code, page_length=len(body)) + body


def _designator(
    kind: int, code_set: int, data: bytes, *, association: int = UNIT, protocol: int | None = None
) -> bytes:
    return (
        _DESIGNATOR.pack(
            protocol=protocol or 0,
            code_set=code_set,
            piv=protocol is not None,
            association=association,
            designator_type=kind,
            designator_length=len(data),
        )
        + data
    )
