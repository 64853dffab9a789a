"""Files of accesses that somebody has changed: as text editors do, and as broken disks do."""

from __future__ import annotations

from functools import cache

from hypothesis import strategies as st

from guestsim.diff.access import lines
from guestsim.diff.devices import DEVICES
from guestsim.diff.run import random_actions

WORDS = (
    *(
        "device",
        "step",
        "read",
        "write",
        "ram",
        "loose",
        "wait",
        "rest",
        "common+0x14",
        "pci+4",
        "ide+7",
        "data",
    ),
    *(
        "hba+0x138",
        "floppy+0",
        "common+0xfff",
        "common+0x1000",
        "pci+0xffffffffffffffff",
        "common+1+2",
        "+",
        "[x]",
    ),
    *("0", "1", "2", "4", "8", "3", "-1", "0x", "0x1000000", "0x103ffff", "0x1040000", "0x1_0", "²", "1e9"),
    *(
        "order",
        "failed-data",
        "good",
        "virtio-scsi",
        "ab",
        "abc",
        "#",
        "9" * 5000,
        str(1 << 64),
        "\x00",
        "\u2028",
    ),
)

ANYTHING = st.sampled_from(WORDS) | st.text(max_size=6)


@cache
def whole(device: str, number: int) -> bytes:
    """A file as it is saved, of a few steps."""
    steps = DEVICES[device].grammar.lower(random_actions(DEVICES[device], 3, number)[:6])
    return ("\n".join(lines(device, steps)) + "\n").encode()


@st.composite
def mutated(draw: st.DrawFn, devices: tuple[str, ...]) -> bytes:
    """Such a file with a few lines, words or bytes changed."""
    content = whole(draw(st.sampled_from(devices)), draw(st.integers(0, 5)))
    for _ in range(draw(st.integers(1, 4))):
        found = content.split(b"\n")
        at = draw(st.integers(0, len(found) - 1))
        words = found[at].split(b" ")
        word = draw(st.integers(0, len(words) - 1))
        match draw(st.sampled_from(("word", "word", "word", "insert", "drop", "twice", "cut", "byte"))):
            case "word":
                words[word] = draw(ANYTHING).encode()
                found[at] = b" ".join(words)
            case "insert":
                words.insert(word, draw(ANYTHING).encode())
                found[at] = b" ".join(words)
            case "drop":
                del found[at]
            case "twice":
                found.insert(draw(st.integers(0, len(found))), found[at])
            case "cut":
                del found[at + 1 :]
                found[at] = found[at][: draw(st.integers(0, len(found[at])))]
            case "byte":
                place = draw(st.integers(0, len(found[at])))
                found[at] = (
                    found[at][:place] + draw(st.binary(min_size=1, max_size=2)) + found[at][place + 1 :]
                )
        content = b"\n".join(found) or b"\n"
    return content
