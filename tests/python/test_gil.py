# SPDX-License-Identifier: Apache-2.0
"""Other Python threads run while the core works: the interpreter's lock is not held meanwhile."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ucm import _core

ROWS = 4096
BLOCK = 4096


class Ticker(threading.Thread):
    """Counts while it may run, and lets go of the interpreter after every count."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.count = 0
        self.stop = False

    def run(self) -> None:
        while not self.stop:
            self.count += 1
            time.sleep(0)


@pytest.fixture
def ticker() -> Iterator[Ticker]:
    """A second thread, which gets the interpreter only when somebody lets go of it himself."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(3600)
    thread = Ticker()
    thread.start()
    yield thread
    sys.setswitchinterval(before)
    thread.stop = True
    thread.join()


def ticked(ticker: Ticker, call: Callable[[], object]) -> bool:
    """Whether the ticker ran during one of many calls: under a held lock it never does."""
    for _ in range(500):
        before = ticker.count
        call()
        if ticker.count > before:
            return True
    return False


def test_a_call_that_holds_the_lock_is_noticed(ticker: Ticker) -> None:
    values = list(range(10_000))
    assert not ticked(ticker, lambda: sum(values))


@pytest.mark.parametrize("spec", ["Cache", "Cache|Disk", "Cache|Posix"])
def test_no_call_of_a_pipeline_holds_the_lock(ticker: Ticker, tmp_path: Path, spec: str) -> None:
    options = {"buffer_number": 64 if "|" in spec else ROWS}
    if "|" in spec:
        options["storage_backends"] = [str(tmp_path)]
    pipeline = _core.Pipeline(spec, options, [BLOCK])
    rows = 256 if spec == "Cache|Posix" else ROWS
    memory = np.arange(rows * BLOCK, dtype=np.uint8)
    addresses = (memory.ctypes.data + BLOCK * np.arange(rows, dtype=np.uint64)).reshape(rows, 1)
    shards = np.zeros(rows, dtype=np.uint32)
    keys = np.random.default_rng(1).bytes(16 * rows)

    def dump() -> None:
        pipeline.remove(keys)
        pipeline.dump(keys, shards, addresses).wait(60)

    assert ticked(ticker, dump)
    assert ticked(ticker, lambda: pipeline.load(keys, shards, addresses).wait(60))
    assert ticked(ticker, lambda: pipeline.lookup(keys * 50))
    assert ticked(ticker, lambda: pipeline.lookup_prefix(keys * 50))
    if "|" in spec:  # else there is nothing to fetch from, and the call too short to be seen
        assert ticked(ticker, lambda: pipeline.prefetch(keys * 50))
    assert ticked(ticker, lambda: pipeline.remove(keys * 50))
    pipeline.close()

    def closing_lets_go() -> bool:
        # Only the first close of a pipeline does anything, and only where threads are to be ended.
        pipeline = _core.Pipeline(spec, options, [BLOCK])
        pipeline.dump(keys, shards, addresses).wait(60)
        before = ticker.count
        pipeline.close()
        return ticker.count > before

    assert any(closing_lets_go() for _ in range(100))


def test_opening_does_not_hold_the_lock(ticker: Ticker) -> None:
    assert ticked(ticker, lambda: _core.Pipeline("Cache", {"buffer_number": 64}, [BLOCK]))
