# SPDX-License-Identifier: Apache-2.0
"""Any sequence of calls against a model of the store."""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from page_contents import (
    ABORTED,
    FINISHED,
    bytes_of,
    fill,
    finish,
    keys_of,
    read,
    span,
    tensor_of,
    write,
    wrong_pages,
)

from light_mem import PyLocalCacheService

PAGES = 24
CHAINS = {number: keys_of(100 + number, PAGES) for number in range(6)}

prefixes = st.tuples(st.sampled_from(sorted(CHAINS)), st.integers(1, PAGES))
calls = st.one_of(
    st.tuples(st.just("write"), prefixes),
    st.tuples(st.just("read"), prefixes),
    st.tuples(st.just("query"), prefixes),
    st.tuples(st.just("abort"), prefixes),
    st.tuples(st.just("restart"), st.none()),
)
lasting_calls = st.one_of(
    st.tuples(st.sampled_from(["write", "read", "query"]), prefixes),
)


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


class Checked:
    """A service whose every answer is compared with what was stored before."""

    def __init__(self, path: Path, page_bytes: int, capacity_pages: int) -> None:
        self.file = str(path / "cache_file")
        self.slot = -(-page_bytes // 4096) * 4096
        self.capacity = capacity_pages
        self.tensor = tensor_of(2 * PAGES, page_bytes)
        self.stored: OrderedDict[int, None] = OrderedDict()
        self.unsure: set[int] = set()
        self.open()

    def open(self) -> None:
        size = self.capacity * self.slot
        self.service = PyLocalCacheService(self.tensor, self.file, size, 8, 24)

    def use(self, keys: list[int]) -> None:
        for key in reversed(keys):
            if key in self.stored:
                self.stored.move_to_end(key)

    def write(self, keys: list[int]) -> None:
        known = [key for key in keys if key in self.stored]
        pages = span(0, len(keys))
        fill(self.tensor, pages, keys)
        task = self.service.create(hash_128s=keys, kv_page_indexer=pages, mode="w")
        already = {keys[page] for page in task.page_already_list}
        assert set(known) <= already <= set(known) | self.unsure
        self.tensor[task.page_already_list] = 0xEE
        assert finish(task) == [FINISHED] * len(keys)
        assert task.data_safe()
        self.use(known)
        for key in keys:
            if key not in self.stored:
                if len(self.stored) == self.capacity:
                    self.stored.popitem(last=False)
                self.stored[key] = None
        self.use([key for key in keys if key not in known])
        self.unsure -= set(keys)

    def abort(self, keys: list[int]) -> None:
        pages = span(0, len(keys))
        fill(self.tensor, pages, keys)
        task = self.service.create(hash_128s=keys, kv_page_indexer=pages, mode="w")
        self.service.abort(task)
        self.tensor[:] = 0xEE
        assert task.ready() and task.data_safe()
        self.unsure |= set(keys) - set(self.stored)

    def query(self, keys: list[int]) -> None:
        found = self.service.query(keys)
        for key, there in zip(keys, found, strict=True):
            assert there == (key in self.stored) or key in self.unsure
        self.use(keys)

    def read(self, keys: list[int]) -> None:
        self.tensor[:] = 0xEE
        states = read(self.service, keys, PAGES)
        for i, (key, state) in enumerate(zip(keys, states, strict=True)):
            if key not in self.unsure:
                assert state == (FINISHED if key in self.stored else ABORTED)
            right = 0xEE if state == ABORTED else bytes_of(key, self.tensor.shape[1])
            assert (self.tensor[PAGES + i] == right).all()
        assert (self.tensor[:PAGES] == 0xEE).all(), "a page nobody asked for was written"
        self.use(keys)

    def restart(self) -> None:
        self.service.close()
        self.open()


@pytest.mark.parametrize("page_bytes", [4096, 5000])
@given(st.lists(calls, max_size=25))
@settings(max_examples=25)
def test_any_sequence_of_calls_agrees_with_the_model(
    page_bytes: int, sequence: list[tuple[str, tuple[int, int] | None]]
) -> None:
    with folder() as path:
        checked = Checked(path, page_bytes, len(CHAINS) * PAGES)
        for call, prefix in sequence:
            if prefix is None:
                checked.restart()
            else:
                getattr(checked, call)(CHAINS[prefix[0]][: prefix[1]])
            active = [checked.service.active_threads(mode) for mode in "rw"]
            assert active == [0, 0]
        for keys in CHAINS.values():
            checked.read(keys)
        checked.service.close()
        assert [each.name for each in path.iterdir()] == ["cache_file"]


@given(st.lists(lasting_calls, max_size=30))
@settings(max_examples=25)
def test_what_was_used_least_recently_makes_room(
    sequence: list[tuple[str, tuple[int, int]]],
) -> None:
    with folder() as path:
        checked = Checked(path, 4096, 2 * PAGES + 5)
        for call, (chain, length) in sequence:
            getattr(checked, call)(CHAINS[chain][:length])
        for keys in CHAINS.values():
            checked.query(keys)
        checked.service.close()


def test_a_prompt_that_shares_a_prefix_is_stored_once_and_found_page_by_page(
    tmp_path: Path,
) -> None:
    tensor, keys = tensor_of(2 * PAGES), CHAINS[0]
    service = PyLocalCacheService(tensor, str(tmp_path / "f"), 64 * tensor.shape[1])
    write(service, tensor, keys)
    for shared in range(1, PAGES):
        other = [*keys[:shared], *keys_of(7000 + shared, PAGES - shared)]
        found = service.query(other)
        assert found == [True] * shared + [False] * (PAGES - shared)
        tensor[PAGES:] = 0
        assert read(service, other[:shared], PAGES) == [FINISHED] * shared
        assert wrong_pages(tensor, span(PAGES, shared), other[:shared]) == []
        assert not tensor[PAGES + shared :].any()
    service.close()


def test_pages_of_any_alignment_are_moved(tmp_path: Path) -> None:
    memory = np.zeros(8 * 4097 + 1, dtype=np.uint8)
    tensor = memory[1:].reshape(8, 4097)
    service = PyLocalCacheService(tensor, str(tmp_path / "f"), 1 << 20)
    keys = keys_of(5, 4)
    write(service, tensor, keys)
    tensor[4:] = 0
    assert read(service, keys, 4) == [FINISHED] * 4
    assert wrong_pages(tensor, range(4, 8), keys) == []
    service.close()
