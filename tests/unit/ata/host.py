"""A host adapter that has all memory it wants: what a command gives is in `data`, what it takes in `given`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from devmodels.assembly import assemble
from devmodels.ata import AtaCommand, AtaDevice, TaskFile
from devmodels.ata.constants import LBA, Transport
from devmodels.ata.disk import AtaDisk, AtaDiskOptions
from devmodels.blockbackend import BlockBackend, BlockNode
from devmodels.iocontext import IoContext

MIB = 1 << 20


@dataclass
class Outcome:
    """How a command ended."""

    command: AtaCommand
    pieces: list[bytearray] = field(default_factory=list)
    given: bytes = b""
    moves: list[int] = field(default_factory=list)
    over: bool = False
    dropped: bool = False

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def taskfile(self) -> TaskFile:
        return self.command.taskfile

    @property
    def status(self) -> int:
        return self.command.taskfile.status

    @property
    def error(self) -> int:
        return self.command.taskfile.error


class DeviceHost:
    """Issues commands to `device`, which is made over `backend`, and that over a node; data goes at once, or with
    `blocks` in DRQ data blocks.

    `most` is how many bytes its memory takes in one go, which need not be whole sectors; 0: all.
    """

    device: AtaDevice

    def __init__(
        self, blockdev: Mapping[str, object], *, name: str, blocks: bool = False, most: int = 0
    ) -> None:
        self.context = IoContext.virtual()
        self.assembly = assemble(ram=1 * MIB, blockdevs=[blockdev], context=self.context)
        self.node: BlockNode = self.assembly.graph.nodes[str(blockdev["node-name"])]
        self.backend = BlockBackend(self.node, name=name, read_only=bool(blockdev.get("read-only")))
        self.blocks = blocks
        self.most = most
        self.outcomes: dict[AtaCommand, Outcome] = {}

    def close(self) -> None:
        self.assembly.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- what the disk calls

    def begin(self, command: AtaCommand) -> None:
        self._go_on(command)

    def moved(self, command: AtaCommand) -> None:
        assert command.transfer is not None
        if command.moved == command.transfer.length:
            self.device.conclude(command)
        else:
            self._go_on(command)

    def finished(self, command: AtaCommand) -> None:
        outcome = self.outcomes[command]
        assert not outcome.over
        outcome.over = True

    def dropped(self, command: AtaCommand) -> None:
        self.finished(command)
        self.outcomes[command].dropped = True

    def _go_on(self, command: AtaCommand) -> None:
        transfer, outcome = command.transfer, self.outcomes[command]
        assert transfer is not None
        left = transfer.length - command.moved
        length = min(left, transfer.block) if self.blocks else left
        length = min(length, self.most or length)
        outcome.moves.append(length)
        if transfer.out:
            buffer = bytearray(outcome.given[command.moved : command.moved + length])
            self.device.move(command, [memoryview(buffer)], length)
        else:
            first, second = bytearray(length // 2), bytearray(length - length // 2)
            outcome.pieces += first, second
            self.device.move(command, [memoryview(first), memoryview(second)], length)

    # --- what a test calls

    def issue(self, command: AtaCommand, given: bytes = b"") -> Outcome:
        outcome = self.outcomes[command] = Outcome(command, given=given)
        self.device.issue(command)
        return outcome

    def start(self, opcode: int, *, given: bytes = b"", tag: int = 0, **fields: int) -> Outcome:
        fields.setdefault("device", LBA)
        return self.issue(AtaCommand(self, TaskFile(opcode, **fields), tag), given)

    def do(self, opcode: int, *, given: bytes = b"", **fields: int) -> Outcome:
        outcome = self.start(opcode, given=given, **fields)
        self.context.run_until_idle()
        assert outcome.over
        return outcome


class Host(DeviceHost):
    """The host of a disk of `size` bytes."""

    def __init__(
        self,
        size: int = MIB,
        *,
        node: Mapping[str, object] | None = None,
        blocks: bool = False,
        most: int = 0,
        **options: object,
    ) -> None:
        blockdev = {"driver": "memory", "size": size, "node-name": "d0"} if node is None else node
        super().__init__(blockdev, name="hd0", blocks=blocks, most=most)
        self.device = self.disk = AtaDisk(self.backend, AtaDiskOptions(**options))  # type: ignore[arg-type]
        self.disk.transport = Transport.SERIAL

    def content(self, offset: int, length: int) -> bytes:
        return self.do(0x25, lba=offset // self.disk.sector_size, count=length // self.disk.sector_size).data
