# SPDX-License-Identifier: Apache-2.0
"""What the scheduler's side remembers of a request between steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ucm.integration.vllm import compat
from ucm.integration.vllm.identity import request_root_parts
from ucm.keys import KeyChain, root_key

_NULL_BLOCK = 0  # vLLM's placeholder for blocks that a sliding window has left behind


class RequestTrack:
    """One request: its keys, its block table, and what of it is stored already.

    The keys follow the tokens that are known; they are extended when a block has become full, so a
    step costs a request a few comparisons.
    """

    __slots__ = (
        "_loaded_in_life",
        "_media",
        "asked",
        "batches",
        "blocks",
        "chain",
        "gap",
        "hits",
        "local",
        "next_save",
        "reached",
        "request",
    )

    def __init__(self, request: Any, namespace: bytes, block_tokens: int) -> None:
        self.request = request
        self.chain = KeyChain(root_key(namespace, *request_root_parts(request)), block_tokens)
        self.blocks: list[list[int]] = []
        self.asked = False
        """Whether the engine asked for hits since it last made room for the request."""
        self.local = 0
        """Blocks the engine held itself when it asked last."""
        self.hits: int | None = None
        """Leading blocks that were stored when the engine asked last; None when not known."""
        self.gap = (0, 0)
        """Blocks the engine holds and the store has lost: they are saved with the next step."""
        self.next_save = 0
        """First block that has not been saved, or found in the store."""
        self.batches = 0
        """Its loads and saves: where there are several, its tail counts as used after its head."""
        self.reached = 0
        """Tokens that are computed when all scheduled steps are; a smaller count is a rewind."""
        self._loaded_in_life: int | None = None
        self._media = sorted(compat.media_of(request), key=lambda item: item[1])

    def note_load(self) -> None:
        """A load was planned for this life of the request (a preemption starts another one)."""
        self._loaded_in_life = self._life()

    def load_failed(self) -> bool:
        """Whether the engine asks again in the same life: what it was given did not load."""
        return self._loaded_in_life == self._life()

    def _life(self) -> int:
        return int(getattr(self.request, "num_preemptions", 0))

    def keys(self, first: int, end: int) -> bytes:
        """Keys of blocks ``first`` to ``end`` - 1, as far as their tokens are known."""
        size = self.chain.block_size
        known = len(self.request.all_token_ids)
        if len(self.chain.keys) < end and self.chain.tokens < known:
            start, stop = self.chain.tokens, min(known, end * size)
            self.chain.extend(self.request.all_token_ids[start:stop], self._extras(start, stop))
        return b"".join(self.chain.keys[first:end])

    def _extras(self, start: int, stop: int) -> dict[int, bytes] | None:
        """What stands where in the blocks of these tokens, for media."""
        if not self._media:
            return None
        size = self.chain.block_size
        extras: dict[int, bytes] = {}
        for block in range(start // size, -(-stop // size)):
            low, high = block * size, (block + 1) * size
            inside = [
                f"{name}@{first - low}"
                for name, first, tokens in self._media
                if first < high and first + tokens > low
            ]
            if inside:
                extras[block] = "\0".join(inside).encode()
        return extras

    def replace_blocks(self, blocks: Any) -> None:
        """Take over a whole block table."""
        self.blocks = compat.block_ids(blocks)

    def append_blocks(self, blocks: Sequence[Any] | None) -> None:
        """Add the blocks that a step allocated."""
        if not blocks:
            return
        for table, fresh in zip(self.blocks, compat.block_ids(blocks), strict=True):
            table.extend(fresh)

    def table(self, first: int, end: int) -> np.ndarray:
        """Block ids of blocks ``first`` to ``end`` - 1: int64 (n, groups)."""
        columns = [table[first:end] for table in self.blocks]
        return np.array(columns, dtype=np.int64).T

    def savable(self, first: int, end: int) -> tuple[bytes, np.ndarray]:
        """Keys and block ids of those blocks that every KV cache group still holds."""
        end = min(end, *(len(table) for table in self.blocks))
        keys, blocks = self.keys(first, end), self.table(first, end)
        held = (blocks != _NULL_BLOCK).all(axis=1)
        if held.all():
            return keys, blocks
        kept = np.frombuffer(keys, dtype="V16")[held].tobytes()
        return kept, blocks[held]
