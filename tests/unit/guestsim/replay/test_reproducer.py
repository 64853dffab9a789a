"""Reproducers as bug reports print them."""

from __future__ import annotations

from pathlib import Path

import pytest

from devmodels.options import OptionError
from guestsim.replay.reproducer import read_reproducer, reproduce

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
            "qemu-system-i386 -device sdhci-pci -qtest stdio\ninb 0x70\n",
            "'sdhci-pci' is not a valid device model name",
        ),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "bad.qtest"
    path.write_text(text)
    with pytest.raises(OptionError, match=problem) as caught:
        reproduce(path)
    assert "\n" not in str(caught.value)
