# SPDX-License-Identifier: Apache-2.0
"""Stores that go away while something is under way."""

from __future__ import annotations

import array
import copy
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_stores import DURABLE, PIPELINES, settings

from ucm.errors import InvalidArgument
from ucm.faults import FaultRule, Operation, disturbed
from ucm.store.store import Store

_BYTES = 64 << 20  # the memory of such an array goes back to the system when the array does
_BEGIN = f"""
import gc, sys
import numpy as np
from ucm.faults import FaultRule, Operation, set_faults
from ucm.store.factory import open_store
config = dict(CONFIG, buffer_number=2, capacity_bytes=1 << 30)
data = np.ones({_BYTES}, np.uint8)
"""


def run(code: str, pipeline: str, root: Path) -> subprocess.CompletedProcess[str]:
    """Runs a program that opens a store."""
    begin = _BEGIN.replace("CONFIG", repr(settings(pipeline, root)))
    return subprocess.run(
        [sys.executable, "-c", begin + code], capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("pipeline", ["Cache|Posix", "Cache|Disk"])
@pytest.mark.parametrize(
    "end", ["del store", "store = [store]; store += [store]; del store; gc.collect()"]
)
def test_a_store_that_is_dropped_first_ends_what_moves_its_callers_tensors(
    tmp_path: Path, pipeline: str, end: str
) -> None:
    done = run(
        f"""
with open_store(config) as store:
    store.wait(store.dump([b"a"], 0, data))
store = open_store(config)
set_faults(FaultRule(Operation.read, delay_ms=300))
store.load([b"a"], 0, np.zeros({_BYTES}, np.uint8))
{end}
print("alive")
""",
        pipeline,
        tmp_path,
    )
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


def delayed(operation: Operation) -> Any:
    """Storage that takes so long that a caller can do something meanwhile."""
    return disturbed(FaultRule(operation, delay_ms=300))


@pytest.mark.parametrize("pipeline", ["Cache|Posix", "Posix", "Disk"])
def test_a_buffer_can_not_be_resized_while_it_is_moved(
    make_store: Callable[..., Store], pipeline: str
) -> None:
    store = make_store(pipeline)
    source, target = bytearray(b"x" * 4096), bytearray(4096)
    numbers = array.array("Q", range(512))
    store.wait(store.dump([b"a"], 0, source))
    store.wait(store.dump([b"b"], 0, numbers))
    if pipeline.startswith("Cache"):
        store.close()
        store = make_store(pipeline)
    with delayed(Operation.read):
        task = store.load([b"a"], 0, target)
        with pytest.raises(BufferError):
            target.clear()
        other = store.load([b"b"], 0, numbers)
        with pytest.raises(BufferError):
            numbers.pop()
        task.wait()
        other.wait()
    assert target == source
    target.clear()
    numbers.pop()


@pytest.mark.parametrize("wrong", ["soon", [1]])
def test_a_list_that_is_emptied_meanwhile_and_a_wrong_wait_do_not_free_its_tensors(
    make_store: Callable[..., Store], wrong: Any
) -> None:
    make_store("Cache|Posix").dump([b"a"], 0, np.ones(4096, np.uint8)).wait()
    store = make_store("Cache|Posix")
    tensors = [np.zeros(4096, np.uint8)]
    there = weakref.ref(tensors[0])
    with delayed(Operation.read):
        task = store.load([b"a"], 0, tensors)
        tensors.clear()
        with pytest.raises(TypeError):
            task.wait(wrong)
        assert not task.done
        assert there() is not None
        task.wait()
    assert there() is None


@pytest.mark.parametrize("pipeline", DURABLE)
def test_what_is_under_way_when_the_program_ends_is_stored(tmp_path: Path, pipeline: str) -> None:
    ended = run(
        """
set_faults(FaultRule(Operation.write, delay_ms=300))
store = open_store(config)
store.dump([b"a"], 0, data)
del data
""",
        pipeline,
        tmp_path,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    again = run("with open_store(config) as store: print(store.lookup([b'a']))", pipeline, tmp_path)
    assert again.stdout == "[True]\n"


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("sizes", ["known", "unknown"])
def test_a_forked_child_says_so_and_ends_while_the_parent_goes_on(
    tmp_path: Path, pipeline: str, sizes: str
) -> None:
    done = run(
        f"""
import os
from ucm.errors import Unavailable
config["buffer_number"] = 4
if config["store_pipeline"] == "Cache":
    del config["capacity_bytes"]
small = np.arange(4096, dtype=np.uint8)
store = open_store(config)
if {sizes == "known"}:
    store.wait(store.dump([b"a"], 0, small))
child = os.fork()
if child == 0:
    for call in (lambda: store.lookup([b"a"]), lambda: store.dump([b"a"], 0, small)):
        try:
            call()
        except Unavailable as error:
            print("before the process forked" in str(error))
    with open_store({{"store_pipeline": "Cache", "prefault": False}}) as own:
        own.wait(own.dump([b"b"], 0, small))
        print(own.lookup([b"b"]), bool(store.stats()))
    store.close()
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
store.wait(store.dump([b"b"], 0, small))
print(store.lookup([b"b"]))
store.close()
""",
        pipeline,
        tmp_path,
    )
    said = "True\nTrue\n[True] True\n7\n[True]\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_store_is_neither_copied_nor_pickled(make_store, how: Any) -> None:
    store = make_store("Cache")
    with pytest.raises(TypeError, match="open another one"):
        how(store)
    store.wait(store.dump([b"a"], 0, np.arange(10)))


def test_a_row_without_tensors_is_refused_and_settles_nothing(make_store) -> None:
    store = make_store()
    for kind in (store.load, store.dump):
        with pytest.raises(InvalidArgument, match="row 0 has no tensors"):
            kind([b"a"], 0, [[]])
    assert store.sizes is None
    store.wait(store.dump([b"a"], 0, np.arange(10)))
    assert store.lookup([b"a"]) == [True]
