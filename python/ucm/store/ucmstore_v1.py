# SPDX-License-Identifier: Apache-2.0
"""The interface of a store of released UCM: byte sizes, shards, no commit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from ucm.store.task import Task

__all__ = ["Task", "UcmKVStoreBaseV1"]


class UcmKVStoreBaseV1(ABC):
    """What `UcmConnectorFactoryV1` makes.

    Args:
        config: The store's settings.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    @abstractmethod
    def cc_store(self) -> int:
        """Address of the native store."""

    @abstractmethod
    def lookup(self, block_ids: Sequence[bytes]) -> list[bool]:
        """Which blocks can be loaded, in order, after a miss too."""

    @abstractmethod
    def lookup_on_prefix(self, block_ids: Sequence[bytes]) -> int:
        """Index of the last block of the longest prefix that can be loaded; -1 for none."""

    @abstractmethod
    def prefetch(self, block_ids: Sequence[bytes]) -> None:
        """Asks to bring blocks to a faster stage."""

    @abstractmethod
    def load(
        self, block_ids: Sequence[bytes], shard_index: Sequence[int], dst_tensor: Sequence[Any]
    ) -> Any:
        """Fills `dst_tensor[i][j]`; returns a task."""

    @abstractmethod
    def dump(
        self, block_ids: Sequence[bytes], shard_index: Sequence[int], src_tensor: Sequence[Any]
    ) -> Any:
        """Stores `src_tensor[i][j]`; returns a task."""

    @abstractmethod
    def load_data(
        self, block_ids: Sequence[bytes], shard_index: Sequence[int], dst_addr: Any
    ) -> Any:
        """Fills memory given by addresses (n, tensors); returns a task."""

    @abstractmethod
    def dump_data(
        self,
        block_ids: Sequence[bytes],
        shard_index: Sequence[int],
        src_addr: Any,
        prerequisite_handle: int = 0,
    ) -> Any:
        """Stores memory given by addresses (n, tensors) after an event; returns a task."""

    @abstractmethod
    def wait(self, task: Any) -> None:
        """Waits for a task; raises when it failed."""

    @abstractmethod
    def check(self, task: Any) -> bool:
        """Whether a task is done."""
