# SPDX-License-Identifier: Apache-2.0
"""Sizes of a block as a configuration or a caller gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ucm.config import StoreConfig
from ucm.errors import ConfigError, InvalidArgument
from ucm.store.rows import Sizes


def configured_sizes(config: StoreConfig) -> Sizes | None:
    """Sizes that the configuration determines; None when the first tensors decide.

    Raises:
        ConfigError: The sizes contradict one another.
    """
    pieces = _configured_pieces(config)
    if pieces is None:
        return None
    shard = sum(pieces)
    if config.shard_size is not None and shard != config.shard_size:
        raise ConfigError(
            f"the tensors of a shard have {shard} bytes together and shard_size is "
            f"{config.shard_size}: they are equal",
            key="shard_size",
        )
    block = config.block_bytes if config.block_bytes is not None else shard
    if block % shard:
        raise ConfigError(
            f"a block of {block} bytes is no multiple of its shards of {shard} bytes; "
            "block_bytes (through factory_v1: block_size) counts bytes of all shards",
            key="block_bytes",
        )
    return Sizes(pieces, block // shard)


def _configured_pieces(config: StoreConfig) -> tuple[int, ...] | None:
    if config.tensor_size_list:
        if config.tensor_size and set(config.tensor_size_list) != {config.tensor_size}:
            raise ConfigError(
                "`tensor_size` and `tensor_size_list` differ; keep one", key="tensor_size_list"
            )
        if 0 in config.tensor_size_list:
            raise ConfigError("`tensor_size_list`: a tensor has 0 bytes", key="tensor_size_list")
        return config.tensor_size_list
    if config.tensor_size:
        shard = config.shard_size or config.tensor_size
        if shard % config.tensor_size:
            raise ConfigError(
                f"shard_size ({shard}) is no multiple of tensor_size ({config.tensor_size})",
                key="tensor_size",
            )
        return (config.tensor_size,) * (shard // config.tensor_size)
    return (config.shard_size,) if config.shard_size else None


def given_sizes(layout: Any) -> Sizes:
    """Sizes from what a caller passes as `layout`.

    Args:
        layout: `Sizes`, `(pieces, shards)`, or an object with `pieces` and `shards`.

    Raises:
        InvalidArgument: It is none of these, or a size is not positive.
    """
    if isinstance(layout, tuple) and len(layout) == 2:
        pieces, shards = layout
    else:
        pieces, shards = getattr(layout, "pieces", None), getattr(layout, "shards", None)
    if not isinstance(pieces, Sequence) or not pieces or not isinstance(shards, int):
        raise InvalidArgument(
            f"layout is ([bytes of each piece], shards), not {type(layout).__name__}"
        )
    if shards < 1 or any(int(piece) < 1 for piece in pieces):
        raise InvalidArgument(f"layout {list(pieces)!r} x {shards}: every size is 1 or more")
    return Sizes(tuple(int(piece) for piece in pieces), shards)
