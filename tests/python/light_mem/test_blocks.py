# SPDX-License-Identifier: Apache-2.0
"""Blocks of several pages: with a block size that was asked for, and with token ids."""

from __future__ import annotations

import numpy as np
import pytest
from page_contents import (
    ABORTED,
    FINISHED,
    PAGE_BYTES,
    Make,
    fill,
    finish,
    keys_of,
    rows,
    span,
    tensor_of,
    write,
    wrong_pages,
)


@pytest.mark.parametrize(
    ("limit_mb", "page_bytes", "n"),
    [
        (None, 4096, 1),
        ("64", 4096, 64),
        ("1", 262144, 4),
        ("1", 1 << 21, 1),
        ("3", 1 << 20, 3),
        ("0", 4096, 1),
        ("-5", 4096, 1),
        ("many", 4096, 1),
    ],
)
def test_pages_of_a_block_follow_from_the_wished_size(
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    limit_mb: str | None,
    page_bytes: int,
    n: int,
) -> None:
    if limit_mb is not None:
        monkeypatch.setenv("LIGHTMEM_MAX_BLOCK_SIZE_MB", limit_mb)
    service = make(page_bytes=page_bytes, pages=8)
    assert service._n == n and type(service._n) is int
    assert service._page_size == page_bytes
    assert service._block_size == n * page_bytes
    assert service._num_of_page_total == 8


def test_blocks_are_named_by_the_hash_of_their_last_page(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHTMEM_MAX_BLOCK_SIZE_MB", "1")
    tensor, keys = tensor_of(64, 262144), keys_of(1, 10)
    service = make(tensor, page_bytes=262144)
    assert write(service, tensor, keys) == [FINISHED] * 3
    assert service._hash(keys) == [f"{keys[i]:032x}" for i in (3, 7, 9)]
    assert service.query(keys) == [True] * 3
    # The partial block at the end serves only a prompt that ends there.
    assert service.query(keys[:9]) == [True, True, False]
    assert service.query(keys[:8]) == [True, True]
    # Only the name counts, and it is the last one.
    assert service.query([1, 2, 3, keys[3]]) == [True]


def test_start_pos_is_rounded_down_to_a_block_and_leaves_blocks_out(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHTMEM_MAX_BLOCK_SIZE_MB", "1")
    tensor, keys = tensor_of(64, 262144), keys_of(2, 10)
    service = make(tensor, page_bytes=262144)
    write(service, tensor, keys)
    tensor[16:] = 0
    for start, blocks, first in (
        (0, 3, 0),
        (3, 3, 0),
        (4, 2, 4),
        (7, 2, 4),
        (9, 1, 8),
        (99, 0, 10),
    ):
        tensor[16:] = 0
        task = service.create(keys, span(16, 10), "r", start)
        assert finish(task) == [FINISHED] * blocks
        assert wrong_pages(tensor, span(16 + first, 10 - first), keys[first:]) == []
        assert not tensor[16 : 16 + first].any()


def test_a_block_with_a_page_missing_is_a_miss_and_is_written_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHTMEM_MAX_BLOCK_SIZE_MB", "1")
    tensor, keys = tensor_of(16, 262144), keys_of(3, 8)
    service = make(tensor, page_bytes=262144, storage_size=11 * 262144)
    write(service, tensor, keys)
    # The second block is used again, then four more pages need room for one.
    service.query(keys[4:])
    others = keys_of(4, 4)
    write(service, tensor, others)
    assert service.query(keys) == [False, True]
    assert service.query(others) == [True]
    task = service.create(keys, span(8, 8), "r")
    assert finish(task) == [ABORTED, FINISHED]
    tensor[8:] = 0
    assert write(service, tensor, keys) == [FINISHED] * 2
    assert service.query(keys) == [True, True]


def test_a_page_and_a_hash_may_stand_twice_in_one_call(make: Make) -> None:
    tensor = tensor_of(16)
    service = make(tensor)
    (key,) = keys_of(6, 1)
    fill(tensor, [3], [key])
    task = service.create([key, key, key], rows(3, 3, 3), "w")
    assert finish(task) == [FINISHED] * 3
    assert service.query([key, key]) == [True, True]
    assert finish(service.create([key, key], rows(7, 7), "r")) == [FINISHED] * 2
    assert wrong_pages(tensor, [7], [key]) == []


def test_hashes_of_more_than_128_bits_are_refused(make: Make) -> None:
    service = make()
    for wrong in (1 << 128, -1, "7"):
        with pytest.raises((OverflowError, TypeError)):
            service.query([wrong])  # type: ignore[list-item]
    assert service.query([(1 << 128) - 1, 0]) == [False, False]


def test_hashes_and_pages_must_make_the_same_blocks(make: Make) -> None:
    service = make()
    with pytest.raises(RuntimeError, match="different numbers of blocks"):
        service.create(hash_128s=[1, 2], kv_page_indexer=span(0, 3), mode="w")


def test_tokens_name_blocks_by_their_own_content(make: Make) -> None:
    tensor = tensor_of(140)
    tensor[:, :8] = np.arange(140, dtype=np.uint8)[:, None]
    service = make(tensor)
    tokens = [7 * each for each in range(70)]
    # Without a wish a block has 64 pages, where 64 MiB hold as many.
    assert len(service.hash(tokens)) == 2
    assert service.hash(tokens)[0] == service.hash(tokens[:64])[0]
    assert service.hash([0, 1]) != service.hash([1, 0])
    assert service.query(tokens=tokens) == [False, False]
    task = service.create(tokens=tokens, kv_page_indexer=span(0, 70), mode="w")
    assert finish(task) == [FINISHED] * 2
    assert service.query(tokens=tokens) == [True, True]
    assert service.query(tokens=np.array(tokens)) == [True, True]
    again = service.create(tokens=tokens, kv_page_indexer=span(70, 70), mode="w")
    assert again.page_already_list == list(range(70, 140))
    task = service.create(tokens=tokens, kv_page_indexer=span(70, 70), mode="r")
    assert finish(task) == [FINISHED] * 2
    assert (tensor[70:] == tensor[:70]).all()
    # A block of equal tokens is the same block wherever it stands.
    assert service.query(tokens=tokens[64:]) == [True]


def test_blocks_of_tokens_hold_64_mib_at_most(make: Make) -> None:
    service = make(page_bytes=4 << 20, pages=2)
    assert len(service.hash(range(17))) == 2
    assert len(service.hash(range(16))) == 1


def test_the_hash_of_tokens_is_xxh3_of_64_bit_numbers(make: Make) -> None:
    service = make(page_bytes=PAGE_BYTES)
    # From a program of a few lines around XXH3_128bits.
    assert service.hash([0]) == ["2c0a8a99dc147d5445c3b49d035665b2"]
    assert service.hash([1, 2]) == ["556c70b5fae5b2a44967295965e4d325"]
