# SPDX-License-Identifier: Apache-2.0
"""Memory of a benchmark: blocks whose every page is unlike any other, and their check."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Sequence

import numpy as np

_PAGE = 4096


def aligned(count: int, size: int) -> np.ndarray:
    """Zeroed memory (count, size) that begins on a page and may use huge pages."""
    memory = mmap.mmap(-1, count * size)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without huge pages serves as well
            memory.madvise(mmap.MADV_HUGEPAGE)
    array = np.frombuffer(memory, dtype=np.uint8).reshape(count, size)
    array[:] = 0
    return array


class Blocks:
    """Source and target of `count` blocks of `size` bytes, and fresh keys for each round."""

    def __init__(self, count: int, size: int) -> None:
        self.count = count
        self.size = size
        self.source = aligned(count, size)
        self.target = aligned(count, size)
        self.keys: list[bytes] = []
        self._round = 0
        random = np.random.default_rng()
        for row in self.source:
            row[:] = np.frombuffer(random.bytes(size), dtype=np.uint8)

    def addresses(self, memory: np.ndarray) -> np.ndarray:
        """The address of each block as uint64 (count, 1)."""
        rows = np.arange(self.count, dtype=np.uint64) * np.uint64(self.size)
        return (rows + np.uint64(memory.ctypes.data)).reshape(-1, 1)

    def next_round(self) -> None:
        """Changes every page of the source, and takes keys that no store has seen."""
        self._round += 1
        seed = os.urandom(8)
        self.keys = [seed + index.to_bytes(8, "little") for index in range(self.count)]
        pages = range(0, self.size - 7, _PAGE)
        stamps = np.arange(self.count, dtype=np.uint64) + np.uint64(self._round << 32)
        for number, start in enumerate(pages):
            words = self.source[:, start : start + 8]
            words[:] = (stamps + np.uint64(number << 48)).view(np.uint8).reshape(-1, 8)

    def forget(self) -> None:
        """Overwrites the target, so that nothing old can pass for a load."""
        self.target[:] = 0xA5

    def wrong(self) -> int:
        """How many blocks of the target differ from the source."""
        if np.array_equal(self.source, self.target):
            return 0
        return int((self.source != self.target).any(axis=1).sum())

    def batches(self, size: int) -> list[range]:
        """The blocks in batches of `size`."""
        return [range(i, min(i + size, self.count)) for i in range(0, self.count, size)]


def span(batch: Sequence[int]) -> slice:
    """A batch as a slice."""
    return slice(batch[0], batch[-1] + 1)
