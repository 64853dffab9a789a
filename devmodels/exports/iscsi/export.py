"""The `iscsi` export: options, and a node as a logical unit of a target that initiators reach over TCP."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Annotated, Literal

import msgspec

from devmodels.blockbackend import BlockNode
from devmodels.conformance import Profile, ViolationLog
from devmodels.exports.backend import export_backend
from devmodels.exports.iscsi.login import MAX_NAME
from devmodels.exports.iscsi.node import IscsiNode
from devmodels.exports.iscsi.portal import Portal
from devmodels.exports.iscsi.target import IscsiTarget
from devmodels.exports.scsi_unit import ScsiUnitExportOptions, make_unit
from devmodels.exports.violations import ViolationWarnings
from devmodels.options import OptionError, shown
from devmodels.protocols.iscsi.chap import MIN_SECRET, Credentials
from devmodels.protocols.iscsi.pdu import PORT
from devmodels.runstate import RunState
from devmodels.scsi.lun import FLAT_LIMIT
from devmodels.scsi.target import ScsiTarget
from devmodels.secretobjects import Secrets

log = logging.getLogger("devmodels.iscsi")


class InetAddress(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, frozen=True):
    """Where a portal listens; port 0 lets the system choose."""

    type: Literal["inet"]
    host: Annotated[str, msgspec.Meta(min_length=1, description="a name or an address of this host")]
    port: Annotated[int | str, msgspec.Meta(description="a port from 0 to 65535")] = PORT

    def __post_init__(self) -> None:
        if not str(self.port).isdecimal() or not 0 <= int(self.port) <= 65535:
            raise ValueError(f"port: {shown(self.port)} is given; expected 0 to 65535")


class IscsiOptions(ScsiUnitExportOptions, frozen=True, kw_only=True):
    """Options of `--export type=iscsi`.

    `target` is the target's name, `lun` the number of the logical unit: exports of one target have different ones.
    `user` and `password_secret` (a secret's id) are what initiators need to log in (CHAP), `target_user` and
    `target_password_secret` what the target proves to them in turn.
    """

    type: Literal["iscsi"]
    target: Annotated[str, msgspec.Meta(description="the name of a target, iqn.2026-11.org.example:disk say")]
    addr: InetAddress
    lun: Annotated[int, msgspec.Meta(ge=0, lt=FLAT_LIMIT, description="a number from 0 to 16383")] = 0
    user: str | None = None
    password_secret: str | None = None
    target_user: str | None = None
    target_password_secret: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        name = self.target
        if not name.startswith(("iqn.", "eui.", "naa.")) or not name.isprintable() or " " in name:
            raise ValueError(
                f"target: {shown(name)} is given; expected a name that begins with iqn., eui. or naa."
            )
        if len(name.encode()) > MAX_NAME:
            raise ValueError(f"target: {len(name)} characters are given; expected at most {MAX_NAME} bytes")
        for user, secret in (("user", "password_secret"), ("target_user", "target_password_secret")):
            if (getattr(self, user) is None) is not (getattr(self, secret) is None):
                option = user.replace("_", "-"), secret.replace("_", "-")
                raise ValueError(f"{option[0]}: expected together with {option[1]}")
        if self.target_user is not None and self.user is None:
            raise ValueError("target-user: expected together with user")

    def credentials(self, secrets: Secrets) -> Credentials | None:
        """What an initiator needs to log in; OptionError where a secret is not there."""
        if self.user is None or self.password_secret is None:
            return None
        secret = _found(secrets, "password-secret", self.password_secret)
        if self.target_user is None or self.target_password_secret is None:
            return Credentials(self.user, secret)
        other = _found(secrets, "target-password-secret", self.target_password_secret)
        if other == secret:
            # RFC 7143 §9.2.1: an initiator could else answer its own challenges.
            raise OptionError("target-password-secret: the secrets are the same; expected another one")
        return Credentials(self.user, secret, self.target_user, other)


def _found(secrets: Secrets, option: str, name: str) -> bytes:
    """A secret by its id; who has chosen a short one is told."""
    secret = secrets[name]
    if len(secret) < MIN_SECRET:
        line = "%s: the secret has %d bytes; expected at least %d (RFC 7143 §9.2.1)"
        log.warning(line, option, len(secret), MIN_SECRET)
    return secret


class IscsiExport:
    """One node as a logical unit, as long as it is exported."""

    def __init__(
        self,
        options: IscsiOptions,
        node: BlockNode,
        iscsi: IscsiNode,
        *,
        profile: Profile,
        run_state: RunState,
        credentials: Credentials | None,
    ) -> None:
        self.options = options
        self._iscsi = iscsi
        self.target = self._find_target(profile, credentials)
        self.portal = self._open_portal()
        self.backend = backend = export_backend(options, node, run_state)
        try:
            backend.activate()
            violations = self.target.scsi.violations
            name = f"{options.target},{options.lun}"
            self._unit = make_unit(options, backend, name, violations)
        except BaseException as error:
            backend.close()
            iscsi.tidy(self.portal)
            if isinstance(error, OSError):
                raise OptionError(f"node-name: {error.strerror or error}") from None
            raise
        iscsi.targets[options.target] = self.target
        iscsi.use(self.portal, self.target)
        self.target.backends[options.lun] = backend
        self.target.scsi.add(options.lun, self._unit)

    def _find_target(self, profile: Profile, credentials: Credentials | None) -> IscsiTarget:
        """The target of that name, made where this is its first export; OptionError."""
        options = self.options
        target = self._iscsi.targets.get(options.target)
        if target is None:
            context = self._iscsi.context
            violations = ViolationLog(profile, ViolationWarnings(options.target))
            scsi = ScsiTarget(context, name=options.target, violations=violations)
            return IscsiTarget(
                options.target,
                scsi,
                credentials=credentials,
                numbers=self._iscsi.numbers,
                pool=self._iscsi.pool,
            )
        if options.lun in target.scsi.units:
            raise OptionError(f"lun: {options.lun} is given; {shown(options.target)} has one already")
        if target.credentials != credentials:
            raise OptionError("user: expected the same user and secrets as other exports of the target have")
        return target

    def _open_portal(self) -> Portal:
        addr = self.options.addr
        try:
            return self._iscsi.open_portal(addr.host, int(addr.port))
        except OSError as error:
            reason = error.strerror or error
            raise OptionError(
                f"addr: cannot listen at {shown(addr.host)}, port {addr.port}: {reason}"
            ) from None

    @property
    def connected(self) -> bool:
        """Whether an initiator has a session with the target."""
        return bool(self.target.sessions)

    def close(self, then: Callable[[], None]) -> None:
        """Take the logical unit away, the last one with its target; `then` is called when its tasks have ended."""
        target = self.target
        self._iscsi.leave(self.portal, target)
        if len(target.scsi.units) == 1:
            del self._iscsi.targets[target.name]
            target.close()

        del target.backends[self.options.lun]

        def over() -> None:
            self._unit.close()
            self._iscsi.context.start(self.backend.inactivate(), closed)

        def closed(_nothing: None, error: BaseException | None) -> None:
            self.backend.close()
            then()
            if error is not None:
                raise error

        target.scsi.remove(self.options.lun, over)
