"""blkdebug against QEMU's: the same rules and the same requests, which of them fail and with what."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from devmodels.blockbackend import BlockOptionError, Graph, open_node
from devmodels.blockbackend.debug import rules
from devmodels.blockbackend.debug.commands import COMMANDS, debug_command
from devmodels.iocontext import IoContext
from tests.unit.blockbackend.qemuio import need, ours, refused, theirs
from tests.unit.blockbackend.support import Disk

pytestmark = pytest.mark.qemu

SIZE = 1 << 20


@pytest.fixture(autouse=True)
def _tools() -> None:
    need("qemu-io", "qemu-storage-daemon")


@pytest.fixture
def context() -> Iterator[IoContext]:
    context = IoContext.virtual()
    yield context
    context.close()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(SIZE))
    return path


def stack(image: Path, blkdebug: dict[str, object], *, raw: bool) -> dict[str, object]:
    """blkdebug over an image, alone or below raw."""
    # QEMU takes no empty lists.
    given = {name: value for name, value in blkdebug.items() if value != []}
    node: dict[str, object] = {
        "driver": "blkdebug",
        "image": {"driver": "file", "filename": str(image)},
        **given,
    }
    return {"driver": "raw", "discard": "unmap", "file": node} if raw else {"discard": "unmap", **node}


def same(image: Path, blkdebug: dict[str, object], commands: list[str], *, raw: bool) -> None:
    """Both do the same, and both leave the same image."""
    options = stack(image, blkdebug, raw=raw)
    expected = theirs(options, commands)
    left = image.read_bytes()
    image.write_bytes(bytes(SIZE))
    context = IoContext.virtual()
    disk = Disk(options, context=context)
    found = ours(disk, commands)
    disk.close()
    assert found == expected, (blkdebug, commands)
    assert image.read_bytes() == left, (blkdebug, commands)
    image.write_bytes(bytes(SIZE))


ALL = [
    "write 0 4k",
    "read 0 4k",
    "flush",
    "write -z 4k 4k",
    "discard 0 4k",
    "read 8k 512",
    "write 8k 1k",
    "flush",
]
RULES: list[list[dict[str, object]]] = [
    [],
    [{"event": "none"}],
    [{"event": "none", "once": True}],
    [{"event": "none", "errno": 28, "immediately": True}],
    [{"event": "read_aio", "errno": 28}],
    [{"event": "read_aio", "once": True}],
    [{"event": "write_aio"}],
    [{"event": "write_aio", "iotype": "write"}],
    [{"event": "pwritev", "iotype": "write", "errno": 28}],
    [{"event": "pwritev_zero", "iotype": "write-zeroes", "errno": 95}],
    [{"event": "pwritev_done", "iotype": "read", "errno": 11}],
    [{"event": "flush_to_os"}],
    [{"event": "flush_to_disk", "iotype": "flush"}],
    [{"event": "none", "iotype": "discard"}],
    [{"event": "none", "iotype": "flush"}],
    [{"event": "none", "sector": 16}],
    [{"event": "none", "sector": 7, "errno": 28}, {"event": "none", "sector": 3, "errno": 12}],
    [{"event": "none", "sector": 3, "errno": 0}, {"event": "none", "errno": 12}],
    [
        {"event": "none", "sector": -1, "errno": 12, "once": True},
        {"event": "none", "errno": 28, "once": True},
    ],
    [{"event": "read_aio", "errno": 12}, {"event": "write_aio", "errno": 28}],
    [{"event": "none", "iotype": "write", "state": 1}, {"event": "none", "iotype": "read", "state": 2}],
]


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("inject", RULES)
def test_the_same_requests_fail(image: Path, inject: list[dict[str, object]], raw: bool) -> None:
    same(image, {"inject-error": inject}, ALL, raw=raw)


LIMITS: list[dict[str, object]] = [
    {"align": 4096, "opt-discard": 4096},  # Without the second QEMU 7.2 divides by zero.
    {"align": 512, "max-transfer": 1024},
    {"align": 512, "opt-write-zero": 4096},
    {"align": 512, "opt-write-zero": 4096, "max-write-zero": 8192},
    {"align": 512, "opt-discard": 4096, "max-discard": 4096},
    {
        "align": 1024,
        "max-transfer": 2048,
        "opt-write-zero": 2048,
        "max-write-zero": 4096,
        "opt-discard": 4096,
    },
]
UNEVEN = [
    "write -P 1 0 64k",
    "write -P 2 100 100",
    "write -P 3 4000 5000",
    "read 100 5000",
    "write -z 1000 12000",
    "write -z 20000 100",
    "write -z 30000 3000",
    "discard 512 20k",
    "read 0 64k",
    "flush",
]


@pytest.mark.parametrize("iotype", ["read", "write", "write-zeroes", "discard"])
@pytest.mark.parametrize("limits", LIMITS)
def test_the_same_pieces_of_requests_fail(image: Path, limits: dict[str, object], iotype: str) -> None:
    """One sector fails: whoever cuts requests otherwise meets it with another one."""
    # QEMU writes whatever is in its buffer where the read of a read-modify-write has failed; we do not write.
    for sector in (0, 7, 8, 20, 40) if iotype != "read" else ():
        inject = [{"event": "none", "iotype": iotype, "sector": sector}]
        same(image, {**limits, "inject-error": inject}, UNEVEN, raw=False)
    same(image, limits, UNEVEN, raw=True)


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_random_rules_do_the_same(image: Path, seed: int, raw: bool) -> None:
    draw = random.Random(seed)
    events = ["none", "read_aio", "write_aio", "pwritev", "pwritev_zero", "pwritev_done", "flush_to_os"]
    events += ["flush_to_disk", "pwritev_rmw_head", "pwritev_rmw_after_tail", "pwritev_rmw_tail"]

    def inject() -> dict[str, object]:
        rule: dict[str, object] = {"event": draw.choice(events), "errno": draw.choice([0, 5, 28, 12])}
        if draw.random() < 0.5:
            rule["iotype"] = draw.choice(["read", "write", "write-zeroes", "discard", "flush"])
        if draw.random() < 0.5:
            rule["sector"] = draw.randrange(40)
        if draw.random() < 0.5:
            rule["state"] = draw.randrange(4)
        return {**rule, "once": draw.random() < 0.4, "immediately": draw.random() < 0.5}

    def state() -> dict[str, object]:
        return {"event": draw.choice(events), "state": draw.randrange(4), "new_state": draw.randrange(4)}

    blkdebug: dict[str, object] = {
        "inject-error": [inject() for _ in range(draw.randrange(1, 6))],
        "set-state": [state() for _ in range(draw.randrange(6))],
    }
    if draw.random() < 0.3:
        blkdebug["align"] = 512
    shapes = ("read {} {}", "write {} {}", "write -z {} {}", "discard {} {}", "flush")
    commands = [
        draw.choice(shapes).format(512 * draw.randrange(30), 512 * draw.randrange(1, 10)) for _ in range(25)
    ]
    same(image, blkdebug, commands, raw=raw)


@pytest.mark.parametrize("event", ["read_aio", "write_aio", "flush_to_os", "flush_to_disk", "cor_write"])
@pytest.mark.parametrize(
    ("driver", "child"),
    [
        ("raw", "file"),
        ("throttle", "file"),
        ("copy-on-read", "file"),
        ("preallocate", "file"),
        ("blkdebug", "image"),
        ("blkverify", "raw"),
        ("blkverify", "test"),
        ("blklogwrites", "file"),
        ("blklogwrites", "log"),
    ],
)
def test_the_same_nodes_tell_of_events(
    image: Path, context: IoContext, driver: str, child: str, event: str
) -> None:
    debug: dict[str, object] = {
        "driver": "blkdebug",
        "image": {"driver": "file", "filename": str(image)},
        "inject-error": [{"event": event, "errno": 28}],
    }
    other: dict[str, object] = {"driver": "null-co", "size": SIZE, "read-zeroes": True}
    others = {"blkverify": {"raw": other, "test": other}, "blklogwrites": {"file": other, "log": other}}
    options: dict[str, object] = {"driver": driver, **others.get(driver, {}), child: debug}
    if driver == "throttle":
        options["throttle-group"] = "g0"
    # Reads only at first: some of these end their process at the first difference.
    commands = (
        ["read 0 512", "flush"]
        if driver == "blkverify"
        else ["write 0 512", "read 0 512", "flush", "read 0 512"]
    )
    expected = theirs(options, commands, ["throttle-group,id=g0"])
    graph = Graph(context)
    graph.add_object({"qom-type": "throttle-group", "id": "g0"})
    disk = Disk(graph.add(options))
    found = ours(disk, commands)
    if driver == "blkverify" and expected[1] and not expected[0]:
        # QEMU's has ended.
        assert found[1]
    else:
        assert found == expected
    disk.backend.close()
    graph.close()


CONFIGS = [
    '[inject-error]\nevent = "read_aio"\nerrno = "28"\n',
    '# a comment\n\n[inject-error "first"]\n  event   = "write_aio"\nonce = "on"\n[inject-error]\nevent ="read_aio"\n',
    (
        '[set-state]\nevent = "write_aio"\nstate = "1"\nnew_state = "2"\n'
        '[inject-error]\nevent = "write_aio"\nstate = "2"\nerrno = "0x1c"\n'
    ),
    '[inject-error]\nevent = "read_aio"\nevent = "write_aio"\nerrno = "010"\nimmediately = "yes"\n',
    '[inject-error]\r\nevent = "none"\r\niotype = "discard"\r\nsector = "1"\r\n',
    '[inject-error]\nevent = "none"\nsector = "-1"\n',
]


@pytest.mark.parametrize("text", CONFIGS)
def test_a_configuration_file_means_the_same(image: Path, text: str) -> None:
    path = image.with_name("blkdebug.conf")
    path.write_bytes(text.encode())
    same(image, {"config": str(path)}, ALL, raw=True)


@pytest.mark.parametrize(
    "text",
    [
        "x\n",
        'event = "read_aio"\n',
        "[other]\n",
        "[inject-error]\nevent = read_aio\n",
        '[inject-error]\nevent = "never"\n',
        '[inject-error]\nerrno = "5"\n',
        '[inject-error]\nevent = "read_aio"\nfoo = "1"\n',
        '[inject-error]\nevent = "read_aio"\nerrno = "x"\n',
        '[inject-error]\nevent = "read_aio"\nonce = "maybe"\n',
        '[inject-error]\nevent = "read_aio"\niotype = "x"\n',
        '[set-state]\nevent = "read_aio"\nnew_state = "2"\nerrno = "5"\n',
        '[inject-error "a"]\nevent = "none"\n[inject-error "a"]\nevent = "none"\n',
    ],
)
def test_what_qemu_refuses_in_a_file_is_refused(image: Path, context: IoContext, text: str) -> None:
    path = image.with_name("blkdebug.conf")
    path.write_text(text)
    options = stack(image, {"config": str(path)}, raw=False)
    assert "can't open" in refused(options)
    with pytest.raises(BlockOptionError, match=rf"^\$\.config: {path}:[0-9]: .*; expected [^\n]*$"):
        open_node(options, context)


@pytest.mark.parametrize(
    "wrong",
    [
        {"align": 511},
        {"align": 512, "max-transfer": 1000},
        {"align": 512, "opt-write-zero": 100},
        {"opt-write-zero": 1024, "max-write-zero": 512},
        {"align": 4096, "opt-discard": 512},
        {"opt-discard": 4096, "max-discard": 1024},
    ],
)
def test_limits_that_contradict_each_other_are_refused(
    image: Path, context: IoContext, wrong: dict[str, object]
) -> None:
    options = stack(image, wrong, raw=False)
    assert "Cannot meet constraints" in refused(options)
    with pytest.raises(BlockOptionError, match=r"^\$\.[a-z-]+: [0-9]+ is given; expected a "):
        open_node(options, context)


def test_events_and_kinds_of_requests_are_qemus() -> None:
    commands = ("qmp_capabilities", "query-qmp-schema", "quit")
    answer = subprocess.run(
        ["qemu-storage-daemon", "--chardev", "stdio,id=c", "--monitor", "c"],
        input="".join(json.dumps({"execute": command}) for command in commands),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    decoder, at, replies = json.JSONDecoder(), 0, []
    while at < len(answer.stdout.rstrip()):
        reply, at = decoder.raw_decode(answer.stdout, at)
        replies.append(reply)
        at += len(answer.stdout[at:]) - len(answer.stdout[at:].lstrip())
    schema = next(reply["return"] for reply in replies if isinstance(reply.get("return"), list))
    enums = [set(kind["values"]) for kind in schema if kind["meta-type"] == "enum"]
    assert set(get_args(rules.Event)) in enums
    assert {*get_args(rules.IoType)} - {"secure-erase"} in enums


@pytest.mark.parametrize(
    "commands",
    [
        ["break pwritev A", "remove_break A", "write 0 512"],
        ["break nothing A"],
        ["resume A"],
        ["remove_break A"],
        ["break pwritev"],
        ["resume A B"],
        ["wait_break"],
    ],
)
def test_commands_say_what_qemu_io_says(image: Path, commands: list[str]) -> None:
    options = stack(image, {}, raw=True)
    arguments = [word for command in commands for word in ("-c", command)]
    answer = subprocess.run(
        ["qemu-io", *arguments, "json:" + json.dumps(options)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = (answer.stdout + answer.stderr).splitlines()
    expected = [line for line in lines if line.startswith(("bad argument", "Could not"))]
    disk = Disk(options)
    said = "".join(
        disk.context.run(debug_command(disk.node, command))
        for command in commands
        if command.split()[0] in COMMANDS
    )
    assert said.splitlines() == expected
    disk.close()
