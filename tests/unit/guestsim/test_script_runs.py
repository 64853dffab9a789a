"""Scripts as they run: each expectation can fail, and says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from devmodels.virtio_blk import VirtioBlk
from guestsim.script.load import parse
from guestsim.script.run import Options, ScriptReport, YamlScript, read_scripts
from guestsim.targets.inprocess import InProcessTarget

HEAD = """\
name: x
drives:
  - {driver: file, node-name: d0, size: 1M, content: {pattern: 1}}
devices:
  - {driver: virtio-blk-pci, drive: d0, serial: me}
steps:
  - probe
"""


def run(steps: str, memory: str = "shared") -> ScriptReport:
    return YamlScript(*parse(HEAD + steps, "f")).run(Options(memory=memory))


def test_a_good_script_is_ok(guest_memory: str) -> None:
    report = run(
        "  - read: {at: 4k, length: 4k}\n    expect: {data: {pattern: 1}, interrupts: 1}\n", guest_memory
    )
    assert report.failures == []
    assert [step.did for step in report.steps] == ["probe vd0 with msix", "read 4 KiB at 4 KiB"]
    assert report.steps[1].line == 8
    assert report.memory == guest_memory


def test_only_a_part_of_the_data_may_be_expected() -> None:
    write = "  - write: {at: 512, pattern: 2}\n"
    read = "  - read: {length: 1k}\n    expect: {data: [{length: 512, pattern: 1}, {at: 1023, hex: '02'}]}\n"
    assert run(write + read).failures == []


WRONG = [
    ("read: {}\n    expect: {data: {pattern: 2}}", "data at byte 0: 01 01"),
    ("read: {}\n    expect: {data: [{at: 256, pattern: 2}]}", "data from byte 256 on at byte 0: 01 01"),
    (
        "read: {}\n    expect: {data: [{length: 8, pattern: 1}, {at: 510, length: 4, pattern: 1}]}",
        "2 bytes, expected 4",
    ),
    ("read: {}\n    expect: {data: [{at: 1k, pattern: 1}]}", "no data at byte 1024, expected pattern 0x01"),
    ("read: {}\n    expect: {status: IOERR}", "status OK, expected IOERR"),
    ("read: {}\n    expect: {status: 1}", "status OK, expected 1"),
    ("read: {}\n    expect: {used-length: 512}", "used-length 513, expected 512"),
    ("read: {}\n    expect: {interrupts: 2}", "interrupts 1, expected 2"),
    ("read: {}\n    expect: {interrupts: {least: 2}}", "interrupts 1, expected at least 2"),
    ("read: {}\n    expect: {config-changes: 1}", "config-changes 0, expected 1"),
    (
        "read: {}\n    expect: {violation: VIRTIO 1.4 §2.7}",
        "expected a violation of VIRTIO 1.4 §2.7, none",
    ),
    ("read: {}\n    expect: {error: timeout}", "expected the error timeout, but the step went well"),
    ("read: {}\n    expect: {value: 1}", "value none, expected 0x1"),
    ("read: {}\n    expect: {id: me}", "id None, expected me"),
    ("read: {at: 1M}", "status IOERR, expected OK"),
    ("read: {at: 1M}\n    expect: {status: IOERR}", "violation of VIRTIO 1.4 §5.2.6.1: vd0 queue 0"),
    (
        "read: {at: 1M}\n    expect: {status: IOERR, violation: VIRTIO 1.4 §5.2.6.10}",
        "expected a violation of",
    ),
    ("event: {name: STOP}", "the event STOP"),
    ("stop\n  - event: {name: STOP, data: {action: stop}}", "event STOP: action None, expected 'stop'"),
    ("stop\n  - cont\n  - event: {name: RESUME}\n  - event: {name: STOP}", "the event STOP"),
    ("flush:\n    expect: {data: {pattern: 0}}", "no data, expected pattern 0x00"),
    ("get-id:\n    expect: {id: you}", "id me, expected you"),
    ("get: {register: num_queues}\n    expect: {value: 2}", "value 0x1, expected 0x2"),
    ("get: {register: num_queues}\n    expect: {value: 1, mask: 2}", "value 0x0, expected 0x1"),
    ("config:\n    expect: {config: {capacity: 1}}", "config capacity 2048, expected 1"),
    ("config:\n    expect: {config: {size_max: 1}}", "config size_max None, expected 1"),
    ("probe: {without: [FLUSH]}\n    expect: {features: [FLUSH]}", "feature FLUSH was not negotiated"),
    ("statistics:\n    expect: {statistics: {rd_operations: 1}}", "statistics rd_operations 0, expected 1"),
    ("image: {drive: d0}\n    expect: {data: {pattern: 0}}", "data at byte 0"),
    ("reset:\n    expect: {dropped: 1}", "dropped 0, expected 1"),
    ("wait-for: idle\n    expect: {needs-reset: true}", "needs-reset False, expected True"),
    ("chain: {heads: [300]}\n    expect: {needs-reset: true}", "violation of VIRTIO 1.4 §2.7.13"),
    ("chain: {}\n    expect: {used: [{id: 0, length: 1}]}", "used [], expected [(0, 1)]"),
    ("wait-for: config-change", "a configuration change of vd0"),
    ("together:\n      - flush\n      - read: {at: 1M}\n    expect: {violation: VIRTIO 1.4}", "status IOERR"),
    ("repeat: {times: 2, steps: [{read: {at: 1M}}]}", "steps[1].repeat.steps[0]: status IOERR"),
    ("parallel: [[flush], [{read: {at: 1M}}]]", "steps[1].parallel[1][0]: status IOERR"),
]


@pytest.mark.long
@pytest.mark.parametrize(("step", "message"), WRONG, ids=[step.replace("\n   ", "") for step, _ in WRONG])
def test_an_expectation_that_does_not_hold_is_a_failure(step: str, message: str) -> None:
    report = run(f"  - {step}\n  - flush\n")
    assert not report.ok
    assert any(message in failure for failure in report.failures)
    # The script ends there.
    assert report.steps[-1].did != "flush" or "flush" in step


PLACES = """\
  - get: {register: queue_size}
    queue: 0
    expect: {value: 256}
  - get: {isr: true}
    expect: {value: 0}
  - get: {bar: 4, offset: 0x14, size: 1}
    expect: {value: 15}
  - set: {bar: 4, offset: 0x16, size: 2, value: 0}
  - get: {pci: 0x04, size: 2}
    expect: {value: 6, mask: 6}
  - set: {pci: 0x3c, size: 1, value: 0x5a}
  - get: {address: 0xb002003c, size: 1}
    expect: {value: 0x5a}
  - set: {address: 0xb002003c, size: 1, value: 0xa5}
  - set: {port: 0xcf8, value: 0x8000203c}
  - get: {port: 0xcfc, size: 1}
    expect: {value: 0xa5}
  - set: {config: writeback, value: 0}
  - get: {config: writeback}
    expect: {value: 0}
  - allocate: {name: here, size: 64, align: 64, data: {counting: 0}}
  - poke: {at: here+8, hex: ff ff}
  - poke: {at: here+0x10, length: 4, pattern: 0x77}
  - peek: {at: here, length: 20}
    expect: {data: {hex: 00 00 00 00 01 00 00 00 ff ff 00 00 03 00 00 00 77 77 77 77}}
  - chain: {avail-flags: 0, used-event: 5, notify: false}
"""


def test_every_place_can_be_read_and_written(guest_memory: str) -> None:
    assert run(PLACES, guest_memory).failures == []


def test_what_is_different_elsewhere_is_expected_there_alone() -> None:
    step = "  - read: {}\n    expect: {used-length: 513}\n    on %s: {used-length: 1, because: just so}\n"
    assert run(step % "qemu").ok
    report = run(step % "devmodels")
    assert not report.ok
    assert report.steps[1].difference == "just so"


def test_a_script_for_another_target_is_skipped() -> None:
    text = HEAD.replace("name: x\n", "name: x\ntargets: [qemu]\n")
    report = YamlScript(*parse(text, "f")).run(Options())
    assert report.skipped == "the script is for qemu"
    assert report.ok


def test_the_same_seed_gives_the_same_run() -> None:
    steps = "  - random: {seed: 5, requests: 60, depth: 6, scatter: 4}\n"
    assert run(steps).steps == run(steps).steps


def test_accesses_can_be_listened_to() -> None:
    heard: list[str] = []
    YamlScript(*parse(HEAD + "  - read: {}\n", "f")).run(Options(on_access=heard.append))
    assert any(line.startswith("mem  write") for line in heard)
    assert any(line.startswith("ram  read") for line in heard)
    assert any(line == "interrupt vector 1" for line in heard)


PYTHON = """\
from guestsim.script.python import scripted

@scripted(
    drives=[{"driver": "file", "node-name": "d0", "size": "1M"}],
    devices=[{"driver": "virtio-blk-pci", "drive": "d0"}],
)
def reads_zeroes(world):
    disk = world.disk()
    world.say("now it reads")
    assert disk.read(0, 512) == bytes(512)
    if FAIL == 1:
        assert disk.read(0, 512) == b"x"
    if FAIL == 2:
        disk.read(1 << 20, 512)
    if FAIL == 3:
        try:
            disk.read(1 << 20, 512)
        except Exception:
            pass
    if FAIL == 4:
        try:
            disk.read(1 << 20, 512)
        except Exception:
            assert world.violations()[0][0] == "VIRTIO 1.4 §5.2.6.1"
"""


@pytest.mark.parametrize(
    ("fail", "message"),
    [
        (0, None),
        (1, ':13: reads_zeroes: does not hold: assert disk.read(0, 512) == b"x"'),
        (2, ":15: reads_zeroes: IN failed with IOERR"),
        (3, ":4: reads_zeroes: violation of VIRTIO 1.4 §5.2.6.1"),
        (4, None),
    ],
)
def test_a_python_script(tmp_path: Path, fail: int, message: str | None) -> None:
    path = tmp_path / "x.guest.py"
    path.write_text(f"FAIL = {fail}\n{PYTHON}")
    (script,) = read_scripts(path)
    report = script.run(Options())
    assert "now it reads" in [step.did for step in report.steps]
    assert report.steps[1].answered == "OK, used length 513"
    if message is None:
        assert report.failures == []
    else:
        assert message in report.failures[0]


def fail(*_: object) -> bool:
    raise ZeroDivisionError("by nothing")


@pytest.mark.parametrize("method", ["handle", "load_config"])
def test_a_device_that_raises_is_a_failed_step_with_its_line(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(VirtioBlk, method, fail)
    report = run("  - read: {}\n")
    (failure,) = report.failures
    line = 8 if method == "handle" else 7
    assert failure.startswith(
        f"f:{line}: steps[{line - 7}]: the target raised ZeroDivisionError: by nothing ("
    )
    assert failure.endswith(f"test_script_runs.py:{fail.__code__.co_firstlineno + 1})")


def test_a_machine_that_raises_while_the_guest_waits_is_a_failed_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(InProcessTarget, "advance", fail)
    report = run("  - sleep: 1ms\n")
    assert report.failures[0].startswith("f:8: steps[1]: the target raised ZeroDivisionError: by nothing")


def test_what_a_device_raises_is_no_error_that_a_script_can_expect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VirtioBlk, "handle", fail)
    assert not run("  - read: {}\n    expect: {error: check}\n").ok


def test_violations_of_vcpus_side_by_side_belong_to_the_whole() -> None:
    """Whoever is running when a violation shows need not be who made it."""
    bad = "[{read: {at: 1M}, expect: {status: IOERR}}]"
    step = f"  - parallel: [[flush, flush], {bad}, [flush, flush]]\n"
    report = run(step)
    (failure,) = report.failures
    assert failure.startswith("f:8: steps[1]: violation of VIRTIO 1.4 §5.2.6.1")
    assert run(f"{step}    expect: {{violation: VIRTIO 1.4 §5.2.6.1}}\n").failures == []
