# SPDX-License-Identifier: Apache-2.0
"""The short and the full forms of load and dump, on every pipeline."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from small_stores import PIPELINES

from ucm.errors import Cancelled, NotFound

torch = pytest.importorskip("torch")


def block(seed: int, size: int = 6000) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_block_comes_back_as_it_was(make_store, pipeline):
    store = make_store(pipeline)
    first, back = block(1), np.zeros(6000, np.uint8)
    assert store.lookup([b"one"]) == [False]
    assert store.wait(store.dump([b"one"], 0, first)) == 0
    assert store.lookup([b"one", b"two"]) == [True, False]
    store.wait(store.load([b"one"], 0, back))
    assert (back == first).all()


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_rows_of_several_pieces_and_shards_come_back_in_place(make_store, pipeline):
    store = make_store(pipeline, layout=([512, 1024, 64], 3))
    ids = [bytes([n]) * 16 for n in range(5)]
    data = {
        (i, shard): [block(100 * i + 10 * shard + j, n) for j, n in enumerate((512, 1024, 64))]
        for i in range(5)
        for shard in range(3)
    }
    tasks = [store.dump(ids, shard, [data[i, shard] for i in range(5)]) for shard in range(3)]
    for task in tasks:
        store.wait(task)
    assert store.lookup(ids) == [True] * 5
    order = [(i, shard) for shard in (2, 0, 1) for i in (4, 0, 3, 1, 2)]
    back = [[np.zeros(n, np.uint8) for n in (512, 1024, 64)] for _ in order]
    store.wait(store.load([ids[i] for i, _ in order], [shard for _, shard in order], back))
    for (i, shard), row in zip(order, back, strict=True):
        assert all((a == b).all() for a, b in zip(row, data[i, shard], strict=True))


def test_a_block_is_invisible_until_its_last_shard_is_stored(make_store):
    store = make_store(layout=([256], 4))
    for shard in (3, 1, 0):
        store.dump([b"k"], shard, block(shard, 256))
        assert store.lookup([b"k"]) == [False]
    store.wait(store.dump([b"k"], 2, block(2, 256)))
    assert store.lookup([b"k"]) == [True]


def test_addresses_move_the_same_bytes_as_tensors(make_store):
    store = make_store(layout=([128, 128], 1))
    data, back = block(3, 512).reshape(4, 128), np.zeros((4, 128), np.uint8)
    ids = [b"a", b"b"]
    addresses = data.ctypes.data + 128 * np.arange(4, dtype=np.uint64).reshape(2, 2)
    store.wait(store.dump_data(ids, 0, addresses))
    lists = [[back.ctypes.data + 128 * (2 * i + j) for j in range(2)] for i in range(2)]
    store.wait(store.load_data(ids, [0, 0], lists))
    assert (back == data).all()


def test_one_piece_takes_a_flat_list_of_addresses(make_store):
    store = make_store(layout=([64], 1))
    data, back = block(4, 128), np.zeros(128, np.uint8)
    store.wait(store.dump_data([b"a", b"b"], 0, [data.ctypes.data, data.ctypes.data + 64]))
    store.wait(store.load_data([b"a", b"b"], 0, [back.ctypes.data, back.ctypes.data + 64]))
    assert (back == data).all()


def test_one_tensor_per_row_needs_no_inner_lists(make_store):
    store = make_store()
    data = [block(n, 300) for n in range(3)]
    back = [np.zeros(300, np.uint8) for _ in range(3)]
    store.wait(store.dump([b"a", b"b", b"c"], 0, data))
    store.wait(store.load([b"c", b"b", b"a"], [0, 0, 0], back[::-1]))
    assert all((a == b).all() for a, b in zip(data, back, strict=True))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e4m3fn", "int8", "bool"])
def test_torch_tensors_of_any_dtype_move(make_store, dtype):
    store = make_store()
    data = torch.randint(0, 2, (7, 33)).to(getattr(torch, dtype))
    back = torch.zeros_like(data)
    store.wait(store.dump([b"t"], 0, data))
    store.wait(store.load([b"t"], 0, back))
    assert torch.equal(data.view(torch.uint8), back.view(torch.uint8))


def test_buffers_and_dlpack_tensors_move(make_store):
    class OnlyDlpack:
        def __init__(self, array):
            self.__dlpack__ = array.__dlpack__
            self.array = array

        def __dlpack__(self, **kwargs):
            return self.array.__dlpack__(**kwargs)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    store = make_store()
    back = bytearray(64)
    store.wait(store.dump([b"b"], 0, b"x" * 64))
    store.wait(store.load([b"b"], 0, back))
    assert bytes(back) == b"x" * 64
    array = np.zeros(64, np.uint8)
    store.wait(store.load([b"b"], 0, OnlyDlpack(array)))
    assert array.tobytes() == b"x" * 64


def test_lookup_tells_each_block_after_a_miss_too(make_store):
    store = make_store()
    store.wait(store.dump([b"a", b"c"], 0, [block(1), block(2)]))
    assert store.lookup([b"a", b"b", b"c"]) == [True, False, True]
    assert store.lookup_prefix([b"a", b"b", b"c"]) == 1
    assert store.lookup_on_prefix([b"a", b"c", b"b"]) == 1
    assert store.lookup_on_prefix([b"b", b"a"]) == -1
    assert store.lookup([]) == [] and store.lookup_prefix([]) == 0


def test_a_block_that_is_not_stored_fails_its_row_and_no_other(make_store):
    store = make_store()
    store.wait(store.dump([b"a"], 0, block(1)))
    back = [np.zeros(6000, np.uint8) for _ in range(3)]
    task = store.load([b"x", b"a", b"y"], 0, back)
    with pytest.raises(NotFound) as caught:
        store.wait(task)
    assert caught.value.failed_rows == [0, 2] == task.failed_rows
    assert isinstance(task.error, NotFound)
    assert (back[1] == block(1)).all()
    assert store.check(task) is True


def test_a_task_may_be_waited_for_any_number_of_times(make_store):
    store = make_store()
    task = store.dump([b"a"], 0, block(1))
    task.wait()
    task.wait()
    assert task.done and task.released and task.error is None and task.task_type == "DUMP"


def test_tensors_may_be_dropped_while_their_task_is_under_way(make_store):
    store = make_store()
    for n in range(30):
        store.dump([b"%d" % n], 0, np.full(300_000, n, np.uint8))
    noise = [np.full(300_000, 255, np.uint8) for _ in range(30)]  # takes what is freed too early
    back = np.zeros(300_000, np.uint8)
    for n in range(30):
        while store.lookup([b"%d" % n]) != [True]:
            time.sleep(0.001)
        store.wait(store.load([b"%d" % n], 0, back))
        assert (back == n).all()
    assert len(noise) == 30


@pytest.mark.parametrize("pipeline", PIPELINES[:4])
def test_another_process_of_the_same_directory_finds_the_blocks(make_store, pipeline):
    first = make_store(pipeline)
    first.wait(first.dump([b"a" * 16, b"any length"], 0, [block(1), block(2)]))
    first.close()
    second = make_store(pipeline)
    assert second.lookup([b"a" * 16, b"any length", b"z"]) == [True, True, False]
    back = np.zeros(6000, np.uint8)
    second.wait(second.load([b"any length"], 0, back))
    assert (back == block(2)).all()


def test_prefetch_is_a_hint_that_never_fails(make_store):
    store = make_store()
    store.prefetch([b"a"])
    store.wait(store.dump([b"a"], 0, block(1)))
    store.prefetch([b"a", b"absent"])
    assert store.lookup([b"a"]) == [True]


def test_empty_batches_are_done_at_once(make_store):
    store = make_store()
    for task in (store.dump([], 0, []), store.load([], [], [])):
        store.wait(task)
        assert task.done


def test_a_prefix_lookup_reads_ahead_when_the_configuration_says_so(make_store):
    ids = [bytes([n]) * 16 for n in range(10)]
    writer = make_store("Cache|Posix")
    writer.wait(writer.dump(ids, 0, [block(n) for n in range(10)]))
    writer.close()
    ahead = {"prefetch_enabled": True, "prefetch_depth": 4}
    reader = make_store("Cache|Posix", more=ahead, layout=([6000], 1))
    assert reader.lookup_prefix(ids) == 10
    read = 'ucm_transfer_blocks_total{direction="load",stage="Posix"}'
    for _ in range(1000):
        if reader.stats()[read] >= 4:
            break
        time.sleep(0.01)
    assert reader.stats()[read] == 4
    back = np.zeros(6000, np.uint8)
    reader.wait(reader.load(ids[:1], 0, back))
    assert (back == block(0)).all() and reader.stats()[read] == 4


def test_threads_share_a_store(make_store):
    store = make_store("Cache|Posix", layout=([6000], 1))
    wrong: list[int] = []

    def work(first: int) -> None:
        for n in range(first, first + 20):
            store.wait(store.dump([b"%d" % n], 0, block(n)))
            back = np.zeros(6000, np.uint8)
            store.wait(store.load([b"%d" % n], 0, back))
            if (back != block(n)).any() or store.lookup([b"%d" % n]) != [True]:
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(100 * n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_threads_that_come_first_settle_the_sizes_once(make_store):
    store = make_store("Cache|Posix")
    failures: list[Exception] = []

    def work(n: int) -> None:
        try:
            store.lookup([b"%d" % n])
            store.wait(store.dump([b"%d" % n], 0, block(n)))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert all(store.lookup([b"%d" % n for n in range(12)]))


def test_a_task_passes_both_milestones_and_can_be_cancelled(make_store):
    store = make_store("Cache|Posix", layout=([6000], 1))
    task = store.dump([b"a"], 0, block(1))
    task.wait_released(30)
    assert task.released
    task.wait(30)
    assert task.done and task.is_completed() and "done" in repr(task)
    other = store.load([b"a"], 0, np.zeros(6000, np.uint8))
    other.cancel()
    try:
        other.wait()
    except Cancelled as error:
        assert error.failed_rows == [0]
    assert other.done
