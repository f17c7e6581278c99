# SPDX-License-Identifier: Apache-2.0
"""Pages between LightLLM's KV buffer and its CPU pages, a layer at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ucm.errors import InvalidArgument

_TIMEOUT_S = 300.0


@dataclasses.dataclass(frozen=True)
class TokenLayout:
    """How one token of one layer lies in the engine's buffer of a rank and in a CPU page.

    Args:
        parts: (offset in the engine's token, offset in the page's token, bytes) of each piece.
        writes: Whether this rank writes pages; of ranks with the same heads only one does.
    """

    parts: tuple[tuple[int, int, int], ...]
    writes: bool


def token_layout(
    engine_heads: int, page_heads: int, head_bytes: int, rank: int, ranks: int
) -> TokenLayout:
    """The layout of LightLLM's two kinds of pages.

    Args:
        engine_heads: Heads of the rank's buffer: its K heads, then its V heads; 1 for MLA.
        page_heads: Heads of a page: all K heads, then all V heads; 1 for MLA.
        head_bytes: Bytes of one head.
        rank: This rank among those that share the pages.
        ranks: How many there are.

    Returns:
        The layout. Parts that touch on both sides are one.

    Raises:
        InvalidArgument: The heads of the ranks do not make up the heads of a page.
    """
    if not 0 <= rank < ranks:
        raise InvalidArgument(f"rank {rank} of {ranks}")
    if engine_heads == page_heads == 1:
        return TokenLayout(((0, 0, head_bytes),), writes=rank == 0)
    engine_kv, page_kv = engine_heads // 2, page_heads // 2
    copies = engine_kv * ranks // page_kv if page_kv else 0
    if engine_heads % 2 or page_heads % 2 or copies < 1 or engine_kv * ranks != page_kv * copies:
        raise InvalidArgument(
            f"{ranks} ranks of {engine_heads} heads do not make up pages of {page_heads} heads"
        )
    first, nbytes = rank // copies * engine_kv, engine_kv * head_bytes
    parts = (
        (0, first * head_bytes, nbytes),
        (nbytes, (page_kv + first) * head_bytes, nbytes),
    )
    if engine_kv == page_kv:
        parts = ((0, 0, 2 * nbytes),)
    return TokenLayout(parts, writes=rank % copies == 0)


class LayerTransfer:
    """Copies under way, one step per layer, in the order of the layers."""

    def __init__(self, tasks: Sequence[Any], keep: Sequence[Any] = ()) -> None:
        self._tasks = tasks
        self._keep = keep

    @property
    def layers(self) -> int:
        """How many layers there are."""
        return len(self._tasks)

    def wait_layer(self, layer: int, timeout_s: float = _TIMEOUT_S) -> None:
        """Returns when a layer is complete.

        Raises:
            UcmError: Its copies failed.
            Timeout: They are still under way; their memory stays borrowed.
        """
        self._tasks[layer].wait(timeout_s)

    def order_layer(self, layer: int, stream: int, timeout_s: float = _TIMEOUT_S) -> None:
        """Lets a stream of the engine wait for a layer, in the host's place.

        Args:
            layer: The layer.
            stream: Handle of the stream, e.g. `torch.cuda.current_stream().cuda_stream`.
            timeout_s: Seconds until its copies are on the device's own streams.

        Raises:
            UcmError: Its copies failed so far; what fails later is told by `wait`.
            Timeout: The time passed.
        """
        self._tasks[layer].wait_on_stream(stream, timeout_s)

    def wait(self, timeout_s: float = _TIMEOUT_S) -> None:
        """Returns when all layers are complete; raises as `wait_layer`."""
        for task in self._tasks:
            task.wait(timeout_s)

    @property
    def done(self) -> bool:
        """Whether no copy is under way any more."""
        return all(task.done for task in self._tasks)


class PageTransfer:
    """Moves pages of a model between one rank's KV buffer and the CPU pages.

    Args:
        kv_buffer: The engine's tensor (layers, slots, heads, head_dim).
        cpu_pages: The pages' tensor (pages, layers, page_tokens, heads, head_dim), same dtype.
        rank: This rank among those that share the pages.
        ranks: How many there are.
        platform: Of the device that holds `kv_buffer`, e.g. "cpu" or "cuda".
        device_id: Its number.
        threads: Copying threads, each with streams of its own.

    Raises:
        InvalidArgument: The tensors do not fit together.
        Unavailable: The platform can not be used.
    """

    def __init__(
        self,
        kv_buffer: Any,
        cpu_pages: Any,
        rank: int = 0,
        ranks: int = 1,
        *,
        platform: str = "cpu",
        device_id: int = 0,
        threads: int = 2,
    ) -> None:
        from ucm import _core

        layers, slots, heads, head_dim = kv_buffer.shape
        page_count, page_layers, page_tokens, page_heads, page_dim = cpu_pages.shape
        if (layers, head_dim, kv_buffer.dtype) != (page_layers, page_dim, cpu_pages.dtype):
            raise InvalidArgument(
                f"a KV buffer {tuple(kv_buffer.shape)} of {kv_buffer.dtype} does not fit pages "
                f"{tuple(cpu_pages.shape)} of {cpu_pages.dtype}"
            )
        item = kv_buffer.element_size()
        if _strides(kv_buffer)[2:] != (head_dim, 1) or not cpu_pages.is_contiguous():
            raise InvalidArgument("a token of the KV buffer, and all of the pages, are contiguous")
        self._layout = token_layout(heads, page_heads, head_dim * item, rank, ranks)
        self.layers = int(layers)
        self.page_tokens = int(page_tokens)
        self._keep = (kv_buffer, cpu_pages)
        engine, pages = _strides(kv_buffer), _strides(cpu_pages)
        self._copier = _core.PageCopier.make(
            platform,
            device_id,
            (kv_buffer.data_ptr(), engine[0] * item, engine[1] * item, slots),
            (cpu_pages.data_ptr(), pages[0] * item, pages[1] * item, pages[2] * item),
            page_count,
            page_tokens,
            self.layers,
            list(self._layout.parts),
            threads,
        )

    def load(self, mem_indexes: Any, page_indexes: Any, event: int = 0) -> LayerTransfer:
        """Fills slots of the KV buffer from pages.

        Args:
            mem_indexes: Integers (pages * page_tokens,): the slot of each token, in order.
            page_indexes: Integers (pages,); a page of -1 is skipped with its slots.
            event: An event of the platform, as an integer, the copies wait for; 0 for none.

        Returns:
            The copies under way; the indexes are free again at once.
        """
        return self._start(True, mem_indexes, page_indexes, event)

    def offload(
        self, mem_indexes: Any, page_indexes: Any, page_readies: Any = None, event: int = 0
    ) -> LayerTransfer:
        """Fills pages from slots of the KV buffer; a rank with foreign heads copies nothing.

        Args:
            mem_indexes: As for `load`.
            page_indexes: As for `load`.
            page_readies: Booleans (pages,): pages that hold their data already are skipped.
            event: As for `load`.
        """
        pages = _indexes(page_indexes, np.int32)
        if page_readies is not None:
            pages = np.where(_indexes(page_readies, np.bool_), np.int32(-1), pages)
        if not self._layout.writes:
            pages = np.full_like(pages, -1)
        return self._start(False, mem_indexes, pages, event)

    def _start(self, load: bool, slots: Any, pages: Any, event: int) -> LayerTransfer:
        slot_array = np.ascontiguousarray(_indexes(slots, np.int64))
        page_array = np.ascontiguousarray(_indexes(pages, np.int32))
        tasks = [
            self._copier.copy(load, slot_array, page_array, layer, 1, event)
            for layer in range(self.layers)
        ]
        return LayerTransfer(tasks, (self._copier, *self._keep))


def _strides(tensor: Any) -> tuple[int, ...]:
    return tuple(int(each) for each in tensor.stride())


def _indexes(values: Any, dtype: Any) -> Any:
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values).astype(dtype, copy=False)
