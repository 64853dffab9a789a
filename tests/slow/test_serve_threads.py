"""`devmodels serve` with iothreads, as a process of its own: a guest works, with its queues on two threads."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from guestsim.drivers.virtio_blk import VirtioBlk
from guestsim.guest import Guest
from guestsim.targets.vhost_device import VhostTransport
from guestsim.targets.vhost_user import VhostUserTarget
from guestsim.workload import Workload, run

QUEUES = 4
PART = 64 << 10
MORE = f"writable=on,num-queues={QUEUES},iothread-vq-mapping.0.iothread=t0,iothread-vq-mapping.1.iothread=t1"

pytestmark = pytest.mark.slow


def test_a_guest_works_and_the_daemon_ends_in_peace(tmp_path: Path) -> None:
    path = tmp_path / "e0.sock"
    command = [
        *(sys.executable, "-m", "devmodels", "serve", "--strict"),
        *("--object", "iothread,id=t0", "--object", "iothread,id=t1,poll-max-ns=0"),
        *("--blockdev", f"driver=memory,node-name=d0,size={QUEUES * PART}"),
        "--export",
        f"type=vhost-user-blk,id=e0,node-name=d0,addr.type=unix,addr.path={path},{MORE}",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 20
            while not path.exists():
                assert process.poll() is None, process.stderr and process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.005)  # another process's start: nothing to wait on
            with VhostUserTarget({"vd0": str(path)}) as target:
                work(target)
            process.terminate()
            assert process.wait(10) == 0
            assert process.stderr is not None
            assert process.stderr.read() == ""
        finally:
            process.kill()


def work(target: VhostUserTarget) -> None:
    """Requests at random on every queue at once, then one more round after a reset."""
    guest = Guest(target)
    driver = VirtioBlk(guest, VhostTransport(guest, target, "vd0", queue_size=64, packed=True))
    for seed in range(2):
        guest.run(driver.probe())
        assert len(driver.queues) == QUEUES
        cpus = [
            guest.start(
                run(driver, Workload(queue * PART, PART, requests=400, seed=seed + queue, depth=4, scatter=3))
            )
            for queue in range(QUEUES)
        ]
        guest.run(guest.wait_until(lambda cpus=cpus: all(cpu.finished for cpu in cpus), "the vCPUs"))  # type: ignore[misc]
        for cpu in cpus:
            assert sum(cpu.result().values()) == 400
    guest.close()
