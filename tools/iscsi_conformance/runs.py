"""The runs of the suite: which disk, on our side and on `tgtd`'s, and which of its tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import iscsi_servers
from benchmarks.peers import Running
from tools.iscsi_conformance.suite import ALL

SIZE = 64 << 20
OURS, TGTD = "devmodels", "tgtd"


@dataclass(frozen=True, slots=True)
class Run:
    """One run: how the disk is served by each, and what is tried on it.

    `export` are options of our export, `parameters` and `options` what `tgtadm` is given.  `write_ns`: each write
    takes so long on our side.  `paths` is how many ways to the disk the suite is told of.
    """

    name: str
    export: str = "writable=on"
    parameters: str = ""
    options: Sequence[str] = ()
    read_only: bool = False
    write_ns: int = 0
    paths: int = 1
    patterns: Sequence[str] = ALL
    flags: Sequence[str] = field(default=())

    def serve(self, server: str, image: Path) -> AbstractContextManager[tuple[str, Running]]:
        """Serve `image` until the block ends."""
        with image.open("wb") as file:
            file.truncate(SIZE)
        if server == TGTD:
            return iscsi_servers.tgtd(image, self.parameters, self.options)
        return iscsi_servers.ours(self._node(image), self.export)

    def _node(self, image: Path) -> Mapping[str, object]:
        node = {"driver": "file", "filename": str(image), "discard": "unmap", "read-only": self.read_only}
        if not self.write_ns:
            return node
        return {"driver": "delay", "file": node, "discard": "unmap", "write-ns": self.write_ns}


RUNS = (
    Run("as it comes"),
    Run(
        "a removable medium, two paths",
        export="writable=on,removable=on",
        parameters="removable=1",
        paths=2,
    ),
    Run(
        "physical blocks of 4096 bytes, thin",
        export="writable=on,physical-block-size=4096",
        parameters="lbppbe=3,thin_provisioning=1",
    ),
    Run(
        "logical blocks of 4096 bytes, thin",
        export="writable=on,logical-block-size=4096,physical-block-size=4096",
        parameters="thin_provisioning=1",
        options=("--blocksize", "4096"),
    ),
    Run(
        "write-protected: `*.ReadOnly`",
        export="writable=off",
        parameters="readonly=1",
        read_only=True,
        patterns=("*.ReadOnly",),
    ),
    Run(
        "sanitizing, on a disk that takes its time: `*.Sanitize`",
        write_ns=100_000_000,
        patterns=("*.Sanitize",),
        flags=("--allow-sanitize",),
    ),
)
"""The first one is what matters; in the others those tests have their turn that it skips."""
