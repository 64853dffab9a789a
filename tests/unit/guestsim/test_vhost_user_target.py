"""Scripts on a vhost-user back end, as a user runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from guestsim.cli import app
from guestsim.drivers import virtio_blk
from guestsim.errors import DisconnectedError
from guestsim.guest import Guest
from guestsim.script.needs import TargetSpecError, parse_target
from guestsim.targets import TargetError
from guestsim.targets.storage_daemon import DEVMODELS_SERVE, DaemonTarget
from guestsim.targets.vhost_device import VhostTransport

from .backends import CONFIG, REPLY_ACK, BackEnd, serving

HEAD = """\
name: {name}
drives: [{{driver: {driver}, node-name: d0, size: {size}{more}}}]
devices: [{{driver: virtio-blk-pci, drive: d0{option}}}]
steps:
  - probe
"""


@pytest.fixture(scope="module")
def back_end(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The socket of a `devmodels serve` with a disk of 1 MiB."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "image").write_bytes(b"\x5a" * (1 << 20))
    node = {"driver": "file", "node-name": "d0", "filename": str(folder / "image")}
    export = (
        f"type=vhost-user-blk,id=e0,node-name=d0,addr.type=unix,addr.path={folder}/s,num-queues=2,writable=on"
    )
    command = [sys.executable, "-m", "devmodels", "serve", "--blockdev", json.dumps(node), "--export", export]
    with subprocess.Popen(command) as process:
        deadline = time.monotonic() + 20
        while not (folder / "s").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        yield str(folder / "s")
        process.terminate()


def script(folder: Path, steps: str = "", **options: str) -> Path:
    given = {"name": "one", "driver": "file", "size": "1M", "more": "", "option": "", **options}
    path = folder / "one.guest.yaml"
    path.write_text(HEAD.format(**given) + steps)
    return path


def run(path: Path, target: str, *options: str) -> Result:
    result = CliRunner().invoke(app, ["run", str(path), "--target", target, *options])
    assert "Traceback" not in result.output
    return result


@pytest.mark.long
def test_a_script_on_a_back_end_that_is_there(tmp_path: Path, back_end: str) -> None:
    steps = (
        "  - read: {at: 4k, length: 4k}\n    expect: {data: {pattern: 0x5a}, used-length: 4097, interrupts: 1}\n"
        "  - random: {seed: 1, requests: 50, depth: 8, scatter: 4, at: 512k}\n    queue: 1\n"
        "  - reset\n  - probe: {interrupts: polling}\n  - read\n"
        "  - probe: {interrupts: intx}\n  - parallel: [[{read: {at: 0}}], [{read: {at: 512}}]]\n"
    )
    result = run(
        script(tmp_path, steps.replace("  - read\n", "  - read: {at: 0}\n")),
        f"vhost-user:{back_end}",
        "--json",
    )
    assert result.exit_code == 0, result.output
    (report,) = json.loads(result.stdout)
    assert (report["target"], report["memory"]) == (f"vhost-user:{back_end}", None)
    assert all(step["ok"] for step in report["steps"])


def test_a_back_end_is_served_again_and_again(tmp_path: Path, back_end: str) -> None:
    path = script(tmp_path, "  - write-cache: {on: false}\n    expect: {value: 0}\n  - flush\n")
    for _ in range(3):
        assert run(path, f"vhost-user:{back_end}", "-q").exit_code == 0


@pytest.mark.parametrize(
    ("steps", "options", "reason"),
    [
        ("", {"size": "2M"}, "needs a disk of 2097152 bytes, and the back end's has 1048576"),
        ("", {"more": ", content: {pattern: 1}"}, "needs a drive with content of the script's own"),
        ("", {"driver": "null-co"}, "needs a drive of its own, with the driver null-co"),
        ("", {"option": ", serial: mine"}, "needs the device option serial, which is the export's matter"),
        ("", {"option": ", num-queues: 3"}, "needs 3 queues, and the back end has fewer"),
        ("  - set: {register: queue_size, value: 1}\n", {}, "needs registers"),
        ("  - probe: {legacy: true}\n", {}, "needs a legacy interface beside the modern one"),
        ("  - notify\n", {}, "needs notification registers"),
        ("  - resize: {drive: d0, to: 2M}\n", {}, "needs a host that resizes drives"),
        ("  - stop\n  - cont\n", {}, "needs a host that stops the machine and is told events"),
        ("  - event: {name: STOP}\n", {}, "needs a host that stops the machine and is told events"),
        ("  - repeat: {times: 2, steps: [{notify: {queue: 0}}]}\n", {}, "needs notification registers"),
        (
            "  - probe:\n    expect: {features: [SECURE_ERASE]}\n",
            {},
            "needs SECURE_ERASE, which the back end doesn't offer",
        ),
    ],
)
def test_what_a_back_end_lacks_is_told(
    tmp_path: Path, back_end: str, steps: str, options: dict[str, str], reason: str
) -> None:
    result = run(script(tmp_path, steps, **options), f"vhost-user:{back_end}", "-q")
    assert result.exit_code == 0
    assert reason in " ".join(result.stdout.split())
    assert "0 of 0 scripts as expected, 1 skipped" in result.stdout


def test_steps_that_only_look_are_left_out(tmp_path: Path, back_end: str) -> None:
    steps = (
        "  - statistics\n    expect: {statistics: {rd_operations: 7}}\n"
        "  - get: {register: queue_size}\n    expect: {value: 1}\n"
        "  - get: {config: capacity}\n    expect: {value: 2048}\n"
        "  - get: {register: device_status}\n    expect: {value: 15}\n"
    ).replace("- statistics\n", "- statistics:\n")
    result = run(script(tmp_path, steps), f"vhost-user:{back_end}", "--json")
    assert result.exit_code == 0, result.output
    (report,) = json.loads(result.stdout)
    assert [step["skipped"] for step in report["steps"]] == [
        None,
        "the host's statistics",
        "registers",
        None,
        None,
    ]


def test_what_differs_there_is_said_beside_the_expectation(tmp_path: Path, back_end: str) -> None:
    steps = (
        "  - get-id:\n    expect: {id: mine}\n"
        "    on vhost-user: {id: devmodels, because: it has its maker's name}\n"
        "    on qemu-storage-daemon: {id: vhost_user_blk, because: that one as well}\n"
    )
    path = script(tmp_path, steps)
    result = run(path, f"vhost-user:{back_end}")
    assert result.exit_code == 0
    assert "differs here: it has its maker's name" in result.stdout
    assert "id devmodels, expected vhost_user_blk" in run(path, f"qemu-storage-daemon:{back_end}").stdout


def test_nobody_listens(tmp_path: Path) -> None:
    result = run(script(tmp_path), f"vhost-user:{tmp_path}/none", "-q")
    assert result.exit_code == 1
    assert f"vhost-user:{tmp_path}/none: cannot connect: No such file or directory" in "".join(
        result.stdout.splitlines()
    )


def test_a_back_end_without_a_configuration_space_is_no_disk(tmp_path: Path) -> None:
    with serving(tmp_path / "s", lambda back: back.introduce(REPLY_ACK)):
        result = run(script(tmp_path), f"vhost-user:{tmp_path}/s", "-q")
    assert result.exit_code == 1
    assert "the back end has no protocol feature CONFIG" in " ".join(result.stdout.split())


def test_a_back_end_that_dies_is_one_line(tmp_path: Path) -> None:
    def behave(back: BackEnd) -> None:
        back.introduce(REPLY_ACK | CONFIG)
        back.take()

    path = script(tmp_path)
    path.write_text(
        path.read_text().replace(", size: 1M", "").replace("drives: [{driver: file, node-name: d0}]\n", "")
    )
    with serving(tmp_path / "s", behave):
        result = run(path, f"vhost-user:{tmp_path}/s", "-q")
    assert result.exit_code == 1
    assert "the back end closed the connection instead of answering" in " ".join(result.stdout.split())


@pytest.mark.long
def test_a_daemon_that_is_killed_at_work(tmp_path: Path) -> None:
    target = DaemonTarget(
        DEVMODELS_SERVE,
        blockdevs=[{"driver": "null-co", "node-name": "d0", "size": 1 << 20, "latency-ns": 5_000_000_000}],
        devices=[{"driver": "virtio-blk-pci", "id": "vd0", "drive": "d0"}],
        name="vhost-user",
    )
    guest = Guest(target)
    driver = virtio_blk.VirtioBlk(guest, VhostTransport(guest, target, "vd0"))
    guest.run(driver.probe())
    (pending,) = guest.run(driver.submit([virtio_blk.read(0, 512)]))
    os.kill(target.pid, signal.SIGKILL)
    begun = time.monotonic()
    with pytest.raises(DisconnectedError, match=r"export vd0: the back end closed .* signal 9 \(Killed\)"):
        guest.run(driver.finish(pending))
    with pytest.raises(TargetError, match="cannot connect: Connection refused"):
        guest.run(driver.reset())
    assert time.monotonic() - begun < 5
    with pytest.raises(TargetError, match="ended by signal 9"):
        target.close()
    target.close()


@pytest.mark.long
def test_a_daemon_of_the_scripts_own(tmp_path: Path) -> None:
    steps = (
        "  - read: {at: 0}\n    expect: {data: {pattern: 7}}\n  - write: {at: 512k, pattern: 9}\n"
        "  - image: {drive: d0, at: 512k, length: 512}\n    expect: {data: {pattern: 9}}\n"
    )
    path = script(tmp_path, steps, more=", content: {pattern: 7}")
    assert run(path, "vhost-user").exit_code == 0


@pytest.mark.long
def test_a_daemon_that_refuses_its_options_has_the_last_word(tmp_path: Path) -> None:
    path = script(tmp_path, more=", aio: magic")
    result = run(path, "vhost-user", "-q")
    assert result.exit_code == 1
    text = " ".join(result.stdout.split())
    assert "devmodels serve exited with status 2" in text
    assert "aio" in text


@pytest.mark.long
def test_targets_by_name() -> None:
    assert str(parse_target("vhost-user:/a:b")) == "vhost-user:/a:b"
    for text in ("", "vhost", "vhost-user:", "qemu:/s", "devmodels:"):
        with pytest.raises(TargetSpecError):
            parse_target(text)
