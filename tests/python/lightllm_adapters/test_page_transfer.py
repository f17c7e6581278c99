# SPDX-License-Identifier: Apache-2.0
"""Pages between a KV buffer and CPU pages, in LightLLM's layouts, on CPU tensors."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ucm.errors import InvalidArgument
from ucm.integration.lightllm.transfer import PageTransfer, token_layout

torch = pytest.importorskip("torch")


def buffers(layers: int, heads: int, dim: int, dtype: object, ranks: int = 1, kv_heads: int = 0):
    """Per rank a KV buffer with values of its own, and empty pages for all heads."""
    slots, pages, tokens = 64, 6, 4
    engines = []
    for rank in range(ranks):
        shape = (layers, slots, heads, dim)
        count = layers * slots * heads * dim
        values = (torch.arange(count) + rank * 7919) % 251
        engines.append(values.to(dtype).reshape(shape).contiguous())
    page_heads = kv_heads * 2 if kv_heads else heads
    return engines, torch.zeros((pages, layers, tokens, page_heads, dim), dtype=dtype)


def expected_page(engines, kv_heads: int, slots, layer: int):
    """Rows (tokens, heads, dim) of a page, put together with plain indexing."""
    if kv_heads == 0:
        return engines[0][layer, slots]
    local = engines[0].shape[2] // 2
    copies = local * len(engines) // kv_heads
    keys = [engine[layer, slots][:, :local] for engine in engines[::copies]]
    values = [engine[layer, slots][:, local:] for engine in engines[::copies]]
    return torch.cat(keys + values, dim=1)


LAYOUTS = {
    "MHA on one rank": (3, 8, 16, torch.bfloat16, 1, 4),
    "GQA on four ranks": (2, 2, 16, torch.float16, 4, 4),
    "replicated heads on four ranks": (2, 2, 8, torch.bfloat16, 4, 2),
    "MLA on two ranks": (3, 1, 576, torch.bfloat16, 2, 0),
    "eight bits per value": (2, 4, 32, torch.uint8, 1, 2),
}


@pytest.mark.parametrize("name", LAYOUTS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_pages_hold_what_the_slots_hold_and_bring_it_back(name: str, data: st.DataObject) -> None:
    layers, heads, dim, dtype, ranks, kv_heads = LAYOUTS[name]
    engines, cpu_pages = buffers(layers, heads, dim, dtype, ranks, kv_heads)
    if kv_heads == 0:  # every rank holds the same
        engines = [engines[0].clone() for _ in engines]
    copies = heads // 2 * ranks // kv_heads if kv_heads else 1
    engines = [engines[rank // copies * copies].clone() for rank in range(ranks)]
    chosen = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True))
    run = data.draw(st.permutations(range(64)))[: len(chosen) * 4]
    skip = data.draw(st.lists(st.booleans(), min_size=len(chosen), max_size=len(chosen)))
    slots = torch.tensor(run, dtype=torch.int32)
    pages = torch.tensor(chosen, dtype=torch.int32)
    transfers = [PageTransfer(engines[r], cpu_pages, r, ranks) for r in range(ranks)]
    for transfer in transfers:
        transfer.offload(slots, pages, torch.tensor(skip)).wait()
    for i, page in enumerate(chosen):
        for layer in range(layers):
            rows = expected_page(engines, kv_heads, run[i * 4 : i * 4 + 4], layer)
            wanted = torch.zeros_like(rows) if skip[i] else rows
            assert torch.equal(cpu_pages[page, layer], wanted)
    before = [engine.clone() for engine in engines]
    back = torch.where(torch.tensor(skip), -1, pages)
    for engine, transfer in zip(engines, transfers, strict=True):
        engine.zero_()
        task = transfer.load(slots, back)
        for layer in range(layers):
            # Host memory has no streams: the one is as good as the other.
            (task.order_layer(layer, 0) if layer % 2 else task.wait_layer(layer))
        task.wait()
        assert task.done
    filled = [s for i, s in enumerate(run) if not skip[i // 4]]
    rest = [s for s in range(64) if s not in filled]
    for engine, old in zip(engines, before, strict=True):
        assert torch.equal(engine[:, filled], old[:, filled])
        assert not engine[:, rest].any()


def test_consecutive_slots_and_whole_tokens_need_one_part() -> None:
    assert token_layout(8, 8, 32, 0, 1).parts == ((0, 0, 256),)
    assert token_layout(2, 8, 32, 3, 4).parts == ((0, 96, 32), (32, 224, 32))


def test_of_ranks_with_the_same_heads_one_writes() -> None:
    assert [token_layout(2, 4, 32, rank, 4).writes for rank in range(4)] == [
        True,
        False,
        True,
        False,
    ]
    assert [token_layout(1, 1, 1152, rank, 2).writes for rank in range(2)] == [True, False]


@pytest.mark.parametrize(
    ("engine", "page", "rank", "ranks"), [(3, 8, 0, 1), (2, 8, 0, 3), (2, 4, 2, 2)]
)
def test_heads_that_do_not_fit_are_refused(engine: int, page: int, rank: int, ranks: int) -> None:
    with pytest.raises(InvalidArgument):
        token_layout(engine, page, 32, rank, ranks)


def test_indexes_outside_and_tensors_that_do_not_fit_are_refused() -> None:
    (engine,), pages = buffers(2, 4, 8, torch.float16, 1, 2)
    transfer = PageTransfer(engine, pages)
    with pytest.raises(InvalidArgument, match="outside"):
        transfer.load([0, 1, 2, 64], [0]).wait()
    with pytest.raises(InvalidArgument, match="outside"):
        transfer.load([0, 1, 2, 3], [6]).wait()
    with pytest.raises(InvalidArgument, match="slots"):
        transfer.load([0, 1, 2], [0]).wait()
    with pytest.raises(InvalidArgument, match="fit"):
        PageTransfer(engine, pages.to(torch.float32))
    with pytest.raises(InvalidArgument, match="contiguous"):
        PageTransfer(engine.transpose(2, 3).contiguous().transpose(2, 3), pages)
    assert not pages.any()


def test_an_event_the_platform_does_not_know_fails_the_copies() -> None:
    (engine,), pages = buffers(2, 4, 8, torch.float16, 1, 2)
    with pytest.raises(InvalidArgument):
        PageTransfer(engine, pages).offload([0, 1, 2, 3], [0], None, event=123).wait()
