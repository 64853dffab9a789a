"""A monitor's client on a machine's control socket: commands with names and values that there are, or nearly."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence

from devmodels.qtest.assembling import Assembling
from devmodels.qtest.control import Control
from fuzz.choices import Choices

DEVICES = ("hd", "cd", "scsi0", "v0", "u0", "u1", "nobody", "")
NODES = ("d0", "c0", "n0", "n1", "a0", "/", "")
FLAGS = (True, False)
ODD: Sequence[object] = (
    None,
    -1,
    1 << 64,
    1.5,
    "",
    "é",
    "x" * 200,
    [],
    {},
    [[]],
    {"driver": "memory"},
    "a=b,c",
    "\0",
    "\n",
    "\ud800",
)
NEW_NODES = (
    {"driver": "memory", "node-name": "n0", "size": 1 << 20},
    {"driver": "null-co", "node-name": "n1", "size": 1 << 16, "read-only": True},
    {"driver": "raw", "node-name": "n2", "file": "n0", "offset": 512},
    {"driver": "blkdebug", "node-name": "n3", "image": "n0"},
    {"driver": "file", "node-name": "n4", "filename": "/none/none"},
)
NEW_DEVICES = (
    {"driver": "virtio-blk-pci", "drive": "n0", "id": "u0", "addr": "7"},
    {"driver": "virtio-scsi-pci", "id": "u1"},
    {"driver": "scsi-hd", "drive": "n0", "bus": "scsi0.0", "id": "u0", "lun": 1},
    {"driver": "scsi-cd", "id": "u1", "bus": "u1.0"},
    {"driver": "ide-hd", "drive": "n1", "id": "u0"},
    {"driver": "virtio-blk-pci", "drive": "a0", "bus": "pcie.0", "id": "u1"},
    {"driver": "sdhci-pci"},
)
LINES = (
    "drive_add 0 if=none,id=a0,file=null-co://,format=raw",
    "drive_add -n 0 if=none,id=n0,driver=memory,size=1M",
    "drive_add 0 if=ide,file=null-co://",
    "drive_del a0",
    "drive_del d0",
    "info block",
    'qemu-io d0 "write -P 1 0 4k"',
    'qemu-io -d hd "read 0 512"',
    'qemu-io n3 "break read_aio A"',
    'qemu-io n3 "aio_read 0 512"',
    'qemu-io n3 "resume A"',
    "",
)
COMMANDS: dict[str, Mapping[str, Sequence[object]]] = {
    "blockdev-add": {"": NEW_NODES},
    "blockdev-del": {"node-name": NODES},
    "blockdev-open-tray": {"id": DEVICES, "force": FLAGS},
    "blockdev-close-tray": {"id": DEVICES},
    "blockdev-remove-medium": {"id": DEVICES},
    "blockdev-insert-medium": {"id": DEVICES, "node-name": NODES},
    "block_resize": {"node-name": NODES, "size": (0, 512, 1 << 20, 1 << 40, -512)},
    "block_set_io_throttle": {
        "id": DEVICES,
        **dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops", "iops_rd"), (0, 1)),
    },
    "device_add": {"": NEW_DEVICES},
    "device_del": {"id": DEVICES},
    "eject": {"id": DEVICES, "force": FLAGS},
    "human-monitor-command": {"command-line": LINES},
    "migrate": {"uri": ("unix:/none/none", "tcp:x", "unix:")},
    "migrate-incoming": {"uri": ("unix:/none/none", "x")},
    "object-add": {"": ({"qom-type": "throttle-group", "id": "g0"}, {"qom-type": "x", "id": "y"})},
    "object-del": {"id": ("g0", "")},
    "qom-list-types": {"implements": ("device", "x"), "abstract": FLAGS},
    **{name: {} for name in ("cont", "stop", "system_reset", "qmp_capabilities", "no-such-command")},
    **{
        f"query-{name}": {}
        for name in ("block", "blockstats", "machines", "migrate", "named-block-nodes", "status")
    },
}
HELLO = b'{"execute": "qmp_capabilities"}'
NOISE = (
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b"\\",
    b"\n",
    b"\0",
    b"\xff",
    b"nonsense",
    b'{"execute": 1}',
    b"{}",
    b"[[[[[[",
)


def command(choices: Choices) -> dict[str, object]:
    """A command with some of its arguments, one of which is another thing, perhaps."""
    name = choices.choice(list(COMMANDS))
    arguments: dict[str, object] = {}
    for key, values in COMMANDS[name].items():
        value = choices.choice(values)
        if isinstance(value, dict):
            arguments |= value
        elif choices.randrange(8):
            arguments[key] = value
    while not choices.randrange(4) and choices.left:
        arguments[choices.choice([*arguments, "id", "x"])] = choices.choice(ODD)
    return {"execute": name, "arguments": arguments}


class Client:
    """The client's end; the machine works when its context does."""

    def __init__(self, assembling: Assembling) -> None:
        self._context = assembling.board.context
        self._sock, theirs = socket.socketpair()
        self._sock.setblocking(False)
        self.ended = False
        self.control = Control(assembling, lambda: None)
        self.control.add(theirs)

    def say(self, data: bytes) -> None:
        """Send."""
        if not self.ended:
            self._sock.send(data)

    def read(self) -> list[dict[str, object]]:
        """Let the machine work, and take all that has come; errors are one line."""
        got = b""
        while True:
            self._context.run_until_idle()
            try:
                part = self._sock.recv(1 << 20)
            except BlockingIOError:
                break
            if not part:
                self.ended = True
                break
            got += part
        found = [json.loads(line) for line in got.splitlines()]
        for each in found:
            assert {"return", "error", "QMP", "event"} & set(each), each
            if "error" in each:
                assert set(each["error"]) == {"class", "desc"}, each
                assert each["error"]["desc"], each
                assert "\n" not in each["error"]["desc"], each
        return found

    def close(self) -> None:
        """Leave."""
        self._sock.close()
        self._context.run_until_idle()
        self.control.close()
