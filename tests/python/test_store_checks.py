# SPDX-License-Identifier: Apache-2.0
"""Wrong calls are answered before anything moves, with what was expected."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from small_stores import settings

from ucm import _core
from ucm.config import load_config
from ucm.errors import ConfigError, InvalidArgument, IoError, UcmError, Unavailable, Unsupported
from ucm.store.factory import open_store
from ucm.store.platform import choose_platform, for_memory

torch = pytest.importorskip("torch")


@pytest.fixture
def store(make_store):
    return make_store(layout=([100, 28], 2))


def row():
    return [np.zeros(100, np.uint8), np.zeros(28, np.uint8)]


@pytest.mark.parametrize(
    ("ids", "shards", "tensors", "expected"),
    [
        (
            [b"a"],
            0,
            [[np.zeros(100, np.uint8)]],
            "row 0 has 1 tensors: a shard of this store has 2",
        ),
        ([b"a"], 0, [[*row(), *row()]], "row 0 has 4 tensors"),
        ([b"a"], 0, [[np.zeros(99, np.uint8), row()[1]]], "piece 0 of row 0 has 99 bytes: 100"),
        ([b"a", b"b"], 0, [row()], "2 blocks need 2 rows of tensors, not 1"),
        ([b"a"], 2, [row()], "names shard 2: a block of this store has 2 shards of 128 bytes"),
        ([b"a"], -1, [row()], "shard -1 is outside"),
        ([b"a"], [0, 1], [row()], "1 blocks need 1 shard numbers, not 2"),
        ([b"a"], 0.5, [row()], "shard_index is a whole number"),
        ([b"a"], True, [row()], "shard_index is a whole number"),
        ([b"a"], [0.5], [row()], "shard_index is a whole number"),
        (b"abc", 0, [row()], "a list of bytes, not one identifier"),
        (["abc"], 0, [row()], "a block id is bytes, not str; encode text"),
        ([1], 0, [row()], "a block id is bytes, not int"),
        (None, 0, [row()], "a block id is bytes, not NoneType"),
        (np.array([b"a"]), 0, [row()], "numpy drops zeros at the end of bytes"),
        ([b"a", b"b"], 0, np.zeros(4), "2 blocks need a list"),
        ([b"a"], 0, [["x", "y"]], "piece 0 of row 0 is str: a torch tensor"),
        ([b"a"], 0, [[None, None]], "piece 0 of row 0 is NoneType"),
        ([b"a", b"b"], 0, [row(), row()[0]], "row 1 is one tensor and row 0 a list"),
        (
            [b"a"],
            0,
            [[np.zeros((10, 20), np.uint8)[:, :10], row()[1]]],
            "does not lie in one piece",
        ),
        ([b"a"], 0, [[torch.zeros(10, 20)[:, :10], row()[1]]], "pass x.contiguous()"),
        ([b"a"], 0, [[np.array([object()]), row()[1]]], "an array of numbers is expected"),
        ([b"a"], 0, [[np.zeros(0), row()[1]]], "piece 0 of row 0 is empty"),
    ],
)
@pytest.mark.parametrize("kind", ["load", "dump"])
def test_a_call_that_does_not_fit_says_what_was_expected(
    store, kind, ids, shards, tensors, expected
):
    with pytest.raises(InvalidArgument) as caught:
        getattr(store, kind)(ids, shards, tensors)
    assert expected in str(caught.value)


def test_memory_that_may_not_be_written_is_refused_for_load_and_fine_for_dump(store):
    tensors = row()
    tensors[1].flags.writeable = False
    with pytest.raises(InvalidArgument, match="piece 1 of row 0 is read-only"):
        store.load([b"a"], 0, [tensors])
    store.wait(store.dump([b"a"], 0, [tensors]))
    with pytest.raises(InvalidArgument, match="read-only"):
        store.load([b"a"], 0, [[b"x" * 100, row()[1]]])


def test_a_tensor_of_another_device_is_refused(store):
    class Elsewhere:
        device = type("Device", (), {"type": "cuda", "index": 1})()

        def data_ptr(self):
            return 4096

        def element_size(self):
            return 1

        def numel(self):
            return 100

        def is_contiguous(self):
            return True

    with pytest.raises(
        InvalidArgument, match="lies on cuda:1: this store was opened for platform cpu"
    ):
        store.dump([b"a"], 0, [[Elsewhere(), row()[1]]])


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ([[1]], "addresses have shape (1, 1): 1 blocks of 2 pieces (100, 28 bytes) need (1, 2)"),
        ([[4096, 4096], [4096, 4096]], "shape (2, 2)"),
        ([4096], "shape (1,)"),
        ([[4096, 0]], "the address of piece 1 of row 0 is 0"),
        ([["a", "b"]], "addresses are whole numbers"),
        ([[-1, 4096]], "the address of piece 0 of row 0 is -1"),
        ([[4096.5, 4096]], "addresses are whole numbers"),
        ([[4096], [1, 2]], "addresses are whole numbers"),
        (None, "addresses"),
    ],
)
def test_addresses_that_do_not_fit_never_reach_memory(store, addresses, expected):
    with pytest.raises(InvalidArgument) as caught:
        store.load_data([b"a"], 0, addresses)
    assert expected in str(caught.value)


def test_addresses_before_sizes_are_known_are_refused_with_the_way_out(make_store):
    with pytest.raises(InvalidArgument, match=r"layout=.*tensor_size"):
        make_store().dump_data([b"a"], 0, [[4096]])


def test_a_shard_of_a_block_of_unknown_size_is_refused_with_the_way_out(make_store):
    with pytest.raises(InvalidArgument, match="block_bytes"):
        make_store().dump([b"a"], 3, np.zeros(8))


def test_block_bytes_and_the_first_tensor_give_the_shards(make_store):
    store = make_store(more={"block_bytes": 400})
    store.wait(store.dump([b"a"], 3, np.zeros(100, np.uint8)))
    assert store.sizes == ((100,), 4)
    other = make_store(more={"block_bytes": 400}, layout=None)
    with pytest.raises(InvalidArgument, match="does not divide the block of 400"):
        other.dump([b"a"], 0, np.zeros(99, np.uint8))


def test_the_first_tensor_settles_the_sizes(make_store):
    store = make_store()
    store.wait(store.dump([b"a"], 0, np.zeros(100, np.uint8)))
    with pytest.raises(InvalidArgument, match="has 101 bytes: 100 bytes are expected"):
        store.dump([b"b"], 0, np.zeros(101, np.uint8))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {"tensor_size_list": [10, 20], "shard_size": 31},
            "30 bytes together and shard_size is 31",
        ),
        ({"tensor_size": 10, "shard_size": 25}, "no multiple of tensor_size"),
        ({"shard_size": 10, "block_bytes": 25}, "no multiple of its shards"),
        ({"tensor_size_list": [0]}, "a tensor has 0 bytes"),
    ],
)
def test_sizes_that_contradict_one_another_are_refused(make_store, config, expected):
    with pytest.raises(ConfigError, match=expected):
        make_store(more=config)


@pytest.mark.parametrize("layout", [(), ([], 1), ([0], 1), ([4], 0), "x", ([4], 1, 1)])
def test_a_layout_that_is_none_is_refused(make_store, layout):
    with pytest.raises(InvalidArgument, match="layout"):
        make_store(layout=layout)


def test_a_store_for_lookups_refuses_transfers(make_store):
    store = make_store(more={"device_id": -1})
    assert store.lookup([b"a"]) == [False]
    with pytest.raises(InvalidArgument, match="device_id is -1"):
        store.dump([b"a"], 0, np.zeros(10))


def test_a_platform_that_is_not_loaded_is_named_with_its_reason(make_store):
    with pytest.raises(Unavailable, match=r"platform ascend is not usable: .*platform: cpu"):
        make_store(more={"platform": "ascend"}, layout=([10], 1))


@pytest.mark.parametrize("pipeline", ["Cache|Posix", "Cache|Disk", "Posix", "Disk"])
def test_a_path_that_is_a_file_is_an_error_that_names_it(tmp_path, pipeline):
    (tmp_path / "blocks").write_text("not a directory")
    with pytest.raises((IoError, InvalidArgument), match="blocks"):
        open_store(settings(pipeline, tmp_path), layout=([100], 1))


def test_something_else_than_a_task_can_not_be_waited_for(store):
    for call in (store.wait, store.check):
        with pytest.raises(InvalidArgument, match="a task of load or dump is expected, not int"):
            call(7)


def test_a_closed_store_says_so(make_store):
    store = make_store()
    store.close()
    store.close()
    with pytest.raises(Unavailable):
        store.lookup([b"a"])
    with pytest.raises(UcmError):
        store.wait(store.dump([b"a"], 0, np.zeros(10)))


def test_a_store_is_a_context_manager(tmp_path):
    with open_store(settings("Cache|Posix", tmp_path)) as store:
        store.wait(store.dump([b"a"], 0, np.zeros(10)))
    with pytest.raises(Unavailable):
        store.lookup([b"a"])


def test_older_blocks_stay_readable_after_wrong_calls(store):
    data = [np.full(100, 7, np.uint8), np.full(28, 9, np.uint8)]
    for shard in range(2):
        store.wait(store.dump([b"a"], shard, [data]))
    with pytest.raises(InvalidArgument):
        store.dump([b"b"], 0, [[np.zeros(1, np.uint8), row()[1]]])
    back = row()
    store.wait(store.load([b"a"], 1, [back]))
    assert (back[0] == 7).all() and (back[1] == 9).all()


@pytest.mark.parametrize("pipeline", ["Cache|Posix", "Cache|Disk"])
def test_a_path_that_can_not_be_made_is_an_error_that_names_it(tmp_path, pipeline):
    config = {**settings(pipeline, tmp_path), "storage_backends": "/proc/ucm/blocks"}
    with pytest.raises(IoError, match="/proc/ucm"):
        open_store(config, layout=([100], 1))


def test_storage_that_refuses_new_blocks_keeps_the_older_ones_readable(make_store, tmp_path):
    store = make_store("Posix")
    data, back = np.full(100, 3, np.uint8), np.zeros(100, np.uint8)
    store.wait(store.dump([b"\x01" * 16], 0, data))
    for n in range(256):
        folder = tmp_path / "blocks" / f"{n:02x}"
        if n == 0x01:
            continue
        if folder.is_dir():
            folder.rmdir()
        folder.write_text("a file where a directory belongs")
    task = store.dump([b"\x02" * 16, b"\x01" * 16], 0, [data, data])
    with pytest.raises(IoError) as caught:
        store.wait(task)
    assert caught.value.failed_rows == [0]
    assert store.lookup([b"\x01" * 16]) == [True]
    store.wait(store.load([b"\x01" * 16], 0, back))
    assert (back == data).all()


def test_a_read_only_store_loads_and_refuses_dumps(make_store, tmp_path):
    layout = ([100], 1)
    writer = make_store("Cache|Posix", layout=layout)
    data, back = np.full(100, 3, np.uint8), np.zeros(100, np.uint8)
    writer.wait(writer.dump([b"a"], 0, data))
    reader = make_store("Cache|Posix", layout=layout, read_only=True)
    reader.wait(reader.load([b"a"], 0, back))
    assert (back == data).all()
    with pytest.raises(Unsupported):
        reader.wait(reader.dump([b"b"], 0, data))


def far(size):
    """A tensor that says that it lies on a device."""

    class Far:
        __cuda_array_interface__ = {  # noqa: RUF012
            "data": (1 << 40, False),
            "shape": (size,),
            "typestr": "|u1",
            "strides": None,
        }

    return Far()


@pytest.mark.parametrize("pipeline", ["Cache|Posix", "Cache|Disk"])
@pytest.mark.parametrize(
    ("method", "args", "more"),
    [
        ("dump", ([b"a", b"b"], 0, [np.zeros(99, np.uint8), np.zeros(98, np.uint8)]), {}),
        ("dump", ([b"a", b"b"], 0, [[np.zeros(9, np.uint8)] * 2, [np.zeros(9, np.uint8)]]), {}),
        ("dump", ([b"a"], 0, far(99)), {}),
        ("dump", ([b"a"], 0, [np.zeros(99, np.uint8), far(99)]), {}),
        ("dump", ([b"a"], 1, np.zeros(99, np.uint8)), {}),
        ("dump", ([b"a"], 0, np.zeros(99, np.uint8), "x"), {}),
        ("dump", ([b"a"], 0, np.zeros(99, np.uint8), -1), {}),
        ("dump", ([b"a"], 0, np.zeros(99, np.uint8)), {"read_only": True}),
        ("load", ([b"a"], 0, b"read-only memory"), {}),
        ("load", ([b"a"], 0, [bytearray(99), bytearray()]), {}),
        ("dump_data", ([b"a"], 0, [[1, 2]]), {"more": {"block_bytes": 400}}),
        ("dump_data", ([b"a"], 3, [[1]]), {"more": {"block_bytes": 400}}),
        ("dump_data", ([], 0, []), {"more": {"block_bytes": 400}}),
    ],
    ids=range(13),
)
def test_a_first_call_that_moves_nothing_leaves_the_sizes_open(
    make_store, pipeline, method, args, more
):
    store = make_store(pipeline, **more)
    ids, shards, memory, *event = args
    with contextlib.suppress(InvalidArgument, Unsupported):
        task = getattr(store, method)(ids, shards, memory, event=event[0] if event else 0)
        assert not ids and task.done
    assert store.sizes is None
    if not more.get("read_only"):
        data, back = np.full(400, 7, np.uint8), np.zeros(400, np.uint8)
        store.wait(store.dump([b"a"], 0, data))
        store.wait(store.load([b"a"], 0, back))
        assert (back == data).all()


def test_blocks_are_removed_before_their_size_is_known(make_store):
    for pipeline in ("Cache|Disk", "Cache|Posix"):
        first = make_store(pipeline)
        first.wait(first.dump([b"a", b"b"], 0, [np.zeros(100, np.uint8)] * 2))
        first.close()
        second = make_store(pipeline)
        second.remove([b"a", b"never stored"])
        assert second.lookup([b"a", b"b"]) == [False, True]
        second.close()
        assert make_store(pipeline).lookup([b"a", b"b"]) == [False, True]


def platform(name, loaded=True, devices=2, reason=""):
    return {"name": name, "loaded": loaded, "devices": devices, "reason": reason}


@pytest.mark.parametrize(
    ("config", "chosen"),
    [
        ({}, ("cuda", 0)),
        ({"platform": "auto", "device_id": 1}, ("cuda", 1)),
        ({"platform": "cpu", "device_id": 1}, ("cpu", 0)),
        ({"platform": {"type": "cuda", "device_ids": [1, 0]}}, ("cuda", 1)),
    ],
)
def test_the_platform_is_the_accelerator_that_is_loaded(monkeypatch, config, chosen):
    reports = [platform("cpu", devices=1), platform("ascend", devices=0), platform("cuda")]
    monkeypatch.setattr(_core, "platforms", lambda: reports)
    assert choose_platform(load_config(config, environ={}).store) == chosen


@pytest.mark.parametrize(
    ("config", "memory", "built", "chosen"),
    [
        ({}, ("cpu", 0), ("cpu",), ("cpu", 0)),
        ({}, ("cuda", 1), ("cuda",), ("cuda", 1)),
        ({}, ("cuda", 1), ("maca",), ("maca", 1)),
        ({"platform": "auto"}, ("npu", 1), ("ascend",), ("ascend", 1)),
        ({"platform": "maca"}, ("cuda", 0), ("maca",), ("maca", 0)),
        ({}, ("musa", 1), ("musa",), ("musa", 1)),
        (
            {"platform": {"type": "ascend", "device_ids": [0, 1]}},
            ("npu", 1),
            ("ascend",),
            ("ascend", 1),
        ),
    ],
)
def test_under_an_engine_the_platform_is_that_of_its_tensors(
    monkeypatch, config, memory, built, chosen
):
    monkeypatch.setattr(_core, "platforms", lambda: [platform(name) for name in built])
    store = for_memory(load_config(config, environ={}).store, *memory)
    assert choose_platform(store) == chosen


def test_a_platform_that_can_not_move_an_engines_tensors_is_refused(monkeypatch):
    monkeypatch.setattr(_core, "platforms", lambda: [platform("cuda"), platform("ascend")])
    store = load_config({"platform": "ascend"}, environ={}).store
    with pytest.raises(ConfigError, match="'cuda', which needs platform cuda or maca"):
        for_memory(store, "cuda", 0)
    with pytest.raises(Unavailable, match="torch's device 'xpu'"):
        for_memory(load_config({}, environ={}).store, "xpu", 0)
    monkeypatch.setattr(_core, "platforms", list)
    absent = for_memory(load_config({}, environ={}).store, "npu", 0)
    with pytest.raises(Unavailable, match="platform ascend is not usable"):
        choose_platform(absent)


def test_a_device_that_is_not_there_is_counted(monkeypatch):
    monkeypatch.setattr(_core, "platforms", lambda: [platform("cuda")])
    with pytest.raises(ConfigError, match="device 2 of platform cuda: there are 2"):
        choose_platform(load_config({"device_id": 2}, environ={}).store)
    monkeypatch.setattr(_core, "platforms", lambda: [platform("cuda", False, 0, "no driver")])
    with pytest.raises(Unavailable, match="platform cuda is not usable: no driver"):
        choose_platform(load_config({"platform": "cuda"}, environ={}).store)
