"""The exports there are: started and ended while others go on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Literal, Protocol

import msgspec

from devmodels.blockbackend import BlockBackend, Graph
from devmodels.conformance import Profile
from devmodels.events import Events
from devmodels.exports.vhost_server import VhostUserServer
from devmodels.exports.vhost_user_blk import VhostUserBlkOptions, vhost_user_blk
from devmodels.options import OptionError, convert, shown
from devmodels.runstate import RunState
from devmodels.virtio.device import VirtioDevice
from devmodels.virtio_blk import VirtioBlk

TYPES = ("vhost-user-blk",)


class Export:
    """One export, from its start until the last request of its last client has come back."""

    def __init__(self, options: VhostUserBlkOptions, server: VhostUserServer) -> None:
        self.options = options
        self.id = options.id
        self.type: Literal["vhost-user-blk"] = options.type
        self.server = server
        self.shutting_down = False
        assert isinstance(server.device, VirtioBlk)
        self.backend: BlockBackend = server.device.backend

    @property
    def node_name(self) -> str:
        """The node it offers."""
        return self.backend.node.node_name

    @property
    def connected(self) -> bool:
        """Whether a client is there, or its last request still runs."""
        return self.server.connected


class ExportRecorder(Protocol):
    """Who records exports."""

    def watch_export(
        self, options: Mapping[str, object], device: VirtioDevice, backend: BlockBackend
    ) -> None:
        """An export has just been made."""
        ...

    def export_ended(self, device: VirtioDevice) -> None:
        """It has gone, with all its requests."""
        ...


class Exports:
    """Exports by id, over the nodes of `graph`; `events` are told when one has ended."""

    def __init__(self, graph: Graph, *, profile: Profile, events: Events, run_state: RunState) -> None:
        self._graph = graph
        self._profile = profile
        self._events = events
        self._run_state = run_state
        self.recorder: ExportRecorder | None = None
        """Who records every export that is made; all its queues run on the graph's context then."""
        self.ids: dict[str, Export] = {}

    def __iter__(self) -> Iterator[Export]:
        return iter(list(self.ids.values()))

    def add(self, given: Mapping[str, object], *, what: str = "block-export-add") -> Export:
        """Start an export; OptionError, which begins with `what`, where it cannot be."""
        kind = given.get("type")
        if kind not in TYPES:
            text = "missing" if kind is None else f"{shown(kind)} is given"
            raise OptionError(f"{what}: type: {text}; expected {', '.join(map(shown, TYPES))}")
        if "id" in given:
            what = f"{what} {shown(given['id'])}"
        options = convert(given, VhostUserBlkOptions, what=what)
        if options.id in self.ids:
            raise OptionError(f"{what}: id: given to two exports; expected an id of its own")
        node = self._graph.nodes.get(options.node_name)
        if node is None:
            known = ", ".join(map(shown, sorted(self._graph.nodes))) or "a node, and there is none"
            raise OptionError(f"{what}: node-name: {shown(options.node_name)} is given; expected {known}")
        if node.context is not self._graph.context:
            text = f"{shown(options.node_name)} is on an iothread; expected it at home"
            raise OptionError(f"{what}: node-name: {text}")
        if options.writable and node.read_only:
            raise OptionError(f"{what}: writable: on, but node {shown(options.node_name)} is read-only")
        try:
            threads = self._graph.iothreads.take(
                f"export {shown(options.id)}",
                options.num_queues,
                options.iothread if self.recorder is None else None,
                options.iothread_vq_mapping if self.recorder is None else None,
            )
            server = vhost_user_blk(
                options, node, profile=self._profile, run_state=self._run_state, threads=threads
            )
        except OptionError as error:
            self._graph.iothreads.release(f"export {shown(options.id)}")
            raise OptionError(f"{what}: {error}") from None
        export = self.ids[options.id] = Export(options, server)
        if self.recorder is not None:
            self.recorder.watch_export(
                msgspec.to_builtins(export.options), export.server.device, export.backend
            )
        return export

    def delete(self, export: Export) -> None:
        """End an export, its client too; BLOCK_EXPORT_DELETED says when what runs has come back."""
        export.shutting_down = True
        export.server.close(partial(self._ended, export))

    def _ended(self, export: Export) -> None:
        if self.recorder is not None:
            self.recorder.export_ended(export.server.device)
        export.backend.close()
        del self.ids[export.id]
        self._graph.iothreads.release(f"export {shown(export.id)}")
        self._events.emit("BLOCK_EXPORT_DELETED", {"id": export.id})

    def close(self) -> None:
        """End them all."""
        for export in self:
            if not export.shutting_down:
                self.delete(export)
