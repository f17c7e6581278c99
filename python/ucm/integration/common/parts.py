# SPDX-License-Identifier: Apache-2.0
"""Opening stores for an engine's ranks and for its scheduler."""

from __future__ import annotations

import dataclasses

from ucm.config import StoreConfig
from ucm.errors import ConfigError
from ucm.store.platform import for_memory
from ucm.store.store import Store


def check_spec(store: StoreConfig) -> None:
    """Refuse pipelines whose blocks the scheduler of an engine could never see.

    Raises:
        ConfigError: the last stage keeps its blocks inside one process.
    """
    last = store.spec.split("|")[-1]
    if last == "Null" or (last == "Cache" and not store.share):
        advice = "`share: true`, or " if last == "Cache" else ""
        raise ConfigError(
            f"store_pipeline {store.store_pipeline!r} keeps blocks inside one process; an engine "
            f"needs {advice}a stage that all its processes see, for example `{store.spec}|Posix`",
            key="store_pipeline",
        )


def shares_directory(store: StoreConfig) -> bool:
    """Whether all ranks work in the same directories (else each has one of its own)."""
    return "Disk" not in store.spec.split("|")


def has_slow_lookup(store: StoreConfig) -> bool:
    """Whether a lookup may have to wait for a file system or a network."""
    return store.spec.split("|")[-1] not in ("Cache", "Disk")


def open_part(
    config: StoreConfig,
    *,
    rank: int,
    sizes: tuple[list[int], int] | None = None,
    layout_id: int = 0,
    read_only: bool = False,
    device: tuple[str, int] | None = None,
) -> Store:
    """Open the store of one rank.

    Args:
        config: what to open.
        rank: whose blocks; it matters for stages with one writer.
        sizes: bytes of each piece of a shard, and shards per block; None for lookups only.
        layout_id: fences blocks whose bytes mean something else.
        read_only: nothing is written, no lock is taken.
        device: torch's name and number of the device whose memory is moved.

    Raises:
        UcmError: it can not be opened; the text says what to do.
    """
    if device is not None:
        config = for_memory(config, *device)
    if sizes is not None and config.prefault is None:
        # Fresh pages cost more than the copies: an engine pays at start, not inside a request.
        config = dataclasses.replace(config, prefault=True)
    return Store(config, layout=sizes, layout_id=layout_id, read_only=read_only, rank=rank)
