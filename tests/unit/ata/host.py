"""A host adapter that has all memory it wants: what a command gives is in `data`, what it takes in `given`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from devmodels.assembly import assemble
from devmodels.ata import AtaCommand, TaskFile
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


class Host:
    """Issues commands to a disk of `size` bytes; data goes at once, or with `blocks` in DRQ data blocks.

    `most` is how many bytes its memory takes in one go, which need not be whole sectors; 0: all.
    """

    def __init__(
        self,
        size: int = MIB,
        *,
        node: Mapping[str, object] | None = None,
        blocks: bool = False,
        most: int = 0,
        **options: object,
    ) -> None:
        self.context = IoContext.virtual()
        blockdev = {"driver": "memory", "size": size, "node-name": "d0"} if node is None else node
        self.assembly = assemble(ram=1 * MIB, blockdevs=[blockdev], context=self.context)
        self.node: BlockNode = self.assembly.graph.nodes[str(blockdev["node-name"])]
        self.backend = BlockBackend(self.node, name="hd0")
        self.disk = AtaDisk(self.backend, AtaDiskOptions(**options))  # type: ignore[arg-type]
        self.disk.transport = Transport.SERIAL
        self.blocks = blocks
        self.most = most
        self.outcomes: dict[AtaCommand, Outcome] = {}

    def close(self) -> None:
        self.assembly.close()

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- what the disk calls

    def begin(self, command: AtaCommand) -> None:
        self._go_on(command)

    def moved(self, command: AtaCommand) -> None:
        assert command.transfer is not None
        if command.moved == command.transfer.length:
            self.disk.conclude(command)
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
            self.disk.move(command, [memoryview(buffer)], length)
        else:
            first, second = bytearray(length // 2), bytearray(length - length // 2)
            outcome.pieces += first, second
            self.disk.move(command, [memoryview(first), memoryview(second)], length)

    # --- what a test calls

    def start(self, opcode: int, *, given: bytes = b"", tag: int = 0, **fields: int) -> Outcome:
        fields.setdefault("device", LBA)
        command = AtaCommand(self, TaskFile(opcode, **fields), tag)
        outcome = self.outcomes[command] = Outcome(command, given=given)
        self.disk.issue(command)
        return outcome

    def do(self, opcode: int, *, given: bytes = b"", **fields: int) -> Outcome:
        outcome = self.start(opcode, given=given, **fields)
        self.context.run_until_idle()
        assert outcome.over
        return outcome

    def content(self, offset: int, length: int) -> bytes:
        return self.do(0x25, lba=offset // self.disk.sector_size, count=length // self.disk.sector_size).data
