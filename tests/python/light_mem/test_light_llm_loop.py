# SPDX-License-Identifier: Apache-2.0
"""LightLLM's own loop over the disk cache: offload, match, load, eviction, restart."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from light_llm_loop import READY, DiskLoop
from page_contents import PAGE_BYTES, fill, keys_of, tensor_of, until, wrong_pages

PROMPT = 100
Loops = list[DiskLoop]


@pytest.fixture
def loops() -> Iterator[Loops]:
    """Loops to be stopped at the end."""
    made: Loops = []
    yield made
    for each in made:
        each.close()


def start(loops: Loops, tensor: np.ndarray, path: Path, capacity_pages: int = 2048) -> DiskLoop:
    loops.append(DiskLoop(tensor, str(path / "cache_file"), capacity_pages * PAGE_BYTES))
    return loops[-1]


def prefill(loop: DiskLoop, tensor: np.ndarray, keys: list[int]) -> bool:
    return loop.prefill(keys, lambda pages, new: fill(tensor, pages, new))


def release(loop: DiskLoop, pages: list[int]) -> None:
    with loop.pages.lock:
        loop.pages.release(pages)


def forget_cpu_pages(loop: DiskLoop, tensor: np.ndarray) -> None:
    """Other requests have overwritten everything on the second level."""
    with loop.pages.lock:
        pages, _ = loop.pages.allocate(keys_of(999_999, len(tensor)))
        tensor[:] = 0xDD
        loop.pages.recycle([page for page in pages if page >= 0])


def test_prompts_come_back_page_by_page_for_every_shared_prefix(
    loops: Loops, tmp_path: Path
) -> None:
    tensor = tensor_of(256)
    loop = start(loops, tensor, tmp_path)
    assert loop.described == "1"
    prompts = [keys_of(number, PROMPT) for number in range(4)]
    for keys in prompts:
        assert prefill(loop, tensor, keys)
        until(loop.drained)
    for keys in prompts:
        for shared in (1, 3, 32, 50, 63, 64, 99, 100):
            forget_cpu_pages(loop, tensor)
            asked = [*keys[:shared], *keys_of(50_000 + shared, PROMPT - shared)]
            pages, from_disk = loop.match(asked)
            assert (len(pages), from_disk) == (shared, shared)
            assert wrong_pages(tensor, pages, keys[:shared]) == []
            release(loop, pages)
    assert set(loop.pages.references) == {0}


def test_pages_that_are_ready_are_never_overwritten_by_a_load(loops: Loops, tmp_path: Path) -> None:
    tensor = tensor_of(128)
    loop = start(loops, tensor, tmp_path)
    keys = keys_of(1, PROMPT)
    prefill(loop, tensor, keys)
    until(loop.drained)
    forget_cpu_pages(loop, tensor)
    pages, _ = loop.match(keys[:5])
    # An accelerator reads them while the rest comes: not even the right bytes may be written.
    tensor[pages] = 0x11
    more, from_disk = loop.match(keys)
    assert more[:5] == pages and from_disk == PROMPT - 5
    assert (tensor[pages] == 0x11).all()
    assert wrong_pages(tensor, more[5:], keys[5:]) == []
    release(loop, pages + more)


def test_a_short_second_level_still_gives_the_prefix_that_fits(
    loops: Loops, tmp_path: Path
) -> None:
    tensor = tensor_of(128)
    loop = start(loops, tensor, tmp_path)
    keys = keys_of(2, PROMPT)
    prefill(loop, tensor, keys)
    until(loop.drained)
    forget_cpu_pages(loop, tensor)
    with loop.pages.lock:
        held, _ = loop.pages.allocate(keys_of(3, 91))
    pages, from_disk = loop.match(keys)
    assert len(pages) == from_disk == 37
    assert wrong_pages(tensor, pages, keys[:37]) == []
    release(loop, pages + held)


def test_a_restart_finds_every_prompt(loops: Loops, tmp_path: Path) -> None:
    prompts = [keys_of(number, PROMPT) for number in range(4)]
    tensor = tensor_of(256)
    loop = start(loops, tensor, tmp_path)
    for keys in prompts:
        prefill(loop, tensor, keys)
        until(loop.drained)
    loop.close()
    tensor = tensor_of(256)
    loop = start(loops, tensor, tmp_path)
    for keys in prompts:
        pages, from_disk = loop.match(keys)
        assert from_disk == PROMPT
        assert wrong_pages(tensor, pages, keys) == []
        release(loop, pages)


def test_a_disk_smaller_than_the_prompts_evicts_and_never_gives_a_wrong_page(
    loops: Loops, tmp_path: Path
) -> None:
    tensor = tensor_of(160)
    loop = start(loops, tensor, tmp_path, capacity_pages=3 * PROMPT)
    prompts = [keys_of(number, PROMPT) for number in range(8)]
    for keys in prompts:
        assert prefill(loop, tensor, keys)
        until(loop.drained)
    assert loop.service.eviction_count() == 5 * PROMPT
    for number, keys in enumerate(prompts):
        forget_cpu_pages(loop, tensor)
        pages, from_disk = loop.match(keys)
        assert from_disk == (PROMPT if number >= 5 else 0)
        assert wrong_pages(tensor, pages, keys[:from_disk]) == []
        release(loop, pages)


def test_requests_with_one_prefix_are_served_at_the_same_time(loops: Loops, tmp_path: Path) -> None:
    tensor = tensor_of(512)
    loop = start(loops, tensor, tmp_path)
    stem = keys_of(20, 60)
    prompts = [[*stem, *keys_of(30 + number, 40)] for number in range(4)]
    for keys in prompts:
        prefill(loop, tensor, keys)
        until(loop.drained)
    wrong: list[object] = []

    def request(keys: list[int]) -> None:
        pages, _ = loop.match(keys)
        if len(pages) != PROMPT or wrong_pages(tensor, pages, keys):
            wrong.append((len(pages), keys[60]))
        release(loop, pages)

    # As many threads as LightLLM has; most of them poll one and the same load.
    with ThreadPoolExecutor(500) as pool:
        for _ in range(3):
            forget_cpu_pages(loop, tensor)
            list(pool.map(request, prompts * 20))
    assert wrong == []
    assert set(loop.pages.references) == {0}
    assert {loop.service.active_threads(mode) for mode in "rw"} == {0}
    assert all(loop.pages.status[page] == READY for page in loop.pages.by_key.values())
