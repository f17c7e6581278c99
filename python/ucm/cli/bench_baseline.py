# SPDX-License-Identifier: Apache-2.0
"""What a store is measured against: memcpy, and plain system calls on files."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ucm.cli.bench_blocks import Blocks, aligned, span


class Baseline:
    """Puts and gets the blocks of a benchmark without ucm. A context manager.

    Args:
        blocks: The memory.
        threads: How many threads share a batch.
    """

    put_name = ""
    get_name = ""

    def __init__(self, blocks: Blocks, threads: int) -> None:
        self.blocks = blocks
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def __enter__(self) -> Baseline:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def put(self, batch: range) -> None:
        """Stores a batch."""
        raise NotImplementedError

    def get(self, batch: range) -> None:
        """Brings a batch back."""
        raise NotImplementedError

    def end_round(self) -> None:
        """What a store does between rounds: nothing, or forget the blocks."""

    def share(self, call: Callable[[Any], None], parts: list[Any]) -> None:
        """Runs a call per part, on all threads."""
        if self._pool is None or len(parts) == 1:
            for each in parts:
                call(each)
        else:
            list(self._pool.map(call, parts))

    def named(self, name: str) -> str:
        """A name with the number of threads."""
        return f"{name} x{self.threads}"


class CopyBaseline(Baseline):
    """One memcpy per thread and batch, through numpy."""

    put_name = get_name = "memcpy"

    def __init__(self, blocks: Blocks, threads: int) -> None:
        super().__init__(blocks, threads)
        self._slots = aligned(blocks.count, blocks.size)

    def put(self, batch: range) -> None:
        self._copy(self._slots, self.blocks.source, batch)

    def get(self, batch: range) -> None:
        self._copy(self.blocks.target, self._slots, batch)

    def _copy(self, target: np.ndarray, source: np.ndarray, batch: range) -> None:
        to, origin = target[span(batch)].reshape(-1), source[span(batch)].reshape(-1)
        step = -(-len(to) // self.threads)
        cuts = [slice(start, start + step) for start in range(0, len(to), step)]
        self.share(lambda cut: np.copyto(to[cut], origin[cut]), cuts)


class SlotFileBaseline(Baseline):
    """One preallocated file; a block is one pwrite or preadv at its own offset."""

    put_name = "pwrite"
    get_name = "preadv"

    def __init__(self, blocks: Blocks, threads: int, folder: Path, direct: bool) -> None:
        super().__init__(blocks, threads)
        flags = os.O_RDWR | os.O_CREAT | (os.O_DIRECT if direct else 0)
        self._file = os.open(folder / "slots", flags, 0o600)
        os.posix_fallocate(self._file, 0, blocks.count * blocks.size)

    def __exit__(self, *exc: Any) -> None:
        super().__exit__(*exc)
        os.close(self._file)

    def put(self, batch: range) -> None:
        self.share(self._put_one, list(batch))

    def get(self, batch: range) -> None:
        self.share(self._get_one, list(batch))

    def _put_one(self, index: int) -> None:
        _whole(
            os.pwrite(self._file, self.blocks.source[index].data, index * self.blocks.size), self
        )

    def _get_one(self, index: int) -> None:
        view = self.blocks.target[index].data
        _whole(os.preadv(self._file, [view], index * self.blocks.size), self)


class BlockFileBaseline(Baseline):
    """One file per block: create, pwrite, rename; open, preadv."""

    put_name = "create+pwrite+rename"
    get_name = "open+preadv"

    def __init__(self, blocks: Blocks, threads: int, folder: Path, direct: bool) -> None:
        super().__init__(blocks, threads)
        self._folder = folder
        self._direct = os.O_DIRECT if direct else 0

    def _name(self, index: int) -> str:
        return f"{self._folder}/{self.blocks.keys[index].hex()}"

    def put(self, batch: range) -> None:
        self.share(self._put_one, list(batch))

    def get(self, batch: range) -> None:
        self.share(self._get_one, list(batch))

    def _put_one(self, index: int) -> None:
        name = self._name(index)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | self._direct
        file = os.open(name + ".t", flags, 0o600)
        try:
            _whole(os.pwrite(file, self.blocks.source[index].data, 0), self)
        finally:
            os.close(file)
        os.rename(name + ".t", name)

    def _get_one(self, index: int) -> None:
        file = os.open(self._name(index), os.O_RDONLY | self._direct)
        try:
            _whole(os.preadv(file, [self.blocks.target[index].data], 0), self)
        finally:
            os.close(file)

    def end_round(self) -> None:
        for index in range(self.blocks.count):
            os.unlink(self._name(index))


def _whole(moved: int, baseline: Baseline) -> None:
    if moved != baseline.blocks.size:
        raise OSError(f"the baseline moved {moved} of {baseline.blocks.size} bytes")


def drop_page_cache(folder: Path) -> None:
    """Lets the kernel forget what it has in memory of all files below a folder."""
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                file = os.open(os.path.join(where, name), os.O_RDONLY)
            except FileNotFoundError:
                continue
            try:
                os.fsync(file)
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(file)
