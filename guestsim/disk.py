"""A disk for people who write tests: the driver of `guestsim.drivers.virtio_blk`, one plain call at a time.

Every call runs the guest until the answer is there.  Code that runs on a vCPU awaits `disk.driver` instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from guestsim.drivers import virtio_blk

if TYPE_CHECKING:
    from guestsim.drivers.virtio_blk import Answer, Operation, VirtioBlk
    from guestsim.guest import Guest


class Disk:
    """A virtio-blk disk that has been probed, in a guest that stands still between the calls.

    Offsets and lengths are in bytes.  Calls that carry requests raise `RequestError` where the device fails one;
    `request` returns whatever was answered.
    """

    __slots__ = ("driver", "guest")

    def __init__(self, guest: Guest, driver: VirtioBlk) -> None:
        self.guest = guest
        self.driver = driver

    @property
    def capacity(self) -> int:
        """Size in bytes."""
        return self.driver.capacity

    @property
    def config(self) -> dict[str, int]:
        """The device's configuration fields by name."""
        return self.driver.config

    @property
    def features(self) -> frozenset[int]:
        """What was negotiated."""
        return self.driver.device.features

    @property
    def interrupts(self) -> int:
        """How often a queue has interrupted the guest."""
        return self.driver.device.queue_interrupts

    def read(self, offset: int, length: int, *, scatter: int = 1) -> bytes:
        """Read `length` bytes at `offset`, into `scatter` buffers."""
        return self.guest.run(self.driver.read(offset, length, scatter=scatter))

    def write(self, offset: int, data: bytes, *, scatter: int = 1) -> None:
        """Write `data` at `offset`, from `scatter` buffers."""
        self.guest.run(self.driver.write(offset, data, scatter=scatter))

    def flush(self) -> None:
        """Make completed writes stable."""
        self.guest.run(self.driver.flush())

    def discard(self, offset: int, length: int) -> None:
        """Discard a range."""
        self.guest.run(self.driver.discard(offset, length))

    def write_zeroes(self, offset: int, length: int, *, unmap: bool = False) -> None:
        """Zero a range; with `unmap` the device may deallocate it."""
        self.guest.run(self.driver.write_zeroes(offset, length, unmap=unmap))

    def secure_erase(self, offset: int, length: int) -> None:
        """Erase a range for good."""
        self.guest.run(self.driver.secure_erase(offset, length))

    def get_id(self) -> str:
        """The device's identity string."""
        return self.guest.run(self.driver.get_id())

    def get_lifetime(self) -> dict[str, int]:
        """Wear of the storage behind the device, by field name."""
        return self.guest.run(self.driver.get_lifetime())

    def set_write_cache(self, *, on: bool) -> None:
        """Switch between write-back and write-through."""
        self.driver.set_write_cache(on=on)

    def request(self, operation: Operation, *, queue: int | None = None) -> Answer:
        """Carry out one request of `guestsim.drivers.virtio_blk` and return what the device answered."""
        return self.guest.run(self.driver.execute(operation, queue=queue))

    def requests(self, *operations: Operation, queue: int | None = None) -> list[Answer]:
        """Carry out several requests that the device is told of at once."""
        return self.guest.run(self.driver.execute_all(operations, queue=queue))

    def reset(self) -> None:
        """Reset the device and probe it again as it was first."""
        self.guest.run(self.driver.reset())
        self.guest.run(self.driver.probe())


def boot(guest: Guest, index: int = 0) -> Disk:
    """Find the machine's virtio-blk function number `index` and bring it up."""
    driver = virtio_blk.VirtioBlk(guest, virtio_blk.find(guest)[index])
    guest.run(driver.probe())
    return Disk(guest, driver)
