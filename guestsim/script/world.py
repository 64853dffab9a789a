"""The world of a running script: a target with its drives and devices, the guest on it, a driver for each device."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from guestsim.drivers.ahci import Ahci
from guestsim.drivers.ide import IdeController
from guestsim.drivers.layouts import BLK_CONFIG, MAX_QUEUE_SIZE, SECTOR
from guestsim.drivers.pci import ConfigSpace, PciFunction
from guestsim.drivers.virtio_blk import VirtioBlk
from guestsim.drivers.virtio_bus import BLOCK, SCSI, device_id, open_function, open_slot
from guestsim.drivers.virtio_scsi import VirtioScsi
from guestsim.errors import GuestError
from guestsim.guest import Guest
from guestsim.script.load import ScriptError, Source
from guestsim.script.machine import (
    AHCI_HOSTS,
    ATA_HOSTS,
    IDE_HOSTS,
    MMIO_DRIVERS,
    ON_BUSES,
    SCSI_HOSTS,
    Opener,
    open_target,
    place,
)
from guestsim.script.needs import features_needed
from guestsim.script.schema import all_steps
from guestsim.script.schema_virtio import FEATURES
from guestsim.script.values import MAX_AMOUNT, Pattern, Size, decode_hook, parse_address, parse_size
from guestsim.targets import LacksError, OptionsError
from guestsim.targets.traced import trace
from guestsim.targets.vhost_device import QUEUE_SIZE, VhostTransport
from guestsim.targets.vhost_user import VhostUserTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from guestsim.drivers.transport import Transport
    from guestsim.drivers.virtio_driver import Pending, VirtioDriver
    from guestsim.script.needs import TargetSpec
    from guestsim.script.recording import Recording
    from guestsim.script.schema import Script, Step

_FIRST_SLOT = 4


class Content(Pattern, kw_only=True):
    """A pattern in a drive before the machine starts; `length` to the drive's end by default."""

    at: Size = Size(0)
    length: Size | None = None


class FileDrive(msgspec.Struct, rename="kebab"):
    """What the script adds to a `file` drive without a filename: a temporary file of `size`, filled with `content`."""

    size: Size
    content: Content | list[Content] = []


class CueDrive(FileDrive):
    """The same for a `cue` drive: the one file of the sheet; `sheet` are the lines after FILE."""

    sheet: str = msgspec.field(default="")


class World:
    """A script's machine, opened. Use with `with`.

    `memory` (shared or bounced) holds where the script leaves it open; `on_access` hears of every access, as text;
    `recording` is the trace to be written; `opener` starts the machine.
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
        recording: Recording | None = None,
        opener: Opener = open_target,
    ) -> None:
        self.script = script
        self.source = source
        self.spec = spec
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.images: dict[str, Path] = {}
        self.names: dict[str, int] = {}
        self.submitted: list[tuple[Step, str, VirtioDriver[Any], Pending[Any]]] = []
        self.violations_seen = 0
        self.events: list[tuple[str, Mapping[str, object]]] = []
        """What the host was told, and no step has waited for yet."""
        try:
            own = [] if spec.socket is not None else script.drives
            drives = [self._drive(options, f"drives[{n}]") for n, options in enumerate(own)]
            self._places: dict[str, tuple[int, int] | str] = {}
            self._kinds: dict[str, int] = {}
            self._options: dict[str, Mapping[str, object]] = {}
            devices = [self._device(options, n) for n, options in enumerate(script.devices)]
            self.target = opener(spec, script, drives, devices, memory, recording)
        except OptionsError as error:
            self._remove_folder()
            raise source.error(f"{error.kind}[{error.index}]", str(error)) from error
        except BaseException:
            self._remove_folder()
            raise
        if on_access is not None:
            trace(self.target, on_access)
        self.guest = Guest(self.target)
        self.drivers: dict[str, VirtioBlk | VirtioScsi] = {}
        self._functions: dict[str, PciFunction] = {}
        self._controllers: dict[str, Ahci | IdeController] = {}
        self.config_changes_seen: dict[str, int] = {}
        if spec.vhost_user:
            self._look_at_back_ends()
        if any(step.event is not None for step in all_steps(script.steps)):
            self.events += self.target.take_events()

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
        self._remove_folder()

    def _remove_folder(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    # --- what the script names

    @property
    def device_names(self) -> list[str]:
        """The ids of the devices, in order."""
        return list(self._places)

    def device_name(self, device: str | None) -> str:
        """The id of a device, of the only one where None."""
        names = self.device_names
        known = ", ".join(names) or "none"
        if device is None:
            if len(names) != 1:
                raise GuestError(f"which device? expected device: with one of {known}")
            return names[0]
        if device not in names:
            raise GuestError(f"no device {device!r}, expected one of {known}")
        return device

    def driver(self, device: str | None = None, *, legacy: bool | None = None) -> VirtioBlk | VirtioScsi:
        """The driver of a device by its id (of the only one where None), made at its first use.

        `legacy` is the interface that a new one uses, where the device has both.
        """
        device = self.device_name(device)
        if device not in self._kinds:
            raise GuestError(f"{device} is no virtio device")
        if device not in self.drivers:
            kind = VirtioScsi if self._kinds[device] == SCSI else VirtioBlk
            driver = self.drivers[device] = kind(self.guest, self._open(device, legacy=legacy))
            # QEMU counts the data that its SCSI host has read as written.
            driver.device.any_length = kind is VirtioScsi and self.spec.name == "qemu"
            self.config_changes_seen[device] = 0
        return self.drivers[device]

    def blk(self, device: str | None = None) -> VirtioBlk:
        """The driver of a block device; GuestError where it is none."""
        driver = self.driver(device)
        if not isinstance(driver, VirtioBlk):
            raise GuestError(f"{driver.device} is no block device")
        return driver

    def scsi(self, device: str | None = None) -> VirtioScsi:
        """The driver of a SCSI host device; GuestError where it is none."""
        driver = self.driver(device)
        if not isinstance(driver, VirtioScsi):
            raise GuestError(f"{driver.device} is no SCSI host device")
        return driver

    def ide(self, device: str | None = None) -> IdeController:
        """The driver of an IDE controller; GuestError where it is none."""
        controller = self.controller(device)
        if not isinstance(controller, IdeController):
            raise GuestError(f"{self.device_name(device)} is no IDE controller")
        return controller

    def hba(self, device: str | None = None) -> Ahci:
        """The driver of an AHCI host bus adapter; GuestError where it is none."""
        controller = self.controller(device)
        if not isinstance(controller, Ahci):
            raise GuestError(f"{self.device_name(device)} is no AHCI host bus adapter")
        return controller

    def controller(self, device: str | None = None) -> Ahci | IdeController:
        """The driver of a controller of ATA devices; GuestError where it is none."""
        device = self.device_name(device)
        at, driver = self._places[device], self._options[device].get("driver")
        if driver not in ATA_HOSTS or isinstance(at, str):
            raise GuestError(f"{device} is no controller of ATA devices")
        if device not in self._controllers:
            function = PciFunction(self.guest, ConfigSpace(self.target), *at)
            kind = Ahci if driver in AHCI_HOSTS else IdeController
            self._controllers[device] = kind(self.guest, function)
        return self._controllers[device]

    def find_controller(self, device: str | None) -> Ahci | IdeController | None:
        """The driver of a controller of ATA devices; None where the device is none."""
        return None if self.device_name(device) in self._kinds else self.controller(device)

    async def interface(self, device: str | None, *, legacy: bool | None) -> VirtioBlk | VirtioScsi:
        """The driver of a device, using its legacy or its modern interface as said."""
        driver = self.driver(device, legacy=legacy)
        if legacy is not None and driver.device.transport.legacy != legacy:
            await driver.switch(self._open(self.device_name(device), legacy=legacy))
        return driver

    def _open(self, device: str, *, legacy: bool | None) -> Transport:
        """How the driver of a device reaches it: found on the bus, where firmware says, or at its back end's socket."""
        at = self._places[device]
        if isinstance(self.target, VhostUserTarget) or isinstance(at, str):
            if legacy is not None:
                raise GuestError(f"{device} has one interface only, expected no legacy")
            if isinstance(self.target, VhostUserTarget):
                options = self._options[device]
                packed = options.get("packed") in (True, "on")
                size = _queue_size(options)
                own = self._kinds[device] == SCSI
                return VhostTransport(
                    self.guest, self.target, device, queue_size=size, packed=packed, own_config=own
                )
            slot = next((one for one in self.target.layout.virtio_mmio if one.name == at), None)
            if slot is None:
                raise GuestError(f"{device}: the machine has no {at}")
            return open_slot(self.guest, slot, self._kinds[device])
        if device not in self._functions:
            function = PciFunction(self.guest, ConfigSpace(self.target), *at)
            if device_id(function) != self._kinds[device]:
                what = "virtio-scsi" if self._kinds[device] == SCSI else "virtio-blk"
                raise GuestError(
                    f"{device} at {function} is {function.vendor:04x}:{function.device:04x}, no {what}"
                )
            self._functions[device] = function
        return open_function(self.guest, self._functions[device], legacy=legacy)

    def _look_at_back_ends(self) -> None:
        """LacksError where a back end doesn't offer what the script is about, or somebody's disk has another size."""
        try:
            for name, features in features_needed(self.script, self.spec, self.device_names).items():
                transport = self.driver(name).device.transport
                offered = transport.read_features()
                if lacks := [feature for feature in features if not offered >> FEATURES[feature] & 1]:
                    raise LacksError(f"{' and '.join(lacks)}, which the back end doesn't offer")
                if self.spec.socket is not None:
                    self._look_at_disk(transport)
        except BaseException:
            self.close()
            raise

    def _look_at_disk(self, transport: Transport) -> None:
        """LacksError where somebody's export has fewer queues than the script's device, or its disk another size."""
        queues = self.script.devices[0].get("num-queues", 1)
        if isinstance(queues, int) and queues > 0 and not transport.queue_limit(queues - 1):
            raise LacksError(f"{queues} queues, and the back end has fewer")
        for drive in self.script.drives:
            wanted = self._size(drive, "drives[0]").get("size")
            size = SECTOR * transport.read_config([BLK_CONFIG["capacity"]])[0]
            if wanted not in (None, size):
                raise LacksError(f"a disk of {wanted} bytes, and the back end's has {size}")

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
        kind = _OWN_DRIVES.get(str(options.get("driver")))
        if kind is None or "filename" in options:
            return {**options, **self._size(options, path)}
        own = {key: value for key, value in options.items() if key in kind.__struct_fields__}
        try:
            drive = msgspec.convert(own, kind, dec_hook=decode_hook)
        except msgspec.ValidationError as error:
            driver = options.get("driver")
            raise self.source.error(path, f"a {driver} drive without filename: {error}") from None
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="guestsim-")
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
        if isinstance(drive, CueDrive):
            sheet = image.with_suffix(".cue")
            sheet.write_text(f'FILE "{image.name}" BINARY\n{drive.sheet}\n')
            return {**rest, "filename": str(sheet)}
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
        """A device's options for the target, with an id and a place of its own."""
        if options.get("driver") in ON_BUSES:
            return {**options, "id": str(options.get("id", f"sd{number}"))}
        if options.get("driver") in ATA_HOSTS:
            return self._ata_host(options, number)
        kind = SCSI if options.get("driver") in SCSI_HOSTS else BLOCK
        name = str(options.get("id", f"{'scsi' if kind == SCSI else 'vd'}{number}"))
        self._kinds[name], self._options[name] = kind, options
        if options.get("driver") in MMIO_DRIVERS:
            taken = sum(isinstance(place, str) for place in self._places.values())
            bus = self._places[name] = str(options.get("bus", f"virtio-mmio-bus.{taken}"))
            return {**options, "id": name, "bus": bus}
        return self._on_pci(options, name, number)

    def _ata_host(self, options: Mapping[str, object], number: int) -> dict[str, object]:
        ide = options.get("driver") in IDE_HOSTS
        name = str(options.get("id", f"{'ide' if ide else 'sata'}{number}"))
        self._options[name] = options
        # There are no fixed ports and lines where each function is alone.
        native = {"native": True} if ide and self.spec.name == "vfio-user" else {}
        return self._on_pci({**options, **native}, name, number)

    def _on_pci(self, options: Mapping[str, object], name: str, number: int) -> dict[str, object]:
        """The options of a PCI device, with its place."""
        address = str(options.get("addr", f"{_FIRST_SLOT + number:x}"))
        try:
            self._places[name] = place(address)
        except ValueError:
            raise self.source.error(
                f"devices[{number}]",
                f"addr {address!r}, expected a hexadecimal slot or slot.function",
                "addr",
            ) from None
        return {**options, "id": name, "addr": address}


_OWN_DRIVES: dict[str, type[FileDrive]] = {"file": FileDrive, "cue": CueDrive}
"""Drivers whose files a script may leave to be made."""


def _queue_size(options: Mapping[str, object]) -> int:
    """The size of queues that a device is given by its options."""
    names = ("queue-size", "queue_size", "virtqueue_size")
    size = next((options[name] for name in names if name in options), QUEUE_SIZE)
    if not isinstance(size, int) or not 0 < size <= MAX_QUEUE_SIZE:
        raise GuestError(f"queue-size {size!r}, expected a number from 1 to {MAX_QUEUE_SIZE}")
    return size


__all__ = ["ScriptError", "World"]
