"""Starting the machine that a script describes, on the target that it is to run on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from guestsim.targets import Host, LacksError, RecordError, Target, TargetError
from guestsim.targets.vhost_user import VhostUserTarget

if TYPE_CHECKING:
    from collections.abc import Mapping

    from guestsim.script.needs import TargetSpec
    from guestsim.script.recording import Recording
    from guestsim.script.schema import Script

MMIO_DRIVERS = frozenset({"virtio-blk-device", "virtio-scsi-device"})
"""Devices that are not on PCI."""

SCSI_HOSTS = frozenset({"virtio-scsi-pci", "virtio-scsi-device"})
"""Devices with a bus of their own, and what is on it."""
SCSI_UNITS = frozenset({"scsi-hd", "scsi-cd"})

IDE_HOSTS = frozenset({"piix3-ide", "piix4-ide"})
AHCI_HOSTS = frozenset({"ich9-ahci", "ahci"})
ATA_HOSTS = IDE_HOSTS | AHCI_HOSTS
IDE_UNITS = frozenset({"ide-hd", "ide-cd"})
"""The same for ATA."""
ON_BUSES = SCSI_UNITS | IDE_UNITS


class TargetAndHost(Target, Host, Protocol):
    """A target whose host can be asked, too."""


class Opener(Protocol):
    """What starts the machine that a script describes, as `open_target` does."""

    def __call__(
        self,
        spec: TargetSpec,
        script: Script,
        drives: list[dict[str, object]],
        devices: list[dict[str, object]],
        memory: str,
        recording: Recording | None = None,
    ) -> TargetAndHost:
        """Start it. Raises `TargetError` where it can't be."""
        ...


def _forced(device: Mapping[str, object]) -> bool:
    """Whether an MMIO device is of version 1: QEMU's default, and an option of the place there."""
    return bool(device.get("force-legacy", True))


def open_target(
    spec: TargetSpec,
    script: Script,
    drives: list[dict[str, object]],
    devices: list[dict[str, object]],
    memory: str,
    recording: Recording | None = None,
) -> TargetAndHost:
    """Start the machine that a script describes, and record it. Raises `TargetError` where it can't be."""
    if recording is not None and any(device.get("driver") in ATA_HOSTS for device in devices):
        raise LacksError("devices of which there are recordings")
    if spec.vhost_user:
        return _open_vhost_user(spec, script, drives, devices, recording)
    if spec.name == "vfio-user":
        return _open_vfio_user(spec, script, drives, devices, memory, recording)
    if spec.name == "qemu":
        from guestsim.targets.qemu import QemuTarget

        on_mmio = [device for device in devices if device.get("driver") in MMIO_DRIVERS]
        on_boards = [device for device in devices if device.get("driver") not in ON_BUSES]
        if on_mmio and (len(on_mmio) < len(on_boards) or len({_forced(device) for device in on_mmio}) > 1):
            raise TargetError(
                "QEMU has no machine with devices on PCI and on MMIO, or with MMIO of both versions"
            )
        return QemuTarget(
            blockdevs=[msgspec.to_builtins(drive) for drive in drives],
            devices=[
                {name: value for name, value in msgspec.to_builtins(device).items() if name != "force-legacy"}
                for device in devices
            ],
            board="microvm" if on_mmio else "q35",
            legacy_mmio=any(_forced(device) for device in on_mmio),
        )
    from guestsim.targets.inprocess import InProcessTarget

    machine = script.machine
    shared = (machine.memory or memory) == "shared"
    target = InProcessTarget(
        blockdevs=drives, devices=devices, ram=machine.ram, shared=shared, clock=machine.clock
    )
    if recording is not None:
        try:
            target.record(recording.path, recording.limit)
        except BaseException:
            target.close()
            raise
    return target


def _open_vhost_user(
    spec: TargetSpec,
    script: Script,
    drives: list[dict[str, object]],
    devices: list[dict[str, object]],
    recording: Recording | None,
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
        arguments=_record(recording),
    )


def _open_vfio_user(
    spec: TargetSpec,
    script: Script,
    drives: list[dict[str, object]],
    devices: list[dict[str, object]],
    memory: str,
    recording: Recording | None,
) -> TargetAndHost:
    """A daemon of the script's own, or the server that listens at the socket given."""
    if any(device.get("driver") in MMIO_DRIVERS for device in devices):
        raise LacksError("devices outside PCI")
    ram, shared = script.machine.ram, (script.machine.memory or memory) == "shared"
    if spec.socket is not None:
        from guestsim.targets.vfio_user import VfioUserTarget

        (device,) = devices
        name = str(device["id"])
        places = {name: place(str(device["addr"]))}
        return VfioUserTarget({name: spec.socket}, places, ram=ram, shared=shared, posted=False)
    from guestsim.targets.vfio_daemon import VfioDaemonTarget

    return VfioDaemonTarget(
        blockdevs=[msgspec.to_builtins(drive) for drive in drives],
        devices=[msgspec.to_builtins(device) for device in devices],
        ram=ram,
        shared=shared,
        # One step is over before the next one.
        posted=False,
        arguments=_record(recording),
    )


def place(addr: str) -> tuple[int, int]:
    """Slot and function of a PCI device's option `addr`; ValueError where it is no such thing."""
    slot, _, function = addr.partition(".")
    return int(slot, 16), int(function or "0", 16)


def _record(recording: Recording | None) -> list[str]:
    """What a daemon of ours is told. Raises `RecordError` where the file cannot be written."""
    if recording is None:
        return []
    new = not recording.path.exists()
    try:
        recording.path.open("ab").close()
        if new:
            # Whether there will be a daemon to write it is not known yet.
            recording.path.unlink()
    except OSError as error:
        raise RecordError(f"{recording.path} cannot be written: {error.strerror}") from None
    limit = [] if recording.limit is None else ["--record-limit", str(recording.limit)]
    return ["--record", str(recording.path), *limit]
