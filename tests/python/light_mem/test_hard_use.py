# SPDX-License-Identifier: Apache-2.0
"""What programs do that nobody planned for: forks, limits, folders that go away, odd arguments."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

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
    span,
    tensor_of,
    write,
    wrong_pages,
)

HERE = str(Path(__file__).parent)

FORKED = """
import gc, os, sys
sys.path.insert(0, sys.argv[2])
from page_contents import *
tensor, keys = tensor_of(64), keys_of(1, 32)
service = PyLocalCacheService(tensor, sys.argv[1], storage_size=256 * PAGE_BYTES)
assert write(service, tensor, keys[:16]) == [FINISHED] * 16
going = service.create(keys[16:], span(16, 16), "w")
child = os.fork()
if child == 0:
    assert service.query(keys) == [False] * 32
    assert service.active_threads("w") == 0
    for mode in "rw":
        task = service.create(keys[:4], span(0, 4), mode)
        assert task.ready() and task.data_safe() and task.state() == [ABORTED] * 4
        service.abort(task)
    service.stats()
    del service
    gc.collect()
    sys.exit(7)  # and everything that runs at the end of a Python
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert finish(going) == [FINISHED] * 16
assert service.query(keys) == [True] * 32
assert read(service, keys[:16], 32) == [FINISHED] * 16
assert wrong_pages(tensor, span(32, 16), keys[:16]) == []
print("right")
"""


def run(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments, HERE],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_forked_child_finds_nothing_ends_at_once_and_does_no_harm(tmp_path: Path) -> None:
    assert run(FORKED, str(tmp_path / "cache_file")) == "right\n"


LIMITED = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from page_contents import *
tensor, keys = tensor_of(24), keys_of(1, 12)
resource.setrlimit(resource.RLIMIT_FSIZE, (4 * PAGE_BYTES, 4 * PAGE_BYTES))
service = PyLocalCacheService(tensor, sys.argv[1], storage_size=64 * PAGE_BYTES)
states = write(service, tensor, keys)
assert set(states) <= {FINISHED, ABORTED}, states
there = service.query(keys)
assert 0 < sum(there) <= 4, there
assert not [f for f, state in zip(there, states) if f and state == ABORTED]
tensor[12:] = 0x5A
assert read(service, keys, 12) == [FINISHED if found else ABORTED for found in there]
assert wrong_pages(tensor, [12 + i for i in range(12) if there[i]], [
    keys[i] for i in range(12) if there[i]]) == []
assert all((tensor[12 + i] == 0x5A).all() for i in range(12) if not there[i])
print("right")
"""


def test_files_that_may_not_grow_hold_fewer_pages_and_no_wrong_one(tmp_path: Path) -> None:
    assert run(LIMITED, str(tmp_path / "cache_file")) == "right\n"


def test_a_folder_that_is_removed_under_the_service_breaks_nothing(
    make: Make, tmp_path: Path
) -> None:
    tensor, keys = tensor_of(64), keys_of(2, 32)
    service = make(tensor, storage_size=4096 * PAGE_BYTES)
    write(service, tensor, keys)
    shutil.rmtree(tmp_path / "cache_file")
    # The files live on until the last one who has them open closes them.
    assert service.query(keys) == [True] * 32
    assert read(service, keys, 32) == [FINISHED] * 32
    assert wrong_pages(tensor, span(32, 32), keys) == []
    for number in range(20):
        last = keys_of(100 + number, 32)
        states = write(service, tensor, last)
        assert set(states) <= {FINISHED, ABORTED}
        assert service.query(last) == [state == FINISHED for state in states]
    service.close()
    assert make(tensor).query(keys) == [False] * 32


@pytest.mark.parametrize("path", ["/proc/nobody/cache_file", "/dev/null/cache_file"])
def test_a_place_where_no_folder_can_be_made_is_refused(make: Make, path: str) -> None:
    with pytest.raises((RuntimeError, ValueError), match=path.split("/")[1]):
        make(file=path)


def test_memory_that_can_not_be_written_is_refused(make: Make) -> None:
    tensor = np.frombuffer(bytes(8 * PAGE_BYTES), dtype=np.uint8).reshape(8, PAGE_BYTES)
    with pytest.raises(ValueError, match="can not be written"):
        make(tensor)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8", "uint16"])
def test_a_tensor_of_another_dtype_is_named(make: Make, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(RuntimeError, match=f"{dtype}, uint8 is expected"):
        make(torch.zeros((8, 4096), dtype=getattr(torch, dtype)))


@pytest.mark.parametrize("shape", [(0, 4096), (8, 0)])
def test_a_tensor_without_bytes_is_refused(make: Make, shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError):
        make(np.zeros(shape, dtype=np.uint8))


@pytest.mark.parametrize(
    "options", [{"num_shard": 1 << 40}, {"num_worker": 1 << 40}, {"num_shard": 1, "num_worker": 1}]
)
def test_any_number_of_shards_and_workers_gives_the_same_service(
    make: Make, options: dict[str, Any]
) -> None:
    tensor, keys = tensor_of(16), keys_of(4, 8)
    service = make(tensor, **options)
    asked = options.get("num_worker", 24)
    assert service.stats()["workers"] == min(asked, 8, os.cpu_count() or 1)
    write(service, tensor, keys)
    assert read(service, keys, 8) == [FINISHED] * 8
    assert wrong_pages(tensor, span(8, 8), keys) == []


def test_a_size_beyond_all_disks_is_a_lack_of_space(make: Make) -> None:
    with pytest.raises(RuntimeError, match="free"):
        make(storage_size=1 << 70)


def test_indexers_may_run_backwards_and_positions_be_of_numpy(make: Make) -> None:
    tensor, keys = tensor_of(16), keys_of(5, 8)
    service = make(tensor)
    backwards = span(0, 8)[::-1]
    fill(tensor, backwards, keys)
    assert finish(service.create(tuple(keys), backwards, "w")) == [FINISHED] * 8
    task = service.create(keys, span(8, 8), "r", start_pos=np.int64(3))
    assert finish(task) == [FINISHED] * 5
    assert wrong_pages(tensor, span(11, 5), keys[3:]) == []
    assert (tensor[8:11] == 0xA5).all()


def test_closing_under_the_hands_of_many_threads_leaves_no_task_open(make: Make) -> None:
    tensor, keys = tensor_of(256), keys_of(6, 256)
    service = make(tensor, storage_size=512 * PAGE_BYTES)
    write(service, tensor, keys[:64])
    tasks: list[Any] = []
    wrong: list[object] = []
    begun = threading.Barrier(9)

    def use(number: int) -> None:
        begun.wait()
        for turn in range(60):
            mine = keys[number * 32 : number * 32 + 32]
            task = service.create(mine, span(number * 32, 32), "rw"[(turn + number) % 2])
            tasks.append(task)
            if turn % 5 == 0:
                service.abort(task)
                if not (task.ready() and task.data_safe()):
                    wrong.append("an abort that is none")
            if service.query(mine)[0] not in (True, False):
                wrong.append("query")

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    begun.wait()
    service.close()
    for each in threads:
        each.join()
    assert wrong == []
    assert all(task.ready() and task.data_safe() for task in tasks)
    assert {service.active_threads(mode) for mode in "rw"} == {0}
