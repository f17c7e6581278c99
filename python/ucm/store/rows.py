# SPDX-License-Identifier: Apache-2.0
"""What a caller passes to load and dump -> shards and addresses, one row per block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ucm.errors import InvalidArgument
from ucm.store.platform import platforms_of, torch_name
from ucm.store.tensors import Memory, memory_of

_ADDRESS = np.dtype(np.uint64)


class Sizes(NamedTuple):
    """How a block is cut: bytes of each piece of a shard, and shards per block."""

    pieces: tuple[int, ...]
    shards: int

    @property
    def shard_bytes(self) -> int:
        return sum(self.pieces)

    @property
    def block_bytes(self) -> int:
        return self.shard_bytes * self.shards


class Rows(NamedTuple):
    """A batch: the shard of all rows or of each (n,), addresses (n, pieces), what keeps them alive.

    `on_host` says that the addresses are host memory, whatever the store was opened for.
    """

    shards: int | np.ndarray
    addresses: np.ndarray
    keep: Any
    on_host: bool = False

    def shard(self, row: int) -> int:
        """The shard of one row, by its number."""
        return self.shards if isinstance(self.shards, int) else int(self.shards[row])

    def take(self, rows: np.ndarray) -> Rows:
        """Some of the rows, by number."""
        shards = self.shards if isinstance(self.shards, int) else self.shards[rows]
        return self._replace(shards=shards, addresses=np.ascontiguousarray(self.addresses[rows]))


def shards_of(count: int, shard_index: Any) -> int | np.ndarray:
    """The shard number of all blocks, or one per block as uint32 (count,).

    Raises:
        InvalidArgument: Not whole numbers >= 0, or not one per block.
    """
    if type(shard_index) is int and 0 <= shard_index <= 0xFFFFFFFF:
        return shard_index
    if isinstance(shard_index, int | np.integer) and not isinstance(shard_index, bool):
        _check_shards(shard_index, shard_index)
        return int(shard_index)
    shards = np.asarray(shard_index)
    if shards.ndim != 1 or (shards.size and shards.dtype.kind not in "iu"):
        raise InvalidArgument(
            "shard_index is a whole number, or a list with one whole number per block, not "
            f"{_short(shard_index)}"
        )
    if len(shards) != count:
        raise InvalidArgument(f"{count} blocks need {count} shard numbers, not {len(shards)}")
    if count:
        _check_shards(shards.min(), shards.max())
    return np.ascontiguousarray(shards, dtype=np.uint32)


def _check_shards(lowest: Any, highest: Any) -> None:
    if lowest < 0 or highest > 0xFFFFFFFF:
        raise InvalidArgument(f"shard {min(lowest, highest)} is outside 0 to 2^32-1")


def address_rows(count: int, shard_index: Any, addresses: Any, sizes: Sizes) -> Rows:
    """Rows from addresses.

    Args:
        count: Number of blocks.
        shard_index: One number, or one per block.
        addresses: (count, pieces) as nested lists or an integer array; (count,) with one piece.
        sizes: The layout.

    Raises:
        InvalidArgument: The shape does not fit, or an address is 0. (In a uint64 array the core
            finds the latter, and the task fails.)
    """
    pieces = len(sizes.pieces)
    as_it_is = (
        type(addresses) is np.ndarray
        and addresses.dtype is _ADDRESS
        and addresses.shape == (count, pieces)
        and addresses.flags.c_contiguous
    )
    if as_it_is and type(shard_index) is int and 0 <= shard_index < sizes.shards:
        return Rows(shard_index, addresses, addresses)
    shards = shards_of(count, shard_index)
    if count:
        check_shards(shards, sizes)
    if as_it_is:
        return Rows(shards, addresses, addresses)
    array = _integers(addresses, f"{count} rows of {pieces}")
    if array.ndim == 1 and pieces == 1:
        array = array.reshape(-1, 1)
    if array.shape != (count, pieces) and (count or array.size):
        raise InvalidArgument(
            f"addresses have shape {array.shape}: {count} blocks of {pieces} pieces "
            f"({', '.join(map(str, sizes.pieces[:8]))}{', ...' if pieces > 8 else ''} bytes) need "
            f"({count}, {pieces})"
        )
    if count and int(array.min()) <= 0:
        row, piece = np.argwhere(array <= 0)[0]
        raise InvalidArgument(f"the address of piece {piece} of row {row} is {array[row, piece]}")
    array = np.ascontiguousarray(array.reshape(count, pieces), dtype=np.uint64)
    return Rows(shards, array, addresses)


def _integers(addresses: Any, shape: str) -> np.ndarray:
    try:
        array = np.asarray(addresses)
    except (ValueError, TypeError, OverflowError):
        array = None
    if array is None or (array.size and array.dtype.kind not in "iu"):
        raise InvalidArgument(f"addresses are whole numbers, {shape}, not {_short(addresses)}")
    return array


def highest_shard(shards: int | np.ndarray) -> int:
    """The highest of the shard numbers; -1 when there is none."""
    if isinstance(shards, int):
        return shards
    return int(shards.max()) if len(shards) else -1


def check_shards(shards: int | np.ndarray, sizes: Sizes) -> None:
    """Refuses shard numbers that the layout does not have."""
    highest = highest_shard(shards)
    if highest >= sizes.shards:
        row = 0 if isinstance(shards, int) else int(np.argmax(shards))
        raise InvalidArgument(
            f"row {row} names shard {highest}: a block of this store has {sizes.shards} "
            f"shard{'s' if sizes.shards > 1 else ''} of {sizes.shard_bytes} bytes"
        )


def tensor_table(count: int, tensors: Any) -> list[list[Any]]:
    """The tensors of each row.

    Accepts `tensors[i][j]` (piece j of row i); one tensor per row; for one block also a single
    tensor, or its pieces in a flat list.

    Raises:
        InvalidArgument: The nesting does not fit the number of blocks.
    """
    if not isinstance(tensors, list | tuple):
        if count == 1:
            return [[tensors]]
        raise InvalidArgument(
            f"{count} blocks need a list with the tensors of each of them, not one "
            f"{type(tensors).__name__}"
        )
    nested = [isinstance(each, list | tuple) for each in tensors]
    if any(nested) and not all(nested):
        raise InvalidArgument(
            f"row {nested.index(False)} is one tensor and row {nested.index(True)} a list: write "
            "all rows as lists"
        )
    if count == 1 and tensors and not nested[0]:
        return [list(tensors)]
    if len(tensors) != count:
        raise InvalidArgument(f"{count} blocks need {count} rows of tensors, not {len(tensors)}")
    return [list(each) if isinstance(each, list | tuple) else [each] for each in tensors]


def memory_table(table: list[list[Any]], *, filled: bool) -> list[list[Memory]]:
    """The memory of every tensor.

    Args:
        table: Tensors of each row.
        filled: The tensors are written to, so they must be writable.

    Raises:
        InvalidArgument: A tensor can not be used.
    """
    described = [
        [memory_of(tensor, (j, i)) for j, tensor in enumerate(row)] for i, row in enumerate(table)
    ]
    if filled:
        for i, row in enumerate(described):
            for j, memory in enumerate(row):
                if not memory.writable:
                    raise InvalidArgument(
                        f"piece {j} of row {i} is read-only: load needs memory it may fill"
                    )
    return described


def tensor_rows(
    shards: int | np.ndarray, memories: list[list[Memory]], sizes: Sizes, platform: str
) -> Rows:
    """Rows from described tensors.

    Args:
        shards: Shard of all rows, or of each.
        memories: Memory of each tensor.
        sizes: The layout.
        platform: Whose memory the store was opened for.

    Raises:
        InvalidArgument: Number, size or device of a tensor does not fit.
    """
    check_shards(shards, sizes)
    devices = ("cpu", torch_name(platform))
    for i, row in enumerate(memories):
        if len(row) != len(sizes.pieces):
            raise InvalidArgument(
                f"row {i} has {len(row)} tensors: a shard of this store has {len(sizes.pieces)} "
                f"({_short(list(sizes.pieces))} bytes)"
            )
        for j, memory in enumerate(row):
            if memory.nbytes != sizes.pieces[j]:
                raise InvalidArgument(
                    f"piece {j} of row {i} has {memory.nbytes} bytes: {sizes.pieces[j]} bytes are "
                    "expected"
                )
            if memory.device not in devices:
                raise _foreign(memory, platform, f"piece {j} of row {i}")
    addresses = [[memory.address for memory in row] for row in memories]
    return Rows(shards, np.array(addresses, dtype=np.uint64), memories, _all_on_host(memories))


def _all_on_host(memories: list[list[Memory]]) -> bool:
    kinds = {memory.device == "cpu" for row in memories for memory in row}
    if len(kinds) > 1:
        raise InvalidArgument(
            "some tensors lie on the host and some on a device: move them in separate calls"
        )
    return True in kinds


def _foreign(memory: Memory, platform: str, where: str) -> InvalidArgument:
    wanted = " or ".join(platforms_of(memory.device)) or memory.device
    return InvalidArgument(
        f"{where} lies on {memory.device}:{memory.device_index}: this store was opened for "
        f"platform {platform}; open it with platform: {wanted}, or pass a host tensor"
    )


def infer_sizes(memories: Sequence[Sequence[Memory]], block_bytes: int | None) -> Sizes:
    """Sizes from the first tensors a store sees.

    Args:
        memories: Memory of each tensor; the first row decides.
        block_bytes: Bytes of a block when the configuration says so.

    Raises:
        InvalidArgument: The bytes of a block are no multiple of the bytes of a shard.
    """
    pieces = tuple(memory.nbytes for memory in memories[0])
    if not pieces:
        raise InvalidArgument("row 0 has no tensors: at least one is expected")
    shard_bytes = sum(pieces)
    if block_bytes is None:
        return Sizes(pieces, 1)
    if block_bytes % shard_bytes:
        raise InvalidArgument(
            f"a shard of {shard_bytes} bytes does not divide the block of {block_bytes} bytes "
            "(block_bytes)"
        )
    return Sizes(pieces, block_bytes // shard_bytes)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
