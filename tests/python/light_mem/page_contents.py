# SPDX-License-Identifier: Apache-2.0
"""Pages whose bytes follow from their hash, so that any wrong byte is seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import numpy as np

from light_mem import PyLocalCacheService, PyState, PyTask

PAGE_BYTES = 64 << 10
Make = Callable[..., PyLocalCacheService]
"""What the fixture `make` is."""
FINISHED = PyState.Finished
ABORTED = PyState.Aborted
_LONGEST_S = 60.0


def tensor_of(pages: int, page_bytes: int = PAGE_BYTES) -> np.ndarray:
    """Memory that no page of any hash looks like."""
    return np.full((pages, page_bytes), 0xA5, dtype=np.uint8)


def bytes_of(key: int, page_bytes: int = PAGE_BYTES) -> np.ndarray:
    """The content that belongs to a hash."""
    return np.random.default_rng(key).integers(0, 256, page_bytes, dtype=np.uint8)


def keys_of(chain: int, count: int) -> list[int]:
    """The hashes of a prompt's pages."""
    generator = np.random.default_rng(chain)
    words = generator.integers(0, 1 << 63, (count, 2), dtype=np.uint64)
    return [int(low) | int(high) << 64 for low, high in words]


def fill(tensor: np.ndarray, pages: Iterable[int], keys: Iterable[int]) -> None:
    """Puts the right content of each hash into its page."""
    for page, key in zip(pages, keys, strict=True):
        tensor[page] = bytes_of(key, tensor.shape[1])


def wrong_pages(tensor: np.ndarray, pages: Iterable[int], keys: Iterable[int]) -> list[int]:
    """Pages that do not hold the content of their hash."""
    pairs = zip(pages, keys, strict=True)
    return [p for p, key in pairs if (tensor[p] != bytes_of(key, tensor.shape[1])).any()]


def rows(*numbers: int) -> np.ndarray:
    """Page numbers as LightLLM passes them."""
    return np.array(numbers, dtype=np.int32)


def span(first: int, count: int) -> np.ndarray:
    """Consecutive page numbers."""
    return np.arange(first, first + count, dtype=np.int32)


def until(condition: Callable[[], bool]) -> None:
    """Polls like LightLLM does; a minute without an answer is a failure."""
    end = time.monotonic() + _LONGEST_S
    while not condition():
        assert time.monotonic() < end, "no answer within a minute"
        time.sleep(0.001)


def finish(task: PyTask) -> list[PyState]:
    """The states of a task once it is ready."""
    until(task.ready)
    return task.state()


def write(
    service: PyLocalCacheService, tensor: np.ndarray, keys: list[int], first: int = 0
) -> list[PyState]:
    """Fills pages with the content of the hashes and stores them."""
    pages = span(first, len(keys))
    fill(tensor, pages, keys)
    return finish(service.create(hash_128s=keys, kv_page_indexer=pages, mode="w"))


def read(service: PyLocalCacheService, keys: list[int], first: int = 0) -> list[PyState]:
    """Reads hashes into consecutive pages."""
    pages = span(first, len(keys))
    return finish(service.create(hash_128s=keys, kv_page_indexer=pages, mode="r"))
