"""A unit test of a disk: a machine, a guest and a probed driver come with the fixture `disk`."""

import pytest

from guestsim.drivers import virtio_blk


@pytest.mark.disk(size="4M", num_queues=2)
def test_what_was_written_is_read_back(disk):
    disk.write(4096, b"\xa5" * 512)
    assert disk.read(4096, 512) == b"\xa5" * 512
    assert disk.interrupts == 2


def test_reading_past_the_end_fails_and_is_reported(disk, machine):
    answer = disk.request(virtio_blk.read(disk.capacity, 512))
    assert answer.status_name == "IOERR"
    assert machine.violations()[0][0] == "VIRTIO 1.4 §5.2.6.1"
