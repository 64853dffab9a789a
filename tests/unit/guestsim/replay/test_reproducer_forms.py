"""Reproducers in other forms: quoted in mails, QEMU's tests in C, with controllers that are not modelled."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from devmodels.options import OptionError
from guestsim.cli import app
from guestsim.replay import ctest
from guestsim.replay.report import read_reproducer
from guestsim.replay.reproducer import Reproduced, reproduce

LINES = """\
cat << EOF | ./qemu-system-x86_64 -display none -machine accel=qtest, -m \\
512M -machine q35 -nodefaults -drive \\
  file=null-co://,if=none,format=raw,id=disk0 -device ide-hd,drive=disk0 \\
-qtest stdio 2>&1
outl 0xcf8 0x8000fa24
outl 0xcfc 0xe0000000
outl 0xcf8 0x8000fa04
outw 0xcfc 0x06
readl 0xe0000010
EOF
"""

PROGRAM = r"""/* No call: qtest_outl(s, 1, 2); */
#include "libqtest.h"

static void one(void)
{
    QTestState *s;

    s = qtest_init("-M q35 -nodefaults -m 64M " // two strings
                   "-drive id=d0,if=none,file=null-co://,format=raw "
                   "-device ide-hd,drive=d0");

    qtest_outl(s, 0xcf8, 0x8000fa24);
    qtest_outl(s, 0xcfc, 0xe0000000);
    qtest_outl(s, 0xcf8, 0x8000fa04);
    qtest_outw(s, 0xcfc, 6);
    qtest_bufwrite(s, 0x1000, "\x27\x80" "A\0", 0x5);
    qtest_bufwrite(s, 0x1008,
                   "\x0a", 0x1);
    g_assert_cmphex(qtest_readl(s, 0xe0000010), ==, 0x10000);
    qtest_writel(s, bar + 4, 1);
    qtest_writeq(s, 0x2000, -1ULL);
    qtest_clock_step(s, 1000);
    qtest_quit(s);
}

static void two(void)
{
    QTestState *s = qtest_init("-M pc");
    qtest_inl(s, 0xcfc);
}
"""


def done(tmp_path: Path, text: str) -> Reproduced:
    path = tmp_path / "report.txt"
    path.write_text(text)
    return reproduce(path)


@pytest.mark.parametrize("quote", ["> ", ">", ">> ", "> > ", "  > ", "\t> "])
def test_a_mail_that_quotes_a_command_of_several_lines(tmp_path: Path, quote: str) -> None:
    text = "On Monday somebody wrote:\n" + "".join(quote + line for line in LINES.splitlines(keepends=True))
    result = done(tmp_path, text)
    assert (result.machine, result.command_line, result.requests) == ("q35", 2, 5)
    assert result.reached == {"ich9-ahci at 1f.2": 3}


@pytest.mark.parametrize("indent", [(2, 2), (0, 2), (2, 0), (4, 1)])
def test_a_mail_that_quotes_indented_lines(tmp_path: Path, indent: tuple[int, int]) -> None:
    """All of them, or some."""
    lines = "".join(
        f"> {' ' * indent[at % 2]}{line}" for at, line in enumerate(LINES.splitlines(keepends=True))
    )
    result = done(tmp_path, lines.replace("cat <<", "$ cat <<") + "prose\n")
    assert (result.machine, result.requests, result.reached) == ("q35", 5, {"ich9-ahci at 1f.2": 3})
    assert result.others == [(11, "prose")]


@pytest.mark.parametrize("joint", ["auto=\n-read-only", "auto-read=\n-only", "auto-read-only=\n"])
def test_a_mail_that_breaks_a_line_before_a_hyphen(joint: str) -> None:
    """RFC 2045 §6.7: where it was broken, nothing goes there; the lines behind keep their numbers."""
    text = f"""Content-Transfer-Encoding: quoted-printable

qemu-system-x86_64 -blockdev driver=3Dfile,{joint}=3Doff \\
-qtest stdio
outl 0xcf8 0x80=
00fa24
    qtest_inl(s, =
0xcfc);
inl 0xcfc
"""
    found = read_reproducer(text)
    assert found.arguments == ["-blockdev", "driver=file,auto-read-only=off", "-qtest", "stdio"]
    assert found.requests == [(6, "outl 0xcf8 0x8000fa24"), (10, "inl 0xcfc")]


@pytest.mark.parametrize(
    "sentence",
    [
        "1. Start: `qemu-system-x86_64 -M q35 -qtest stdio`",
        "Don't wait: ``./qemu-system-x86_64 -M q35 -qtest stdio``, then",
        "`which ls` `qemu-system-x86_64 -M q35 -qtest stdio`; and",
    ],
)
def test_a_command_in_backticks_within_a_sentence(sentence: str) -> None:
    found = read_reproducer(f"{sentence}\n2. Send these:\noutl 0xcf8 0x8000fa24\n")
    assert (found.command_line, found.arguments) == (1, ["-M", "q35", "-qtest", "stdio"])
    assert found.others == [(2, "2. Send these:")]


def test_a_command_that_a_sentence_mentions_is_not_before_one_of_its_own() -> None:
    found = read_reproducer(
        "With `qemu-system-x86_64 -M pc` all is well.\nqemu-system-x86_64 -M q35\noutl 0xcf8 1\n"
    )
    assert (found.command_line, found.arguments) == (2, ["-M", "q35"])


def test_a_mail_as_it_was_sent(tmp_path: Path) -> None:
    """RFC 2045 §6.7: equals signs have their code, and long lines are broken."""
    body = LINES.replace("=", "=3D").replace("-nodefaults ", "-nodefau=\nlts ")
    result = done(tmp_path, f"Content-Transfer-Encoding: quoted-printable\n\n{body}")
    assert (result.machine, result.reached) == ("q35", {"ich9-ahci at 1f.2": 3})


def test_a_test_in_c(tmp_path: Path) -> None:
    found = read_reproducer(PROGRAM)
    assert (found.command_line, found.arguments[:2], found.left) == (8, ["-M", "q35"], 1)
    assert found.requests == [
        (12, "outl 0xcf8 0x8000fa24"),
        (13, "outl 0xcfc 0xe0000000"),
        (14, "outl 0xcf8 0x8000fa04"),
        (15, "outw 0xcfc 0x6"),
        (16, "write 0x1000 0x5 0x2780410000"),
        (17, "write 0x1008 0x1 0x0a"),
        (19, "readl 0xe0000010"),
        (21, "writeq 0x2000 0xffffffffffffffff"),
        (22, "clock_step 1000"),
    ]
    assert found.others == [(20, "qtest_writel(s, bar + 4, 1);")]
    result = done(tmp_path, PROGRAM)
    assert (result.machine, result.reached) == ("q35", {"ich9-ahci at 1f.2": 3})
    assert result.answers[0] == (19, "0x0000000000010000")


@pytest.mark.parametrize("quote", ["+", "> +", "> "])
def test_a_patch_that_a_mail_quotes(quote: str) -> None:
    lines = "".join(quote + line for line in PROGRAM.splitlines(keepends=True))
    assert read_reproducer(lines).requests == read_reproducer(PROGRAM).requests


def test_a_patch_s_lines_that_go() -> None:
    lines = "@@ -1,2 +1,2 @@\n-    qtest_outb(s, 0x70, 1);\n+    qtest_outb(s, 0x70, 2);\n"
    assert read_reproducer(lines).requests == [(3, "outb 0x70 0x2")]


@pytest.mark.parametrize(
    ("call", "request_line"),
    [
        ("qtest_inb(s, 0x1f7)", "inb 0x1f7"),
        ("qtest_outb(s, 010, 0x1ff)", "outb 0x8 0xff"),
        ("qtest_writeb(s, 0x10, -1)", "writeb 0x10 0xff"),
        ("qtest_readq(s, 4096UL)", "readq 0x1000"),
        ("qtest_memset(s, 0x3000, 0xaa, 16)", "memset 0x3000 0x10 0xaa"),
        ("qtest_memread(s, 0x3000, buf, 16)", "read 0x3000 0x10"),
        (r'qtest_memwrite(s, 0, "\101\n\"", 3)', "write 0x0 0x3 0x410a22"),
        ("qtest_clock_step_next(s)", "clock_step"),
        ("qtest_clock_set(s, 5)", "clock_set 5"),
        ('qtest_irq_intercept_in(s, "ioapic")', "irq_intercept_in ioapic"),
    ],
)
def test_a_call_in_c(call: str, request_line: str) -> None:
    (machine,), others = ctest.machines(f"x = {call};")
    assert (machine.requests, others) == ([(1, request_line)], [])


@pytest.mark.parametrize(
    "call",
    [
        "qtest_outl(s, port, 1)",
        "qtest_outl(s, 0xcf8)",
        "qtest_outl(s, 08, 1)",
        'qtest_bufwrite(s, 0, "a", 3)',
        "qtest_bufwrite(s, 0, data, 3)",
        "qtest_qmp(s, x)",
        "qtest_outl(s, f(1, 2), 3)",
        "qtest_outl(s, 1,",
        'qtest_outl(s, "',
        "qtest_outl(",
    ],
)
def test_a_call_whose_arguments_are_not_known_is_told_apart(call: str) -> None:
    assert ctest.machines(call) == ([], [(1, call)])


def test_a_controller_that_is_not_modelled_keeps_its_slot(tmp_path: Path) -> None:
    null = "-blockdev driver=null-co,node-name="
    text = (
        "qemu-system-i386 -M q35 -nodefaults -device megasas -device scsi-cd,drive=n0 "
        f"{null}n0 -device virtio-blk-pci,drive=n1 {null}n1 -qtest stdio\n"
        "outl 0xcf8 0x80000800\ninl 0xcfc\noutl 0xcf8 0x80001000\ninl 0xcfc\n"
    )
    result = done(tmp_path, text)
    assert result.not_modelled == ["megasas", "scsi-cd"]
    assert [answer for _, answer in result.answers] == ["0x601000", "0x10011af4"]
    assert result.reached == {"virtio-blk-pci at 02.0": 1}
    run = CliRunner().invoke(app, ["replay", str(tmp_path / "report.txt")])
    assert "not modelled, left out: megasas, scsi-cd" in run.stdout


def test_units_behind_a_host_that_is_modelled_stay(tmp_path: Path) -> None:
    null = "-blockdev driver=null-co,node-name="
    text = (
        f"qemu-system-i386 -device am53c974,id=a -device scsi-hd,bus=a.0,drive=n0 {null}n0 "
        f"-device virtio-scsi-pci,id=v -device scsi-hd,bus=v.0,drive=n1 {null}n1\ninb 0x70\n"
    )
    assert done(tmp_path, text).not_modelled == ["am53c974", "scsi-hd"]


def test_what_is_neither_a_trace_nor_a_report_is_said_of_both(tmp_path: Path) -> None:
    path = tmp_path / "prose.txt"
    path.write_text("Hello\n")
    run = CliRunner().invoke(app, ["replay", str(path)])
    assert (run.exit_code, run.stderr.count("\n")) == (2, 1)
    assert (
        "not a trace, expected 'devmodels-trace' at its beginning; no report: no request is in it"
        in run.stderr
    )


def test_what_nobody_has_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="'sdhci-pcl' is not a valid device model name"):
        done(tmp_path, "qemu-system-i386 -device sdhci-pcl\ninb 0x70\n")


DISK = "-device virtio-blk-pci,drive=d -drive if=none,id=d,file=null-co://,format=raw"


@pytest.mark.parametrize(
    ("devices", "left", "slot"),
    [
        ("-device virtio-rng", ["virtio-rng-pci"], 2),
        ("-device virtio-balloon-pci -device virtio-9p-pci,fsdev=f,mount_tag=t -fsdev synth,id=f", 2, 3),
        ("-device virtio-serial-pci,id=s -device virtserialport,bus=s.0,chardev=c -chardev null,id=c", 2, 2),
        ("-device piix3-usb-uhci,id=u -device usb-tablet,bus=u.0", ["piix3-usb-uhci", "usb-tablet"], 2),
        ("-device intel-hda -device hda-duplex", ["intel-hda", "hda-duplex"], 2),
        ("-device nvme,serial=x,drive=n -drive if=none,id=n,file=null-co://", ["nvme"], 2),
        ("-device floppy,unit=0 -device sdhci-pci -device i6300esb", ["floppy", "sdhci-pci", "i6300esb"], 3),
        ("-device intel-iommu,intremap=on", ["intel-iommu"], 1),
        ("-device x3130-upstream,id=p -device e1000,bus=p", ["x3130-upstream", "e1000"], 2),
    ],
)
def test_a_device_that_is_not_modelled_leaves_the_others_where_they_are(
    tmp_path: Path, devices: str, left: list[str] | int, slot: int
) -> None:
    text = f"qemu-system-i386 -M q35 -nodefaults {devices} {DISK}\noutl 0xcf8 {0x80000000 | slot << 11:#x}\ninl 0xcfc\n"
    result = done(tmp_path, text)
    assert (len(result.not_modelled) if isinstance(left, int) else result.not_modelled) == left
    assert result.answers == [(3, "0x10011af4")]


def test_a_device_of_ours_behind_one_that_is_not_modelled(tmp_path: Path) -> None:
    line = f"qemu-system-i386 -M q35 -nodefaults -device x3130-upstream,id=p {DISK}".replace(
        "drive=d", "drive=d,bus=p"
    )
    with pytest.raises(OptionError, match='Bus "p" is of a device that is not modelled here'):
        done(tmp_path, f"{line}\ninb 0x70\n")


def test_a_unit_without_any_scsi_host(tmp_path: Path) -> None:
    line = "-device virtio-rng -device scsi-hd,drive=d -drive if=none,id=d,file=null-co://"
    with pytest.raises(OptionError, match="no 'SCSI' bus found"):
        done(tmp_path, f"qemu-system-i386 {line}\ninb 0x70\n")


AHCI = """\
qemu-system-x86_64 -display none -M q35 -nodefaults -qtest stdio \\
  -drive file=null-co://,if=none,format=raw,file.read-zeroes=on,id=d -device ide-hd,drive=d,bus=ide.0
outl 0xcf8 0x8000fa24
outl 0xcfc 0xe0000000
outl 0xcf8 0x8000fa04
outw 0xcfc 0x6
writel 0xe0000100 0x4000
writel 0xe0000108 0x5000
writel 0x4068 0x6000
"""
"""Port 0's command list, receive area, and the table of slot 3."""


def answers(tmp_path: Path, text: str) -> tuple[list[int], Reproduced]:
    result = done(tmp_path, text)
    assert result.refused == []
    return [int(answer.split()[-1], 0) for _, answer in result.answers], result


def test_a_read_of_sectors_that_a_reset_of_the_hba_follows(tmp_path: Path) -> None:
    """As in Launchpad bug 1915539, where the port is started again with nothing but zeros in its slots."""
    text = AHCI + (
        "writel 0xe0000118 0x11\nwritel 0x4060 0x10005\nwrite 0x6000 0x10 0x27802400000000400000000001000000\n"
        "write 0x6080 0x10 0x007000000000000000000000ff010000\nmemset 0x7000 0x200 0xa5\nwritel 0xe0000138 0x9\n"
        "readl 0xe0000138\nreadl 0xe0000120\nreadl 0xe0000110\nreadl 0x4064\nreadl 0x7000\n"
        "writel 0xe0000004 0x1\nreadl 0xe0000004\nreadl 0xe0000138\nreadl 0xe0000118\nreadl 0xe0000120\n"
        "writel 0xe0000118 0x1\nreadl 0xe0000118\nreadl 0xe0000138\n"
    )
    read, result = answers(tmp_path, text)
    # QEMU 7.2 answers the same.
    assert read == [1, 0x50, 3, 512, 0, 0x8000_0000, 0, 6, 0x7F, 0x8001, 0]
    assert result.in_reach == 17


def test_a_dma_command_that_is_issued_before_its_port_runs(tmp_path: Path) -> None:
    """As in QEMU's issue 2777: READ DMA EXT without regions, at which QEMU 7.2 ends with a failed assertion."""
    text = AHCI + (
        "writel 0x4060 0x5\nwrite 0x6000 0x10 0x27802500000000400000000001000000\nwritel 0xe0000138 0x8\n"
        "readl 0xe0000138\nwritel 0xe0000118 0x11\nreadl 0xe0000118\nreadl 0x4064\nreadl 0xe0000120\n"
    )
    read, result = answers(tmp_path, text)
    assert read[:2] == [8, 0xC011]
    assert read[2] == 0
    assert result.in_reach == 9


def test_a_scsi_host_whose_driver_says_all_at_once(tmp_path: Path) -> None:
    """Status 0Fh through the legacy interface, as fuzzers write it: queues run, and INQUIRY is answered."""
    chain = "0000020000000000330000000100010000100200000000006c0000000300020000200200000000002400000002000000"
    text = (
        "qemu-system-x86_64 -M pc -nodefaults -device virtio-scsi-pci,addr=4 -device scsi-hd,drive=d "
        "-drive if=none,id=d,file=null-co://,format=raw -qtest stdio\n"
        "outl 0xcf8 0x80002010\noutl 0xcfc 0xc001\noutl 0xcf8 0x80002004\noutw 0xcfc 0x7\n"
        f"outb 0xc012 0xf\ninb 0xc012\noutw 0xc00e 0x2\noutl 0xc008 0x10\nwrite 0x10000 0x30 0x{chain}\n"
        "writeb 0x20000 0x1\nwritel 0x20013 0x12\nwriteb 0x20017 0x24\nwritel 0x11000 0x10000\n"
        "memset 0x21000 0x6c 0xff\noutw 0xc010 0x2\ninb 0xc013\nreadl 0x12000\nreadl 0x12008\nreadq 0x21000\n"
        "readw 0x22002\n"
    )
    read, _ = answers(tmp_path, text)
    # Of the answer the version is the unit's own.
    assert [*read[:-1], read[-1] >> 8] == [0xF, 1, 0x10000, 0x90, 0, 0x12]


FUZZED = """\
[I 0.000000] OPENED
[R +0.019001] outl 0xcf8 0x8000fa24
[S +0.019010] OK
[R +0.019101] outl 0xcfc 0xe0000000
[R +0.019201] outl 0xcf8 0x8000fa04
[R +0.019301] outw 0xcfc 0x6
[R +0.019401] writel 0xe0000004 0x80000000
[R +0.019402] writel 0xe0000100 0x100000
[R +0.019403] writel 0xe0000108 0x101000
[R +0.019404] writel 0xe0000118 0x11
[R +0.019405] writel 0xe0000138 0x1
[DMA] [R +0.034639] write 0x100000 0x20 0x0500010000000000002010000000000000000000000000000000000000000000
[S +0.034640] OK
[DMA][R +0.034639] write 0x102000 0x4 0x2780ec00
[DMA] [DOUBLE-FETCH] [R +0.034639] write 0x102080 0x10 0x003010000000000000000000ff010000
[R +0.028431] readl 0xe0000110
[R +0.028432] readl 0xe0000138
"""
"""IDENTIFY DEVICE, of which the memory is filled when the HBA reads it."""


@pytest.mark.parametrize(
    "start",
    [
        'export QEMU_ARGS="{}"\n',
        '$ QEMU_ARGS="{}" QTEST_LOG=1 ./qemu-fuzz-i386 --fuzz-target=generic-fuzz crash-1234\n',
        "QEMU_FUZZ_ARGS='{}' QEMU_FUZZ_OBJECTS='ahci*' ./qemu-fuzz-i386 --fuzz-target=generic-fuzz\n",
        "qemu-system-i386 {}\n",
    ],
)
def test_memory_that_a_fuzzer_fills_while_the_device_reads_it(tmp_path: Path, start: str) -> None:
    line = "-machine q35 -nodefaults -device ide-hd,drive=d,bus=ide.0 -drive if=none,id=d,format=raw,file=null-co://"
    text = start.format(line) + FUZZED
    result = done(tmp_path, text)
    assert (result.machine, result.command_line, result.others) == ("q35", 1, [])
    assert (result.requests, result.moved, result.fetched_again) == (14, 3, 1)
    # PSS with DHRS of the port's beginning, and PxCI: the command has been done.
    assert [answer for _, answer in result.answers] == ["0x0000000000000003", "0x0000000000000000"]
    found = read_reproducer(text)
    assert [number for number, _ in found.requests][7:12] == [11, 13, 15, 16, 12]
    run = CliRunner().invoke(app, ["replay", str(tmp_path / "report.txt")])
    assert "3 requests moved before the access that the log has them behind; 1 of memory that" in run.stdout


def test_memory_that_is_filled_before_any_access() -> None:
    found = read_reproducer("[DMA] [R +0.1] write 0x1000 0x1 0xaa\n[R +0.2] inb 0x70\n")
    assert ([number for number, _ in found.requests], found.moved) == ([1, 2], 0)


@pytest.mark.parametrize(
    "line",
    [
        'QEMU_ARGS="{}" ./qemu-system-x86_64 $QEMU_ARGS -qtest stdio < in.qtest',
        'QEMU_ARGS="{}"; ./qemu-system-x86_64 ${{QEMU_ARGS}} -qtest stdio < in.qtest',
        'env QEMU_ARGS="{}" QEMU_PATH=./qemu-system-x86_64 ./scripts/oss-fuzz/minimize_qtest_trace.py in out',
        'export QEMU_ARGS="{}" QEMU_PATH=./qemu-system-x86_64',
        'export QEMU_PATH=./qemu-system-x86_64 && cat in | QEMU_ARGS="" $QEMU_PATH {} -qtest stdio',
        "QEMU_FUZZ_ARGS='{}' QEMU_FUZZ_OBJECTS='*' ./qemu-fuzz-i386 --fuzz-target=generic-pci-fuzz crash",
        "export QEMU_ARGS={}",
        'ASAN_OPTIONS=detect_leaks=0:exitcode=1 ./qemu-system-x86_64 {} -qtest stdio < "in file"',
    ],
)
def test_variables_that_are_given_a_value_before_a_command(tmp_path: Path, line: str) -> None:
    text = line.format("-machine q35 -nodefaults") + "\noutl 0xcf8 0x80000000\ninl 0xcfc\n"
    result = done(tmp_path, text)
    assert (result.machine, result.command_line, result.others) == ("q35", 1, [])
    assert result.answers == [(3, "0x29c08086")]


def test_numbers_with_a_sign(tmp_path: Path) -> None:
    result = done(tmp_path, "qemu-system-i386 -M pc -nodefaults\nclock_step -1\nclock_set +5\n")
    assert (result.requests, result.others) == (2, [])


def test_an_image_that_stands_alone(tmp_path: Path) -> None:
    image = tmp_path / "d.img"
    image.write_bytes(bytes(1 << 20))
    result = done(tmp_path, f"qemu-system-i386 -M pc -nodefaults {image}\noutb 0x1f6 0xa0\ninb 0x1f7\n")
    assert result.answers == [(3, "0x0050")]
