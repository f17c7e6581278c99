# SPDX-License-Identifier: Apache-2.0
"""`UcmPipelineStore`: the interface and the configuration of released UCM, over `Store`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ucm.config import StoreConfig, load_config
from ucm.errors import ConfigError, Unsupported
from ucm.store.store import Store
from ucm.store.task import Task
from ucm.store.ucmstore_v1 import UcmKVStoreBaseV1

UcmPipelineStoreTransTask = Task


class UcmPipelineStore(UcmKVStoreBaseV1):
    """A pipeline with sizes in bytes.

    `block_size`, `shard_size`, `tensor_size` and `tensor_size_list` are bytes here; `device_id`
    -1 (the default) makes a scheduler's store, which answers lookups and refuses transfers.

    Args:
        config: `store_pipeline`, `storage_backends`, `device_id`, sizes, and the other keys of
            docs/configuration.md.

    Raises:
        ConfigError: The configuration can not be used.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._store = Store(byte_config(config))
        super().__init__(dict(config))

    @property
    def store(self) -> Store:
        """The store that does the work."""
        return self._store

    def cc_store(self) -> int:
        return self._store.cc_store()

    def lookup(self, block_ids: Sequence[bytes]) -> list[bool]:
        return self._store.lookup(block_ids)

    def lookup_on_prefix(self, block_ids: Sequence[bytes]) -> int:
        return self._store.lookup_on_prefix(block_ids)

    def prefetch(self, block_ids: Sequence[bytes]) -> None:
        self._store.prefetch(block_ids)

    def load(
        self, block_ids: Sequence[bytes], shard_index: Sequence[int], dst_tensor: Sequence[Any]
    ) -> Task:
        return self._store.load(block_ids, shard_index, dst_tensor)

    def dump(
        self, block_ids: Sequence[bytes], shard_index: Sequence[int], src_tensor: Sequence[Any]
    ) -> Task:
        return self._store.dump(block_ids, shard_index, src_tensor)

    def load_data(
        self, block_ids: Sequence[bytes], shard_index: Sequence[int], dst_addr: Any
    ) -> Task:
        return self._store.load_data(block_ids, shard_index, dst_addr)

    def dump_data(
        self,
        block_ids: Sequence[bytes],
        shard_index: Sequence[int],
        src_addr: Any,
        prerequisite_handle: int = 0,
    ) -> Task:
        return self._store.dump_data(block_ids, shard_index, src_addr, prerequisite_handle)

    def wait(self, task: Task) -> None:
        self._store.wait(task)

    def check(self, task: Task) -> bool:
        return self._store.check(task)

    def close(self) -> None:
        """Ends what is under way and lets go of threads, files and memory."""
        self._store.close()

    def __enter__(self) -> UcmPipelineStore:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def byte_config(config: Mapping[str, Any]) -> StoreConfig:
    """A configuration of released UCM as a `StoreConfig`.

    Raises:
        ConfigError: A key is unknown or does not fit, or `store_pipeline` is missing.
    """
    if not isinstance(config, Mapping):
        raise ConfigError(f"a dict is expected, not {type(config).__name__}")
    if "store_pipeline" not in config:
        raise ConfigError(
            "`store_pipeline` is missing, e.g. Cache|Posix or Cache|Disk", key="store_pipeline"
        )
    return load_config({"device_id": -1, **config}, bytes_door=True).store


class PipelineBuilder:
    """The registry of pipelines of released UCM; any sequence of stages is a pipeline here."""

    @staticmethod
    def register(name: str, builder: Callable[..., Any]) -> None:
        """Pipelines are described by `store_pipeline` and need no builder.

        Raises:
            Unsupported: Always; the text says what to do instead.
        """
        raise Unsupported(
            f"pipeline {name!r} can not be registered: name its stages in store_pipeline, or "
            "register a store of your own with UcmConnectorFactoryV1.register_connector"
        )

    @staticmethod
    def get(name: str) -> Callable[[Mapping[str, Any]], UcmPipelineStore]:
        """What makes the store of a pipeline from a configuration."""
        return lambda config: UcmPipelineStore({**config, "store_pipeline": name})


UcmPipelineStoreBuilder = PipelineBuilder
