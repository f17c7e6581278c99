# SPDX-License-Identifier: Apache-2.0
"""KV tensors of every shape that vLLM has used, as addresses."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
import torch

from ucm.errors import InvalidArgument, Unsupported
from ucm.layout import KVLayout, block_axis, describe_layer

BLOCKS = 6


def gather(layout: KVLayout, table: object, blocks: list[int]) -> list[bytes]:
    """The bytes of blocks, read through addresses."""
    rows = table.addresses(np.array(blocks))
    assert rows.dtype == np.uint64 and rows.flags.c_contiguous
    return [
        b"".join(ctypes.string_at(int(at), size) for at, size in zip(row, table.sizes, strict=True))
        for row in rows
    ]


def filled(*shape: int, dtype: torch.dtype = torch.int16) -> torch.Tensor:
    """A tensor in which every element is another one."""
    return torch.arange(int(np.prod(shape)), dtype=dtype).reshape(shape)


PACKED = filled(3, BLOCKS, 2, 4, 8)  # one storage: layers, blocks, heads, tokens, values
CASES = {
    "key and value apart": ([filled(2, BLOCKS, 4, 2, 8) for _ in range(3)], 1, 2),
    "key and value apart, flat": ([filled(2, BLOCKS, 64) for _ in range(3)], 1, 2),
    "key and value in each block": ([filled(BLOCKS, 2, 4, 2, 8) for _ in range(3)], 0, 1),
    "packed heads first": ([filled(BLOCKS, 2, 4, 16) for _ in range(3)], 0, 1),
    "views of one storage": (list(PACKED), 0, 1),
    "heads outside of tokens in memory": (
        [filled(BLOCKS, 2, 4, 8).permute(0, 2, 1, 3) for _ in range(3)],
        0,
        1,
    ),
    "latent": ([filled(BLOCKS, 4, 9) for _ in range(3)], 0, 1),
    "blocks of all layers side by side": (list(filled(BLOCKS, 3, 4, 8).transpose(0, 1)), 0, 1),
    "padded blocks": ([filled(BLOCKS, 40)[:, :32].unflatten(1, (4, 8)) for _ in range(3)], 0, 1),
    "padded heads": ([filled(BLOCKS, 2, 5, 8)[:, :, :4] for _ in range(3)], 0, 2),
    "kernel blocks of half a block": ([filled(2 * BLOCKS, 2, 2, 8) for _ in range(3)], 0, 1),
    "kernel blocks, key and value apart": ([filled(2, 2 * BLOCKS, 2, 8) for _ in range(3)], 1, 2),
}


@pytest.mark.parametrize("case", CASES)
def test_addresses_reach_all_bytes_of_a_block_and_no_others(case: str) -> None:
    tensors, axis, pieces = CASES[case]
    layout = KVLayout.from_tensors({f"l.{at}.a": t for at, t in enumerate(tensors)}, BLOCKS, 4)
    blocks = [4, 0, 5]
    wanted = []
    for block in blocks:
        parts = tensors[0].shape[axis] // BLOCKS
        cut = [t.narrow(axis, block * parts, parts) for t in tensors]
        wanted.append(sorted(b"".join(part.contiguous().numpy().tobytes() for part in cut)))
    assert [sorted(data) for data in gather(layout, layout.bulk(), blocks)] == wanted
    shards = layout.shards()
    assert shards is not None and len(shards) == 3
    assert all(len(table.sizes) == pieces for _, table in shards)
    by_layer = [gather(layout, table, blocks) for _, table in shards]
    # Layer by layer or at once, the bytes of a block are the same, in the same order.
    whole = gather(layout, layout.bulk(), blocks)
    assert [b"".join(parts) for parts in zip(*by_layer, strict=True)] == whole
    assert len(whole[0]) == layout.block_bytes


def test_neighbours_in_memory_are_moved_as_one_piece() -> None:
    tensors = dict(enumerate(filled(BLOCKS, 3, 4, 8).transpose(0, 1)))
    named = {f"l.{at}": tensor for at, tensor in tensors.items()}
    assert len(KVLayout.from_tensors(named, BLOCKS, 4).bulk().sizes) == 1
    apart = {f"l.{at}": tensor for at, tensor in enumerate(PACKED)}
    assert len(KVLayout.from_tensors(apart, BLOCKS, 4).bulk().sizes) == 3


def test_layers_are_in_the_order_of_their_numbers() -> None:
    tensors = {f"model.layers.{at}.attn": filled(BLOCKS, 4, 8) for at in (10, 2, 0, 1)}
    layout = KVLayout.from_tensors(tensors, BLOCKS, 4)
    assert [layer.name for layer in layout.layers] == [
        f"model.layers.{at}.attn" for at in (0, 1, 2, 10)
    ]


def test_layers_that_share_a_tensor_are_stored_once() -> None:
    tensor = filled(BLOCKS, 4, 8)
    tensors = {"l.0": tensor, "l.1": filled(BLOCKS, 4, 8), "l.2": tensor}
    layout = KVLayout.from_tensors(tensors, BLOCKS, 4)
    assert layout.block_bytes == 2 * 4 * 8 * 2
    shards = layout.shards()
    assert shards is not None
    assert [names for names, _ in shards] == [["l.0", "l.2"], ["l.1"]]


def test_a_layer_and_its_indexer_are_one_shard() -> None:
    tensors = {}
    for at in range(2):
        tensors[f"l.{at}.attn"] = filled(BLOCKS, 4, 8)
        tensors[f"l.{at}.indexer"] = filled(BLOCKS, 4, 2)
    shards = KVLayout.from_tensors(tensors, BLOCKS, 4).shards()
    assert shards is not None
    assert [names for names, _ in shards] == [[f"l.{at}.attn", f"l.{at}.indexer"] for at in (0, 1)]


def test_layers_of_different_sizes_can_only_be_moved_together() -> None:
    tensors = {"l.0": filled(BLOCKS, 4, 8), "l.1": filled(BLOCKS, 4, 16)}
    layout = KVLayout.from_tensors(tensors, BLOCKS, 4)
    assert layout.shards() is None
    assert len(layout.bulk().sizes) == 2


def test_groups_take_the_block_ids_of_their_own_table() -> None:
    tensors = {"l.0": filled(BLOCKS, 4, 8), "l.1": filled(BLOCKS, 4, 8)}
    layout = KVLayout.from_tensors(tensors, BLOCKS, 4, {"l.0": 0, "l.1": 1})
    rows = layout.bulk().addresses(np.array([[1, 5], [2, 0]]))
    block = 4 * 8 * 2
    assert rows.tolist() == [
        [tensors["l.0"].data_ptr() + block, tensors["l.1"].data_ptr() + 5 * block],
        [tensors["l.0"].data_ptr() + 2 * block, tensors["l.1"].data_ptr()],
    ]


def layout_id(tensors: dict[str, torch.Tensor], blocks: int = BLOCKS, tokens: int = 4) -> int:
    """The id of the layout of some tensors."""
    return KVLayout.from_tensors(tensors, blocks, tokens).layout_id


def test_the_layout_id_says_what_the_bytes_mean() -> None:
    plain = layout_id({"l.0": filled(BLOCKS, 4, 2, 8)})
    others = [
        layout_id({"l.0": filled(BLOCKS, 4, 2, 8, dtype=torch.int32)}),
        layout_id({"l.0": filled(BLOCKS, 4, 2, 8).view(torch.bfloat16)}),
        layout_id({"l.0": filled(BLOCKS, 2, 4, 8).permute(0, 2, 1, 3)}),
        layout_id({"l.0": filled(2, BLOCKS, 4, 8)}),
        layout_id({"l.1": filled(BLOCKS, 4, 2, 8)}),
        layout_id({"l.0": filled(BLOCKS, 4, 2, 8)}, tokens=8),
    ]
    assert len({plain, *others}) == 7


def test_the_layout_id_says_nothing_about_where_the_bytes_lie() -> None:
    plain = layout_id({"l.0": filled(BLOCKS, 4, 8), "l.1": filled(BLOCKS, 4, 8)})
    assert layout_id({f"l.{at}": t for at, t in enumerate(filled(2, BLOCKS, 4, 8))}) == plain
    assert (
        layout_id({f"l.{at}": t for at, t in enumerate(filled(BLOCKS, 2, 4, 8).transpose(0, 1))})
        == plain
    )
    assert layout_id({f"l.{at}": filled(20, 4, 8) for at in range(2)}, blocks=20) == plain


@pytest.mark.parametrize(
    ("shape", "blocks", "axis"),
    [
        ((2, 7, 4, 2, 8), 7, 1),
        ((7, 2, 4, 8), 7, 0),
        ((2, 2, 4, 2, 8), 2, 1),
        ((2, 2, 4, 8), 2, 0),
        ((14, 4, 8), 7, 0),
        ((2, 14, 4, 8), 7, 1),
        ((1, 4, 8), 1, 0),
    ],
)
def test_the_axis_of_blocks_is_found(shape: tuple[int, ...], blocks: int, axis: int) -> None:
    assert block_axis(shape, blocks) == axis


def test_what_is_no_kv_tensor_is_refused() -> None:
    with pytest.raises(Unsupported, match="no axis of 6 blocks"):
        describe_layer("l.0", filled(5, 4, 8), BLOCKS)
    with pytest.raises(Unsupported, match="keeps a list"):
        describe_layer("l.0", [filled(BLOCKS, 8)], BLOCKS)
    with pytest.raises(InvalidArgument, match="no KV tensor"):
        KVLayout.from_tensors({}, BLOCKS, 4)
