# SPDX-License-Identifier: Apache-2.0
"""What LightLLM does around its disk cache: the index of its CPU pages, the thread that offloads
groups of them, and the match of a request. Written from the description of its behaviour.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from light_mem import PyLocalCacheService, PyState

EMPTY, LOADING, READY = range(3)
POLL_S = 0.001
OFFLOAD_PERIOD_S = 0.1
LONGEST_S = 120.0
WRITES_BESIDE_READS = 8


class CpuPages:
    """The second level: pages by hash, counted references, least recently used first. The caller
    holds `lock` around every call."""

    def __init__(self, page_num: int) -> None:
        self.lock = threading.Lock()
        self.status = [EMPTY] * page_num
        self.references = [0] * page_num
        self.keys: list[int | None] = [None] * page_num
        self.by_key: dict[int, int] = {}
        self.unused: OrderedDict[int, None] = OrderedDict.fromkeys(range(page_num))
        self.to_offload: list[list[int]] = []

    def allocate(self, keys: list[int]) -> tuple[list[int], list[bool]]:
        """A referenced page for each key; -1 from the first one for which there is none."""
        pages, ready = [], []
        for key in keys:
            page = self.by_key.get(key)
            if page is not None:
                self._refer(page)
            elif self.unused:
                page, _ = self.unused.popitem(last=False)
                assert self.references[page] == 0
                if self.keys[page] is not None:
                    del self.by_key[self.keys[page]]
                self.keys[page], self.by_key[key] = key, page
                self.status[page], self.references[page] = LOADING, 1
            else:
                break
            pages.append(page)
            ready.append(self.status[page] == READY)
        rest = len(keys) - len(pages)
        return pages + [-1] * rest, ready + [False] * rest

    def _refer(self, page: int) -> None:
        self.unused.pop(page, None)
        self.references[page] += 1

    def query(self, key: int) -> int | None:
        """The referenced page of a key when it is ready."""
        page = self.by_key.get(key)
        if page is None or self.status[page] != READY:
            return None
        self._refer(page)
        return page

    def make_ready(self, pages: list[int], offload: bool) -> None:
        """Filled pages can be used; those to offload get one more reference."""
        for page in pages:
            self.status[page] = READY
        if offload:
            for page in pages:
                self._refer(page)
            self.to_offload.append(list(pages))

    def release(self, pages: list[int]) -> None:
        """One reference less for each page."""
        for page in pages:
            assert self.references[page] > 0, "a page was released twice"
            self.references[page] -= 1
            if self.references[page] == 0:
                self.unused[page] = None

    def recycle(self, pages: list[int]) -> None:
        """Pages of a load that failed."""
        for page in pages:
            self.references[page] -= 1
            if self.references[page] > 0:
                continue
            if self.status[page] == LOADING:
                key = self.keys[page]
                assert key is not None
                del self.by_key[key]
                self.keys[page], self.status[page] = None, EMPTY
                self.unused[page] = None
                self.unused.move_to_end(page, last=False)
            else:
                self.unused[page] = None

    def take_offload_groups(self) -> list[list[int]]:
        """Drains the queue."""
        groups, self.to_offload = self.to_offload, []
        for group in groups:
            assert all(self.status[page] == READY for page in group)
        return groups


class DiskLoop:
    """The process that owns the disk cache."""

    def __init__(self, tensor: np.ndarray, file: str, storage_size: int) -> None:
        self.pages = CpuPages(len(tensor))
        self.service = PyLocalCacheService(
            kvcache_tensor=tensor, file=file, storage_size=storage_size, num_shard=8, num_worker=24
        )
        # As the log line after construction formats it.
        self.described = format(self.service._n, "d")
        self.stopped = threading.Event()
        self.idle = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def close(self) -> None:
        """Stops the thread and gives the folder free, as a clean stop would."""
        self.stopped.set()
        self.thread.join()
        self.service.close()

    def _run(self) -> None:
        while not self.stopped.wait(OFFLOAD_PERIOD_S):
            self.offload_once()

    def offload_once(self) -> None:
        """One round of the offload thread."""
        with self.pages.lock:
            groups = self.pages.take_offload_groups()
        for group in groups:
            self._offload(group)
        if not groups:
            self.idle.set()

    def _release(self, pages: list[int]) -> None:
        with self.pages.lock:
            self.pages.release(pages)

    def _offload(self, group: list[int]) -> None:
        hashes = [self.pages.keys[page] for page in group]
        assert all(each is not None for each in hashes)
        if all(self.service.query(hashes)):  # type: ignore[arg-type]
            self._release(group)
            return
        waits = time.monotonic() + LONGEST_S
        while (
            self.service.active_threads("r")
            and self.service.active_threads("w") >= WRITES_BESIDE_READS
            and time.monotonic() < waits
        ):
            time.sleep(POLL_S)
        task = self.service.create(
            hash_128s=hashes,  # type: ignore[arg-type]
            kv_page_indexer=np.array(group, dtype=np.int32),
            mode="w",
        )
        if task.page_already_list:
            self._release(task.page_already_list)
        if not _poll(task.data_safe):
            self.service.abort(task)
        self._release(sorted(set(group) - set(task.page_already_list)))

    def match(self, hashes: list[int]) -> tuple[list[int], int]:
        """Pages of the longest prefix that can be had, referenced, and how many came from disk."""
        pages: list[int] = []
        with self.pages.lock:
            for key in hashes:
                page = self.pages.query(key)
                if page is None:
                    break
                pages.append(page)
        hit = len(pages)
        if hit == len(hashes):
            return pages, 0
        found = self.service.query(hashes)
        n = self.service._n
        first_miss = found.index(False, hit // n) * n if False in found[hit // n :] else len(hashes)
        loadable = max(0, min(first_miss, len(hashes)) - hit)
        with self.pages.lock:
            fresh, _ = self.pages.allocate(hashes[hit : hit + loadable])
            fresh = fresh[: fresh.index(-1)] if -1 in fresh else fresh
        if not fresh:
            return pages, 0
        pages += fresh
        if self._load(hashes[: len(pages)], pages, hit // n * n):
            with self.pages.lock:
                self.pages.make_ready(pages, offload=False)
        else:
            with self.pages.lock:
                self.pages.recycle(fresh)
            pages = pages[:hit]
        while any(self.pages.status[page] != READY for page in pages):
            time.sleep(POLL_S)
        return pages, len(pages) - hit

    def _load(self, hashes: list[int], pages: list[int], start_pos: int) -> bool:
        task = self.service.create(
            hash_128s=hashes,
            kv_page_indexer=np.array(pages, dtype=np.int32),
            mode="r",
            start_pos=start_pos,
        )
        if not _poll(task.ready):
            self.service.abort(task)
            return False
        return all(state == PyState.Finished for state in task.state())

    def prefill(self, hashes: list[int], fill: Callable[[list[int], list[int]], None]) -> bool:
        """A finished request: its pages come from the accelerator and are offloaded.

        Returns:
            Whether there was room for all of them.
        """
        with self.pages.lock:
            pages, ready = self.pages.allocate(hashes)
        pages = [page for page in pages if page >= 0]
        fresh = [(p, k) for p, k, r in zip(pages, hashes, ready, strict=False) if not r]
        fill([p for p, _ in fresh], [k for _, k in fresh])
        with self.pages.lock:
            self.pages.make_ready(pages, offload=True)
            self.pages.release(pages)
        self.idle.clear()
        return len(pages) == len(hashes)

    def drained(self) -> bool:
        """Whether nothing is left to offload and nothing under way."""
        return (
            self.idle.is_set()
            and not self.pages.to_offload
            and self.service.active_threads("w") == 0
        )


def _poll(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + LONGEST_S
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(POLL_S)
    return True
