"""A CD drive behind a target, two initiators, and a user who changes its media."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from devmodels.blockbackend import BlockBackend, BlockNode, open_node
from devmodels.blockbackend.edge import move
from devmodels.blockbackend.removable import EmptyNode
from devmodels.conformance import Profile, ViolationLog
from devmodels.disc.sector import mode1
from devmodels.events import Events
from devmodels.iocontext import IoContext
from devmodels.runstate import RunState
from devmodels.scsi import ScsiTarget
from devmodels.scsi.mmc import CdDrive, CdOptions
from tests.unit.scsi.initiator import Initiator

BLOCK, RAW = 2048, 2352
BLOCKS = 300


def content(lba: int, size: int = BLOCK) -> bytes:
    """What test images hold: each block its own number."""
    return lba.to_bytes(4, "big") * (size // 4)


class DriveWorld:
    """A target with one drive at LUN 0; `node`: its medium, by options or as it is; None: the tray is empty."""

    def __init__(
        self,
        node: BlockNode | dict[str, object] | None = None,
        *,
        conformance: Profile = Profile.STRICT,
        context: IoContext | None = None,
        **options: Any,
    ) -> None:
        if context is None:
            context = node.context if isinstance(node, BlockNode) else IoContext.virtual()
        self.context = context
        self.told: list[tuple[str, dict[str, object]]] = []
        events = Events()
        events.add_listener(lambda name, data: self.told.append((name, dict(data))))
        self.run_state = RunState(events)
        self.nodes: list[BlockNode] = []
        first = EmptyNode(self.context) if node is None else self.open(node)
        self.backend = BlockBackend(first, name="cd0", run_state=self.run_state, read_only=True)
        self.violations = ViolationLog(conformance)
        self.target = ScsiTarget(self.context, name="t0", violations=self.violations)
        self.classes: list[int] = []
        self.target.on_event.append(lambda _unit, classes: self.classes.append(classes))
        self.drive = CdDrive(self.backend, CdOptions(**options), violations=self.violations)
        self.target.add(0, self.drive)
        self.first = Initiator(self.target, 1)
        self.second = Initiator(self.target, 2)
        for initiator in (self.first, self.second):
            initiator.clear()

    def open(self, node: BlockNode | dict[str, object]) -> BlockNode:
        """A node that is closed with the world."""
        if not isinstance(node, BlockNode):
            node = open_node(node, self.context)
        self.nodes.append(node)
        return node

    # --- the user

    def put(self, node: BlockNode | dict[str, object] | None) -> None:
        """Put a medium into the open tray, or take it out, without closing the tray."""
        assert self.drive.tray.open
        move([(self.backend.edge, EmptyNode(self.context) if node is None else self.open(node))])

    def change(self, node: BlockNode | dict[str, object] | None) -> None:
        """Open the tray, put something else in, close it."""
        self.drive.tray.user_opens()
        self.put(node)
        self.drive.tray.user_closes()

    def moves(self) -> list[bool]:
        """How the tray has moved since the last call: whether it was opened."""
        found = [bool(data["tray-open"]) for name, data in self.told if name == "DEVICE_TRAY_MOVED"]
        self.told.clear()
        return found

    def close(self) -> None:
        """Close everything."""
        self.drive.close()
        self.backend.close()
        for node in self.nodes:
            node.close()
        self.context.close()


def iso(path: Path, blocks: int = BLOCKS) -> dict[str, object]:
    """The node of an image of so many numbered blocks."""
    path.write_bytes(b"".join(map(content, range(blocks))))
    return {"driver": "file", "filename": str(path), "read-only": True}


def data_disc(blocks: int) -> dict[str, object]:
    """The node of a medium of zeroes, which costs nothing."""
    return {"driver": "null-co", "size": blocks * BLOCK, "read-zeroes": True, "read-only": True}


SHEET = """CATALOG 1234567890123
FILE "mixed.bin" BINARY
  TRACK 01 MODE1/2352
    INDEX 01 00:00:00
  TRACK 02 MODE2/2352
    INDEX 01 00:00:20
  TRACK 03 AUDIO
    ISRC ABCDE1234567
    INDEX 00 00:00:40
    INDEX 01 00:00:50
    INDEX 02 00:00:60
  TRACK 04 AUDIO
    PREGAP 00:00:10
    INDEX 01 00:01:00
"""
MIXED_BLOCKS = 100


def mode2(lba: int) -> bytes:
    """A sector of mode 2: form 1, form 2, formless in turn."""
    subheader = (bytes.fromhex("0000080000000800"), bytes.fromhex("0000200000002000"), b"formless")[lba % 3]
    body = subheader + content(lba, 2336)
    return b"\0" + b"\xff" * 10 + b"\0" + bytes((0, 2, lba, 2)) + body[:2336]


def stored(lba: int) -> bytes:
    """What the image of the mixed disc has of its sector number `lba`."""
    if lba < 20:
        return mode1(lba, content(lba))
    return mode2(lba) if lba < 40 else content(lba, RAW)


@cache
def _mixed_image() -> bytes:
    return b"".join(map(stored, range(MIXED_BLOCKS)))


def mixed(folder: Path) -> Path:
    """The sheet of a disc of four tracks: mode 1, mode 2, two of audio with a gap between them."""
    (folder / "mixed.bin").write_bytes(_mixed_image())
    sheet = folder / "mixed.cue"
    sheet.write_text(SHEET)
    return sheet
