"""The exports there are: started and ended while others go on.

`TYPES` has every type of export: its options, and how it is started.  What a type needs is imported when the first of
its exports is wanted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import msgspec

from devmodels.blockbackend import BlockBackend, BlockNode, Graph
from devmodels.conformance import Profile
from devmodels.events import Events
from devmodels.exports.recorder import ExportRecorder
from devmodels.options import OptionError, convert, shown
from devmodels.runstate import RunState

if TYPE_CHECKING:
    from devmodels.exports.iscsi.export import IscsiExport, IscsiOptions
    from devmodels.exports.iscsi.node import IscsiNode
    from devmodels.exports.vfio_user import VfioUserExport, VfioUserOptions
    from devmodels.exports.vfio_user_session import Offered
    from devmodels.exports.vhost_user_blk import VhostUserBlkExport, VhostUserBlkOptions
    from devmodels.exports.vhost_user_scsi import Hosts, VhostUserScsiExport, VhostUserScsiOptions

log = logging.getLogger("devmodels")

NodeTypeName = Literal["vhost-user-blk", "vhost-user-scsi", "iscsi"]
"""Exports of nodes."""
TypeName = NodeTypeName | Literal["vfio-user"]


class ExportOptions(Protocol):
    """What the options of every type have."""

    @property
    def type(self) -> TypeName:
        """The type's name."""
        ...

    @property
    def id(self) -> str:
        """The export's own name."""
        ...


class NodeExportOptions(ExportOptions, Protocol):
    """What the options of every type have that offers a node."""

    @property
    def node_name(self) -> str:
        """The node that it offers."""
        ...

    @property
    def writable(self) -> bool:
        """Whether clients may write."""
        ...


class Serving(Protocol):
    """An export at work."""

    @property
    def backend(self) -> BlockBackend | None:
        """Its way to the node; None where what it offers is no node."""
        ...

    @property
    def connected(self) -> bool:
        """Whether a client is there, or its last request still runs."""
        ...

    def close(self, then: Callable[[], None]) -> None:
        """End it; `then` is called when what runs has come back."""
        ...


class Export:
    """One export, from its start until the last request of its last client has come back."""

    def __init__(self, options: ExportOptions, serving: Serving) -> None:
        self.options = options
        self.id = options.id
        self.type = options.type
        self.serving = serving
        self.shutting_down = False

    @property
    def backend(self) -> BlockBackend | None:
        """Its way to the node; None where what it offers is no node."""
        return self.serving.backend

    @property
    def connected(self) -> bool:
        """Whether a client is there, or its last request still runs."""
        return self.serving.connected


class Exports:
    """Exports by id, over the nodes of `graph`; `events` are told when one has ended."""

    def __init__(self, graph: Graph, *, profile: Profile, events: Events, run_state: RunState) -> None:
        self.graph = graph
        self.profile = profile
        self._events = events
        self.run_state = run_state
        self.functions: Callable[[str], Offered | None] = _no_functions
        """Finds a PCI device that can be offered as a function."""
        self.recorder: ExportRecorder | None = None
        """Who records every export that is made; all its queues run on the graph's context then."""
        self.ids: dict[str, Export] = {}

    @cached_property
    def iscsi(self) -> IscsiNode:
        """Targets and portals of the iSCSI exports."""
        from devmodels.exports.iscsi.node import IscsiNode

        return IscsiNode(self.graph.context)

    @cached_property
    def scsi_hosts(self) -> Hosts:
        """Host devices of the vhost-user-scsi exports."""
        from devmodels.exports.vhost_user_scsi import Hosts

        return Hosts(self.graph.context, self.graph.iothreads)

    def __iter__(self) -> Iterator[Export]:
        return iter(list(self.ids.values()))

    def add(self, given: Mapping[str, object], *, what: str = "block-export-add") -> Export:
        """Start an export; OptionError, which begins with `what`, where it cannot be."""
        schema = options_of(given, what=what)
        if "id" in given:
            what = f"{what} {shown(given['id'])}"
        options: Any = convert(given, schema, what=what)
        if options.id in self.ids:
            raise OptionError(f"{what}: id: given to two exports; expected an id of its own")
        try:
            serving = TYPES[options.type].start(self, options)
        except OptionError as error:
            self.graph.iothreads.release(f"export {shown(options.id)}")
            raise OptionError(f"{what}: {error}") from None
        export = self.ids[options.id] = Export(options, serving)
        if self.recorder is not None:
            self._record(export, self.recorder)
        return export

    def _record(self, export: Export, recorder: ExportRecorder) -> None:
        from devmodels.exports.vhost_user_blk import VhostUserBlkExport

        serving = export.serving
        if isinstance(serving, VhostUserBlkExport):
            recorder.watch_export(msgspec.to_builtins(export.options), serving.device, serving.backend)
        elif export.type not in ("vhost-user-scsi", "vfio-user"):
            log.warning("--record: an export of type %s is not recorded", export.type)

    def node(self, options: NodeExportOptions) -> BlockNode:
        """The node that is to be offered; OptionError."""
        node = self.graph.nodes.get(options.node_name)
        if node is None:
            known = ", ".join(map(shown, sorted(self.graph.nodes))) or "a node, and there is none"
            raise OptionError(f"node-name: {shown(options.node_name)} is given; expected {known}")
        if node.context is not self.graph.context:
            text = f"{shown(options.node_name)} is on an iothread; expected it at home"
            raise OptionError(f"node-name: {text}")
        if options.writable and node.read_only:
            raise OptionError(f"writable: on, but node {shown(options.node_name)} is read-only")
        return node

    def delete(self, export: Export) -> None:
        """End an export, its client too; BLOCK_EXPORT_DELETED says when what runs has come back."""
        export.shutting_down = True
        export.serving.close(partial(self._ended, export))

    def _ended(self, export: Export) -> None:
        if self.recorder is not None:
            from devmodels.exports.vhost_user_blk import VhostUserBlkExport

            if isinstance(export.serving, VhostUserBlkExport):
                self.recorder.export_ended(export.serving.device)
        if export.backend is not None:
            export.backend.close()
        del self.ids[export.id]
        self.graph.iothreads.release(f"export {shown(export.id)}")
        self._events.emit("BLOCK_EXPORT_DELETED", {"id": export.id})

    def close(self) -> None:
        """End them all."""
        for export in self:
            if not export.shutting_down:
                self.delete(export)


def options_of(given: Mapping[str, object], *, what: str) -> type[msgspec.Struct]:
    """The options that the type `given` has; OptionError, which begins with `what`, for another type."""
    kind = given.get("type")
    if not isinstance(kind, str) or kind not in TYPES:
        text = "missing" if kind is None else f"{shown(kind)} is given"
        raise OptionError(f"{what}: type: {text}; expected {', '.join(map(shown, TYPES))}")
    return TYPES[kind].options


# --- the types


class ExportType(NamedTuple):
    """One type: where the schema of its options is, and `start(exports, options)`, which may raise OptionError."""

    module: str
    schema: str
    start: Callable[[Exports, Any], Serving]

    @property
    def options(self) -> type[msgspec.Struct]:
        """The schema."""
        return getattr(import_module(f"devmodels.exports.{self.module}"), self.schema)  # type: ignore[no-any-return]


def _start_vhost_user_blk(exports: Exports, options: VhostUserBlkOptions) -> VhostUserBlkExport:
    from devmodels.exports.vhost_user_blk import VhostUserBlkExport, vhost_user_blk

    node = exports.node(options)
    recorded = exports.recorder is not None
    threads = exports.graph.iothreads.take(
        f"export {shown(options.id)}",
        options.num_queues,
        None if recorded else options.iothread,
        None if recorded else options.iothread_vq_mapping,
    )
    profile, run_state = exports.profile, exports.run_state
    return VhostUserBlkExport(
        vhost_user_blk(options, node, profile=profile, run_state=run_state, threads=threads)
    )


def _start_iscsi(exports: Exports, options: IscsiOptions) -> IscsiExport:
    from devmodels.exports.iscsi.export import IscsiExport

    return IscsiExport(
        options,
        exports.node(options),
        exports.iscsi,
        profile=exports.profile,
        run_state=exports.run_state,
        credentials=options.credentials(exports.graph.secrets),
    )


def _start_vhost_user_scsi(exports: Exports, options: VhostUserScsiOptions) -> VhostUserScsiExport:
    from devmodels.exports.vhost_user_scsi import VhostUserScsiExport

    node = exports.node(options)
    return VhostUserScsiExport(
        options,
        node,
        exports.scsi_hosts,
        profile=exports.profile,
        run_state=exports.run_state,
        recorder=exports.recorder,
    )


def _start_vfio_user(exports: Exports, options: VfioUserOptions) -> VfioUserExport:
    from devmodels.exports.vfio_user import VfioUserExport

    offered = exports.functions(options.device)
    if offered is None:
        raise OptionError(f"device: {shown(options.device)} is given; expected a PCI device of --device")
    others = [each.serving for each in exports]
    if any(isinstance(other, VfioUserExport) and other.server.offered == offered for other in others):
        raise OptionError(f"device: {shown(options.device)} is exported already")
    return VfioUserExport(options, offered)


def _no_functions(_device: str) -> None:
    """There is no PCI device."""


TYPES: dict[TypeName, ExportType] = {
    "vhost-user-blk": ExportType("vhost_user_blk", "VhostUserBlkOptions", _start_vhost_user_blk),
    "vhost-user-scsi": ExportType("vhost_user_scsi", "VhostUserScsiOptions", _start_vhost_user_scsi),
    "iscsi": ExportType("iscsi.export", "IscsiOptions", _start_iscsi),
    "vfio-user": ExportType("vfio_user", "VfioUserOptions", _start_vfio_user),
}
"""By name."""
