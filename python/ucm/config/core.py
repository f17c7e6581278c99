# SPDX-License-Identifier: Apache-2.0
"""A `StoreConfig` -> the flat options of the native core."""

from __future__ import annotations

import logging
import os
from typing import Any

from ucm.config.backends import resolve_backend
from ucm.config.fields import keys_of
from ucm.config.model import StoreConfig
from ucm.config.pipelines import PipelineSpec, parse_pipeline
from ucm.errors import ConfigError

_LOG = logging.getLogger("ucm.config")
_NFS_RETRIES = 3


def core_options(config: StoreConfig, *, rank: int | None = None) -> dict[str, Any]:
    """The options a native pipeline is opened with.

    Args:
        config: The store.
        rank: Rank of the engine. A Disk stage has one writer, so each rank gets a directory of
            its own, `<backend>/rank-<rank>`; None uses the backends as they are.

    Returns:
        Key -> bool, int, float, str or list of str. Keys that were not set are absent: the
        stage's own default counts.

    Raises:
        ConfigError: Backends are missing or not mounted, or limits contradict one another.
    """
    spec = parse_pipeline(config.store_pipeline)
    stages = {"Cache", *spec.stages} if spec.needs_backends else set(spec.stages)
    options: dict[str, Any] = {}
    for name, entry in keys_of(StoreConfig).items():
        value = getattr(config, name)
        if not entry.stages or value is None:
            continue
        if stages.isdisjoint(entry.stages):
            _note_once(config, name, entry.stages)
            continue
        options[name] = list(value) if isinstance(value, tuple) else value
    if config.timeout_s is not None:
        options["timeout_s"] = config.timeout_s
    if spec.nfs and config.retry_count is None:
        options["retry_count"] = _NFS_RETRIES
    if spec.needs_backends:
        options["storage_backends"] = _directories(config, spec, rank)
        _collection(config, options)
    if options.get("share"):
        options["unique_id"] = _pool_name(config, spec)
    for name, value in config.overrides.items():
        if name.partition(".")[0].capitalize() in stages:
            options[name] = list(value) if isinstance(value, tuple) else value
        else:
            _note_once(config, name, (name.partition(".")[0].capitalize(),))
    return options


def _pool_name(config: StoreConfig, spec: PipelineSpec) -> str:
    """The name of a shared pool: what one store writes down counts as done for all that share."""
    paths = (
        [resolve_backend(path) for path in config.storage_backends] if spec.needs_backends else []
    )
    return "\n".join([config.unique_id or "", spec.spec, *paths])


def _directories(config: StoreConfig, spec: PipelineSpec, rank: int | None) -> list[str]:
    origin = config.origin
    if not config.storage_backends:
        text = (
            f"`storage_backends` is missing: `{config.store_pipeline}` keeps blocks in a "
            "directory, e.g. storage_backends: /data/ucm_cache"
        )
        raise ConfigError(text, file=origin.file if origin else None, key="storage_backends")
    try:
        paths = [resolve_backend(each) for each in config.storage_backends]
    except ConfigError as error:
        if origin is None:
            raise
        raise origin.named_error(error.message, "storage_backends") from None
    if len(set(paths)) != len(paths):
        raise ConfigError(
            f"`storage_backends`: two of them are the same directory: {paths}",
            key="storage_backends",
        )
    if rank is not None and "Disk" in spec.stages:
        paths = [os.path.join(path, f"rank-{rank}") for path in paths]
    return paths


def _collection(config: StoreConfig, options: dict[str, Any]) -> None:
    """Of the two marks, the one that is absent follows the one that is given."""
    high, low = config.eviction_high, config.eviction_low
    if high is not None and low is not None and low >= high:
        raise ConfigError(
            f"`eviction_low` ({low}) is below `eviction_high` ({high}): collection starts at high "
            "and ends at low",
            key="eviction_low",
        )
    if high is not None and low is None:
        options["eviction_low"] = round(high * 0.9, 6)
    if low is not None and high is None:
        options["eviction_high"] = (1 + low) / 2


_noted: set[tuple[str, str]] = set()


def _note_once(config: StoreConfig, name: str, stages: tuple[str, ...]) -> None:
    if (config.store_pipeline, name) not in _noted:
        _noted.add((config.store_pipeline, name))
        _LOG.warning(
            "`%s` has no effect with `%s`: the stage %s uses it",
            name,
            config.store_pipeline,
            " or ".join(stages),
        )
