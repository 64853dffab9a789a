"""Scripts with rows: one text, many scripts."""

from __future__ import annotations

import pytest

from guestsim.script.load import ScriptError, parse_all
from guestsim.script.run import Options, YamlScript

TEXT = """
name: $variant, $row
variants:
  one: {queues: 1}
  two: {queues: 2}
rows:
  short: {length: 512}
  long: {length: 4096, before: [flush, {sleep: 1ms}], two: {length: 8192}}
  never: {variants: [two], length: 512, data: {pattern: 0}}
drives:
  - {driver: file, node-name: d0, size: 1M}
devices:
  - {driver: virtio-blk-pci, drive: d0, num-queues: $queues}
steps:
  - probe
  - $before
  - read: {length: $length}
    expect: {data: $data}
"""


def test_each_row_is_a_script_in_each_variant() -> None:
    scripts = [script for script, _ in parse_all(TEXT, "f")]
    assert [script.name for script in scripts] == [
        "one, short",
        "one, long",
        "two, short",
        "two, long",
        "two, never",
    ]
    assert [script.devices[0]["num-queues"] for script in scripts] == [1, 1, 2, 2, 2]
    lengths = [script.steps[-1].read.length for script in scripts if script.steps[-1].read]
    assert lengths == [512, 4096, 512, 8192, 512]
    assert [len(script.steps) for script in scripts] == [2, 4, 2, 4, 2]
    assert [script.steps[-1].expect is not None for script in scripts] == [True] * 5
    assert [YamlScript(*each).run(Options()).ok for each in parse_all(TEXT, "f")] == [True] * 5


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            "length: $length",
            "length: $lenth",
            "f:7: rows.short: 'length' is not used, expected $length somewhere",
        ),
        ("data: {pattern: 0}", "x: 1", "f:9: rows.never: 'x' is not used, expected $x somewhere"),
        (", data: {pattern: 0}", "", "f:6: rows: $data has no value in any row, expected one in some"),
        ("[two]", "[three]", "f:9: rows.never: variants ['three'], expected a list of one, two"),
        ("{queues: 1}", "1", "f:4: variants.one: expected a mapping of names and values"),
        ("two: {length: 8192}", "two: 7", "f:8: rows.long: two: expected a mapping of names and values"),
        ("  - probe", "  - {probe: {}, note: it is $data}", "$data in a text, expected a text or a number"),
        ("length: 4096", "length: 4q", "'4q', expected a number of bytes"),
        ("length: 4096", "length: 4q", "(in the row one, long)"),
    ],
)
def test_what_is_wrong_with_rows_is_one_line(old: str, new: str, problem: str) -> None:
    with pytest.raises(ScriptError) as caught:
        parse_all(TEXT.replace(old, new, 1), "f")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
