# SPDX-License-Identifier: Apache-2.0
"""Stores from configurations: `UcmConnectorFactory` and `open_store`."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import os
from collections.abc import Mapping
from typing import Any

from ucm import monitoring
from ucm.config import StoreConfig, UcmConfig, load_config
from ucm.config.pipelines import NAMED
from ucm.errors import ConfigError, InvalidArgument, Unsupported
from ucm.store.store import Store

Source = StoreConfig | UcmConfig | Mapping[str, Any] | str | os.PathLike[str]

_MOONCAKE = ("UcmMooncakeStore", "UcmMooncakeStoreV1", "UcmYuanRongStore")


class Registry:
    """Names of stores that other packages bring. Not thread-safe."""

    def __init__(self) -> None:
        self._classes: dict[str, tuple[str, str]] = {}

    def register(self, name: str, module_path: str, class_name: str) -> None:
        """Adds a name, or replaces what it stands for."""
        for word in (name, module_path, class_name):
            if not isinstance(word, str) or not word:
                raise InvalidArgument(f"a text is expected, not {word!r}")
        self._classes[name] = (module_path, class_name)

    def get(self, name: str) -> Any:
        """The class that stands behind a name, or None."""
        if name not in self._classes:
            return None
        return import_class(*self._classes[name])

    def unknown(self, name: str) -> ConfigError:
        """The error for a name nobody knows."""
        known = [*NAMED, *self._classes]
        close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]}?" if close else ""
        return ConfigError(
            f"unknown store {name!r}{hint} Known: {', '.join(known)}; others need "
            "register_connector",
            key="ucm_connector_name",
            nearest=close[0] if close else None,
        )


def import_class(module_path: str, class_name: str) -> Any:
    """A class by module and name.

    Raises:
        ConfigError: There is no such module or class.
    """
    try:
        return getattr(importlib.import_module(module_path), class_name)
    except ImportError as error:
        raise ConfigError(f"the module {module_path!r} can not be imported: {error}") from error
    except AttributeError:
        raise ConfigError(f"the module {module_path!r} has no class {class_name!r}") from None


def refuse_remote(name: str) -> None:
    """Raises for documented stores that are not in this version."""
    if name in _MOONCAKE:
        raise Unsupported(
            f"{name}: no remote stage is in this version; use UcmPipelineStore with "
            "store_pipeline: Cache|NFS on a shared directory"
        )


def open_store(
    config: Source,
    *,
    layout: Any = None,
    layout_id: int = 0,
    read_only: bool = False,
    rank: int | None = None,
    local_rank: int = 0,
) -> Store:
    """Opens a store, and begins the log and the metrics endpoint its configuration asks for.

    Args:
        config: A configuration, a dict, or the path of a YAML file.
        layout: `([bytes of each piece of a shard], shards per block)`; by default sizes come from
            the configuration, else from the first tensors.
        layout_id: 64 bits that differ when the bytes of a block mean something else.
        read_only: Take no write locks; dumps are refused.
        rank: Rank of the engine, for a Disk stage that several ranks use.
        local_rank: Rank on this node; chooses the device.

    Returns:
        The store; also a context manager.

    Raises:
        ConfigError: The configuration can not be used.
    """
    if not isinstance(config, StoreConfig | UcmConfig):
        config = load_config(config)
    store = config.store if isinstance(config, UcmConfig) else config
    if isinstance(config, UcmConfig):
        monitoring.begin(config)
    if isinstance(local_rank, bool) or not isinstance(local_rank, int) or local_rank < 0:
        raise InvalidArgument(f"local_rank is a whole number from 0, not {local_rank!r}")
    if store.device_id is None and local_rank:
        device = store.device_ids[local_rank] if local_rank < len(store.device_ids) else local_rank
        store = dataclasses.replace(store, device_id=device)
    return Store(store, layout=layout, layout_id=layout_id, read_only=read_only, rank=rank)


class UcmConnectorFactory:
    """Makes stores, as documented."""

    _registry = Registry()

    @classmethod
    def register_connector(cls, name: str, module_path: str, class_name: str) -> None:
        """Makes a class of another package known under a name; it is imported when first used."""
        cls._registry.register(name, module_path, class_name)

    @classmethod
    def create_connector(cls, *args: Any, **kwargs: Any) -> Any:
        """Opens a store: `create_connector(config, local_rank=0)` or `(name, config)`.

        Args:
            config: Dict or YAML path; `block_size` counts tokens.
            local_rank: Rank on this node. Ranks beyond 0 keep the blocks of a Disk stage in
                directories of their own.
            name: UcmPipelineStore, UcmPosixStore, UcmCacheStore, UcmNfsStore, ..., or a
                registered name.

        Raises:
            ConfigError: Unknown name, or a configuration that can not be used.
            Unsupported: A store that is not in this version.
        """
        name, config, local_rank = _arguments(*args, **kwargs)
        if name is None:
            loaded = load_config(config)
            name = loaded.connector_name
            if loaded.connector_module_path:
                found = import_class(loaded.connector_module_path, name)
                return found(dict(config) if isinstance(config, Mapping) else config)
        refuse_remote(name)
        registered = cls._registry.get(name)
        if registered is not None:
            return registered(config)
        if name not in NAMED:
            raise cls._registry.unknown(name)
        rank = local_rank or None
        return open_store(_named(name, config), local_rank=local_rank, rank=rank)


def _arguments(
    *args: Any,
    name: str | None = None,
    connector_name: str | None = None,
    config: Any = None,
    local_rank: int = 0,
) -> tuple[str | None, Any, int]:
    """Tells the two documented forms apart by the type of the first argument."""
    name = name or connector_name
    rest = list(args)
    if rest and isinstance(rest[0], str) and (len(rest) > 1 or config is not None):
        name = rest.pop(0)
    if rest:
        config = rest.pop(0)
    if rest:
        local_rank = rest.pop(0)
    if rest:
        raise InvalidArgument("create_connector takes (config, local_rank) or (name, config)")
    if isinstance(config, str) and name is None and config in NAMED:
        raise InvalidArgument(f"create_connector({config!r}) lacks its config")
    if config is None:
        raise InvalidArgument("create_connector takes (config, local_rank) or (name, config)")
    return name, config, local_rank


def _named(name: str, config: Any) -> Any:
    """The configuration with its store's name, which stands for a pipeline unless it has one."""
    if isinstance(config, Mapping):
        return {**config, "ucm_connector_name": name}
    if isinstance(config, str | os.PathLike):
        return {"UCM_CONFIG_FILE": config, "ucm_connector_name": name}
    return config
