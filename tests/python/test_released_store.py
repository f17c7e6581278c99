# SPDX-License-Identifier: Apache-2.0
"""`UcmPipelineStore` with configurations of released UCM, and none of the defects known there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from processes import started

from ucm.errors import ConfigError, InvalidArgument, NoSpace, NotFound, UcmError
from ucm.store.pipeline.connector import UcmPipelineStore

SHARD = 64 << 10
PIPELINES = ("Posix", "Cache|Posix", "Cache|Disk")


def name(n: int) -> bytes:
    return n.to_bytes(16, "little")


def shard_data(n: int, shard: int, size: int = SHARD) -> np.ndarray:
    return np.random.default_rng([n, shard]).integers(0, 256, size, dtype=np.uint8)


@pytest.fixture
def make(tmp_path):
    opened = []

    def make(pipeline="Cache|Posix", shards=1, size=SHARD, **more):
        config = {
            "store_pipeline": pipeline,
            "storage_backends": [str(tmp_path / "store")],
            "unique_id": "engine",
            "device_id": 0,
            "tensor_size_list": [size],
            "shard_size": size,
            "block_size": size * shards,
            "timeout_ms": 30000,
            "prefault": False,
            "max_pinned_size": 64 << 20,
            "capacity_bytes": 512 << 20,
            **more,
        }
        opened.append(UcmPipelineStore(config))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


def dump(store, numbers, shards=1):
    ids = [name(n) for n in numbers for _ in range(shards)]
    order = [shard for _ in numbers for shard in range(shards)]
    data = [[shard_data(n, shard)] for n in numbers for shard in range(shards)]
    store.wait(store.dump(ids, order, data))


def block_files(root: Path) -> list[Path]:
    return [
        path for path in root.rglob("*") if path.is_file() and len(path.name.split(".")[0]) == 32
    ]


def test_sizes_are_bytes(make):
    store = make(shards=4)
    assert store.store.sizes == ((SHARD,), 4)


def test_equal_tensors_are_named_by_one_size(tmp_path):
    config = {
        "store_pipeline": "Cache",
        "device_id": 0,
        "tensor_size": 128,
        "shard_size": 512,
        "block_size": 1024,
        "cache_buffer_capacity_gb": 1,
        "prefault": False,
    }
    with UcmPipelineStore(config) as store:
        assert store.store.sizes == ((128,) * 4, 2)


def test_a_scheduler_looks_up_what_a_worker_stored(make):
    worker, scheduler = make("Posix"), make("Posix", device_id=-1)
    dump(worker, [1])
    assert scheduler.lookup([name(1), name(2)]) == [True, False]
    with pytest.raises(InvalidArgument, match="device_id is -1"):
        scheduler.dump([name(3)], [0], [[shard_data(3, 0)]])


def test_without_device_id_a_store_is_a_schedulers():
    with UcmPipelineStore({"store_pipeline": "Empty"}) as store, pytest.raises(InvalidArgument):
        store.load([name(1)], [0], [[np.zeros(1, np.uint8)]])


def test_the_event_is_named_as_in_released_ucm(make):
    store = make()
    data, back = shard_data(1, 0), np.zeros(SHARD, np.uint8)
    store.wait(store.dump_data([name(1)], [0], [[data.ctypes.data]], prerequisite_handle=0))
    store.wait(store.load_data([name(1)], [0], np.array([[back.ctypes.data]], dtype=np.uint64)))
    assert (back == data).all()
    task = store.load_data([name(1)], [0], [[back.ctypes.data]])
    assert store.check(task) in (True, False)
    store.wait(task)  # addresses are borrowed: `back` must live until the task is done


def test_the_native_store_has_an_address_of_its_own(make):
    first, second = make("Posix"), make("Posix", device_id=-1)
    assert 0 < first.cc_store() != second.cc_store() > 0


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("shuffled", [False, True])
def test_shards_in_any_order_never_give_a_wrong_block(make, pipeline, shuffled):
    store = make(pipeline, shards=16)
    rows = [(n, shard) for n in range(32) for shard in range(16)]
    if shuffled:
        rows = [rows[i] for i in np.random.default_rng(1).permutation(len(rows))]
    ids = [name(n) for n, _ in rows]
    order = [shard for _, shard in rows]
    store.wait(store.dump(ids, order, [[shard_data(n, shard)] for n, shard in rows]))
    assert store.lookup([name(n) for n in range(32)]) == [True] * 32
    back = [[np.zeros(SHARD, np.uint8)] for _ in rows]
    store.wait(store.load(ids, order, back))
    wrong = [row for row, got in zip(rows, back, strict=True) if (got[0] != shard_data(*row)).any()]
    assert wrong == []


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_one_task_per_layer_without_waiting_gives_whole_blocks(make, pipeline):
    store = make(pipeline, shards=8, size=4096)
    for first in range(0, 80, 4):
        numbers = range(first, first + 4)
        tasks = [
            store.dump(
                [name(n) for n in numbers],
                [layer] * 4,
                [[shard_data(n, layer, 4096)] for n in numbers],
            )
            for layer in range(8)
        ]
        for task in tasks:
            store.wait(task)
        assert store.lookup([name(n) for n in numbers]) == [True] * 4
        for layer in range(8):
            back = [[np.zeros(4096, np.uint8)] for _ in numbers]
            store.wait(store.load([name(n) for n in numbers], [layer] * 4, back))
            assert all(
                (got[0] == shard_data(n, layer, 4096)).all()
                for n, got in zip(numbers, back, strict=True)
            )


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_lookup_answers_each_block_after_a_miss(make, pipeline):
    store = make(pipeline)
    dump(store, [1, 3])
    assert store.lookup([name(1), name(2), name(3)]) == [True, False, True]
    assert store.lookup_on_prefix([name(1), name(2), name(3)]) == 0


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_failed_load_leaves_no_phantom_hit(make, pipeline):
    store = make(pipeline)
    task = store.load([name(9)], [0], [[np.zeros(SHARD, np.uint8)]])
    with pytest.raises(NotFound):
        store.wait(task)
    assert store.lookup([name(9)]) == [False]
    assert store.lookup_on_prefix([name(9)]) == -1


@pytest.mark.parametrize("damage", ["cut", "flip", "zero", "empty", "delete"])
def test_a_damaged_file_is_a_miss_and_never_data(make, tmp_path, damage):
    writer = make("Posix")
    for number in (1, 2):  # small blocks of one dump would share a file, and its damage
        dump(writer, [number])
    writer.close()
    (path,) = [
        each for each in block_files(tmp_path / "store") if each.name.startswith(name(1).hex())
    ]
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "flip":
        content[1000] ^= 4
    elif damage == "zero":
        content[:] = bytes(len(content))
    elif damage == "empty":
        content = b""
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes(content)
    reader = make("Cache|Posix")
    back = np.zeros(SHARD, np.uint8)
    with pytest.raises(UcmError):
        reader.wait(reader.load([name(1)], [0], [[back]]))
    assert reader.lookup([name(1), name(2)]) == [False, True]
    reader.wait(reader.load([name(2)], [0], [[back]]))
    assert (back == shard_data(2, 0)).all()


def test_a_store_closes_every_time_after_work(make):
    for _ in range(20):
        store = make("Cache|Posix", size=4096)
        store.wait(
            store.dump(
                [name(n) for n in range(64)],
                [0] * 64,
                [[shard_data(n, 0, 4096)] for n in range(64)],
            )
        )
        store.close()


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_task_larger_than_the_pool_flows_through(make, pipeline):
    count = 1100
    store = make(pipeline, max_pinned_size=8 << 20, capacity_bytes=256 << 20)
    data = shard_data(7, 0)
    ids = [name(n) for n in range(count)]
    store.wait(store.dump(ids, [0] * count, [[data]] * count))
    assert sum(store.lookup(ids)) == count
    back = np.zeros(SHARD, np.uint8)
    store.wait(store.load(ids[-1:], [0], [[back]]))
    assert (back == data).all()


def test_one_address_where_four_are_expected_is_an_error(tmp_path):
    config = {"store_pipeline": "Cache", "device_id": 0, "prefault": False}
    config.update(tensor_size=64, shard_size=256)
    expected = pytest.raises(InvalidArgument, match=r"need \(1, 4\)")
    with UcmPipelineStore(config) as store, expected:
        store.dump_data([name(1)], [0], [[4096]])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"shard_sise": 1}, "did you mean `shard_size`"),
        ({"block_size": 16}, "no multiple of its shards"),
        ({"storage_backends": {"a": 1}}, "a directory or a list"),
        ({"store_pipeline": "Cache|Pos"}, "unknown stage 'Pos'"),
    ],
)
def test_bad_input_is_answered_in_words(make, change, expected):
    with pytest.raises(ConfigError, match=expected):
        make(**change)


def test_nested_sections_and_text_paths_are_fine(make, tmp_path):
    store = make(storage_backends=str(tmp_path / "store"), nfs_config={"retry_count": 1})
    dump(store, [1])
    assert store.lookup([name(1)]) == [True]


@pytest.mark.parametrize("length", [1, 12, 15, 17, 32, 100])
def test_ids_of_any_length_get_one_answer_each(make, length):
    store = make()
    ids = [bytes([n]) * length for n in range(4)]
    store.wait(store.dump(ids[:1], [0], [[shard_data(1, 0)]]))
    assert store.lookup(ids) == [True, False, False, False]
    assert store.lookup(ids[1:2]) == [False]


def test_blocks_that_are_there_are_not_written_again(make, tmp_path):
    store = make("Posix")
    dump(store, range(16))
    before = {path: path.stat().st_ino for path in block_files(tmp_path / "store")}
    dump(store, range(16))
    store.close()
    assert before == {path: path.stat().st_ino for path in block_files(tmp_path / "store")}
    assert len(before) == 16


def test_a_directory_whose_parents_are_missing_is_made(make, tmp_path):
    store = make(storage_backends=[str(tmp_path / "a" / "b" / "c")])
    dump(store, [1])
    assert store.lookup([name(1)]) == [True]


def test_no_more_hits_than_a_restart_can_serve_when_the_disk_is_full(make, tmp_path):
    store = make("Cache|Disk", capacity_bytes=4 << 20)
    numbers = range(256)
    try:
        dump(store, numbers)
    except NoSpace as error:
        assert error.failed_rows
    store.close()
    again = make("Cache|Disk", capacity_bytes=4 << 20)
    found = again.lookup([name(n) for n in numbers])
    assert 0 < sum(found) <= (4 << 20) // SHARD
    back = np.zeros(SHARD, np.uint8)
    for n in [n for n in numbers if found[n]]:
        again.wait(again.load([name(n)], [0], [[back]]))
        assert (back == shard_data(n, 0)).all()


CHILD = """
import os, signal, sys, time
import numpy as np
from ucm.store.pipeline.connector import UcmPipelineStore
config = dict(store_pipeline=sys.argv[1], storage_backends=[sys.argv[2]], unique_id="engine",
              device_id=0, shard_size=65536, block_size=65536, max_pinned_size=64 << 20,
              capacity_bytes=512 << 20, prefault=False)
store = UcmPipelineStore(config)
data = np.full(65536, 5, np.uint8)
store.wait(store.dump([b"done" * 4], [0], [[data]]))
print("ready", flush=True)
n = 0
while True:
    if n < 4000:
        store.dump([n.to_bytes(16, "little")], [0], [[np.full(65536, n % 251, np.uint8)]])
        n += 1
    else:
        time.sleep(0.01)
"""


def child(pipeline: str, root: Path) -> subprocess.Popen:
    process = started(
        [sys.executable, "-c", CHILD, pipeline, str(root)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline().strip() == "ready"
    time.sleep(0.2)
    return process


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_killed_worker_leaves_a_store_that_opens_and_nothing_in_shared_memory(
    make, tmp_path, pipeline
):
    before = set(os.listdir("/dev/shm"))
    process = child(pipeline, tmp_path / "store")
    process.kill()
    process.wait()
    store = make(pipeline)
    assert store.lookup([b"done" * 4]) == [True]
    back = np.zeros(SHARD, np.uint8)
    ids = [n.to_bytes(16, "little") for n in range(5000)]
    found = [n for n, here in enumerate(store.lookup(ids)) if here]
    for n in found[:200]:
        store.wait(store.load([ids[n]], [0], [[back]]))
        assert (back == n % 251).all()
    assert set(os.listdir("/dev/shm")) <= before


def test_an_interrupt_reaches_the_program(tmp_path):
    process = child("Cache|Posix", tmp_path / "store")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) != 0
    assert process.returncode in (1, -signal.SIGINT, 130)


def test_a_crash_ends_the_process(tmp_path):
    process = child("Cache|Posix", tmp_path / "store")
    process.send_signal(signal.SIGSEGV)
    assert process.wait(timeout=60) == -signal.SIGSEGV
