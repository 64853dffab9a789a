"""What a driver does with an HBA and a disk of 1 MiB at its port 0: the same on our devices and on QEMU's."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol

from guestsim.drivers import ahci, ata
from guestsim.drivers.ahci import Ahci
from guestsim.drivers.ahci_layouts import PortIs, PortReg
from guestsim.drivers.ahci_port import AhciPort
from guestsim.drivers.transport import Interrupts
from guestsim.guest import Guest
from guestsim.targets import Target

SIZE = 1 << 20


class Story(Protocol):
    """A test: what a driver does, and what it finds."""

    def __call__(self, port: AhciPort) -> Coroutine[Any, Any, None]: ...


def boot(
    target: Target, interrupts: Interrupts = Interrupts.MSIX, slot: int = 4
) -> tuple[Guest, Ahci, AhciPort]:
    """A guest whose driver has brought up the HBA in `slot`, and its port 0."""
    guest = Guest(target)
    (function,) = [each for each in ahci.find(guest) if each.slot == slot]
    hba = Ahci(guest, function)
    guest.run(hba.probe(interrupts=interrupts))
    return guest, hba, hba.ports[0]


async def identifies(port: AhciPort) -> None:
    """The disk says what it is."""
    assert port.identity is not None
    assert port.identity.sectors == SIZE // 512
    assert port.identity.queue_depth == 32
    assert port.identity.serial == "SN1"
    assert port.read(PortReg.SIG) == 0x101


async def reads_back_by_dma(port: AhciPort) -> None:
    """READ and WRITE DMA, of both lengths of address."""
    for number, (write, read) in enumerate(
        [(ata.write_dma, ata.read_dma), (ata.write_dma_ext, ata.read_dma_ext)]
    ):
        data = bytes([0x51 + number]) * 4096
        answer = await port.do(write(100, data))
        assert answer.ok
        assert answer.moved == 4096
        answer = await port.do(read(100, 8))
        assert (answer.status, answer.error) == (0x50, 0)
        assert answer.data == data
        assert answer.moved == 4096


async def reads_back_by_pio(port: AhciPort) -> None:
    """READ and WRITE SECTORS EXT."""
    data = bytes(range(256)) * 16
    assert (await port.do(ata.write_dma_ext(7, data, pio=True))).ok
    answer = await port.do(ata.read_dma_ext(7, 8, pio=True))
    assert answer.status == 0x50
    assert answer.data == data


async def scatters(port: AhciPort) -> None:
    """Many PRDs of even lengths."""
    data = bytes(range(256)) * 8
    assert (await port.do(ata.write_queued(0, data), pieces=[2, 510, 1000, 24, 512])).ok
    answer = await port.do(ata.read_queued(0, 4), pieces=[1026, 2, 1020])
    assert answer.data == data


async def queues(port: AhciPort) -> None:
    """32 writes with one write to PxCI, then 32 reads."""
    writes = [ata.write_queued(8 * n, bytes([n + 1]) * 4096) for n in range(32)]
    for pending in port.submit(*writes):
        assert (await port.wait(pending)).ok
    for number, pending in enumerate(port.submit(*(ata.read_queued(8 * n, 8) for n in range(32)))):
        answer = await port.wait(pending)
        assert answer.ok
        assert answer.data == bytes([number + 1]) * 4096
    assert not port.read(PortReg.SACT) | port.read(PortReg.CI)


async def flushes_and_sets_features(port: AhciPort) -> None:
    """Commands without data."""
    assert (await port.do(ata.flush())).ok
    for feature, on in ((0x82, False), (0x02, True)):
        assert (await port.do(ata.set_features(feature))).ok
        assert bool((await port.identify()).words[85] & 0x20) is on


async def recovers_from_an_error(port: AhciPort) -> None:
    """An unknown command: TFES, the port halts, PxCI keeps its bit, and recovery works."""
    answer = await port.do(ata.AtaCommand(0xFF))
    assert answer.status & 0x41 == 0x41
    assert answer.error == 0x04
    assert port.failed & PortIs.TFES
    assert port.read(PortReg.CI) == 1
    await port.clear_errors()
    assert port.read(PortReg.CI) == 0
    assert (await port.identify()).sectors == SIZE // 512


async def resets(port: AhciPort) -> None:
    """COMRESET and software reset give the signature again."""
    await port.software_reset()
    assert port.read(PortReg.SIG) == 0x101
    await port.stop()
    await port.comreset()
    await port.start()
    assert not port.read(PortReg.TFD) & 0x89
    assert (await port.identify()).sectors == SIZE // 512


STORIES: dict[str, Story] = {
    story.__name__: story
    for story in (
        identifies,
        reads_back_by_dma,
        reads_back_by_pio,
        scatters,
        queues,
        flushes_and_sets_features,
        recovers_from_an_error,
        resets,
    )
}
