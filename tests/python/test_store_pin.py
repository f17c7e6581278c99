# SPDX-License-Identifier: Apache-2.0
"""`pin`, `unpin`, `renew`, admission on second use, and the hit rate at twice the capacity."""

from __future__ import annotations

import numpy as np
import pytest

from ucm.errors import Unsupported

SIZE = 8192


def names(first, count):
    return [f"block {first + i}".encode() for i in range(count)]


def dump(store, ids):
    for start in range(0, len(ids), 16):
        part = ids[start : start + 16]
        data = [np.full(SIZE, hash(each) % 251, np.uint8) for each in part]
        store.wait(store.dump(part, 0, data))


def small(pipeline):
    more = {"buffer_number": 40}
    if "Disk" in pipeline:
        more.update(capacity_bytes=40 * SIZE, segment_bytes=40 * SIZE, eviction_high=1.0)
    return more


@pytest.mark.parametrize("pipeline", ["Fake", "Cache", "Disk", "Cache|Disk"])
def test_the_tail_of_a_chain_in_several_batches_leaves_first_once_it_is_renewed(
    make_store, pipeline
):
    store = make_store(pipeline, more=small(pipeline) | {"eviction_policy": "lru"})
    chain = names(0, 40)
    dump(store, chain)
    store.renew([*chain, b"absent"])
    dump(store, names(100, 8))
    assert store.lookup_prefix(chain) == 32


@pytest.mark.parametrize("pipeline", ["Cache", "Disk", "Cache|Disk"])
def test_a_pinned_block_outlives_others_until_it_is_unpinned(make_store, pipeline):
    store = make_store(pipeline, more=small(pipeline))
    pinned = names(0, 4)
    dump(store, pinned)
    assert store.pin([*pinned, b"absent"]) == [True] * 4 + [False]
    dump(store, names(100, 200))
    assert store.lookup(pinned) == [True] * 4
    store.unpin(pinned)
    dump(store, names(1000, 200))
    assert store.lookup(pinned) == [False] * 4


def test_a_pinned_block_in_files_stays_pinned_after_reopening(make_store, tmp_path):
    store = make_store("Posix")
    dump(store, names(0, 2))
    assert store.pin(names(0, 1)) == [True]
    store.close()
    assert len(list((tmp_path / "blocks").glob("??/.p-*"))) == 1
    make_store("Posix", layout=([SIZE], 1)).unpin(names(0, 2))
    assert not list((tmp_path / "blocks").glob("??/.p-*"))


def test_a_store_that_only_reads_does_not_pin(make_store):
    dump(make_store("Posix"), names(0, 1))
    with pytest.raises(Unsupported):
        make_store("Posix", read_only=True).pin(names(0, 1))


def test_the_pin_limit_bounds_what_is_pinned(make_store):
    store = make_store("Cache", more={"buffer_number": 20, "pin_limit": 0.25})
    dump(store, names(0, 10))
    assert sum(store.pin(names(0, 10))) == 5
    assert store.stats()['ucm_pinned_blocks{stage="Cache"}'] == 5


@pytest.mark.parametrize("stage", ["Disk", "Posix"])
def test_with_admission_on_second_use_a_block_is_stored_the_second_time(make_store, stage):
    store = make_store(stage, more={**small(stage), f"{stage.lower()}.admission": "second_use"})
    dump(store, names(0, 3))
    assert store.lookup(names(0, 3)) == [False] * 3
    dump(store, names(0, 2))
    assert store.lookup(names(0, 3)) == [True, True, False]
    assert store.stats()[f'ucm_refused_blocks_total{{stage="{stage}"}}'] == 3


def test_the_hit_rate_at_twice_the_capacity_shows_what_more_room_would_bring(make_store):
    store = make_store(
        "Cache", more={"buffer_number": 20, "eviction_policy": "lru"}, layout=([SIZE], 1)
    )
    loop = names(0, 30)
    for _ in range(5):
        for name in loop:
            store.lookup([name])
            dump(store, [name])
    stats = store.stats()
    assert stats["hit_rate"] == 0
    assert stats['hit_rate_at_twice_capacity{stage="Cache"}'] == pytest.approx(0.8)
