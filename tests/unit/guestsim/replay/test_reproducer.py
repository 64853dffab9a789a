"""Reproducers as bug reports print them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from devmodels.conformance import KEPT, ViolationLog
from devmodels.options import OptionError
from guestsim.cli import app
from guestsim.replay.report import read_reproducer
from guestsim.replay.reproducer import Reproduced, reproduce

HERE = """\
Hello, I found an assertion failure.

cat << EOF | ./qemu-system-x86_64 -display none -machine accel=qtest, -m \\
512M -machine q35 -nodefaults -drive \\
file=null-co://,if=none,format=raw,id=disk0 -device ide-hd,drive=disk0 \\
-qtest stdio 2>&1
outl 0xcf8 0x8000fa24
outl 0xcfc 0xe0000000
outl 0xcf8 0x8000fa04
outw 0xcfc 0x06
write 0xe0000118 0x1 0x17
write 0x0 0x1 0x05
writel 0xe0000138 0x1
clock_step
no_such_request 1
EOF
"""


def test_the_machine_and_the_requests_are_found() -> None:
    found = read_reproducer(HERE)
    assert found.arguments[:4] == ["-display", "none", "-machine", "accel=qtest,"]
    assert found.arguments[-2:] == ["-qtest", "stdio"]
    assert [number for number, _ in found.requests] == list(range(7, 15))


def test_they_are_done(tmp_path: Path) -> None:
    path = tmp_path / "ahci.qtest"
    path.write_text(HERE)
    result = reproduce(path)
    assert (result.requests, result.refused) == (8, [])


def test_a_pipe_after_the_requests(tmp_path: Path) -> None:
    path = tmp_path / "ide.qtest"
    path.write_text("outb 0x1f7 0xec\ninb 0x1f7\nreadl\n$ qemu-system-i386 -M pc -qtest stdio < ide.qtest\n")
    result = reproduce(path)
    assert result.requests == 3
    assert result.refused == [(3, "readl", "FAIL Missing argument")]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nothing\n", "no request is in it"),
        (
            "qemu-system-i386 -device sdhci-pcl -qtest stdio\ninb 0x70\n",
            "'sdhci-pcl' is not a valid device model name",
        ),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "bad.qtest"
    path.write_text(text)
    with pytest.raises(OptionError, match=problem) as caught:
        reproduce(path)
    assert "\n" not in str(caught.value)


REQUESTS = "outl 0xcf8 0x8000fa24\noutl 0xcfc 0xe0000000\noutl 0xcf8 0x8000fa04\noutw 0xcfc 0x06\n"
"""The BAR of q35's AHCI controller is placed, and the function switched on."""
Q35 = '-machine q35,accel=qtest, -nodefaults -display none -device ide-hd,drive=d0 -drive "if=none,id=d0,file=null-co://"'


def done(tmp_path: Path, text: str) -> Reproduced:
    path = tmp_path / "report.qtest"
    path.write_text(text)
    return reproduce(path)


def said(tmp_path: Path, text: str, *options: str) -> str:
    path = tmp_path / "report.qtest"
    path.write_text(text)
    result = CliRunner().invoke(app, ["replay", str(path), *options])
    assert result.exit_code == 0
    return result.stdout.replace("\n", " ") if not options else result.stdout


@pytest.mark.parametrize(
    "start",
    [
        f"qemu-system-x86_64 {Q35} -qtest stdio << EOF\n",
        f"export QEMU_ARGS='{Q35}'\ncat << EOF | $QEMU $QEMU_ARGS -qtest stdio\n",
        f"QEMU_ARGS='{Q35}'\n$ ./qemu-system-i386 ${{QEMU_ARGS}} -qtest stdio < requests\n",
        f"export QEMU_ARGS='{Q35}'\n",
        "export QEMU_ARGS='-machine q35 \\\n  -nodefaults'\n",
    ],
)
def test_the_command_line_in_the_forms_that_reports_have(tmp_path: Path, start: str) -> None:
    result = done(
        tmp_path, start + REQUESTS + "readl 0xe0000010\nEOF\n" * ("EOF" in start) + "readl 0xe0000010\n"
    )
    assert (result.machine, result.others) == ("q35", [])
    assert result.command_line is not None
    assert result.answers[-1][1] == "0x0000000000010000"


def test_without_a_command_line_it_is_said_where_it_ran(tmp_path: Path) -> None:
    assert "on a pc machine, the usual one: no command line was found" in said(tmp_path, REQUESTS)
    assert "on a q35 machine, the command line is in line 1" in said(
        tmp_path, f"qemu-system-i386 {Q35}\n{REQUESTS}"
    )


def test_the_log_that_qemu_writes_of_it(tmp_path: Path) -> None:
    text = "[I 0.000000] OPENED\n[R +0.019001] outl 0xcf8 0x80000000\n[S +0.019012] OK\n[R +0.02] inl 0xcfc\n"
    result = done(tmp_path, text + "[S +0.02] OK 0x12378086\n")
    assert (result.requests, result.answers, result.others) == (2, [(4, "0x12378086")], [])


def test_what_is_no_request_is_counted(tmp_path: Path) -> None:
    text = f"foo bar\n{REQUESTS}out l\n"
    assert done(tmp_path, text).others == [(1, "foo bar"), (6, "out l")]
    assert "2 lines left out, as no request" in said(tmp_path, text)


def test_answers_are_in_the_json(tmp_path: Path) -> None:
    report = json.loads(said(tmp_path, "outl 0xcf8 0x80000000\ninl 0xcfc\n", "--json"))
    assert report["answers"] == [[2, "0x12378086"]]
    assert (report["machine"], report["command_line"]) == ("pc", None)


def test_a_comma_at_the_end_of_the_machine(tmp_path: Path) -> None:
    assert done(tmp_path, f"qemu-system-i386 -M q35,accel=qtest, -nodefaults\n{REQUESTS}").machine == "q35"


def test_a_file_below_a_filter_need_not_say_that_it_is_one(tmp_path: Path) -> None:
    image = tmp_path / "d.img"
    image.write_bytes(bytes(1 << 20))
    drive = f"driver=raw,file.driver=blkdebug,file.image.filename={image},if=none,id=d0"
    result = done(tmp_path, f"qemu-system-i386 -M q35 -drive {drive} -device ide-hd,drive=d0\n{REQUESTS}")
    assert result.refused == []


def test_a_violation_long_ago_keeps_its_text(tmp_path: Path) -> None:
    log = ViolationLog()
    log.report("A §1", "once", "here")
    for number in range(KEPT + 1):
        log.report("B §2", f"number {number}", "there")
    assert str(log.newest["A §1"]) == "here: once (A §1)"
    assert str(log.newest["B §2"]) == f"there: number {KEPT} (B §2)"
    log.clear()
    assert not log.newest


AHCI = """\
cat << EOF | ./qemu-system-x86_64 -display none -machine accel=qtest, -m 512M -machine q35 -nodefaults \
-drive file=null-co://,if=none,format=raw,id=disk0 -device ide-hd,drive=disk0 -qtest stdio
outl 0xcf8 0x8000fa24
outl 0xcfc 0xe0000000
outl 0xcf8 0x8000fa04
outw 0xcfc 0x06
write 0x0 0x1 0x27
readl 0xe0000010
EOF
"""
ASSERTED = (
    "qemu-system-x86_64: ../hw/ide/core.c:934: void ide_dma_cb(void *, int): Assertion `a >= 0' failed.\n"
)
LOG = """
Results in
```
[I 0.000001] OPENED
[R +0.076075] outl 0xcf8 0x8000fa24
[S +0.076165] OK
OK
[R +0.079733] write 0xe0000398 0x1 0x01
"""


def test_a_message_of_qemu_s_own_is_no_command_line(tmp_path: Path) -> None:
    text = f"## Description\nAssert\n```\n{ASSERTED}```\ncan be triggered\n```\n{AHCI}{LOG}{ASSERTED}"
    result = done(tmp_path, text)
    assert (result.machine, result.command_line, result.requests) == ("q35", 8, 6)
    assert result.answers == [(14, "0x0000000000010000")]


def test_prose_is_no_request(tmp_path: Path) -> None:
    result = done(tmp_path, f"read the code\nwrite to it\n{AHCI}")
    assert (result.requests, result.refused) == (6, [])


def test_a_command_line_of_qemu_itself_with_the_assertion_behind_the_requests(tmp_path: Path) -> None:
    text = """\
hw/virtio.c checks vq->vring.desc != NULL.

  $ qemu -M pc -device virtio-blk-pci,id=drv0,drive=drive0,addr=4.0 \\
         -drive if=none,id=drive0,file=null-co://,format=raw,auto-read-only=off \\
         -display none \\
         -qtest stdio
  endianness
  outl 0xcf8 0x80002000
  inl 0xcfc

The following error message is produced:

  qemu-system-x86_64: /home/s/qemu/hw/virtio/virtio.c:286: vring_get: Assertion `caches != NULL' failed.
"""
    result = done(tmp_path, text)
    assert (result.machine, result.command_line) == ("pc", 3)
    assert result.answers == [(7, "little"), (9, "0x10011af4")]
    assert result.reached == {"virtio-blk-pci at 04.0": 1}


@pytest.mark.parametrize("joint", ["\\\n ", "\\\n", " \\\n"])
def test_a_line_that_goes_on_and_qtest_given_twice(tmp_path: Path, joint: str) -> None:
    words = [
        "cat << EOF | ./i386-softmmu/qemu-system-i386 -M pc,accel=qtest",
        "-qtest null -nographic -vga qxl -qtest stdio -nodefaults",
        "-drive if=none,id=drive0,file=null-co://,file.read-zeroes=on,format=raw",
        "-drive if=none,id=drive1,file=null-co://,file.read-zeroes=on,format=raw",
        "-device ide-cd,drive=drive0 -device ide-hd,drive=drive1\noutw 0x176 0x3538\ninb 0x177\nEOF\n",
    ]
    result = done(tmp_path, joint.join(words))
    assert (result.machine, result.requests, result.refused) == ("pc", 2, [])
    assert result.reached == {"piix3-ide at 01.1": 2}


def test_the_log_behind_the_end_is_not_done_again(tmp_path: Path) -> None:
    text = AHCI + LOG
    result = done(tmp_path, text)
    assert (result.requests, result.left) == (6, 2)
    assert "2 requests more left out" in said(tmp_path, text)


def test_a_second_reproducer_is_left_out(tmp_path: Path) -> None:
    result = done(tmp_path, AHCI + AHCI.replace("q35", "pc"))
    assert (result.machine, result.requests, result.left) == ("q35", 6, 6)


def test_a_report_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "issue.md"
    path.write_text(AHCI)
    result = CliRunner().invoke(app, ["replay", str(path)])
    assert result.exit_code == 0
    assert "on a q35 machine, the command line is in line 1" in result.stdout


def test_how_many_requests_reach_a_device(tmp_path: Path) -> None:
    result = done(tmp_path, AHCI)
    # The BAR, the command register, and the register behind the BAR: neither CF8h nor RAM.
    assert (result.reached, result.in_reach) == ({"ich9-ahci at 1f.2": 3}, 3)
    assert "6 requests, 3 of them to a device (ich9-ahci at 1f.2: 3); 0 interrupts" in said(tmp_path, AHCI)


@pytest.mark.long
def test_an_access_across_the_edge_and_the_window_of_configuration_space(tmp_path: Path) -> None:
    ecam = "outl 0xcf8 0x80000060\noutl 0xcfc 0xb0000001\nreadl 0xb00fa000\nread 0xb00f9ffe 0x4\nreadl 0xb00f8000\n"
    assert done(tmp_path, f"qemu-system-i386 -M q35\n{ecam}").reached == {"ich9-ahci at 1f.2": 2}
    edge = (
        REQUESTS
        + "read 0xdffffffe 0x4\nread 0xdffffff0 0x10\nread 0x0 0x8000000\nmemset 0xe0000ff0 0x20 0x0\n"
    )
    assert done(tmp_path, f"qemu-system-i386 -M q35\n{edge}").in_reach == 4


def test_where_no_request_reaches_a_device_it_is_said(tmp_path: Path) -> None:
    text = "qemu-system-i386 -M pc -nodefaults\noutl 0xcf8 0x80002000\ninl 0xcfc\ninw 0x1234\nwrite 0x0 0x1 0x1\n"
    assert "4 requests, 0 of them to a device; 0 interrupts no request reached a device" in said(
        tmp_path, text
    )
    assert "no request reached a device" not in said(tmp_path, AHCI)


def test_a_device_without_an_address_is_behind_the_boards_display_and_network(tmp_path: Path) -> None:
    """Launchpad bug 1910941: accesses to 00:03.0 of a q35 that has its defaults."""
    text = (
        "cat << EOF | ./qemu-system-i386 -machine q35 \\\n-device virtio-blk,drive=disk0 \\\n"
        "-drive file=null-co://,id=disk0,if=none,format=raw \\\n"
        "-serial none -monitor none -qtest stdio -nographic\n\n"
        "outl 0xcf8 0x80001890\noutl 0xcfc 0x4\noutl 0xcf8 0x80001894\noutl 0xcfc 0x20000002\nEOF\n"
    )
    assert done(tmp_path, text).reached == {"virtio-blk-pci at 03.0": 2}


def test_an_option_that_reproducers_do_not_have_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "bug.qtest").write_text(HERE)
    result = CliRunner().invoke(app, ["replay", str(tmp_path / "bug.qtest"), "--shrink"])
    expected = "guestsim replay: --shrink is given, expected none with a reproducer\n"
    assert (result.exit_code, result.stderr) == (2, expected)
