"""`--object iothread`, `iothread` and `iothread-vq-mapping`: which thread a queue has, and what is refused."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from devmodels.assembly import Assembly, assemble
from devmodels.conformance import Profile
from devmodels.exports.table import Exports
from devmodels.iocontext import Hold
from devmodels.iothreads import VqMapping, assigned
from devmodels.options import OptionError
from devmodels.virtio.threaded import ThreadedQueue

MIB = 1 << 20


@pytest.fixture
def machine() -> Iterator[Assembly]:
    """A machine with threads t0 to t2, and a disk for a device."""
    with assemble(
        objects=[{"qom-type": "iothread", "id": f"t{number}"} for number in range(3)],
        blockdevs=[{"driver": "memory", "node-name": "d0", "size": MIB}],
        ram=MIB,
        clock="wall",
    ) as assembly:
        yield assembly


def threads_of(machine: Assembly, **options: object) -> list[str]:
    """The thread of each queue of a new device."""
    given = {name.replace("_", "-"): value for name, value in options.items()}
    machine.add_device({"driver": "virtio-blk-pci", "drive": "d0", "id": "v0", **given})
    queues = machine.virtio_device("v0").queues
    return [queue.thread.name for queue in queues if isinstance(queue, ThreadedQueue)]


def test_without_threads_queues_are_at_home(machine: Assembly) -> None:
    assert threads_of(machine, num_queues=2) == []
    assert machine.virtio_device("v0").queues[0].context is machine.context


def test_iothread_is_for_every_queue(machine: Assembly) -> None:
    assert threads_of(machine, num_queues=3, iothread="t1") == ["t1", "t1", "t1"]


def test_queues_go_round_where_the_mapping_does_not_say(machine: Assembly) -> None:
    mapping = [{"iothread": "t2"}, {"iothread": "t0"}]
    assert threads_of(machine, num_queues=5, iothread_vq_mapping=mapping) == ["t2", "t0", "t2", "t0", "t2"]


def test_the_mapping_says_which_queue_goes_where(machine: Assembly) -> None:
    mapping = [{"iothread": "t0", "vqs": [1, 2]}, {"iothread": "t1", "vqs": [0]}]
    assert threads_of(machine, num_queues=3, iothread_vq_mapping=mapping) == ["t1", "t0", "t0"]


def test_a_device_on_mmio_has_threads_too(machine: Assembly) -> None:
    machine.add_device({"driver": "virtio-blk-device", "drive": "d0", "id": "v0", "iothread": "t0"})
    (queue,) = machine.virtio_device("v0").queues
    assert isinstance(queue, ThreadedQueue)


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ([{"iothread": "t9"}], 'IOThread "t9" object does not exist'),
        ([{"iothread": "t0"}, {"iothread": "t0"}], 'duplicate IOThread name "t0" in iothread-vq-mapping'),
        (
            [{"iothread": "t0", "vqs": [0]}, {"iothread": "t1"}],
            "either all items in iothread-vq-mapping must have vqs or none of them must have it",
        ),
        (
            [{"iothread": "t0", "vqs": [0, 2]}],
            'vq index 2 for IOThread "t0" must be less than num_queues 2 in iothread-vq-mapping',
        ),
        (
            [{"iothread": "t0", "vqs": [0, 1]}, {"iothread": "t1", "vqs": [1]}],
            'cannot assign vq 1 to IOThread "t1" because it is already assigned',
        ),
        ([{"iothread": "t0", "vqs": [0]}], "missing vq 1 IOThread assignment in iothread-vq-mapping"),
        ([], "iothread-vq-mapping is empty; expected at least one iothread"),
        (
            [{"iothread": "t0", "vqs": ["x"]}],
            'iothread-vq-mapping[0].vqs[0]: "x" is given; expected an integer',
        ),
    ],
)
def test_a_mapping_that_cannot_be(machine: Assembly, mapping: object, expected: str) -> None:
    with pytest.raises(OptionError) as caught:
        threads_of(machine, num_queues=2, iothread_vq_mapping=mapping)
    assert str(caught.value) == f"device virtio-blk-pci: {expected}"
    assert threads_of(machine, iothread="t0") == ["t0"], "drive, place and name are free again"


def test_threads_that_cannot_be_had(machine: Assembly) -> None:
    with pytest.raises(OptionError, match="device virtio-blk-pci: Device 't9' not found"):
        threads_of(machine, iothread="t9")
    with pytest.raises(OptionError, match="properties cannot be set at the same time"):
        threads_of(machine, iothread="t0", iothread_vq_mapping=[{"iothread": "t0"}])
    with pytest.raises(OptionError, match="iommu_platform is on, expected no iothread with it"):
        machine.add_device(
            {
                "driver": "virtio-blk-device",
                "drive": "d0",
                "force-legacy": False,
                "iommu_platform": True,
                "iothread": "t0",
            }
        )


def test_a_thread_in_use_is_not_deleted(machine: Assembly) -> None:
    threads_of(machine, num_queues=2, iothread_vq_mapping=[{"iothread": "t0"}, {"iothread": "t1"}])
    machine.graph.iothreads.delete("t2")
    with pytest.raises(OptionError, match=r'object "t0" is in use: by device "v0"$'):
        machine.graph.iothreads.delete("t0")
    with pytest.raises(OptionError, match=r'no iothread "t2"; the iothreads are: "t0", "t1"$'):
        machine.graph.iothreads.delete("t2")
    machine.graph.iothreads.release('device "v0"')
    machine.graph.iothreads.delete("t0")


@pytest.mark.long
def test_deleted_threads_are_gone(machine: Assembly) -> None:
    """Memory, which changes while the threads of its devices stand still, forgets those that have ended."""
    ended = []
    for _ in range(3):
        machine.add_object({"qom-type": "iothread", "id": "t9"})
        threads_of(machine, iothread="t9")
        ended.append(weakref.ref(machine.graph.iothreads["t9"]))
        machine.context.run(machine.remove_device("v0"))
        machine.graph.delete_object("t9")
    assert threads_of(machine, iothread="t0") == ["t0"]
    assert isinstance(machine.memory.hold, Hold)
    assert [each.name for each in machine.memory.hold.threads] == ["t0"]
    gc.collect()
    assert [thread() for thread in ended] == [None] * 3


def test_what_a_thread_is_made_from(machine: Assembly) -> None:
    machine.add_object({"qom-type": "iothread", "id": "t7", "poll-max-ns": 0})
    assert machine.graph.iothreads.by_id["t7"].context.poll_max_ns == 0
    assert machine.graph.iothreads.by_id["t0"].context.poll_max_ns == 32768
    for options, expected in (
        ({"id": "t0"}, 'id: "t0" is given; an object of that name is there'),
        ({"id": "t8", "poll-max-ns": -1}, "poll-max-ns: -1 is given; expected a number of nanoseconds"),
        ({"id": "t8", "poll-max-ns": 1 << 63}, "poll-max-ns: 9223372036854775808 is given; expected"),
        (
            {"id": "t8", "poll-grow": 1},
            "poll-grow: no such option; expected one of id, poll-max-ns, qom-type",
        ),
        ({}, "id: missing; expected a name for devices and exports to refer to"),
    ):
        with pytest.raises(OptionError) as caught:
            machine.add_object({"qom-type": "iothread", **options})
        assert expected in str(caught.value)
    with pytest.raises(OptionError, match='qom-type: "can-bus" is given; expected "iothread"'):
        machine.add_object({"qom-type": "can-bus", "id": "s"})


def test_threads_and_throttle_groups_share_their_names(machine: Assembly) -> None:
    with pytest.raises(OptionError, match="an object of that name is there"):
        machine.add_object({"qom-type": "throttle-group", "id": "t0"})
    machine.add_object({"qom-type": "throttle-group", "id": "g0"})
    with pytest.raises(OptionError, match="an object of that name is there"):
        machine.add_object({"qom-type": "iothread", "id": "g0"})


def test_a_virtual_clock_has_no_threads() -> None:
    with pytest.raises(OptionError, match="a virtual clock is one thread's; expected the wall clock"):
        assemble(objects=[{"qom-type": "iothread", "id": "t0"}])


def test_memory_that_is_copied_has_no_threads() -> None:
    with pytest.raises(OptionError, match="device virtio-blk-pci: an iothread needs memory that is shared"):
        assemble(
            objects=[{"qom-type": "iothread", "id": "t0"}],
            blockdevs=[{"driver": "memory", "node-name": "d0", "size": MIB}],
            devices=[{"driver": "virtio-blk-pci", "drive": "d0", "iothread": "t0"}],
            clock="wall",
            ram=MIB,
            shared=False,
        )


def test_a_disk_that_is_on_a_thread_gets_no_device(machine: Assembly) -> None:
    machine.context.run(machine.graph.set_iothread("d0", "t0"))
    with pytest.raises(OptionError, match="drive 'd0' is on an iothread; expected it at home"):
        threads_of(machine, iothread="t0")
    exports = Exports(
        machine.graph, profile=Profile.STRICT, events=machine.events, run_state=machine.run_state
    )
    address = {"type": "unix", "path": "never"}
    with pytest.raises(OptionError, match='node-name: "d0" is on an iothread; expected it at home'):
        exports.add({"type": "vhost-user-blk", "id": "e0", "node-name": "d0", "addr": address})
    machine.context.run(machine.graph.set_iothread("d0", None))
    assert threads_of(machine, iothread="t0") == ["t0"]


NAMES = ("t0", "t1", "t2")


@given(
    num_queues=st.integers(1, 6),
    mapping=st.lists(
        st.builds(
            VqMapping,
            st.sampled_from((*NAMES, "t9")),
            st.just([]) | st.lists(st.integers(-1, 6), max_size=6),
        ),
        max_size=4,
    ),
)
def test_a_mapping_is_refused_or_gives_each_queue_its_thread(
    num_queues: int, mapping: list[VqMapping]
) -> None:
    try:
        names = assigned(mapping, num_queues, NAMES)
    except OptionError as error:
        event(str(error).split(" ")[0])
        return
    assert len(names) == num_queues
    counts = [names.count(item.iothread) for item in mapping]
    assert sum(counts) == num_queues, "no thread twice, none but those"
    if not mapping[0].vqs:
        assert max(counts) - min(counts) <= 1
    else:
        assert all(names[vq] == item.iothread for item in mapping for vq in item.vqs)
        assert sorted(vq for item in mapping for vq in item.vqs) == list(range(num_queues))
