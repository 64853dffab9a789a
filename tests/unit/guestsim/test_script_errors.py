"""What is wrong with a script is one line: file, line, place, what was given and what was expected."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guestsim.script.load import ScriptError, load, parse
from guestsim.script.run import Options, YamlScript, read_scripts

HEAD = "name: x\ndrives:\n  - {driver: file, node-name: d0, size: 1M}\ndevices: [{driver: virtio-blk-pci, drive: d0}]\n"

CASES = [
    ("- 1\n", "f:1: expected a mapping"),
    ("name: [\n", "f:2: not YAML"),
    ("name: x\nname: y\nsteps: []\n", "f:2: not YAML: while constructing a mapping found duplicate key"),
    (
        "name: x\n? [{a: 1}]\n: 2\nsteps: []\n",
        "f:2: not YAML: while constructing a mapping found a key that has a mapping or a list in it",
    ),
    ("name: 3\nsteps: []\n", "f:1: name: given number, expected text"),
    ("name: x\n", "f:1: steps is missing"),
    ("name: x\nstepps: []\n", "f:2: unknown key 'stepps', expected one of name, machine"),
    (
        "name: x\nsteps:\n  - probe\n  - red: {}\n",
        "f:4: steps[1]: unknown key 'red', expected one of probe, read",
    ),
    ("name: x\nsteps:\n  - read: {at: 4q}\n", "f:3: steps[0].read.at: '4q', expected a number of bytes"),
    (
        "name: x\nsteps:\n  - read:\n      lenth: 4\n",
        "f:4: steps[0].read: unknown key 'lenth', expected one of at",
    ),
    (
        "name: x\nsteps:\n  - read: {}\n    write: {pattern: 1}\n",
        "f:3: steps[0]: read and write, expected one action",
    ),
    ("name: x\nsteps:\n  - note: hm\n", "f:3: steps[0]: no action, expected one action"),
    (
        "name: x\nsteps:\n  - read: {}\n    expect: {data: [{at: 0, lenth: 1}]}\n",
        "f:4: steps[0].expect.data[0]: unknown key 'lenth', expected one of pattern, counting, random, hex, at, length",
    ),
    ("name: x\nsteps:\n  - write: {at: 0}\n", "f:3: steps[0].write: no data, expected one of pattern"),
    (
        "name: x\nsteps:\n  - flush:\n    expect:\n      status: FINE\n",
        "f:5: steps[0].expect.status: given 'FINE', expected one of OK, IOERR, UNSUPP",
    ),
    (
        "name: x\nsteps:\n  - flush:\n    on qemu: {status: IOERR}\n",
        "f:4: steps[0].on qemu: because is missing",
    ),
    (
        "name: x\nsteps:\n  - probe: {features: [WARP]}\n",
        "f:3: steps[0].probe: feature 'WARP', expected a number or one of",
    ),
    (
        "name: x\nsteps:\n  - get: {register: queue_sise}\n",
        "f:3: steps[0].get: register 'queue_sise', expected one of device_feature_select",
    ),
    (
        "name: x\nsteps:\n  - get: {port: 1, pci: 2}\n",
        "f:3: steps[0].get: pci and port, expected one of register",
    ),
    (
        "name: x\nsteps:\n  - request: {type: PLAY}\n",
        "f:3: steps[0].request: type 'PLAY', expected a number or one of IN",
    ),
    (
        "name: x\ntargets: [bochs]\nsteps: []\n",
        "f:2: targets[0]: given 'bochs', expected one of devmodels, qemu",
    ),
    (
        "name: x\nmachine: {clock: sundial}\nsteps: []\n",
        "f:2: machine.clock: given 'sundial', expected one of",
    ),
    (
        "name: x\nsteps:\n  - together:\n      - flush:\n        expect: {interrupts: 1}\n",
        "f:3: steps[0]: violation and interrupts, expected beside the whole step",
    ),
    (
        "name: x\nsteps:\n  - repeat:\n      times: 2\n      steps:\n        - flush\n        - read: {at: []}\n",
        "f:7: steps[0].repeat.steps[1].read.at: [], expected a number of bytes",
    ),
    (
        "name: x\nsteps:\n  - parallel:\n      - - flush\n      - - reed\n",
        "f:5: steps[0].parallel[1][0]: given text, expected mapping",
    ),
]

RANGES = [
    ("read: {scatter: 0}", "read.scatter: 0, expected a number >= 1"),
    ("write: {pattern: 1, scatter: -1}", "write.scatter: -1, expected a number >= 1"),
    ("write: {pattern: 1, length: 1T}", "write.length: '1T', expected a number of bytes up to 1G"),
    ("write: {pattern: 256}", "write: pattern 0x100, expected 0 to 0xff"),
    ("discard: {length: 4T}", "discard: length 4398046511104, expected at most 32 bits of sectors"),
    (
        "image: {drive: d0, at: 0x8000000000000000}",
        "image.at: 9223372036854775808, expected a number of bytes below",
    ),
    ("allocate: {name: a, size: 0}", "allocate: size 0, expected at least 1"),
    ("allocate: {name: a, size: 1, align: 0}", "allocate.align: 0, expected a number >= 1"),
    ("allocate: {name: a, size: 1, align: 3}", "allocate: align 3, expected a power of two"),
    ("allocate: {name: a+1, size: 1}", "allocate: name 'a+1', expected a word without '+'"),
    ("random: {depth: 0}", "random.depth: 0, expected a number >= 1"),
    ("random: {requests: -1}", "random.requests: -1, expected a number >= 0"),
    ("random: {max-length: 100}", "random: max-length 100, expected a multiple of 512"),
    ("random: {length: 0}", "random: length 0, expected a multiple of 512"),
    ("random: {mix: {read: -1}}", "random.mix.read: -1, expected a number >= 0"),
    ("random: {mix: {read: 0, write: 0}}", "random.mix: every weight is 0, expected one above 0"),
    ("repeat: {times: -1, steps: []}", "repeat.times: -1, expected a number >= 0"),
    ("probe: {queues: 0}", "probe.queues: 0, expected a number >= 1"),
    ("probe: {queue-size: 65536}", "probe: queue-size 65536, expected 1 to 32768"),
    ("reset-queue: {size: 40000}", "reset-queue: size 40000, expected 1 to 32768"),
    ("probe: {force: [128]}", "probe.force[0]: 128, expected a number <= 127"),
    ("probe: {without: [-1]}", "probe.without[0]: -1, expected a number >= 0"),
    ("set: {register: device_status, value: 256}", "set: value 0x100, expected at most 8 bits"),
    ("set: {config: writeback, value: 256}", "set: value 0x100, expected at most 8 bits"),
    ("set: {bar: 4, size: 2, value: 65536}", "set: value 0x10000, expected at most 16 bits"),
    ("set: {isr: true, value: -1}", "set.value: -1, expected a number >= 0"),
    ("get: {bar: 6}", "get.bar: 6, expected a number <= 5"),
    ("get: {pci: 4096}", "get.pci: 4096, expected a number <= 4095"),
    ("get: {pci: 4094}", "get: pci 0xffe with 4 bytes, expected an end at 0x1000 or before"),
    ("get: {port: 0xffff, size: 2}", "get: port 0xffff with 2 bytes, expected an end at 0x10000 or before"),
    ("get: {port: 0, size: 8}", "get: size 8 for a port, expected 1, 2 or 4"),
    ("notify: {queue: 65536}", "notify.queue: 65536, expected a number <= 65535"),
    ("notify: {value: 65536}", "notify: value 0x10000, expected at most 16 bits"),
    ("chain: {heads: [65536]}", "chain.heads[0]: 65536, expected a number <= 65535"),
    ("chain: {descriptors: [{next: 65536}]}", "chain.descriptors[0].next: 65536, expected a number <= 65535"),
    ("chain: {descriptors: [{index: -1}]}", "chain.descriptors[0].index: -1, expected a number >= 0"),
    ("chain: {descriptors: [{at: a+b}]}", "chain.descriptors[0]: at 'a+b', expected an address, a name, or"),
    ("peek: {at: -1, length: 1}", "peek: at -1, expected 64 bits"),
    ("peek: {at: a+0x, length: 1}", "peek: at 'a+0x', expected an address, a name, or name+number"),
    ("request: {type: 0x100000000}", "request.type: 4294967296, expected a number <= 4294967295"),
    (
        "request: {type: IN, sector: 0x10000000000000000}",
        "request: sector 0x10000000000000000, expected at most 64",
    ),
    ("request: {type: IN, header: -1}", "request.header: -1, expected a number >= 0"),
    ("flush:\n    queue: -1", "queue: -1, expected a number >= 0"),
]


BLIND = [
    ("parallel: [[{flush: {}, expect: {violation: V}}]]", "violation, expected beside the whole of parallel"),
    ("get: {isr: true}\n    expect: {status: OK}", "status of get, expected it beside a request"),
    ("random: {}\n    expect: {status: IOERR}", "status of random, expected it beside a request"),
    ("get: {isr: true}\n    expect: {mask: 1}", "mask without value, expected both"),
    ("read: {}\n    expect: {error: dropped, status: OK}", "status beside error, expected violation alone"),
    (
        "read: {}\n    expect: {error: dropped, interrupts: 1}",
        "interrupts beside error, expected violation alone",
    ),
    ("chain: {notify: false}\n    expect: {used: []}", "used of a chain that nobody is notified of"),
]


@pytest.mark.parametrize(("step", "message"), BLIND, ids=[message for _, message in BLIND])
def test_an_expectation_that_nobody_would_look_at_is_refused(step: str, message: str) -> None:
    line = complaint(f"name: x\nsteps:\n  - {step}\n")
    assert line.startswith(f"f:3: steps[0]: {message}")


def test_expectations_of_submitted_requests_need_somebody_who_waits() -> None:
    text = "name: x\nsteps:\n  - submit:\n      - read: {}\n        expect: {status: IOERR}\n"
    assert "expect inside submit, expected a later wait-for: answers" in complaint(text)
    assert complaint(f"{text}  - wait-for: answers\n") == "f: good"


@pytest.mark.parametrize(("step", "message"), RANGES, ids=[message for _, message in RANGES])
def test_a_number_out_of_range_is_told_in_one_line(step: str, message: str) -> None:
    line = complaint(f"name: x\nsteps:\n  - {step}\n")
    assert line.startswith(f"f:{2 + step.count(chr(10)) + 1}: steps[0]")
    assert message in line


def test_memory_has_its_bounds() -> None:
    for ram in ("16M", "17000001", "4G"):
        line = complaint(f"name: x\nmachine: {{ram: {ram}}}\nsteps: []\n")
        assert line.startswith("f:2: machine: ram ")
        assert line.endswith("expected a multiple of 4096 above 16777216 and up to 2952790016")


@pytest.mark.parametrize(("text", "message"), CASES, ids=[message for _, message in CASES])
def test_a_mistake_is_told_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ScriptError) as caught:
        parse(text, "f")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


RUNNING = [
    ("name: x\ndrives: [{driver: file}]\nsteps: []\n", "f:2: drives[0]: node-name is missing"),
    (
        "name: x\ndrives:\n  - {driver: file, node-name: d}\nsteps: []\n",
        "f:3: drives[0]: a file drive without",
    ),
    (
        "name: x\ndrives:\n  - {driver: memory, node-name: d, size: 4q}\nsteps: []\n",
        "f:3: drives[0]: size '4q', expected a number of bytes",
    ),
    (
        "name: x\ndevices:\n  - {driver: virtio-blk-pci,\n     addr: zz}\nsteps: []\n",
        "f:4: devices[0]: addr 'zz', expected a hexadecimal slot",
    ),
]


RUNNING += [
    (
        HEAD.replace("drive: d0}", "drive: d0, wings: 2}") + "steps: []\n",
        "f:4: devices[0]: device virtio-blk-pci",
    ),
    (HEAD.replace("virtio-blk-pci", "floppy") + "steps: []\n", "f:4: devices[0]: device driver 'floppy'"),
    (
        HEAD.replace("drive: d0", "drive: d7") + "steps: []\n",
        "f:4: devices[0]: device virtio-blk-pci: no drive 'd7'",
    ),
    (HEAD.replace("driver: file", "driver: tape") + "steps: []\n", "f:3: drives[0]: "),
    (HEAD.replace("1M}", "1M, cash: 2}") + "steps: []\n", "f:3: drives[0]: "),
    (
        HEAD.replace("1M}", "4E}") + "steps: []\n",
        "f:3: drives[0]: a file drive without filename: '4E', expected",
    ),
    (
        HEAD.replace("1M}", "4000000T}") + "steps: []\n",
        "f:3: drives[0]: size 4398046511104000000: File too large",
    ),
    (
        HEAD.replace("1M}", "1M, content: {at: 2M, pattern: 1}}") + "steps: []\n",
        "f:3: drives[0]: content of -1048576 bytes at 2097152, expected a part of 1048576",
    ),
]


def test_nesting_without_end_is_told() -> None:
    assert complaint("name: x\nsteps: " + "[" * 500).startswith("f:1: nested too deeply")


def test_aliases_that_multiply_are_told() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert complaint("\n".join(lines)).startswith("f:1: more than 1000000 values")
    assert "steps" in complaint("name: x\nsteps: &s [probe, {repeat: {times: 1, steps: *s}}]\n")


@pytest.mark.parametrize(("text", "message"), RUNNING, ids=[message for _, message in RUNNING])
def test_a_mistake_about_drives_and_devices_is_told_when_the_script_runs(text: str, message: str) -> None:
    with pytest.raises(ScriptError) as caught:
        YamlScript(*parse(text, "f")).run(Options())
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


FAILING = [
    ("probe: {}\n    device: vd9", "no device 'vd9', expected one of vd0"),
    ("read: {}", "the device has not been probed"),
    ("peek: {at: nowhere, length: 1}", "no memory is called 'nowhere', expected one of none"),
    ("resize: {drive: d0, to: 1}", "resize of d0 to 1: [Errno 22]"),
    ("resize: {drive: d9, to: 1M}", "no device uses a node 'd9'"),
    ("image: {drive: d9}", "drive 'd9' has no file of the script's own"),
    ("submit:\n      - probe", "probe is no request, expected one of read"),
    ("allocate: {name: a, size: 1}\n  - allocate: {name: a, size: 1}", "memory 'a' exists already"),
    ("poke: {at: 0x200000, pattern: 1}", "poke: expected a length"),
    ("get: {bar: 5}", "the function has no BAR 5"),
    ("probe:\n  - chain: {queue: 3}", "queue 3 is not set up, expected one of [0]"),
    ("probe:\n  - reset-queue: {queue: 3}", "queue 3 is not set up, expected one of [0]"),
    ("peek: {at: 0xfffffff000000000, length: 1}", "no memory at 0xfffffff000000000 for 1 bytes"),
    ("peek: {at: 0x3fffff0, length: 17}", "no memory at 0x3fffff0 for 17 bytes"),
    ("poke: {at: 0xe0000000, hex: ff}", "no memory at 0xe0000000 for 1 bytes"),
    ("table: {at: 0x3fffff0, descriptors: [{index: 1}]}", "no memory at 0x3fffff0 for 32 bytes"),
    ("probe:\n  - random: {at: 2M}", "-1048576 bytes at 2097152, expected a part of 1048576 bytes"),
    ("probe:\n  - random: {at: 512k, length: 1M}", "1048576 bytes at 524288, expected a part of 1048576"),
    ("probe: {without: [FLUSH]}\n  - random: {mix: {read: 0, write: 0, flush: 1}}", "no request of the mix"),
    ("random: {}", "the device has not been probed"),
    ("read: {at: 1}", "offset 1 is not a multiple of 512"),
    ("request: {type: IN, writable: 5, writable-split: [4]}", "a split of [4] for 5 bytes"),
    ("probe: {queue-size: 4}\n  - read: {length: 1k, scatter: 9}", "a chain of 11 segments for a queue of 4"),
    ("write-cache: {on: true}", "CONFIG_WCE was not negotiated"),
]


@pytest.mark.parametrize(("step", "message"), FAILING, ids=[message for _, message in FAILING])
def test_a_step_that_cannot_be_is_a_failure_with_its_reason(step: str, message: str) -> None:
    report = YamlScript(*parse(f"{HEAD}steps:\n  - {step}\n", "f")).run(Options())
    assert not report.ok
    assert message in report.failures[0]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match="cannot be read"):
        load(tmp_path / "missing.guest.yaml")
    latin = tmp_path / "latin.guest.yaml"
    latin.write_bytes(b"name: \xe9\n")
    with pytest.raises(ScriptError, match="not UTF-8"):
        load(latin)


def complaint(text: str) -> str:
    """The line about a script's text, `f: good` where there is none."""
    try:
        parse(text, "f")
    except ScriptError as error:
        return str(error)
    return "f: good"


_NUMBERS = st.sampled_from(
    [-1, 0, 1, 3, 511, 512, 1 << 16, 1 << 20, 1 << 32, 1 << 63, (1 << 64) - 1, 1 << 64]
)
_WHERE = _NUMBERS | st.sampled_from(["a", "a+1", "a+0x40000000", "b", "+", "1+1"])
_PATTERNS = st.sampled_from([{"pattern": 1}, {"hex": "00 01"}, {"counting": -1}, {"random": 7}])


def _steps(**fields: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    return st.fixed_dictionaries({}, optional=fields)


_STEPS = st.one_of(
    st.tuples(st.just("read"), _steps(at=_NUMBERS, length=_NUMBERS, scatter=_NUMBERS)),
    st.tuples(st.just("discard"), _steps(at=_NUMBERS, length=_NUMBERS)),
    st.tuples(st.just("peek"), _steps(at=_WHERE, length=_NUMBERS)),
    st.tuples(
        st.just("poke"),
        st.builds(lambda a, b: a | b, _steps(length=_NUMBERS), _PATTERNS).flatmap(
            lambda one: _WHERE.map(lambda at: one | {"at": at})
        ),
    ),
    st.tuples(st.just("get"), _steps(bar=_NUMBERS, offset=_NUMBERS, size=st.sampled_from([1, 2, 4, 8]))),
    st.tuples(st.just("get"), _steps(pci=_NUMBERS, size=st.sampled_from([1, 2, 4, 8]))),
    st.tuples(st.just("get"), _steps(address=_NUMBERS, size=st.sampled_from([1, 2, 4, 8]))),
    st.tuples(st.just("set"), _steps(port=_NUMBERS, value=_NUMBERS, size=st.sampled_from([1, 2, 4, 8]))),
    st.tuples(
        st.just("set"), _steps(register=st.sampled_from(["queue_size", "device_status"]), value=_NUMBERS)
    ),
    st.tuples(st.just("notify"), _steps(queue=_NUMBERS, value=_NUMBERS)),
    st.tuples(st.just("reset-queue"), _steps(queue=_NUMBERS, size=_NUMBERS)),
    st.tuples(st.just("resize"), st.builds(lambda to: {"drive": "d0", "to": to}, _NUMBERS)),
    st.tuples(
        st.just("image"), st.builds(lambda at, n: {"drive": "d0", "at": at, "length": n}, _NUMBERS, _NUMBERS)
    ),
    st.tuples(
        st.just("allocate"),
        st.builds(
            lambda name, size, align: {"name": name, "size": size, "align": align},
            st.just("a"),
            _NUMBERS,
            _NUMBERS,
        ),
    ),
    st.tuples(
        st.just("chain"),
        _steps(
            queue=_NUMBERS,
            heads=st.lists(_NUMBERS, max_size=2),
            advance=_NUMBERS,
            descriptors=st.lists(
                _steps(index=_NUMBERS, at=_WHERE, length=_NUMBERS, flags=_NUMBERS, next=_NUMBERS), max_size=2
            ),
        ),
    ),
    st.tuples(st.just("probe"), _steps(queues=_NUMBERS, force=st.lists(_NUMBERS, max_size=1))),
    st.tuples(st.just("probe"), _steps(**{"queue-size": _NUMBERS})),
    st.tuples(
        st.just("request"),
        _steps(sector=_NUMBERS, header=_NUMBERS, writable=_NUMBERS).map(lambda one: one | {"type": "IN"}),
    ),
    st.tuples(
        st.just("random"), _steps(at=_NUMBERS, length=_NUMBERS, depth=_NUMBERS, requests=st.integers(-1, 3))
    ),
)


@settings(deadline=None)
@given(st.lists(_STEPS, max_size=3))
def test_any_numbers_in_any_steps_are_an_error_in_one_line_or_a_report(
    steps: list[tuple[str, object]],
) -> None:
    """What comes of the guest, of the script or of the device, comes as a line; nothing is raised inside."""
    first: list[object] = ["probe", {"allocate": {"name": "a", "size": 64}}]
    tree = MACHINE | {"steps": first + [{action: given} for action, given in steps]}
    text = json.dumps(tree)
    line = complaint(text)
    if line != "f: good":
        assert line.startswith("f:1: ")
        assert "\n" not in line
        return
    assert "raised" not in " ".join(YamlScript(*parse(text, "f")).run(Options()).failures)


MACHINE: dict[str, object] = {
    "name": "x",
    "drives": [{"driver": "file", "node-name": "d0", "size": "1M"}],
    "devices": [{"driver": "virtio-blk-pci", "drive": "d0", "num-queues": 2}],
}


@given(st.text(alphabet="abn:-[]{}#&*!|>'\"%@` \n\t0x.steps", max_size=60))
def test_any_text_is_a_script_or_an_error_in_one_line(text: str) -> None:
    line = complaint(text)
    assert line.startswith("f:")
    assert "\n" not in line


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5) | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["at", "length", "read", "steps", "x", "expect", "times"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(key=st.sampled_from(["read", "repeat", "parallel", "chain", "probe", "expect", "set"]), value=_VALUES)
def test_any_value_in_any_place_is_a_script_or_an_error_in_one_line(key: str, value: object) -> None:
    line = complaint(json.dumps({"name": "x", "steps": [{key: value}]}))
    assert line.startswith("f:")
    assert "\n" not in line


def test_python_files_tell_their_mistakes_too(tmp_path: Path) -> None:
    path = tmp_path / "x.guest.py"
    for text, message in (
        ("def (", f"{path}:1: not Python"),
        ("x = 1\n", f"{path}:1: expected a function decorated with @scripted"),
        ("\n\n1 / 0\n", f"{path}:3: ZeroDivisionError"),
        ("import sys\nsys.exit(3)\n", f"{path}:2: SystemExit: 3"),
        ("raise SystemExit\n", f"{path}:1: SystemExit"),
        (
            "from guestsim.script.python import scripted\n\n@scripted(targets='qemu')\ndef f(world): pass\n",
            f"{path}:3: f: targets 'qemu', expected a list of devmodels, qemu",
        ),
        (
            "from guestsim.script.python import scripted\n\n@scripted(targets=['bochs'])\ndef f(world): pass\n",
            f"{path}:3: f: Invalid enum value 'bochs'",
        ),
    ):
        path.write_text(text)
        with pytest.raises(ScriptError) as caught:
            read_scripts(path)
        assert str(caught.value).startswith(message)
