"""Options of `iscsi`: QEMU's BlockdevOptionsIscsi, and what that has no words for."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from devmodels.blockbackend.options import BlockOptionError, NodeOptions, shown
from devmodels.protocols.iscsi.keys import CRC32C
from devmodels.protocols.iscsi.pdu import PORT
from devmodels.protocols.iscsi.text import NONE

Digest = Literal["crc32c", "none", "crc32c-none", "none-crc32c"]

DIGESTS: dict[Digest, tuple[str, ...]] = {
    "crc32c": (CRC32C,),
    "none": (NONE,),
    "crc32c-none": (CRC32C, NONE),
    "none-crc32c": (NONE, CRC32C),
}
"""What each word offers, in order of preference."""

MAX_NAME = 223
"""Longest name of a node, in bytes (RFC 7143 §4.2.7.1)."""

INITIATOR_NAME = "iqn.2026-11.org.example:devmodels"

Name = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(iqn|eui|naa)\.[^\s\x00-\x1f]{1,219}$",
        description="a name of iSCSI: iqn.…, eui.… or naa.…, up to 223 bytes",
    ),
]
Seconds = Annotated[int, msgspec.Meta(ge=0, le=86400, description="a number of seconds from 0 to 86400")]
Lun = Annotated[int, msgspec.Meta(ge=0, le=16383, description="a number from 0 to 16383")]


class IscsiOptions(NodeOptions, frozen=True, kw_only=True):
    """`portal`: host[:port] of the target.  `timeout`: seconds after which a command is given up (0: never).

    Ours: `data-digest`; `target-user` and `target-password-secret`, what the target has to prove (mutual CHAP);
    `reconnect-delay`, how long requests wait for a target that has gone, in seconds.
    """

    transport: Literal["tcp"]
    portal: str
    target: Name
    lun: Lun = 0
    user: str | None = None
    password_secret: str | None = None
    initiator_name: Name = INITIATOR_NAME
    header_digest: Digest = "none-crc32c"
    timeout: Seconds = 0
    data_digest: Digest = "none"
    target_user: str | None = None
    target_password_secret: str | None = None
    reconnect_delay: Seconds = 120


def check(options: IscsiOptions) -> None:
    """BlockOptionError where options contradict each other."""
    parse_portal(options.portal)
    for name in ("target", "initiator_name"):
        if len(getattr(options, name).encode()) > MAX_NAME:
            raise BlockOptionError(f"$.{name.replace('_', '-')}: more than {MAX_NAME} bytes")
    for one, other in (("user", "password-secret"), ("target-user", "target-password-secret")):
        given = [getattr(options, each.replace("-", "_")) is not None for each in (one, other)]
        if given[0] is not given[1]:
            there, missing = (one, other) if given[0] else (other, one)
            raise BlockOptionError(f"$.{there}: is given; expected with it {missing}")
    if options.target_user is not None and options.user is None:
        raise BlockOptionError(
            "$.target-user: is given; expected with it user: the target answers to who logs in"
        )


def parse_portal(text: str) -> tuple[str, int]:
    """Host and port of `host[:port]`, an IPv6 address in brackets; BlockOptionError."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(PORT)
    bracketed = host.startswith("[") and host.endswith("]")
    name = host[1:-1] if bracketed else host
    wrong = not name or (":" in name and not bracketed) or any(each in name for each in "[]/ \0")
    if wrong or not (port.isdecimal() and port.isascii()) or not 0 < int(port[:6]) < 65536:
        raise BlockOptionError(f"$.portal: {shown(text)} is given; expected host[:port]")
    return name, int(port)
