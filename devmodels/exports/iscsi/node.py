"""The iSCSI network entity of a daemon: its targets and its portals (RFC 7143 §4.4.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from devmodels.exports.iscsi.buffers import Pool
from devmodels.exports.iscsi.portal import Portal, show_address
from devmodels.exports.iscsi.session import Session
from devmodels.exports.iscsi.target import IscsiTarget, SessionNumbers
from devmodels.iocontext import IoContext
from devmodels.protocols.iscsi.keys import Parameters

_ANY = ("0.0.0.0", "::")


class IscsiNode:
    """Targets by name, portals by the address that was asked for."""

    def __init__(self, context: IoContext) -> None:
        self.context = context
        self.targets: dict[str, IscsiTarget] = {}
        self.portals: dict[tuple[str, int], Portal] = {}
        self.numbers = SessionNumbers()
        self.pool = Pool()

    def open_portal(self, host: str, port: int) -> Portal:
        """The portal at an address, which listens from now on; OSError."""
        portal = self.portals.get((host, port))
        if portal is None or not port:
            portal = Portal(self, host, port)
            self.portals[host, portal.address[1]] = portal
        return portal

    def use(self, portal: Portal, target: IscsiTarget) -> None:
        """`target` is to be reached at `portal`, for one export more."""
        portal.users[target] = portal.users.get(target, 0) + 1

    def leave(self, portal: Portal, target: IscsiTarget) -> None:
        """One export less; a portal that nobody uses is closed."""
        portal.users[target] -= 1
        if not portal.users[target]:
            del portal.users[target]
        self.tidy(portal)

    def tidy(self, portal: Portal) -> None:
        """Close `portal` if nobody uses it."""
        if not portal.users:
            portal.close()
            self.portals = {key: each for key, each in self.portals.items() if each is not portal}

    def open_discovery(self, isid: bytes, parameters: Parameters, cmd_sn: int) -> Session:
        """A discovery session."""
        return Session(None, self.numbers.take(), isid, parameters, cmd_sn, pool=self.pool)

    def listing(self, local: object) -> Mapping[str, Sequence[str]]:
        """Every target with its addresses and portal group, as somebody sees them who has connected to `local`."""
        found: dict[str, list[str]] = {name: [] for name in self.targets}
        for portal in self.portals.values():
            host, port = portal.address
            if host in _ANY and isinstance(local, tuple):
                host = local[0].removeprefix("::ffff:")  # Who came by IPv4.
            for target in portal.users:
                found[target.name].append(f"{show_address((host, port))},{target.portal_group}")
        return found
