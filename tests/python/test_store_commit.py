# SPDX-License-Identifier: Apache-2.0
"""`create` and `commit`: invisible until True, gone after False."""

from __future__ import annotations

import numpy as np
import pytest
from small_stores import PIPELINES

from ucm.errors import InvalidArgument, NotFound

DATA = np.arange(500, dtype=np.uint8)


def load(store, name, size=500):
    back = np.zeros(size, np.uint8)
    store.wait(store.load([name], 0, back))
    return back


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_created_block_is_invisible_until_it_is_committed(make_store, pipeline):
    store = make_store(pipeline)
    store.create([b"a"])
    store.wait(store.dump([b"a"], 0, DATA))
    assert store.lookup([b"a"]) == [False] and store.lookup_prefix([b"a"]) == 0
    with pytest.raises(NotFound):
        load(store, b"a")
    store.commit([b"a"], [True])
    assert store.lookup([b"a"]) == [True]
    assert (load(store, b"a") == DATA).all()


def test_no_other_process_sees_a_block_that_is_not_committed(make_store):
    store = make_store("Cache|Posix")
    store.create([b"a"])
    store.wait(store.dump([b"a"], 0, DATA))
    store.close()
    assert make_store("Cache|Posix").lookup([b"a"]) == [False]


def test_a_block_is_gone_when_it_is_not_committed(make_store):
    store = make_store()
    store.create([b"a"])
    store.wait(store.dump([b"a"], 0, DATA))
    store.commit([b"a"], [False])
    assert store.lookup([b"a"]) == [False]
    store.commit([b"a"], [True])
    assert store.lookup([b"a"]) == [False]


def test_a_block_that_others_have_stored_meanwhile_survives_a_commit_that_gives_up(make_store):
    store, other = make_store("Cache|Posix"), make_store("Cache|Posix")
    store.create([b"a"])
    for each in (store, other):
        each.wait(each.dump([b"a"], 0, DATA))
    store.commit([b"a"], [False])
    for each in (store, other):
        assert each.lookup([b"a"]) == [True]
        assert (load(each, b"a") == DATA).all()


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_commit_removes_a_stored_block_and_leaves_one_that_is_done(make_store, pipeline):
    store = make_store(pipeline)
    store.wait(store.dump([b"a", b"b"], 0, [DATA, DATA]))
    store.commit([b"a", b"b"], [False, True])
    assert store.lookup([b"a", b"b"]) == [False, True]
    assert (load(store, b"b") == DATA).all()


def test_memory_may_be_reused_before_the_commit(make_store):
    store, data = make_store(), DATA.copy()
    store.create([b"a"])
    store.wait(store.dump([b"a"], 0, data))
    data[:] = 0
    store.commit([b"a"])
    assert (load(store, b"a") == DATA).all()


def test_a_block_that_lacks_a_shard_can_not_be_committed(make_store):
    store = make_store(layout=([100], 3))
    store.create([b"a"])
    store.wait(store.dump([b"a"], 1, DATA[:100]))
    with pytest.raises(InvalidArgument, match="shard 0, 2 was not dumped"):
        store.commit([b"a"], [True])
    for shard in (0, 2):
        store.wait(store.dump([b"a"], shard, DATA[:100]))
    store.commit([b"a"], [True])
    assert store.lookup([b"a"]) == [True]


def test_created_and_other_blocks_share_a_batch(make_store):
    store = make_store()
    store.create([b"b"])
    store.wait(store.dump([b"a", b"b", b"c"], 0, [DATA, DATA + 1, DATA + 2]))
    assert store.lookup([b"a", b"b", b"c"]) == [True, False, True]
    store.commit([b"a", b"b", b"c"], [True, True, True])
    assert (load(store, b"b") == DATA + 1).all()


def test_creating_a_stored_block_leaves_it_as_it_is(make_store):
    store = make_store()
    store.wait(store.dump([b"a"], 0, DATA))
    store.create([b"a"])
    assert store.lookup([b"a"]) == [True]
    store.commit([b"a"], [True])
    assert (load(store, b"a") == DATA).all()


def test_remove_forgets_a_created_block(make_store):
    store = make_store()
    store.create([b"a"])
    store.wait(store.dump([b"a"], 0, DATA))
    store.remove([b"a"])
    store.commit([b"a"], True)
    assert store.lookup([b"a"]) == [False]


def test_addresses_are_held_as_tensors_are(make_store):
    store = make_store(layout=([200, 300], 1))
    store.create([b"a"])
    store.wait(store.dump_data([b"a"], 0, [[DATA.ctypes.data, DATA.ctypes.data + 200]]))
    store.commit([b"a"], [True])
    back = [np.zeros(200, np.uint8), np.zeros(300, np.uint8)]
    store.wait(store.load([b"a"], 0, [back]))
    assert (np.concatenate(back) == DATA).all()


def test_each_block_needs_its_answer(make_store):
    with pytest.raises(InvalidArgument, match="2 blocks need 2 answers, not 1"):
        make_store().commit([b"a", b"b"], [True])


@pytest.mark.parametrize("ok", [1, None, "yes"])
def test_an_answer_is_true_or_false(make_store, ok):
    with pytest.raises(InvalidArgument, match="True, False, or a list of them"):
        make_store().commit([b"a"], ok)
