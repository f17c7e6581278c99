# SPDX-License-Identifier: Apache-2.0
"""The documented interface of a store with `create` and `commit`, for stores of other packages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from ucm.store.store import Store
from ucm.store.task import Task

__all__ = ["Task", "UcmKVStoreBase"]


class UcmKVStoreBase(ABC):
    """What `UcmConnectorFactory` makes. `ucm.store.store.Store` fulfils it.

    Args:
        config: The store's settings.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    @abstractmethod
    def cc_store(self) -> int:
        """Address of the native store."""

    @abstractmethod
    def create(self, ids: Sequence[bytes]) -> None:
        """Begins blocks, which stay invisible until `commit`."""

    @abstractmethod
    def lookup(self, ids: Sequence[bytes]) -> list[bool]:
        """Which blocks can be loaded, in order."""

    @abstractmethod
    def prefetch(self, ids: Sequence[bytes]) -> None:
        """Asks to bring blocks to a faster stage."""

    @abstractmethod
    def load(self, ids: Sequence[bytes], shard_index: Any, tensors: Any) -> Any:
        """Fills tensors; returns a task."""

    @abstractmethod
    def dump(self, ids: Sequence[bytes], shard_index: Any, tensors: Any) -> Any:
        """Stores tensors; returns a task."""

    @abstractmethod
    def wait(self, task: Any) -> int:
        """Waits for a task; 0 when it succeeded."""

    @abstractmethod
    def check(self, task: Any) -> bool:
        """Whether a task is done."""

    @abstractmethod
    def commit(self, ids: Sequence[bytes], ok: Any) -> None:
        """Makes blocks visible, or removes them."""


UcmKVStoreBase.register(Store)
