"""Options of `--telemetry` and `--prometheus`."""

from __future__ import annotations

from typing import Annotated

import msgspec

from devmodels.options import OptionError, shown

SECOND = 10**9
LEAST_NS = 10**7

Interval = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[1-9][0-9]{0,8}(ms|s)$", description="a time of at least 10ms, such as 250ms or 1s"
    ),
]
Requests = Annotated[int, msgspec.Meta(ge=0, le=1024)]


class TelemetryOptions(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, kw_only=True, frozen=True):
    """`path` of the socket; a line each `interval`, with up to so many `requests` of those in flight."""

    path: str
    interval: Interval = "1s"
    requests: Requests = 8

    def __post_init__(self) -> None:
        if self.interval_ns < LEAST_NS:
            raise ValueError(f"interval: {shown(self.interval)} is given; expected at least 10ms")

    @property
    def interval_ns(self) -> int:
        """The interval in ns."""
        if self.interval.endswith("ms"):
            return int(self.interval[:-2]) * SECOND // 1000
        return int(self.interval[:-1]) * SECOND


def host_and_port(text: str, *, what: str) -> tuple[str, int]:
    """`ADDRESS:PORT`, an IPv6 address in brackets; OptionError, which begins with `what`, where it is none."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    number = int(port) if port.isascii() and port.isdigit() and len(port) < 6 else -1
    wrong = not host or "[" in host or "]" in host or (":" in host) != bracketed
    if not colon or wrong or not 0 <= number <= 65535:
        raise OptionError(f"{what}: {shown(text)} is given; expected ADDRESS:PORT, such as 127.0.0.1:9184")
    return host, number
