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


def test_what_has_no_slot_here_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="'sdhci-pci' is not a valid device model name"):
        done(tmp_path, "qemu-system-i386 -device sdhci-pci\ninb 0x70\n")
