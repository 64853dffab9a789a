"""The write-cache mode that a driver chose outlives a stop and a start of the front end, as a pause of its VM is."""

from __future__ import annotations

import struct
from pathlib import Path

from devmodels.blockbackend import open_node
from devmodels.conformance import Profile
from devmodels.exports.vhost_user_blk import UnixAddress, VhostUserBlkOptions, vhost_user_blk
from devmodels.iocontext import IoContext

from . import frontend as fe
from .frontend import FrontEnd, Ring

WRITEBACK = 32
FLUSH, CONFIG_WCE = 1 << 9, 1 << 11
FEATURES = fe.F_PROTOCOL | fe.F_VERSION_1 | FLUSH | CONFIG_WCE


def writeback(front_end: FrontEnd) -> int:
    reply = front_end.ask(fe.GET_CONFIG, struct.pack("<III", WRITEBACK, 1, 0) + b"\0")
    return reply[12]


def test_write_through_stays_while_the_front_end_stops_and_starts(tmp_path: Path) -> None:
    context = IoContext.virtual()
    node = open_node({"driver": "memory", "size": 1 << 20, "node-name": "d0"}, context)
    address = UnixAddress(type="unix", path=str(tmp_path / "vu.sock"))
    options = VhostUserBlkOptions(type="vhost-user-blk", id="e0", node_name="d0", addr=address, writable=True)
    server = vhost_user_blk(options, node, profile=Profile.STRICT)
    front_end = FrontEnd(Path(address.path), context)
    (ring,) = front_end.up(features=FEATURES)
    assert writeback(front_end) == 1
    front_end.send(fe.SET_CONFIG, struct.pack("<III", WRITEBACK, 1, 0) + b"\0")
    assert writeback(front_end) == 0

    base = front_end.stop(0)
    front_end.set_features(FEATURES)
    front_end.start(0, ring, base)
    assert writeback(front_end) == 0

    # A front end may say "reset" when its machine only pauses: the driver must not find less than it chose.
    front_end.acknowledged(fe.RESET_DEVICE)
    front_end.set_features(FEATURES)
    front_end.start(0, Ring(front_end.memory))
    assert writeback(front_end) == 0

    front_end.close()
    front_end = FrontEnd(Path(address.path), context)
    front_end.up(features=FEATURES)
    assert writeback(front_end) == 1, "the next machine's driver finds what was configured"
    front_end.stop(0)
    front_end.set_features(FEATURES & ~FLUSH)
    assert writeback(front_end) == 0, "CONFIG_WCE without FLUSH (VIRTIO 1.4 §5.2.5.2)"

    front_end.close()
    server.close()
    context.run_until_idle()
    context.close()
