"""A real QEMU as a target: the q35 and microvm machines, memory map, interrupt wiring, and its monitor as the host.

Firmware's part is done here: the ECAM window is switched on, RAM and windows for BARs are told.  Follows the data
sheets of the host bridge (Intel 316966, PCIEXBAR) and the ICH9 (Intel 316972, chapter 10, D25IR to D31IR, and its
PIRQ to I/O APIC inputs); the wiring of the other slots is QEMU's own, seen on 7.2.
"""

from __future__ import annotations

import json
import struct
import time
from typing import TYPE_CHECKING, Any, Literal, Self

import msgspec

from guestsim.targets import MachineLayout, MmioSlot, TargetError, Window
from guestsim.targets.qemu_process import Accelerator, QemuProcess

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import BinaryIO

    from guestsim.targets.qmp import Json

_MIB = 1 << 20
_RAM_MIB = 128
RAM = _RAM_MIB * _MIB
"""Guest memory in bytes."""
_RAM_BASE = 1 * _MIB

# The words that MSI and MSI-X messages are written to, one a vector, are the last of RAM.
_VECTORS = 2048
_MESSAGE_SIZE = 4
_MESSAGES = _RAM_MIB * _MIB - _VECTORS * _MESSAGE_SIZE

_MMIO = Window(0xE000_0000, 0x1E00_0000)
"""From above the ECAM window to below the I/O APIC at 0xFEC00000."""

_IO = Window(0xC000, 0x4000)

_ECAM = 0xB000_0000
_PCIEXBAR = 0x60
_PCIEXBAR_ENABLE = 1
"""PCIEXBAR of the host bridge 00:00.0: base of 256 MiB, in 64 bits, with the enable bit."""

_CONFIG_ADDRESS = 0xCF8
_CONFIG_DATA = 0xCFC
_CONFIG_ENABLE = 1 << 31

_MMIO_SLOTS = tuple(
    MmioSlot(0xFEB0_0000 + 0x200 * number, 5 + number, f"virtio-mmio-bus.{number}") for number in range(8)
)
"""Where a microvm without ACPI and second I/O APIC has its virtio-mmio devices (seen on 7.2)."""

_BARE_MICROVM = ("acpi", "ioapic2", "rtc", "pit", "pic", "isa-serial", "x-option-roms")

_GSI_PIRQA = 16
_GSI_PIRQE = 20

_SHORTEST_WAIT = 50e-6
_LONGEST_WAIT = 1e-3


class _BlockStats(msgspec.Struct):
    """What is used of an element of `query-blockstats`."""

    stats: dict[str, object]
    device: str = ""
    qdev: str = ""


class QemuTarget:
    """A QEMU machine with the given drives and devices; a `Target` and its `Host`.

    `board` is `q35`, `pc` or, for devices on MMIO (`virtio-blk-device`, each with a `bus` of `virtio-mmio-bus.0` to
    `.7`), `microvm`; `legacy_mmio` makes those of version 1.  `accel` is that of `QemuProcess`.

    `objects`, `blockdevs` and `devices` are what QEMU's `-object`, `-blockdev` and `-device` take, with QEMU's own
    names, and are created in this order, after what `arguments` say, words of the command line.  Guest memory is the
    file `ram`, of `RAM` bytes, where one is given.  Raises `TargetError`, with QEMU's words, where QEMU refuses them.
    """

    def __init__(
        self,
        *,
        devices: Sequence[Mapping[str, Json]] = (),
        blockdevs: Sequence[Mapping[str, Json]] = (),
        objects: Sequence[Mapping[str, Json]] = (),
        board: Literal["q35", "pc", "microvm"] = "q35",
        legacy_mmio: bool = False,
        ram: Path | None = None,
        arguments: Sequence[str] = (),
        binary: str | None = None,
        accel: Accelerator = "tcg",
    ) -> None:
        words = ["-m", f"{_RAM_MIB}", "-machine"]
        if board == "microvm":
            words += [",".join(("microvm", *(f"{part}=off" for part in _BARE_MICROVM)))]
            words += ["-global", f"virtio-mmio.force-legacy={'on' if legacy_mmio else 'off'}"]
        elif ram is not None:
            memory = {"qom-type": "memory-backend-file", "id": "ram", "mem-path": str(ram), "size": RAM}
            words += [f"{board},memory-backend=ram", "-object", json.dumps({**memory, "share": True})]
        else:
            words.append(board)
        words += arguments
        for option, values in (("-object", objects), ("-blockdev", blockdevs), ("-device", devices)):
            for value in values:
                words += [option, json.dumps(value)]
        self._process = QemuProcess(words, binary=binary, accel=accel)
        self._qtest = self._process.qtest
        self._layout = MachineLayout(
            ram=(Window(_RAM_BASE, _MESSAGES - _RAM_BASE),),
            mmio=_MMIO,
            io=_IO,
            ecam=_ECAM if board == "q35" else None,
            virtio_mmio=_MMIO_SLOTS if board == "microvm" else (),
        )
        self._messages_end = 0
        self._wait = _SHORTEST_WAIT
        self._start_ns = time.monotonic_ns()
        try:
            self._qtest.intercept_irq_in("ioapic")
            if board == "q35":
                self._enable_ecam()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def name(self) -> str:
        """`qemu`."""
        return "qemu"

    @property
    def layout(self) -> MachineLayout:
        """The machine's address map."""
        return self._layout

    @property
    def pid(self) -> int:
        """QEMU's process id."""
        return self._process.pid

    def log_to(self, file: BinaryIO) -> None:
        """Write every line that is sent over qtest to `file`, from now on, what opened the ECAM window before."""
        self._qtest.log = file
        if self._layout.ecam is not None:
            self._enable_ecam()

    def read(self, address: int, size: int) -> int:
        """Read a device register in memory space."""
        return self._qtest.read(address, size)

    def write(self, address: int, size: int, value: int) -> None:
        """Write a device register in memory space."""
        self._wait = _SHORTEST_WAIT
        self._qtest.write(address, size, value)

    def io_read(self, port: int, size: int) -> int:
        """Read an I/O port (size 1, 2 or 4)."""
        return self._qtest.io_read(port, size)

    def io_write(self, port: int, size: int, value: int) -> None:
        """Write an I/O port (size 1, 2 or 4)."""
        self._wait = _SHORTEST_WAIT
        self._qtest.io_write(port, size, value)

    def ram_read(self, address: int, length: int) -> bytes:
        """Read `length` bytes of guest memory."""
        return self._qtest.memory_read(address, length)

    def ram_write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Write guest memory."""
        self._qtest.memory_write(address, data)

    def requests(self, lines: Sequence[bytes]) -> list[int]:
        """Send lines of qtest together; the numbers that it answers with."""
        self._wait = _SHORTEST_WAIT
        return self._qtest.requests(lines)

    def message(self, vector: int) -> tuple[int, int]:
        """The (address, data) of `vector`: a word of RAM of its own, and a value that isn't 0."""
        if not 0 <= vector < _VECTORS:
            raise ValueError(f"vector {vector}: expected 0 to {_VECTORS - 1}")
        self._messages_end = max(self._messages_end, vector + 1)
        return _MESSAGES + vector * _MESSAGE_SIZE, vector + 1

    def take_messages(self) -> dict[int, int]:
        """Vector to 1 for every vector signalled since the last call; how often, nobody counts.

        A message that arrives between the reading of its word and the clearing is covered by the one reported: what
        it tells of is in memory before the caller looks.
        """
        words = self._qtest.memory_read(_MESSAGES, self._messages_end * _MESSAGE_SIZE)
        arrived = [vector for vector, (word,) in enumerate(struct.iter_unpack("<I", words)) if word]
        for vector in arrived:
            self._qtest.write(_MESSAGES + vector * _MESSAGE_SIZE, _MESSAGE_SIZE, 0)
        return dict.fromkeys(arrived, 1)

    def intx_level(self, slot: int, pin: int) -> bool:
        """Whether the line that slot `slot`, pin `pin` (1 = INTA#) is wired to is high; devices share lines."""
        self._qtest.wait(0)
        return gsi(slot, pin) in self._qtest.irq_high

    def irq_level(self, irq: int) -> bool:
        """Whether input `irq` of the I/O APIC is high."""
        self._qtest.wait(0)
        return irq in self._qtest.irq_high

    def advance(self) -> bool:
        """Let QEMU run for a millisecond at most, less soon after an access: most requests are done sooner."""
        self._qtest.wait(self._wait)
        self._wait = min(2 * self._wait, _LONGEST_WAIT)
        return True

    def now_ns(self) -> int:
        """Nanoseconds of real time since the machine started."""
        return time.monotonic_ns() - self._start_ns

    def close(self) -> None:
        """End QEMU, which completes what it has begun, and remove its temporary files. Idempotent."""
        self._process.close()

    def resize(self, node: str, size: int) -> None:
        """Give the block node a new size in bytes (QMP `block_resize`); QEMU needs a multiple of 512."""
        self.qmp("block_resize", {"node-name": node, "size": size})

    def plug(self, device: Mapping[str, object]) -> None:
        """QMP `device_add`."""
        self.qmp("device_add", msgspec.to_builtins(device))

    def unplug(self, device: str) -> None:
        """QMP `device_del`; what is on PCI would have to be let go by the guest."""
        self.qmp("device_del", {"id": device})

    def statistics(self, device: str) -> dict[str, int]:
        """The integers of `query-blockstats` for the device with this id."""
        for entry in msgspec.convert(self.qmp("query-blockstats"), list[_BlockStats]):
            # A device without an id of its own, as inside virtio-blk-pci, is named by its QOM path.
            if device in (entry.device, *entry.qdev.split("/")):
                return {name: value for name, value in entry.stats.items() if type(value) is int}
        raise TargetError(f"query-blockstats names no device {device!r}")

    def stop(self) -> None:
        """QMP `stop`."""
        self.qmp("stop", {})

    def cont(self) -> None:
        """QMP `cont`."""
        self.qmp("cont", {})

    def drain(self, node: str) -> bool:
        """Wait until no drive has a request under way; False where QEMU has no such node.

        What is held at a break point of blkdebug's is waited for, too.
        """
        command = {"command-line": f'qemu-io {node} "aio_flush"'}
        return self.qmp("human-monitor-command", command) == ""

    def take_events(self) -> list[tuple[str, Mapping[str, object]]]:
        """What QMP has told since the last call."""
        return self._process.take_events()

    def violations(self) -> list[tuple[str, str]] | None:
        """None: QEMU keeps no account of what the guest did wrong."""
        return None

    def qmp(self, command: str, arguments: Mapping[str, Any] | None = None) -> Json:
        """Execute a QMP command of the host's; raises `TargetError` in QEMU's words where it is refused."""
        return self._process.qmp(command, arguments)

    def _enable_ecam(self) -> None:
        for register, value in (
            (_PCIEXBAR + 4, _ECAM >> 32),
            (_PCIEXBAR, _ECAM & 0xFFFF_FFFF | _PCIEXBAR_ENABLE),
        ):
            self._qtest.io_write(_CONFIG_ADDRESS, 4, _CONFIG_ENABLE | register)
            self._qtest.io_write(_CONFIG_DATA, 4, value)


def gsi(slot: int, pin: int) -> int:
    """The I/O APIC input that pin `pin` (1 = INTA#) of `slot` on bus 0 is wired to."""
    if not (0 <= slot <= 31 and 1 <= pin <= 4):
        raise ValueError(f"slot {slot}, pin {pin}: expected slot 0 to 31 and pin 1 to 4")
    # Slots 25 to 31 belong to the ICH9 and are routed by D25IR to D31IR, whose reset value sends INTA–D# to PIRQA–D#;
    # slot 30, the bridge, has no such choice.
    if slot in (25, 26, 27, 28, 29, 31):
        return _GSI_PIRQA + pin - 1
    if slot == 30:
        return _GSI_PIRQE + pin - 1
    return _GSI_PIRQE + (slot + pin - 1) % 4
