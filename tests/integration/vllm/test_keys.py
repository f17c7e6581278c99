# SPDX-License-Identifier: Apache-2.0
"""Keys: the same everywhere, and different wherever the content is."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from ucm.keys import KeyChain, Namespace, fold, pack, rank_keys, root_key, spread, unpack

TOKENS = [random.Random(1).randrange(128_000) for _ in range(1000)]
ROOT = root_key(Namespace("model", dtype="bfloat16", block_size=16))


def chain(tokens: list[int], root: bytes = ROOT, size: int = 16, **more: object) -> list[bytes]:
    """Keys of some tokens."""
    made = KeyChain(root, size)
    made.extend(tokens, **more)
    return made.keys


def test_only_full_blocks_have_keys() -> None:
    assert [len(chain(TOKENS[:count])) for count in (0, 15, 16, 31, 32)] == [0, 0, 1, 1, 2]


def test_a_key_depends_on_everything_before_it() -> None:
    plain = chain(TOKENS)
    for at in (0, 17, 500):
        changed = list(TOKENS)
        changed[at] += 1
        others = chain(changed)
        first = at // 16
        assert others[:first] == plain[:first]
        assert not set(others[first:]) & set(plain[first:])


def test_a_key_depends_on_the_root_and_the_size() -> None:
    assert not set(chain(TOKENS)) & set(chain(TOKENS, root=root_key(b"", "x")))
    assert not set(chain(TOKENS)) & set(chain(TOKENS, size=32))


@given(cuts=some.lists(some.integers(0, 60), max_size=30))
def test_appending_in_pieces_makes_the_same_keys(cuts: list[int]) -> None:
    made, at = KeyChain(ROOT, 16), 0
    for count in cuts:
        made.extend(TOKENS[at : at + count])
        at = min(at + count, len(TOKENS))
        assert made.tokens == at
    assert made.keys == chain(TOKENS[:at])


def test_lists_and_arrays_make_the_same_keys() -> None:
    assert chain(np.array(TOKENS)) == chain(TOKENS)


@pytest.mark.parametrize("bad", [[-1] * 16, [1 << 32] * 16])
def test_token_ids_that_do_not_fit_are_refused(bad: list[int]) -> None:
    for tokens in (bad, np.array(bad)):
        with pytest.raises(OverflowError):
            chain(tokens)


def test_extras_change_their_block_and_what_follows() -> None:
    plain, marked = chain(TOKENS), chain(TOKENS, extras={3: b"cat@0"})
    assert marked[:3] == plain[:3]
    assert not set(marked[3:]) & set(plain[3:])
    assert chain(TOKENS, extras={3: b"dog@0"})[3] != marked[3]
    assert chain(TOKENS, extras={3: b""})[3] != plain[3]


def test_keys_are_the_same_in_every_process(tmp_path: Path) -> None:
    code = (
        "from ucm.keys import *; c = KeyChain(root_key(Namespace('m', extras=('a', 'b')), 'lora',"
        " None, b'x', 3), 4); c.extend(range(12)); print(pack(c.keys).hex(), fold(b'id').hex())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("0", "1", "random")
    }
    # These very bytes name blocks on disks: a change of them is a new KEY_VERSION.
    assert said == {
        "0f9a5788bdf85f4910a4fbe93b5e13056c811239864dfa20e35677a8e534e6c0120e7e2704eb1280a904f21f70d9"
        "cc58 2fafe4d1a88b59b77aac2c5d73e83f2c\n"
    }


def test_sixteen_bytes_are_a_key_and_all_else_is_folded() -> None:
    key = bytes(range(16))
    assert fold(key) == key
    assert len(fold(b"short")) == len(fold(bytes(32))) == len(fold(b"")) == 16
    scope = Namespace("model")
    assert len({fold(key, scope), fold(key, Namespace("other")), fold(bytes(32), scope), key}) == 4
    assert fold(key, scope) == fold(key, scope.digest())
    with pytest.raises(TypeError):
        fold("text")


def test_packing_keeps_order_and_folds_what_is_not_a_key() -> None:
    ids = [bytes([at]) * 16 for at in range(3)]
    assert pack(ids) == b"".join(ids)
    assert unpack(pack(ids)) == ids
    mixed = [bytes(8), bytes(24), bytes(16)]  # together as long as three keys
    assert unpack(pack(mixed)) == [fold(bytes(8)), fold(bytes(24)), bytes(16)]
    assert pack([]) == b""


def test_ranks_have_keys_of_their_own() -> None:
    keys = pack(chain(TOKENS))
    every = [key for rank in range(8) for key in unpack(rank_keys(keys, rank, 8))]
    assert len(set(every)) == len(every)
    assert not set(every) & set(unpack(rank_keys(keys, 0, 4)))
    assert rank_keys(keys, 0, 1) == keys
    assert rank_keys(rank_keys(keys, 3, 8), 3, 8) == keys
    assert rank_keys(b"", 1, 2) == b""


def test_keys_spread_evenly_over_writers() -> None:
    made = KeyChain(ROOT, 1)
    made.extend(range(8000))
    counts = np.bincount(spread(pack(made.keys), 8).astype(int), minlength=8)
    assert counts.sum() == 8000 and counts.min() > 850
