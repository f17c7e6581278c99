# SPDX-License-Identifier: Apache-2.0
"""What both roles of the connector derive from vLLM's and ucm's configuration."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

from ucm.config import UcmConfig, load_config
from ucm.config.pipelines import NAMED
from ucm.errors import ConfigError, Unsupported
from ucm.integration.common import parts
from ucm.integration.vllm import compat
from ucm.integration.vllm.identity import RankPlan, make_namespace
from ucm.store.factory import refuse_remote

_log = logging.getLogger("ucm.integration.vllm")

_ROLES = {"kv_both": (True, True), "kv_producer": (False, True), "kv_consumer": (True, False)}
"""vLLM's `kv_role` -> whether the engine loads, and whether it saves."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything a role needs to know. Immutable; equal in the scheduler and in the workers."""

    config: UcmConfig
    namespace: bytes
    """Digest of the namespace."""
    block_tokens: int
    """Tokens per block, over all context-parallel ranks."""
    groups: int
    """KV cache groups; each has its own block ids."""
    group_of: dict[str, int]
    """Layer name -> KV cache group."""
    ranks: RankPlan
    layerwise: bool
    async_load: bool
    loads: bool
    """False for producers, and where the engine can not start from a prefix: it only saves."""
    saves: bool
    """False for consumers: what others saved is loaded, and nothing is added to it."""
    events: bool
    lookup_wait_s: float
    """How long a lookup of slow storage may hold up the scheduler."""
    lookup_timeout_s: float
    """After which a lookup counts as failed."""
    timeout_s: float
    """Limit of one transfer."""
    breaker_failures: int
    breaker_delay_s: float


def read_settings(vllm_config: Any, kv_cache_config: Any) -> Settings:
    """Read and check the configuration of an engine.

    Raises:
        ConfigError: ucm's configuration can not be used.
        Unsupported: the engine keeps state that this connector can not store.
    """
    config = read_config(vllm_config.kv_transfer_config.kv_connector_extra_config)
    parts.check_spec(config.store)
    loads, saves = _read_role(vllm_config)
    block_tokens = _check_block_size(config, vllm_config)
    groups = compat.kv_groups(kv_cache_config)
    _check_groups(groups, vllm_config)
    events = getattr(vllm_config, "kv_events_config", None)
    if config.load_only_first_rank:
        _log.info("load_only_first_rank: no effect; every rank reads the shared blocks for itself")
    no_prefix = compat.why_no_cached_prefix(vllm_config)
    if no_prefix is not None and loads:
        if not saves:
            raise Unsupported(f"kv_role kv_consumer: {no_prefix}")
        _log.warning("blocks are saved and never loaded: %s", no_prefix)
    return Settings(
        config=config,
        namespace=make_namespace(vllm_config, block_tokens).digest(),
        block_tokens=block_tokens,
        groups=max(1, len(groups)),
        group_of={name: at for at, (names, _) in enumerate(groups) for name in names},
        ranks=RankPlan.of(vllm_config),
        layerwise=config.use_layerwise,
        async_load=_choose_async(config, vllm_config, len(groups)),
        loads=loads and no_prefix is None,
        saves=saves,
        events=bool(getattr(events, "enable_kv_cache_events", False)),
        lookup_wait_s=config.lookup_wait_s,
        lookup_timeout_s=config.lookup_timeout_s,
        timeout_s=config.store.timeout_s or 30.0,
        breaker_failures=config.breaker_failures,
        breaker_delay_s=config.breaker_delay_s,
    )


def read_config(extra_config: Mapping[str, Any] | None) -> UcmConfig:
    """ucm's configuration from a `kv_connector_extra_config`.

    Raises:
        ConfigError: It can not be used, or names a store that is not one of ucm's own.
        Unsupported: It names a store that is not in this version.
    """
    config = load_config(dict(extra_config or {}))
    refuse_remote(config.connector_name)
    if config.connector_name not in NAMED:
        raise ConfigError(
            f"ucm_connector_name {config.connector_name!r}: an engine opens one of "
            f"{', '.join(NAMED)}",
            key="ucm_connector_name",
        )
    return config


def _read_role(vllm_config: Any) -> tuple[bool, bool]:
    """Whether this engine loads, and whether it saves."""
    role = vllm_config.kv_transfer_config.kv_role
    if role not in _ROLES:
        raise ConfigError(
            f"kv_role {role!r} of --kv-transfer-config: one of {', '.join(_ROLES)} is expected",
            key="kv_role",
        )
    return _ROLES[role]


def _check_block_size(config: UcmConfig, vllm_config: Any) -> int:
    engine = int(vllm_config.cache_config.block_size)
    engine *= compat.context_parallel_size(vllm_config)
    wanted = config.store.block_size
    if wanted is not None and wanted != engine:
        raise ConfigError(
            f"block_size is {wanted} tokens in ucm's configuration and {engine} in the engine: "
            f"leave it out, write {engine}, or start vLLM with --block-size {wanted}",
            key="block_size",
        )
    return engine


def _check_groups(groups: list[tuple[list[str], Any]], vllm_config: Any) -> None:
    for names, spec in groups:
        if not compat.is_attention_group(spec):
            raise Unsupported(
                f"layers such as {names[0]} keep a {type(spec).__name__}; only the KV of "
                "attention layers can be stored"
            )
        if getattr(spec, "non_causal", False):
            raise Unsupported(f"the KV of layers such as {names[0]} depends on later tokens")
    sizes = {int(spec.block_size) for _, spec in groups}
    if len(sizes) > 1:
        raise Unsupported(f"KV cache groups with blocks of {sorted(sizes)} tokens")
    if groups and sizes != {int(vllm_config.cache_config.block_size)}:
        raise Unsupported(
            f"blocks of {sizes.pop()} tokens in the KV cache, but a block size of "
            f"{vllm_config.cache_config.block_size} in the engine"
        )
    if len(groups) > 1 and not compat.CAN_REPORT_FAILED_REQUESTS:
        raise Unsupported(
            "this vLLM can not take back a load when there are several KV cache groups; "
            "0.30 and later can, or start it with --disable-hybrid-kv-cache-manager"
        )


def _choose_async(config: UcmConfig, vllm_config: Any, groups: int) -> bool:
    """Whether loads run between the steps of the engine.

    A load inside a step that fails can only be taken back when no later step has been scheduled
    on top of it, and only where block ids are unique.
    """
    if not compat.KEEPS_BLOCKS_OF_ABORTED_LOADS:
        if config.async_load:
            _log.warning("async_load: this vLLM frees the blocks of aborted loads; not used")
        return False
    reasons = []
    if compat.runs_ahead(vllm_config):
        reasons.append("asynchronous scheduling is on (--no-async-scheduling turns it off)")
    if groups > 1:
        reasons.append("there are several KV cache groups")
    wanted = (not config.use_layerwise) if config.async_load is None else config.async_load
    if reasons and not wanted:
        what = "layer-wise loading" if config.use_layerwise else "loading inside a step"
        _log.info("%s is not used because %s; loads run between steps", what, " and ".join(reasons))
    return wanted or bool(reasons)
