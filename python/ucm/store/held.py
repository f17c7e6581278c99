# SPDX-License-Identifier: Apache-2.0
"""Blocks between `create` and `commit`: kept aside in host memory, seen by nobody."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterable
from typing import Any

import numpy as np

from ucm.errors import InvalidArgument
from ucm.store.rows import Rows, Sizes


class HeldBlocks:
    """What was dumped for created blocks. Thread-safe.

    A block enters with `create`, collects its shards with `put`, and leaves with `take` or `drop`.
    Nothing of it reaches storage before, so it can be seen by no other process and no crash
    leaves it behind.

    Attributes:
        blocks: what is kept, by key and shard; others only look whether there is anything.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.blocks: dict[bytes, dict[int, np.ndarray]] = {}

    def create(self, keys: Iterable[bytes]) -> None:
        """Begins blocks. One that was begun already starts again, empty."""
        with self._lock:
            for key in keys:
                self.blocks[key] = {}

    def mask(self, keys: list[bytes]) -> np.ndarray:
        """Which of the keys are begun: bool (n,)."""
        with self._lock:
            return np.fromiter((key in self.blocks for key in keys), dtype=bool, count=len(keys))

    def put(self, key: bytes, shard: int, data: np.ndarray) -> None:
        """Keeps the bytes of one shard; the last ones count."""
        with self._lock:
            if key in self.blocks:
                self.blocks[key][shard] = data

    def drop(self, keys: Iterable[bytes]) -> int:
        """Forgets blocks and returns how many of them were begun; the others are no error."""
        with self._lock:
            return sum(self.blocks.pop(key, None) is not None for key in keys)

    def take(self, keys: list[bytes], shards: int) -> list[tuple[bytes, dict[int, np.ndarray]]]:
        """Removes begun blocks and returns them with their shards; others are left out.

        Raises:
            InvalidArgument: A block lacks a shard; nothing was removed.
        """
        with self._lock:
            found = [key for key in dict.fromkeys(keys) if key in self.blocks]
            for key in found:
                missing = sorted(set(range(shards)) - set(self.blocks[key]))
                if missing:
                    raise InvalidArgument(
                        f"block {key.hex()} can not be committed: shard "
                        f"{', '.join(map(str, missing[:8]))} was not dumped after create()"
                    )
            return [(key, self.blocks.pop(key)) for key in found]


def copy_row(rows: Rows, row: int, sizes: Sizes, tensors: list[Any] | None) -> np.ndarray:
    """The bytes of one row, copied to host memory: uint8 (shard bytes,).

    Args:
        rows: The batch.
        row: Number of the row.
        sizes: The layout.
        tensors: The row's tensors when they lie on a device; None when all is host memory.
    """
    data = np.empty(sizes.shard_bytes, dtype=np.uint8)
    offset = 0
    for piece, nbytes in enumerate(sizes.pieces):
        source = int(rows.addresses[row, piece])
        if (
            tensors is not None
            and getattr(getattr(tensors[piece], "device", None), "type", "cpu") != "cpu"
        ):
            host = tensors[piece].cpu()
            source = int(host.data_ptr())
        ctypes.memmove(data.ctypes.data + offset, source, nbytes)
        offset += nbytes
    return data


def batch_of(blocks: list[tuple[bytes, dict[int, np.ndarray]]], sizes: Sizes) -> tuple[bytes, Rows]:
    """The keys and rows that dump taken blocks."""
    offsets = np.concatenate(([0], np.cumsum(sizes.pieces)[:-1])).astype(np.uint64)
    keys, shards, addresses, keep = [], [], [], []
    for key, parts in blocks:
        for shard, data in sorted(parts.items()):
            keys.append(key)
            shards.append(shard)
            addresses.append(offsets + np.uint64(data.ctypes.data))
            keep.append(data)
    table = np.array(addresses, dtype=np.uint64).reshape(len(keys), len(sizes.pieces))
    return b"".join(keys), Rows(np.array(shards, dtype=np.uint32), table, keep, on_host=True)
