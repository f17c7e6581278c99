# SPDX-License-Identifier: Apache-2.0
"""What goes wrong around a disk cache, each case with the answer that is right.

The case of a full disk needs the fault layer: `tests/cpp/page_service`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from page_contents import (
    ABORTED,
    FINISHED,
    PAGE_BYTES,
    Make,
    fill,
    finish,
    keys_of,
    read,
    rows,
    span,
    tensor_of,
    until,
    write,
    wrong_pages,
)
from processes import started

from light_mem import PyLocalCacheService


def data_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("cache_file/pages/seg-*"))


def test_a_flipped_byte_in_the_file_is_an_aborted_block_and_a_miss(
    make: Make, tmp_path: Path
) -> None:
    tensor, keys = tensor_of(8), keys_of(1, 4)
    service = make(tensor)
    assert write(service, tensor, keys) == [FINISHED] * 4
    service.close()
    (segment,) = data_files(tmp_path)
    stored = bytearray(segment.read_bytes())
    at = stored.find(tensor[2, :64].tobytes())
    assert at >= 0
    stored[at + 100] ^= 0x10
    segment.write_bytes(stored)

    service = make(tensor)
    tensor[4:] = 0
    assert read(service, keys, 4) == [FINISHED, FINISHED, ABORTED, FINISHED]
    assert not tensor[6].any(), "bytes that are not right reached the caller"
    assert wrong_pages(tensor, [4, 5, 7], [keys[0], keys[1], keys[3]]) == []
    assert service.query(keys) == [True, True, False, True]


def test_pages_that_are_promised_to_be_stored_are_never_looked_at_again(make: Make) -> None:
    tensor, keys = tensor_of(64), keys_of(2, 48)
    service = make(tensor, storage_size=48 * PAGE_BYTES)
    write(service, tensor, keys[:16])
    fill(tensor, span(16, 32), keys[16:])
    # The whole capacity is written anew, so the promised pages are next to leave.
    for _ in range(3):
        task = service.create(hash_128s=keys, kv_page_indexer=span(0, 48), mode="w")
        already = task.page_already_list
        assert already[:16] == list(range(16))
        tensor[already] = 99
        until(task.data_safe)
        assert set(finish(task)) == {FINISHED}
        assert task.page_already_list == already
        fill(tensor, span(0, 48), keys)
    assert service.query(keys) == [True] * 48
    tensor[:] = 0
    read(service, keys)
    assert wrong_pages(tensor, span(0, 48), keys) == []


def test_a_thousand_aborted_and_dropped_tasks_leave_a_working_service(make: Make) -> None:
    tensor = np.zeros((4096, 4096), dtype=np.uint8)
    service = make(tensor, storage_size=64 << 20)
    for number in range(1000):
        keys = [number * 4096 + each for each in range(4096)]
        service.abort(service.create(hash_128s=keys, kv_page_indexer=span(0, 4096), mode="w"))
    assert service.active_threads("w") == 0
    keys = keys_of(3, 8)
    assert write(service, tensor, keys) == [FINISHED] * 8
    tensor[8:16] = 0
    assert read(service, keys, 8) == [FINISHED] * 8
    assert wrong_pages(tensor, span(8, 8), keys) == []


def test_no_byte_moves_after_an_aborted_read(make: Make) -> None:
    tensor, keys = tensor_of(512), keys_of(4, 256)
    service = make(tensor, storage_size=1024 * PAGE_BYTES)
    write(service, tensor, keys)
    for trial in range(12):
        task = service.create(hash_128s=keys, kv_page_indexer=span(256, 256), mode="r")
        time.sleep(trial * 0.001)
        service.abort(task)
        assert task.ready() and task.data_safe()
        tensor[256:] = 0x5A
        time.sleep(0.05)
        assert (tensor[256:] == 0x5A).all()
    assert service.active_threads("r") == 0


def test_an_aborted_write_is_safe_at_once_and_stores_nothing_of_what_comes_later(
    make: Make,
) -> None:
    tensor, keys = tensor_of(256), keys_of(5, 256)
    service = make(tensor, storage_size=1024 * PAGE_BYTES)
    for trial in range(8):
        chain = [key ^ trial << 64 for key in keys]
        fill(tensor, span(0, 256), chain)
        task = service.create(hash_128s=chain, kv_page_indexer=span(0, 256), mode="w")
        time.sleep(trial * 0.002)
        service.abort(task)
        assert task.data_safe() and task.ready()
        tensor[:] = 99
        time.sleep(0.02)
        there = [i for i, found in enumerate(service.query(chain)) if found]
        found_keys = [chain[i] for i in there]
        read(service, found_keys)
        assert wrong_pages(tensor, range(len(there)), found_keys) == []


@pytest.mark.parametrize("page", [99, 16, -1, 2**31 - 1])
def test_a_page_outside_the_tensor_is_refused_and_the_process_lives(make: Make, page: int) -> None:
    service = make(pages=16)
    for mode in "rw":
        with pytest.raises(ValueError, match="the tensor has pages 0 to 15"):
            service.create(hash_128s=[1], kv_page_indexer=rows(page), mode=mode)
    assert service.active_threads("r") == service.active_threads("w") == 0


def test_tasks_without_blocks_are_ready_and_not_active(make: Make) -> None:
    service = make()
    for mode in "rwr":
        task = service.create(hash_128s=[], kv_page_indexer=rows(), mode=mode)
        assert task.ready() and task.data_safe() and task.state() == []
    assert service.active_threads("r") == service.active_threads("w") == 0
    assert service.query([]) == []


def test_a_strided_indexer_is_honoured(make: Make) -> None:
    tensor, keys = tensor_of(32), keys_of(6, 8)
    service = make(tensor)
    every_second = np.arange(16, dtype=np.int32)[::2]
    fill(tensor, every_second, keys)
    finish(service.create(hash_128s=keys, kv_page_indexer=every_second, mode="w"))
    read(service, keys, 16)
    assert wrong_pages(tensor, span(16, 8), keys) == []


def test_an_indexer_may_change_after_create(make: Make) -> None:
    tensor, keys = tensor_of(32), keys_of(7, 16)
    service = make(tensor)
    fill(tensor, span(0, 16), keys)
    indexer = span(0, 16)
    task = service.create(hash_128s=keys, kv_page_indexer=indexer, mode="w")
    indexer[:] = 31
    finish(task)
    read(service, keys, 16)
    assert wrong_pages(tensor, span(16, 16), keys) == []


def test_a_second_owner_is_refused_and_the_first_goes_on(make: Make) -> None:
    tensor, keys = tensor_of(16), keys_of(8, 8)
    first = make(tensor)
    write(first, tensor, keys)
    with pytest.raises(RuntimeError, match="one process writes"):
        make(tensor)
    tensor[8:] = 0
    assert read(first, keys, 8) == [FINISHED] * 8
    assert wrong_pages(tensor, span(8, 8), keys) == []


KILLED = """
import os, sys, time
sys.path.insert(0, sys.argv[2])
from page_contents import *
tensor = tensor_of(8)
service = PyLocalCacheService(tensor, sys.argv[1], storage_size=64 * PAGE_BYTES)
assert write(service, tensor, keys_of(9, 5)) == [FINISHED] * 5
print("ready", flush=True)
time.sleep(60)
"""


def test_everything_that_was_ready_is_there_after_kill_9(make: Make, tmp_path: Path) -> None:
    arguments = [str(tmp_path / "cache_file"), str(Path(__file__).parent)]
    with started([sys.executable, "-c", KILLED, *arguments], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        os.kill(process.pid, signal.SIGKILL)
    tensor, keys = tensor_of(8), keys_of(9, 5)
    service = make(tensor, storage_size=64 * PAGE_BYTES)
    assert service.query(keys) == [True] * 5
    assert read(service, keys) == [FINISHED] * 5
    assert wrong_pages(tensor, span(0, 5), keys) == []


IDLE = """
import resource, sys, time
import numpy as np
from light_mem import PyLocalCacheService
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
tensor = np.zeros((64, 1 << 20), dtype=np.uint8)
before = resident()
service = PyLocalCacheService(tensor, sys.argv[1], 1 << 30, num_shard=8, num_worker=24)
task = service.create(hash_128s=[1], kv_page_indexer=np.zeros(1, np.int32), mode="w")
while not task.ready():
    time.sleep(0.001)
threads = int(open("/proc/self/stat").read().rsplit(")")[1].split()[17])
start, used = time.monotonic(), time.process_time()
time.sleep(1)
cores = (time.process_time() - used) / (time.monotonic() - start)
print(cores, (resident() - before) >> 20, threads)
"""


def test_24_workers_mean_neither_24_spinning_threads_nor_gigabytes(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IDLE, str(tmp_path / "cache_file")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    cores, mib, threads = (float(each) for each in done.stdout.split())
    # One thread that spins would be a whole core.
    assert cores < 0.5
    assert mib < 64
    assert threads < 24


def test_the_whole_capacity_can_be_used(make: Make) -> None:
    tensor, keys = tensor_of(64), keys_of(10, 640)
    service = make(tensor, storage_size=640 * PAGE_BYTES)
    for first in range(0, 640, 64):
        write(service, tensor, keys[first : first + 64])
    assert service.query(keys) == [True] * 640
    assert service.eviction_count() == 0


def test_single_pages_take_their_own_size_on_the_disk(make: Make, tmp_path: Path) -> None:
    tensor = tensor_of(8)
    service = make(tensor, storage_size=4096 * PAGE_BYTES)
    for key in keys_of(11, 32):
        write(service, tensor, [key])
    stats = service.stats()
    assert stats["used_bytes"] == 32 * PAGE_BYTES
    written = sum(each.stat().st_size for each in data_files(tmp_path))
    # The files grow by 64 MiB at a time, far below the capacity of 256 MiB.
    assert written <= 64 << 20


def test_calls_from_many_threads_are_all_answered(make: Make) -> None:
    tensor, keys = tensor_of(64), keys_of(12, 32)
    service = make(tensor)
    write(service, tensor, keys)
    wrong: list[object] = []

    def load(number: int) -> None:
        for _ in range(10):
            if service.query(keys) != [True] * 32:
                wrong.append("query")
            # All threads read the same pages to the same place, as two requests of one prefix do.
            states = finish(service.create(hash_128s=keys, kv_page_indexer=span(32, 32), mode="r"))
            if set(states) != {FINISHED}:
                wrong.append(states)

    threads = [threading.Thread(target=load, args=(number,)) for number in range(32)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert wrong == []
    assert wrong_pages(tensor, span(32, 32), keys) == []
    assert service.active_threads("r") == 0


def test_a_closed_service_answers_no_and_aborted(make: Make) -> None:
    tensor, keys = tensor_of(8), keys_of(13, 4)
    service = make(tensor)
    write(service, tensor, keys)
    service.close()
    service.close()
    assert service.query(keys) == [False] * 4
    for mode in "rw":
        task = service.create(hash_128s=keys, kv_page_indexer=span(0, 4), mode=mode)
        assert task.ready() and task.data_safe() and task.state() == [ABORTED] * 4
    assert isinstance(service, PyLocalCacheService)
