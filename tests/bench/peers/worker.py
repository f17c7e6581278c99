# SPDX-License-Identifier: Apache-2.0
"""One system in a process of its own: takes a JSON command a line, answers one a line."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import shutil
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from systems import SYSTEMS, System

_BATCH_BYTES = 16 << 20
_MOST_BATCH = 64
_SINGLE = 64
_TICKS = os.sysconf("SC_CLK_TCK")


def aligned(rows: int, block_bytes: int) -> np.ndarray:
    """(rows, block_bytes) bytes at a page border, every page touched."""
    raw = np.zeros(rows * block_bytes + 4096, np.uint8)
    start = -raw.ctypes.data % 4096
    return raw[start : start + rows * block_bytes].reshape(rows, block_bytes)


def cpu_seconds(processes: list[int]) -> float:
    """Time that this process and others have computed so far, all threads."""
    total = time.process_time()
    for process in processes:
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / _TICKS
    return total


def resident_bytes(processes: list[int]) -> int:
    """Memory in use now, shared pages counted once per process."""
    total = 0
    for process in ["self", *map(str, processes)]:
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1]) * 1024
    return total


def drop_cached(folder: Path) -> None:
    """Writes back and forgets what the page cache has of a folder's files."""
    os.sync()
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        file = os.open(path, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


class Worker:
    """Measures one system."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.first = 1

    def open(self, folder: str, block_bytes: int, count: int) -> dict[str, Any]:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True)
        self.block_bytes, self.count = block_bytes, count
        self.batch = max(1, min(_MOST_BATCH, _BATCH_BYTES // block_bytes, count))
        self.source = aligned(count, block_bytes)
        words = np.arange(count * block_bytes // 8, dtype=np.uint64).reshape(count, -1)
        self.source.view(np.uint64)[:] = words * np.uint64(0x9E3779B97F4A7C15)
        self.target = aligned(count, block_bytes)
        # What the last store freed must not hide what this one takes.
        self.system: System = SYSTEMS[self.name]()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        self.before = resident_bytes([])
        self.system.open(self.folder, block_bytes, count)
        return {}

    def _timed(self, work: Callable[[], Any], moved: int) -> dict[str, float]:
        helpers = self.system.helpers()
        cpu, begin = cpu_seconds(helpers), time.perf_counter()
        work()
        seconds = time.perf_counter() - begin
        spent = cpu_seconds(helpers) - cpu
        return {"GBps": moved / seconds / 1e9, "cpu_s_per_GB": spent / (moved / 1e9)}

    def _batches(self, call: Callable[[int, np.ndarray], None], blocks: np.ndarray) -> None:
        for start in range(0, self.count, self.batch):
            call(self.first + start, blocks[start : start + self.batch])

    def _singles(self, call: Callable[[int, np.ndarray], None], blocks: np.ndarray) -> list[float]:
        times = []
        for row in range(min(_SINGLE, self.count)):
            begin = time.perf_counter()
            call(self.first + row, blocks[row : row + 1])
            times.append(time.perf_counter() - begin)
        return times

    def put(self) -> dict[str, Any]:
        """Stores all blocks, each for the first time."""
        moved = self.count * self.block_bytes
        result = self._timed(lambda: self._batches(self.system.put, self.source), moved)
        result["memory_bytes"] = resident_bytes(self.system.helpers()) - self.before
        return result

    def get(self) -> dict[str, Any]:
        """Reads all blocks and compares every byte; then some of them one by one."""
        self.target[:] = 0
        moved = self.count * self.block_bytes
        result: dict[str, Any] = self._timed(
            lambda: self._batches(self.system.get, self.target), moved
        )
        if not np.array_equal(self.source, self.target):
            wrong = int((self.source != self.target).any(axis=1).sum())
            raise RuntimeError(f"{wrong} of {self.count} blocks came back with wrong bytes")
        result["latency_s"] = self._singles(self.system.get, self.target)
        return result

    def cold(self) -> dict[str, Any]:
        """As `get`, with nothing in the page cache."""
        drop_cached(self.folder)
        self.target[:] = 0
        result: dict[str, Any] = self._timed(
            lambda: self._batches(self.system.get, self.target), self.count * self.block_bytes
        )
        if not np.array_equal(self.source, self.target):
            raise RuntimeError("blocks came back with wrong bytes")
        drop_cached(self.folder)
        result["latency_s"] = self._singles(self.system.get, self.target)
        return result

    def lookup(self) -> dict[str, Any]:
        """Asks for all blocks and as many that are not there."""
        numbers = range(self.first, self.first + 2 * self.count)
        rounds = max(1, 4096 // len(numbers))
        times = []
        for _ in range(rounds):
            begin = time.perf_counter()
            found = self.system.lookup(numbers)
            times.append(time.perf_counter() - begin)
            if found != self.count:
                raise RuntimeError(f"a lookup found {found} of {self.count} blocks")
        return {"ns_per_key": statistics.median(times) / len(numbers) * 1e9}

    def forget(self) -> dict[str, Any]:
        """Removes all blocks; the next ones have other numbers."""
        self.system.remove(range(self.first, self.first + self.count))
        self.first += 2 * self.count
        return {}

    def close(self) -> dict[str, Any]:
        try:
            self.system.close()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
        return {}


def main() -> None:
    # What libraries print must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker(sys.argv[1])
    for line in sys.stdin:
        command = json.loads(line)
        try:
            result = getattr(worker, command.pop("do"))(**command)
        except BaseException as error:  # the driver reports it and goes on without this system
            traceback.print_exc()
            text = f"{type(error).__name__}: {error}".strip()
            result = {"error": text.splitlines()[0]}
        print(json.dumps(result), file=answers, flush=True)
    # The driver has gone: nothing may stay behind.
    if hasattr(worker, "folder") and worker.folder.exists():
        worker.close()


if __name__ == "__main__":
    main()
