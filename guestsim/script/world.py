"""The world of a running script: a target with its drives and devices, the guest on it, a driver for each device."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from guestsim.drivers.layouts import MAX_QUEUE_SIZE
from guestsim.drivers.pci import ConfigSpace, PciFunction
from guestsim.drivers.virtio_blk import VirtioBlk
from guestsim.drivers.virtio_bus import BLOCK, device_id
from guestsim.drivers.virtio_pci_modern import ModernPci
from guestsim.errors import GuestError
from guestsim.guest import Guest
from guestsim.script.load import ScriptError, Source
from guestsim.script.values import MAX_AMOUNT, Pattern, Size, decode_hook, parse_address, parse_size
from guestsim.targets import Host, OptionsError, Target
from guestsim.targets.traced import trace
from guestsim.targets.vhost_device import QUEUE_SIZE, VhostTransport
from guestsim.targets.vhost_user import VhostUserTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from guestsim.drivers.transport import Transport
    from guestsim.drivers.virtio_blk import Pending
    from guestsim.script.needs import TargetSpec
    from guestsim.script.schema import Script, Step

_FIRST_SLOT = 4


class TargetAndHost(Target, Host, Protocol):
    """A target whose host can be asked, too."""


class Content(Pattern, kw_only=True):
    """A pattern in a drive before the machine starts; `length` to the drive's end by default."""

    at: Size = Size(0)
    length: Size | None = None


class FileDrive(msgspec.Struct, rename="kebab"):
    """What the script adds to a `file` drive without a filename: a temporary file of `size`, filled with `content`."""

    size: Size
    content: Content | list[Content] = []


class World:
    """A script's machine, opened. Use with `with`.

    `memory` (shared or bounced) holds where the script leaves it open; `on_access` hears of every access, as text.
    Raises `ScriptError` for what the script has wrong about drives and devices, and `TargetError` for what the target
    refuses.
    """

    def __init__(
        self,
        script: Script,
        source: Source,
        spec: TargetSpec,
        memory: str = "shared",
        on_access: Callable[[str], None] | None = None,
    ) -> None:
        self.script = script
        self.source = source
        self.spec = spec
        self._folder = tempfile.TemporaryDirectory(prefix="guestsim-")
        self.images: dict[str, Path] = {}
        self.names: dict[str, int] = {}
        self.submitted: list[tuple[Step, str, VirtioBlk, Pending]] = []
        self.violations_seen = 0
        try:
            own = [] if spec.socket is not None else script.drives
            drives = [self._drive(options, f"drives[{n}]") for n, options in enumerate(own)]
            self._slots: dict[str, tuple[int, int]] = {}
            devices = [self._device(options, n) for n, options in enumerate(script.devices)]
            self.target = open_target(spec, script, drives, devices, memory)
        except OptionsError as error:
            self._folder.cleanup()
            raise source.error(f"{error.kind}[{error.index}]", str(error)) from error
        except BaseException:
            self._folder.cleanup()
            raise
        if on_access is not None:
            trace(self.target, on_access)
        self.guest = Guest(self.target)
        self.drivers: dict[str, VirtioBlk] = {}
        self.config_changes_seen: dict[str, int] = {}

    def __enter__(self) -> World:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End guest and machine and remove the temporary files. Idempotent."""
        self.guest.close()
        self.target.close()
        self._folder.cleanup()

    # --- what the script names

    @property
    def device_names(self) -> list[str]:
        """The ids of the devices, in order."""
        return list(self._slots)

    def device_name(self, device: str | None) -> str:
        """The id of a device, of the only one where None."""
        known = ", ".join(self._slots) or "none"
        if device is None:
            if len(self._slots) != 1:
                raise GuestError(f"which device? expected device: with one of {known}")
            return next(iter(self._slots))
        if device not in self._slots:
            raise GuestError(f"no device {device!r}, expected one of {known}")
        return device

    def driver(self, device: str | None = None) -> VirtioBlk:
        """The driver of a device by its id (of the only one where None); found on the bus at its first use."""
        device = self.device_name(device)
        if device not in self.drivers:
            self.drivers[device] = VirtioBlk(self.guest, self._transport(device))
            self.config_changes_seen[device] = 0
        return self.drivers[device]

    def _transport(self, device: str) -> Transport:
        """How the driver of a device reaches it: found on the bus, or at its back end's socket."""
        if isinstance(self.target, VhostUserTarget):
            options = self.script.devices[list(self._slots).index(device)]
            return VhostTransport(self.guest, self.target, device, queue_size=_queue_size(options))
        function = PciFunction(self.guest, ConfigSpace(self.target), *self._slots[device])
        if device_id(function) != BLOCK:
            raise GuestError(
                f"{device} at {function} is {function.vendor:04x}:{function.device:04x}, no virtio-blk"
            )
        return ModernPci(self.guest, function)

    def address(self, place: str | int) -> int:
        """The address that `place` means: a number, a name, or name+number."""
        name, number = parse_address(place)
        if name and name not in self.names:
            raise GuestError(
                f"no memory is called {name!r}, expected one of {', '.join(self.names) or 'none'}"
            )
        return self.names[name] + number if name else number

    def ram(self, place: str | int, length: int) -> int:
        """The address that `place` means, where `length` bytes of the guest's memory lie; GuestError elsewhere."""
        address = self.address(place)
        at = address
        for window in self.guest.memory.windows:
            if window.base <= at < window.end:
                at = window.end
            if address < at and address + length <= at:
                return address
        raise GuestError(f"no memory at {address:#x} for {length} bytes")

    def new_violations(self) -> list[tuple[str, str]] | None:
        """(clause, what happened) of what was reported since the last call; None where nobody keeps count."""
        found = self.target.violations()
        if found is None:
            return None
        new = found[self.violations_seen :]
        self.violations_seen = len(found)
        return new

    # --- drives and devices

    def _drive(self, options: Mapping[str, object], path: str) -> dict[str, object]:
        """A drive's options for the target, its temporary file made."""
        name = options.get("node-name")
        if not isinstance(name, str):
            raise self.source.error(path, "node-name is missing")
        if options.get("driver") != "file" or "filename" in options:
            return {**options, **self._size(options, path)}
        own = {key: value for key, value in options.items() if key in ("size", "content")}
        try:
            drive = msgspec.convert(own, FileDrive, dec_hook=decode_hook)
        except msgspec.ValidationError as error:
            raise self.source.error(path, f"a file drive without filename: {error}") from None
        image = self.images[name] = Path(self._folder.name, f"{len(self.images)}.img")
        try:
            with image.open("wb") as file:
                file.truncate(drive.size)
                for content in [drive.content] if isinstance(drive.content, Content) else drive.content:
                    file.seek(content.at)
                    file.write(content.data(self._room(content, drive.size, path)))
        except OSError as error:
            raise self.source.error(path, f"size {int(drive.size)}: {error.strerror}", "size") from None
        rest = {key: value for key, value in options.items() if key not in own}
        return {**rest, "filename": str(image)}

    def _room(self, content: Content, size: int, path: str) -> int:
        """How long `content` is on a drive of `size` bytes."""
        length = size - content.at if content.length is None else content.length
        if length < 0 or content.at + length > size or length > MAX_AMOUNT:
            problem = f"content of {length} bytes at {int(content.at)}, expected a part of {int(size)} and at most 1G"
            raise self.source.error(path, problem, "content")
        return length

    def _size(self, options: Mapping[str, object], path: str) -> dict[str, object]:
        """The option `size` as a number, where there is one."""
        try:
            return {"size": int(parse_size(options["size"]))} if "size" in options else {}
        except ValueError as error:
            raise self.source.error(path, f"size {error}", "size") from None

    def _device(self, options: Mapping[str, object], number: int) -> dict[str, object]:
        """A device's options for the target, with an id and a place on the bus."""
        name = str(options.get("id", f"vd{number}"))
        address = str(options.get("addr", f"{_FIRST_SLOT + number:x}"))
        slot, _, function = address.partition(".")
        try:
            self._slots[name] = (int(slot, 16), int(function or "0", 16))
        except ValueError:
            raise self.source.error(
                f"devices[{number}]",
                f"addr {address!r}, expected a hexadecimal slot or slot.function",
                "addr",
            ) from None
        return {**options, "id": name, "addr": address}


def _queue_size(options: Mapping[str, object]) -> int:
    """The size of queues that a device is given by its options."""
    size = options.get("queue-size", options.get("queue_size", QUEUE_SIZE))
    if not isinstance(size, int) or size & size - 1 or not 0 < size <= MAX_QUEUE_SIZE:
        raise GuestError(f"queue-size {size!r}, expected a power of two from 1 to {MAX_QUEUE_SIZE}")
    return size


def open_target(
    spec: TargetSpec,
    script: Script,
    drives: list[dict[str, object]],
    devices: list[dict[str, object]],
    memory: str,
) -> TargetAndHost:
    """Start the machine that a script describes. Raises `TargetError` where it can't be."""
    if spec.vhost_user:
        return _open_vhost_user(spec, script, drives, devices)
    if spec.name == "qemu":
        from guestsim.targets.qemu import QemuTarget

        return QemuTarget(
            blockdevs=[msgspec.to_builtins(drive) for drive in drives],
            devices=[msgspec.to_builtins(device) for device in devices],
        )
    from guestsim.targets.inprocess import InProcessTarget

    machine = script.machine
    shared = (machine.memory or memory) == "shared"
    return InProcessTarget(
        blockdevs=drives, devices=devices, ram=machine.ram, shared=shared, clock=machine.clock
    )


def _open_vhost_user(
    spec: TargetSpec, script: Script, drives: list[dict[str, object]], devices: list[dict[str, object]]
) -> VhostUserTarget:
    """A daemon of the script's own, or the back end that listens at the socket given."""
    ram = script.machine.ram
    if spec.socket is not None:
        (name,) = (str(device["id"]) for device in devices)
        return VhostUserTarget({name: spec.socket}, ram=ram, name=spec.name)
    from guestsim.targets.storage_daemon import DEVMODELS_SERVE, QEMU_STORAGE_DAEMON, DaemonTarget

    return DaemonTarget(
        QEMU_STORAGE_DAEMON if spec.name == "qemu-storage-daemon" else DEVMODELS_SERVE,
        blockdevs=[msgspec.to_builtins(drive) for drive in drives],
        devices=[msgspec.to_builtins(device) for device in devices],
        ram=ram,
        name=spec.name,
    )


__all__ = ["ScriptError", "World", "open_target"]
