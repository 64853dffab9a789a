"""Who speaks with a target: initiator ports, target ports, and the nexus between two of them (SAM-5 §4.5, §4.6)."""

from __future__ import annotations

import msgspec

from devmodels.scsi.constants import Protocol

Registrant = tuple[bytes, int]
"""What a persistent reservation knows an I_T nexus by: TransportID and relative target port."""


class TargetPort(msgspec.Struct, frozen=True):
    """A port of the target.

    `relative` is its number, from 1 (SPC-4 §7.8.6.6.4); `protocol` what it speaks; `name` its SCSI name string
    ("iqn.2026-11.org.example:d0,t,0x0001"), empty where its protocol has none.
    """

    relative: int = 1
    protocol: Protocol = Protocol.NONE
    name: str = ""


class Nexus:
    """One initiator port on one target port, as long as they are connected.

    `transport_id` is the initiator port's TransportID (SPC-4 §7.6.4), by which it is known again after a loss;
    `initiator` is its name for people.
    """

    __slots__ = ("initiator", "port", "transport_id")

    def __init__(self, transport_id: bytes, port: TargetPort, initiator: str = "") -> None:
        self.transport_id = transport_id
        self.port = port
        self.initiator = initiator

    @property
    def registrant(self) -> Registrant:
        """What persistent reservations know it by."""
        return self.transport_id, self.port.relative

    def __repr__(self) -> str:
        return f"<Nexus {self.initiator or self.transport_id.hex()} at port {self.port.relative}>"


def iscsi_transport_id(name: str, isid: bytes) -> bytes:
    """The TransportID of an iSCSI initiator port: its name and the six bytes of its ISID (SPC-4 §7.6.4.6)."""
    text = f"{name},i,0x{isid.hex()}".encode() + b"\0"
    text = text.ljust(max(20, -(-len(text) // 4) * 4), b"\0")
    return bytes((0x40 | Protocol.ISCSI, 0)) + len(text).to_bytes(2, "big") + text


def sas_transport_id(address: int) -> bytes:
    """The TransportID of a SAS initiator port (SPC-4 §7.6.4.7): what carriers without one of their own use."""
    return (bytes((Protocol.SAS, 0, 0, 0)) + address.to_bytes(8, "big")).ljust(24, b"\0")
