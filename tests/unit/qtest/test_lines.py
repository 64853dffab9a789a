"""Lines of options, taken and refused as by QEMU, which `tests/qemu/test_standin_lines.py` asks."""

from __future__ import annotations

import pytest

from devmodels.blockbackend.options import BlockOptionError
from devmodels.options import OptionError
from devmodels.qtest.commandline import parse
from devmodels.qtest.numbers import size, whole
from tests.unit.qtest.bench import machine
from tests.unit.qtest.lines import REFUSED, TAKEN

BOARD = ("-M", "pc", "-nodefaults", "-m", "1M")


@pytest.mark.parametrize("line", TAKEN)
def test_what_is_taken(line: str) -> None:
    with machine(*BOARD, *line.split()):
        pass


@pytest.mark.parametrize("line", REFUSED)
def test_what_is_refused(line: str) -> None:
    with pytest.raises((OptionError, BlockOptionError)) as caught, machine(*BOARD, *line.split()):
        pass
    assert str(caught.value).endswith(REFUSED[line])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("0", 0), ("12", 12), ("0x1F", 31), ("0X1f", 31), ("017", 15), ("-3", -3), ("+0x10", 16)),
        *((text, None) for text in ("", "1k", "09", "0x", "1.0", " 1", "--1", "1_0")),
    ],
)
def test_whole_numbers(text: str, number: int | None) -> None:
    assert whole(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(
            ("0", 0),
            ("010", 10),
            ("0x10", 16),
            ("1k", 1024),
            ("1K", 1024),
            ("1.5M", 3 << 19),
            ("1.23k", 1259),
        ),
        *(("512B", 512), ("2e", 2 << 60), ("1.0", 1), ("+1", 1)),
        *((text, None) for text in ("", "k", ".5k", "1.5", "1.5B", "1Mi", "1kB", "-1", "0x1.8k", "1.k")),
    ],
)
def test_sizes(text: str, number: int | None) -> None:
    assert size(text) == number


def test_limits_of_a_group_are_called_otherwise_on_a_line() -> None:
    with machine(*BOARD, *["-object", "throttle-group,id=g,x-bps-total=5,x-iops-total=0x10"]) as client:
        limits = client.board.assembly.graph.throttle_group("g").limits
        assert (limits.bps_total, limits.iops_total) == (5, 16)


@pytest.mark.parametrize(("given", "held"), [("1000001k", 1024008192), ("0", 128 << 20), ("3", 3 << 20)])
def test_ram_is_rounded_up(given: str, held: int) -> None:
    with machine("-M", "pc", "-nodefaults", "-m", given) as client:
        assert client.board.ram == held


def test_drives_that_the_board_has_nothing_for_are_drives_still() -> None:
    with machine(*BOARD, "-fdb", "null-co://", "-pflash", "null-co://") as client:
        assert [*client.assembling.drives] == ["floppy1", "pflash0"]
        assert {backend.name for backend in client.board.assembly.drives.values()} == set()


@pytest.mark.parametrize(
    ("board", "names"),
    [
        ("pc", ["ide0-hd0", "ide0-hd1", "none0", "virtio1", "virtio2", "ide1-cd0"]),
        ("q35", ["ide0-hd0", "ide1-hd0", "none0", "virtio1", "virtio2", "ide2-cd0"]),
        ("none", ["none0", "none1", "none2", "none3"]),
    ],
)
def test_drives_that_have_no_id_are_called_as_on_qemu(board: str, names: list[str]) -> None:
    drive = "-drive driver=null-co,if="
    line = f"-hda null-co:// -hdb null-co:// {drive}none"
    line += f" {drive}none" if board == "none" else f" {drive}virtio,index=1 {drive}virtio,unit=2"
    with machine("-M", board, *line.split()) as client:
        assert [*client.assembling.drives] == names
        assert client.assembling.drives[names[0]].media == "disk"


def test_without_a_controller_a_cd_is_a_drive_that_nothing_has() -> None:
    with machine("-M", "none", "-cdrom", "null-co://") as client:
        assert [*client.assembling.drives] == ["none2"]
        assert client.board.assembly.graph.nodes["none2"].read_only


@pytest.mark.parametrize(("given", "mode"), [("on", "unmap"), ("off", "ignore"), ("unmap", "unmap")])
def test_modes_of_discards_have_two_names_on_a_line(given: str, mode: str) -> None:
    drive = (
        f"if=none,id=d,driver=raw,discard={given},file.driver=null-co,file.node-name=f,file.discard={given}"
    )
    with machine(*BOARD, "-drive", drive) as client:
        nodes = client.board.assembly.graph.nodes
        assert (nodes["d"].options.discard, nodes["f"].options.discard) == (mode, mode)


def test_drives_of_a_throttling_group_share_its_limits() -> None:
    drives = (f"-drive if=virtio,driver=null-co,iops={n},group=g" for n in (5, 7))
    with machine(*BOARD, *" ".join(drives).split()) as client:
        members = [each.throttled_by for each in client.board.assembly.drives.values()]
        assert [each is not None and each.group.limits.iops_total for each in members] == [7, 7]


def test_a_serial_number_that_is_too_long_is_cut() -> None:
    """QEMU answers VIRTIO_BLK_T_GET_ID with as much of it as there is room for."""
    serial = "0123456789012345678\u00e9123"
    line = f"-blockdev null-co,node-name=d -device virtio-blk-pci,id=b,drive=d,serial={serial}"
    with machine(*BOARD, *line.split()) as client:
        assert client.board.assembly.options["b"]["serial"] == serial[:19]


def test_monitors_that_are_objects() -> None:
    """Clients of newer QEMUs have them instead of `-mon`."""
    line = "-object monitor-qmp,id=q,chardev=a,pretty=on -object monitor-hmp,id=h,chardev=b,readline=on"
    launch = parse([*line.split(), "-chardev", "socket,path=A,id=a", "-chardev", "stdio,id=b"])
    assert [(str(each.where), each.human, each.pretty) for each in launch.monitors] == [
        ("A", False, True),
        ("stdio", True, False),
    ]
    assert not launch.objects
    launch = parse(
        ["-object", '{"qom-type":"monitor-qmp","id":"q","chardev":"c"}', "-chardev", "socket,path=C,id=c"]
    )
    assert [str(each.where) for each in launch.monitors] == ["C"]
    with pytest.raises(OptionError, match='-object monitor-qmp,id=q,chardev=x: chardev "x" not found'):
        parse(["-object", "monitor-qmp,id=q,chardev=x"])
    with pytest.raises(OptionError, match="chardev: missing; expected the id of one"):
        parse(["-object", "monitor-qmp,id=q"])
