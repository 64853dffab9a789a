"""What a driver does with a CD drive at port 0 of an HBA: the same on ours and on QEMU's.

The disc is of 512 blocks of 2048 bytes; each of its sectors of 512 bytes holds its own number.
"""

from __future__ import annotations

from guestsim.drivers import ata, cdb, mmc_cdb
from guestsim.drivers.ahci_command import Answer
from guestsim.drivers.ahci_layouts import D2H, D2H_FIS, PIO_SETUP, Cmd, PortIs, PortReg
from guestsim.drivers.ahci_port import AhciPort

from .stories import Story

BLOCK, BLOCKS = 2048, 512
COMPLETED, TO_HOST = 3, 2
"""Interrupt reasons."""


def block(number: int) -> bytes:
    """What a block of the disc holds."""
    return b"".join(f"sector {at:8} ".encode() * 32 for at in range(4 * number, 4 * number + 4))


async def send(
    port: AhciPort, command: cdb.Cdb, *, dma: bool = True, out: bytes = b"", limit: int = ata.BLOCK_LIMIT
) -> Answer:
    """A packet; an error is recovered from."""
    packet = ata.packet(command.data, room=command.room, out=out, dma=dma, limit=limit)
    answer = await port.do(packet, pieces=[command.room + command.room % 2] if command.room else None)
    if not answer.ok:
        assert port.failed & PortIs.TFES
        await port.clear_errors()
    return answer


async def sense(port: AhciPort) -> tuple[int, int, int]:
    """Sense key and additional sense code, as REQUEST SENSE has them."""
    answer = await send(port, cdb.request_sense(allocation=18))
    assert answer.ok
    return answer.data[2] & 0xF, answer.data[12], answer.data[13]


async def awake(port: AhciPort) -> None:
    """Whatever there is to tell has been told."""
    for _ in range(3):
        if (await send(port, cdb.test_unit_ready())).ok:
            return
        await sense(port)


async def says_what_it_is(port: AhciPort) -> None:
    """The signature, IDENTIFY PACKET DEVICE; IDENTIFY DEVICE is refused."""
    assert port.read(PortReg.SIG) == 0xEB14_0101
    assert port.identity is not None
    assert port.identity.words[0] >> 8 == 0x85
    assert port.identity.words[0] & 3 == 0
    assert port.identity.serial == "SN2"
    assert port.read(PortReg.CMD) & Cmd.ATAPI
    answer = await port.do(ata.identify())
    assert not answer.ok
    assert answer.error & 4
    await port.clear_errors()


async def tells_of_its_reset(port: AhciPort) -> None:
    """The first command that wants the medium hears of it, and REQUEST SENSE why."""
    answer = await send(port, cdb.test_unit_ready())
    assert (answer.ok, answer.sense_key, answer.count) == (False, 6, COMPLETED)
    assert await sense(port) == (6, 0x29, 0)
    await awake(port)
    assert (await send(port, cdb.test_unit_ready())).status == 0x50


async def reads_by_dma(port: AhciPort) -> None:
    """READ (10) and what says how long it may be."""
    await awake(port)
    answer = await send(port, cdb.read_capacity_10())
    assert answer.data == (BLOCKS - 1).to_bytes(4, "big") + BLOCK.to_bytes(4, "big")
    answer = await send(port, cdb.read_10(lba=7, blocks=3, block=BLOCK))
    assert (answer.status, answer.count, answer.moved) == (0x50, COMPLETED, 3 * BLOCK)
    assert answer.data == block(7) + block(8) + block(9)
    (pending,) = port.submit(
        ata.packet(cdb.read_12(lba=1, blocks=2, block=BLOCK).data, room=2 * BLOCK),
        pieces=[2, 2046, 1000, 1048],
    )
    assert (await port.wait(pending)).data == block(1) + block(2)


async def reads_by_pio(port: AhciPort) -> None:
    """Data in DRQ data blocks; the command ends with a FIS of its own."""
    await awake(port)
    answer = await send(port, cdb.read_10(lba=4, blocks=2, block=BLOCK), dma=False, limit=BLOCK)
    assert (answer.status, answer.count) == (0x50, COMPLETED)
    assert answer.data == block(4) + block(5)
    setup = port.guest.memory.read(port.received + PIO_SETUP, 20)
    assert (setup[0], setup[1] & 0x40) == (0x5F, 0x40)
    assert int.from_bytes(setup[16:18], "little") == BLOCK
    assert setup[3] == 0
    end = D2H_FIS.unpack(port.guest.memory.read(port.received + D2H, D2H_FIS.size))
    assert (end["type"], end["status"], end["count"]) == (0x34, 0x50, COMPLETED)


async def gives_less_than_there_is_room_for(port: AhciPort) -> None:
    """Less than the 200 bytes that are allowed: PRDBC says so."""
    for dma in (True, False):
        answer = await send(port, cdb.inquiry(allocation=200), dma=dma)
        assert answer.ok
        length = answer.data[4] + 5
        assert answer.moved == length
        assert answer.data[0] & 0x1F == 5
        assert set(answer.data[length:]) <= {0xDB}


async def asks_for_an_odd_number_of_bytes(port: AhciPort) -> None:
    """35 bytes of INQUIRY data."""
    for dma in (True, False):
        answer = await send(port, cdb.inquiry(allocation=35), dma=dma)
        assert answer.ok
        assert answer.data[0] & 0x1F == 5


async def fails_and_goes_on(port: AhciPort) -> None:
    """Beyond the end of the disc: sense data, and the next command is done."""
    await awake(port)
    answer = await send(port, cdb.read_10(lba=BLOCKS, blocks=1, block=BLOCK))
    assert (answer.ok, answer.sense_key) == (False, 5)
    assert await sense(port) == (5, 0x21, 0)
    assert (await send(port, cdb.read_10(lba=0, blocks=1, block=BLOCK))).data == block(0)


async def is_locked_and_ejects(port: AhciPort) -> None:
    """PREVENT ALLOW MEDIUM REMOVAL, START STOP UNIT, GET EVENT STATUS NOTIFICATION."""
    await awake(port)
    await send(port, mmc_cdb.get_event_status())
    assert (await send(port, cdb.prevent_allow(prevent=1))).ok
    answer = await send(port, cdb.start_stop_unit(start=0, loej=1))
    assert not answer.ok
    assert (await sense(port))[1] == 0x53
    assert (await send(port, cdb.prevent_allow(prevent=0))).ok
    assert (await send(port, cdb.start_stop_unit(start=0, loej=1))).ok
    answer = await send(port, cdb.test_unit_ready())
    assert answer.sense_key == 2
    assert (await sense(port))[1] == 0x3A
    assert (await send(port, cdb.start_stop_unit(start=1, loej=1))).ok
    await awake(port)
    assert (await send(port, cdb.read_10(lba=1, blocks=1, block=BLOCK))).data == block(1)


async def takes_parameters(port: AhciPort) -> None:
    """MODE SELECT (10) of the error recovery page, by both ways."""
    await awake(port)
    answer = await send(port, cdb.mode_sense_10(page=1, allocation=20))
    parameters = b"\0" * 8 + bytes((answer.data[8] & 0x3F,)) + answer.data[9:20]
    for dma in (True, False):
        select = cdb.mode_select_10(length=len(parameters))
        answer = await send(port, select, out=parameters, dma=dma)
        assert answer.ok
        assert (answer.count, answer.moved) == (COMPLETED, len(parameters))


async def is_reset(port: AhciPort) -> None:
    """COMRESET, software reset and DEVICE RESET show the signature."""
    await port.software_reset()
    assert port.read(PortReg.SIG) == 0xEB14_0101
    await port.stop()
    await port.comreset()
    await port.start()
    assert port.read(PortReg.SIG) == 0xEB14_0101
    await awake(port)
    assert (await send(port, cdb.read_10(lba=0, blocks=1, block=BLOCK))).data == block(0)


async def does_what_needs_no_packet(port: AhciPort) -> None:
    """DEVICE RESET, EXECUTE DEVICE DIAGNOSTIC, power modes."""
    for opcode in (0x08, 0x90):
        answer = await port.do(ata.AtaCommand(opcode))
        assert (answer.error, answer.count, answer.lba & 0xFF_FFFF) == (1, 1, 0xEB_1401)
    await awake(port)
    for opcode in (0xE0, 0xE1, 0xE5, 0xE6):
        answer = await port.do(ata.AtaCommand(opcode))
        assert answer.ok
        assert opcode != 0xE5 or answer.count == 0xFF
    answer = await port.do(ata.set_features(0x03, 0x45))
    assert answer.ok
    assert (await port.identify()).words[88] >> 8 == 1 << 5


STORIES: dict[str, Story] = {
    story.__name__: story
    for story in (
        says_what_it_is,
        reads_by_dma,
        reads_by_pio,
        gives_less_than_there_is_room_for,
        asks_for_an_odd_number_of_bytes,
        fails_and_goes_on,
        is_locked_and_ejects,
        is_reset,
    )
}
OURS: dict[str, Story] = {
    story.__name__: story for story in (tells_of_its_reset, takes_parameters, does_what_needs_no_packet)
}
"""QEMU's drive has no unit attention after a reset, and no MODE SELECT."""
