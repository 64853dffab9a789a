"""The way of an export to its node."""

from __future__ import annotations

from typing import Protocol

from devmodels.blockbackend import BlockBackend, BlockNode
from devmodels.blockbackend.errorpolicy import ErrorPolicy, OnReadError, OnWriteError
from devmodels.runstate import RunState


class BackendOptions(Protocol):
    """The options that it takes."""

    @property
    def id(self) -> str:
        """The export's name."""
        ...

    @property
    def writable(self) -> bool:
        """Whether clients may write."""
        ...

    @property
    def writethrough(self) -> bool:
        """Whether writes are stable at once."""
        ...

    @property
    def rerror(self) -> OnReadError:
        """What becomes of failed reads."""
        ...

    @property
    def werror(self) -> OnWriteError:
        """What becomes of failed writes."""
        ...


def export_backend(options: BackendOptions, node: BlockNode, run_state: RunState | None) -> BlockBackend:
    """The way to `node`; while `run_state` is stopped requests are held."""
    backend = BlockBackend(
        node,
        name=options.id,
        run_state=run_state,
        write_cache=not options.writethrough,
        read_only=not options.writable,
    )
    backend.error_policy = ErrorPolicy(options.rerror, options.werror)
    return backend
