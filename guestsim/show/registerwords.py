"""What the registers of a twin's devices hold, in words."""

from __future__ import annotations

from collections.abc import Callable

from devmodels.pci.capability import Capability
from devmodels.pci.header import Type0Header
from devmodels.registers import Field, Register, RegisterFile
from devmodels.virtio.mmio_modern import MmioRegisters
from devmodels.virtio.pci_modern import CommonConfig
from devmodels.virtio_scsi import VirtioScsi
from guestsim.show import ataregisters, names

_WIDEST_FIELD = 0xFFFF
"""Wider fields are the register itself, but for its lowest bits."""


def isr(value: int) -> str:
    """The ISR status (VIRTIO 1.4 §4.1.4.5)."""
    return names.flags(value, {1: "queue", 2: "configuration"}) or "none"


def words(file: RegisterFile, register: Register) -> names.Words | None:
    """What says in words what a register holds; None: a number."""
    of_ata = ataregisters.words(file, register.name)
    if of_ata is not None:
        return of_ata
    found = _SPECIAL.get(register.name)
    if found is not None and not isinstance(file, (Type0Header, Capability, *ataregisters.FILES_OF_DEVICES)):
        return found(file)
    if register.fields:
        fields = sorted(register.fields, key=lambda field: field.low)
        return lambda value: _fields(file, fields, value)
    return None


def _fields(file: RegisterFile, fields: list[Field], value: int) -> str:
    """The fields that are not 0: a bit by its name, a number with it."""
    shown = []
    for field in fields:
        part = value >> field.low & field.mask
        if part and field.mask <= _WIDEST_FIELD:
            name = ataregisters.field_name(file, field.name)
            shown.append(name if field.mask == 1 else f"{name}={part:#x}")
    return "|".join(shown)


def _features(select: Callable[[RegisterFile], int]) -> Callable[[RegisterFile], names.Words]:
    """Words for 32 feature bits, those that the selector names."""

    def chosen(file: RegisterFile) -> names.Words:
        word = select(file)
        scsi = isinstance(getattr(file, "_device", None), VirtioScsi)
        return lambda value: names.features(value << 32 * word, scsi=scsi) if word < 8 else ""

    return chosen


def _driver_word(file: RegisterFile) -> int:
    if isinstance(file, CommonConfig):
        return file.driver_feature_select
    return file.driver_features_sel if isinstance(file, MmioRegisters) else 0


def _device_word(file: RegisterFile) -> int:
    if isinstance(file, CommonConfig):
        return file.device_feature_select
    return file.device_features_sel if isinstance(file, MmioRegisters) else 0


def _vector(value: int) -> str:
    return "NO_VECTOR" if value == 0xFFFF else ""


_SPECIAL: dict[str, Callable[[RegisterFile], names.Words]] = {
    "device_status": lambda _: names.device_status,
    "status": lambda _: names.device_status,
    "device_feature": _features(_device_word),
    "device_features": _features(_device_word),
    "driver_feature": _features(_driver_word),
    "driver_features": _features(_driver_word),
    "isr_status": lambda _: isr,
    "interrupt_status": lambda _: isr,
    "interrupt_ack": lambda _: isr,
    "queue_msix_vector": lambda _: _vector,
    "config_msix_vector": lambda _: _vector,
}
