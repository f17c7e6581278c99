# SPDX-License-Identifier: Apache-2.0
"""Stores on a sick storage: errors, short calls, hangs and a lost power, from Python."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from small_stores import DURABLE, settings

from ucm import faults
from ucm.errors import IoError, NoSpace, NotFound, Timeout, UcmError, Unavailable
from ucm.faults import FaultRule, Operation, WriteRecording, disturbed
from ucm.integration.common.fallback import Breaker, Fallback
from ucm.store.factory import open_store

SIZE = 6000
HANG_S = 0.4


@pytest.fixture(autouse=True)
def healthy_again():
    yield
    faults.set_faults()


def block(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, SIZE, dtype=np.uint8)


def blocks_of(tmp_path: Path) -> str:
    """Where block payloads lie, whatever the stage: rules with it spare locks and descriptions."""
    return str(tmp_path / "blocks")


@pytest.mark.parametrize("pipeline", DURABLE)
def test_short_and_interrupted_calls_are_completed(make_store, tmp_path, pipeline):
    store = make_store(pipeline)
    where = blocks_of(tmp_path)
    rules = [
        FaultRule(path=where, error=errno.EINTR, probability=0.4, seed=3),
        FaultRule(path=where, cut=True),
    ]
    with disturbed(*rules):
        store.wait(store.dump([b"one"], 0, block(1)))
        taken = faults.faults_taken()
    store.remove([b"two"])
    assert taken > 2
    store.close()
    again = make_store(pipeline)
    back = np.zeros(SIZE, np.uint8)
    with disturbed(*rules):
        again.wait(again.load([b"one"], 0, back))
    assert (back == block(1)).all()


@pytest.mark.parametrize("pipeline", ["Posix", "Disk"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_in_mid_write_is_no_space_and_older_blocks_stay(
    make_store, tmp_path, pipeline, error
):
    store = make_store(pipeline)
    store.wait(store.dump([b"old"], 0, block(1)))
    full = FaultRule(Operation.write, f"{blocks_of(tmp_path)}/", error=error)
    # The first call takes a part, the next one finds the disk full.
    with disturbed(FaultRule(Operation.write, full.path, count=1, cut=True), full):
        task = store.dump([b"new"], 0, block(2))
        with pytest.raises(NoSpace):
            store.wait(task)
    assert store.lookup([b"old", b"new"]) == [True, False]
    back = np.zeros(SIZE, np.uint8)
    store.wait(store.load([b"old"], 0, back))
    assert (back == block(1)).all()
    store.wait(store.dump([b"new"], 0, block(2)))
    store.wait(store.load([b"new"], 0, back))
    assert (back == block(2)).all()


@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("pipeline", ["Posix", "Disk"])
def test_a_failing_read_is_an_error_and_nothing_else_is_lost(make_store, tmp_path, pipeline, error):
    store = make_store(pipeline, more={"timeout_s": 2.0})
    for name in (b"one", b"two"):
        store.wait(store.dump([name], 0, block(name[0])))
    back = np.zeros(SIZE, np.uint8)
    with disturbed(FaultRule(Operation.read, blocks_of(tmp_path), error=error)):
        task = store.load([b"one"], 0, back)
        with pytest.raises((IoError, NotFound, Timeout)):
            store.wait(task)
    store.wait(store.load([b"two"], 0, back))
    assert (back == block(b"two"[0])).all()


@pytest.mark.parametrize("pipeline", ["Posix", "Cache|Disk"])
def test_calls_return_in_time_while_the_storage_hangs_and_the_store_works_afterwards(
    tmp_path, pipeline
):
    config = settings(pipeline, tmp_path, timeout_s=HANG_S)
    if "Cache" in pipeline:
        config["buffer_number"] = 4
    store = open_store(config)
    store.wait(store.dump([b"one"], 0, block(1)))
    for n in range(8):  # the cache forgets the first one
        store.wait(store.dump([bytes([n]) * 16], 0, block(n)))
    back = np.zeros(SIZE, np.uint8)
    faults.set_faults(
        FaultRule(Operation.read, blocks_of(tmp_path), hang=True),
        FaultRule(Operation.write, blocks_of(tmp_path), hang=True),
    )
    for task in (store.load([b"one"], 0, back), store.dump([b"two"], 0, block(2))):
        started = time.monotonic()
        with pytest.raises((Timeout, Unavailable)):
            store.wait(task)
        # Far from the minutes that the storage would take; no figure of merit.
        assert time.monotonic() - started < 30 * HANG_S
    assert faults.faults_taken() > 0
    faults.set_faults()
    deadline = time.monotonic() + 60
    while True:
        fresh = np.zeros(SIZE, np.uint8)
        try:
            store.wait(store.load([b"one"], 0, fresh))
            break
        except UcmError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert (fresh == block(1)).all()
    store.close()


def test_a_slow_transfer_is_no_timeout_whenever_it_ends(make_store, tmp_path):
    store = make_store("Posix", more={"timeout_s": 60.0})
    store.wait(store.dump([b"first"], 0, block(0)))

    def dump_some(first: int) -> None:
        for n in range(first, first + 10):
            store.wait(store.dump([bytes([n]) * 16], 0, block(n)))

    def keep_busy() -> None:
        while not over.is_set():
            sum(range(1000))

    over = threading.Event()
    busy = threading.Thread(target=keep_busy)
    busy.start()
    # As long as the slices that a wait is made of, while another thread has the interpreter.
    with (
        disturbed(FaultRule(Operation.write, blocks_of(tmp_path), delay_ms=99)),
        ThreadPoolExecutor(4) as pool,
    ):
        waits = [pool.submit(dump_some, 10 * i) for i in range(4)]
    over.set()
    busy.join()
    for wait in waits:
        wait.result()


def test_a_removal_before_sizes_are_known_does_not_shut_out_the_first_dump(make_store, tmp_path):
    first = make_store("Disk")
    first.wait(first.dump([b"old"], 0, block(1)))
    first.close()
    store = make_store("Disk")
    with disturbed(FaultRule(Operation.allocate, "/LOCK", delay_ms=300)):
        remover = threading.Thread(target=store.remove, args=([b"old"],))
        remover.start()
        while faults.faults_taken() == 0:
            time.sleep(0.001)
        store.wait(store.dump([b"new"], 0, block(2)))
        remover.join()
    assert store.lookup([b"old", b"new"]) == [False, True]


def test_the_breaker_opens_while_the_storage_hangs_and_closes_again_afterwards(tmp_path):
    store = open_store(settings("Posix", tmp_path, timeout_s=0.3))
    store.wait(store.dump([b"one"], 0, block(1)))
    load = Fallback("load", Breaker(failures=2, delay_s=0.2))
    back = np.zeros(SIZE, np.uint8)

    def once() -> bool:
        store.wait(store.load([b"one"], 0, back))
        return True

    faults.set_faults(FaultRule(Operation.read, blocks_of(tmp_path), hang=True))
    while not load.breaker.is_open:
        assert not load.run(once, False)
    faults.set_faults()
    deadline = time.monotonic() + 60
    while not load.run(once, False):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not load.breaker.is_open
    assert (back == block(1)).all()
    store.close()


@pytest.mark.parametrize("pipeline", ["Cache|Posix", "Disk"])
def test_a_process_stops_cleanly_while_its_storage_hangs_for_good(tmp_path, pipeline):
    program = (
        "import sys, numpy as np\n"
        "from ucm import faults\n"
        "from ucm.errors import UcmError\n"
        "from ucm.store.factory import open_store\n"
        f"store = open_store({settings(pipeline, tmp_path, timeout_s=HANG_S)!r})\n"
        "data = np.ones(6000, np.uint8)\n"
        "store.wait(store.dump([b'one'], 0, data))\n"
        f"faults.set_faults(faults.FaultRule(path={blocks_of(tmp_path)!r}, hang=True))\n"
        "try:\n"
        "    store.wait(store.dump([b'two'], 0, data))\n"
        "except UcmError as error:\n"
        "    print(type(error).__name__)\n"
        "store.close()\n"
        "print('closed')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() in (["Timeout", "closed"], ["Unavailable", "closed"])


@pytest.mark.parametrize("pipeline", ["Posix", "Disk"])
def test_what_a_lost_power_leaves_is_right_or_a_miss(tmp_path, pipeline):
    disk = tmp_path / "disk"
    disk.mkdir()
    with WriteRecording(disk) as recording:
        store = open_store(settings(pipeline, disk, capacity_bytes=2 << 20))
        ids = [bytes([n]) * 16 for n in range(12)]
        for n, name in enumerate(ids):
            store.wait(store.dump([name], 0, block(n)))
        store.remove(ids[:2])
        store.close()
        end = recording.changes()
        for seed in range(12):
            after = tmp_path / f"after-{seed}"
            recording.rebuild(after, end * (seed + 1) // 12, seed=seed)
            again = open_store(settings(pipeline, after, capacity_bytes=2 << 20))
            for n, name in enumerate(ids):
                back = np.zeros(SIZE, np.uint8)
                try:
                    again.wait(again.load([name], 0, back))
                except (NotFound, IoError):
                    continue
                assert (back == block(n)).all(), f"seed {seed}"
            again.close()
        recording.rebuild(tmp_path / "killed", process_only=True)
    again = open_store(settings(pipeline, tmp_path / "killed", capacity_bytes=2 << 20))
    again.wait(again.dump([b"x" * 16], 0, block(99)))
    assert again.lookup(ids) == [False] * 2 + [True] * 10
    again.close()


def test_a_stopped_recording_says_so(tmp_path):
    recording = WriteRecording(tmp_path)
    with pytest.raises(Unavailable):
        WriteRecording(tmp_path)
    recording.stop()
    with pytest.raises(RuntimeError):
        recording.changes()


@pytest.mark.parametrize("pipeline", DURABLE)
def test_a_dump_after_one_that_failed_is_written_before_it_is_done(make_store, tmp_path, pipeline):
    store = make_store(pipeline)
    store.wait(store.dump([b"first"], 0, block(1)))
    full = FaultRule(Operation.write, f"{blocks_of(tmp_path)}/", error=errno.ENOSPC)
    with disturbed(full), pytest.raises(NoSpace):
        store.wait(store.dump([b"again"], 0, block(2)))
    store.wait(store.dump([b"again"], 0, block(2)))
    store.close()
    assert make_store(pipeline).lookup([b"first", b"again"]) == [True, True]
