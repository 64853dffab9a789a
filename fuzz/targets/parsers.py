"""What users give: traces, snapshots, scripts, options, images' descriptions, logs, cores.

Each is taken, or refused with the one class of errors that is declared for it, in one line.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fuzz.choices import Choices
from fuzz.target import Run
from fuzz.targets.of_hypothesis import any_of, one_of, property_of

UNIT = "tests.unit"
GUESTSIM = "tests.unit.guestsim"


def traces() -> Run:
    """Files of traces: any bytes in a sealed frame, a good file with other bytes in it."""
    from tests.unit import test_tracefile as tests

    folder = Path(mkdtemp())
    test: Any = tests.test_no_bytes_make_it_raise_anything_else

    @given(st.binary(max_size=300), st.integers(0, 400), st.booleans())
    def files(junk: bytes, at: int, sealed: bool) -> None:
        test.hypothesis.inner_test(folder, junk, at, sealed)

    return one_of(files)


def trace_events() -> Run:
    """Events that no device has emitted: shown, put on a page, judged."""
    return any_of(
        property_of(f"{GUESTSIM}.show.test_show", "test_any_trace_can_be_shown"),
        property_of(f"{GUESTSIM}.show.test_page", "test_any_trace_has_a_page"),
        property_of(f"{GUESTSIM}.lint.test_lint", "test_any_trace_can_be_judged"),
        property_of(f"{GUESTSIM}.show.test_decode", "test_any_bytes_are_decoded_whole"),
        property_of(f"{GUESTSIM}.show.test_scsi", "test_any_bytes_have_words"),
    )


def replays() -> Run:
    """Recorded traces with events missing, moved, changed: the devices do them again, or one line says why not."""
    return property_of(f"{GUESTSIM}.replay.test_hostile_traces", "test_a_replay_of_anything_ends")


def snapshots() -> Run:
    """Snapshots in the middle of everything with other values at any places: refused, or the machine works."""
    from tests.unit import test_snapshot_ata as tests

    @given(st.sampled_from(sorted(tests.HOSTS)), tests.MUTATIONS)
    def changed(host: str, mutations: tuple[list[int], list[object]]) -> None:
        tests.check(host, *mutations)

    return one_of(changed)


def scripts() -> Run:
    """Guest scripts: any text, any value in any place, any numbers in steps, which then are done."""
    return property_of(
        f"{GUESTSIM}.test_script_errors",
        "test_any_numbers_in_any_steps_are_an_error_in_one_line_or_a_report",
        "test_any_text_is_a_script_or_an_error_in_one_line",
        "test_any_value_in_any_place_is_a_script_or_an_error_in_one_line",
    )


def script_corpus() -> Run:
    """The scripts of the corpus with lines missing, doubled, moved, and other words in them."""
    from guestsim.script.load import ScriptError, parse_all

    scripts = Path(__file__).parents[2] / "tests" / "scripts"
    texts = [path.read_text() for path in sorted(scripts.rglob("*.guest.yaml")) if path.stat().st_size < 3000]
    words = sorted({word.strip(":,{}[]") for text in texts for word in text.split()})

    def run(data: bytes) -> None:
        choices = Choices(data)
        lines = choices.choice(texts).splitlines()
        while choices.left and lines:
            edit(lines, words, choices)
        try:
            parse_all("\n".join(lines), "f")
        except ScriptError as error:
            one_line(error)

    return run


def edit(lines: list[str], words: list[str], choices: Choices) -> None:
    """Change a text in one place."""
    at = choices.randrange(len(lines))
    line = lines[at]
    match choices.randrange(6):
        case 0:
            del lines[at]
        case 1:
            lines.insert(choices.randrange(len(lines)), line)
        case 2:
            lines[at] = " " * choices.randrange(8) + line.lstrip()
        case 3:
            there = choices.randrange(len(line) + 1)
            lines[at] = line[:there] + choices.choice(words) + line[there:]
        case 4:
            old = line.split()
            if old:
                lines[at] = line.replace(choices.choice(old), choices.choice(words), 1)
        case _:
            there = choices.randrange(len(line) + 1)
            spoilt = choices.take(1 + choices.randrange(3)).decode("latin-1")
            lines[at] = line[:there] + spoilt + line[there + choices.randrange(4) :]


def one_line(error: Exception) -> None:
    """What is said to a user is one line."""
    assert "\n" not in str(error), str(error)


def options() -> Run:
    """Options as pairs and as JSON, of things and of block nodes, which are opened then."""
    return any_of(
        property_of(f"{UNIT}.test_options", "test_any_text_is_taken_or_refused_in_one_line"),
        property_of(
            f"{UNIT}.blockbackend.test_options", "test_whatever_is_given_it_opens_or_one_line_says_why_not"
        ),
        _options_of_devices(),
    )


def _options_of_devices() -> Run:
    """`-device` and `-blockdev` of a machine, with good names and any values."""
    from devmodels.assembly import assemble
    from devmodels.blockbackend import BlockOptionError
    from devmodels.options import OptionError, parse_keyval

    drivers = ("virtio-blk-pci", "virtio-blk-device", "virtio-scsi-pci", "ich9-ahci", "piix3-ide", "ide-hd")
    more = ("ide-cd", "scsi-hd", "scsi-cd", "virtio-scsi-device", "x")
    keys = ("id", "drive", "bus", "addr", "num-queues", "queue-size", "serial", "unit", "lun", "scsi-id")
    more_keys = (
        "logical-block-size",
        "physical-block-size",
        "werror",
        "vectors",
        "packed",
        "seg-max",
        "ports",
    )
    values = ("0", "1", "4", "d0", "on", "off", "x", "-1", "512", "65536", "1M", "report", "sata0.0", "04.0")
    more_values = ("18446744073709551616", "", "s" * 300, "a,,b", "{", "0x10")

    def run(data: bytes) -> None:
        choices = Choices(data)
        nodes = [{"driver": "memory", "node-name": "d0", "size": 1 << 20}]
        with assemble(blockdevs=nodes, ram=1 << 20) as assembly:
            for _ in range(4):
                if not choices.left:
                    break
                pairs = [f"driver={choices.choice(drivers + more)}"]
                pairs += [
                    f"{choices.choice(keys + more_keys)}={choices.choice(values + more_values)}"
                    for _ in range(choices.randrange(5))
                ]
                try:
                    assembly.add_device(parse_keyval(",".join(pairs)))
                except (OptionError, BlockOptionError) as error:
                    one_line(error)
            assembly.machine.run_until_idle()

    return run


def discs() -> Run:
    """Cue sheets, wave files, discs as traces tell them."""
    return any_of(
        property_of(f"{UNIT}.disc.test_cuesheet", "test_any_sheet_is_a_disc_or_one_line"),
        property_of(f"{UNIT}.disc.test_riff", "test_any_bytes_have_samples_or_not"),
        property_of(f"{UNIT}.disc.test_text", "test_whatever_a_trace_says_is_a_disc_or_refused"),
    )


def blkdebug() -> Run:
    """Files of blkdebug's rules; rules that are obeyed."""
    return property_of(
        f"{UNIT}.blockbackend.test_debug_rules",
        "test_any_text_is_rules_or_one_line",
        "test_rules_are_read_as_they_were_written",
        "test_rules_do_what_the_model_does",
    )


def logs() -> Run:
    """fio's iologs, blkparse's text, qemu-io's commands, with pieces that are spoilt; any bytes."""
    from guestsim.blocklog.events import Lines, LogError, Losses
    from guestsim.blocklog.formats import FORMATS, WRITTEN, OpenLog
    from tests.unit.guestsim.blocklog import test_hostile_logs as tests

    good = tests._GOOD
    folder = Path(mkdtemp())

    def lines(data: bytes) -> None:
        choices = Choices(data)
        reader = choices.choice(list(good))
        text = [choices.choice(good[reader]) for _ in range(1 + choices.randrange(6))]
        while choices.left and text:
            edit(text, ["0x9", "k", "1G", "-1", "W", "+", "\0", "é"], choices)
        text = "\n".join(text).split("\n")
        begins, wrong = tests._outcome(reader(Lines(text, "log"), Losses()))
        assert all(0 <= each.offset < 1 << 64 and 0 <= each.length < 1 << 64 for each in begins)
        assert "\n" not in wrong

    def bytes_(data: bytes) -> None:
        choices = Choices(data)
        name = choices.choice([None, *FORMATS])
        write = WRITTEN[choices.choice(list(WRITTEN))].write
        assert write is not None
        path = folder / "any.log"
        path.write_bytes(choices.take(choices.left))
        try:
            with OpenLog(path, None if name is None else FORMATS[name]) as log:
                list(write(log.of_one_disk(None), Losses(), ends=log.format.ends))
        except LogError as error:
            one_line(error)

    return any_of(lines, bytes_)


def write_logs() -> Run:
    """Logs of writes in dm-log-writes' format."""
    return property_of(f"{UNIT}.blockbackend.test_blklogwrites", "test_any_log_is_entries_or_one_line")


def cores() -> Run:
    """Damaged cores; queues that are looked for, and inspected, in memory that holds anything."""
    return any_of(
        property_of(f"{GUESTSIM}.inspect.test_core", "test_a_damaged_core_is_read_or_refused"),
        property_of(f"{GUESTSIM}.inspect.test_find", "test_whatever_is_in_memory_the_search_ends"),
        property_of(f"{GUESTSIM}.inspect.test_split", "test_whatever_is_in_memory_the_inspector_ends"),
        property_of(f"{GUESTSIM}.inspect.test_packed", "test_whatever_is_in_memory_the_inspector_ends"),
        _core_memory,
    )


def _core_memory(data: bytes) -> None:
    """The host's reader of cores, over any bytes behind an ELF's identity."""
    from devmodels.elfcore import CoreError, core_memory

    with TemporaryDirectory() as folder:
        path = Path(folder, "core")
        path.write_bytes(b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + data)
        try:
            core_memory(path)
        except CoreError as error:
            one_line(error)
