# SPDX-License-Identifier: Apache-2.0
"""What differs between vLLM versions. The only file that asks which version runs."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import vllm
from vllm.distributed.kv_transfer.kv_connector.v1 import base as _base

KVConnectorBase = _base.KVConnectorBase_V1
KVConnectorMetadata = _base.KVConnectorMetadata
KVConnectorRole = _base.KVConnectorRole


def _version() -> tuple[int, int]:
    numbers = vllm.__version__.split("+")[0].split(".")
    return int(numbers[0]), int(numbers[1])


class _Absent:
    """Stands in for a class that this vLLM does not have yet."""


SupportsHMA: type = getattr(_base, "SupportsHMA", _Absent)
KVConnectorWorkerMetadata: type = getattr(_base, "KVConnectorWorkerMetadata", _Absent)
TransferResults: type | None = getattr(_base, "KVConnectorTransferResults", None)
CacheHitSource: Any = getattr(_base, "CacheHitSource", None)

try:
    from vllm.distributed.kv_transfer.kv_connector.v1 import metrics as _metrics
except ImportError:
    _metrics = None
KVConnectorStats: Any = getattr(_metrics, "KVConnectorStats", _Absent)
KVConnectorPromMetrics: Any = getattr(_metrics, "KVConnectorPromMetrics", _Absent)

CAN_DEFER_LOOKUP = _version() >= (0, 11)
"""`get_num_new_matched_tokens` may answer None: ask again later."""
CAN_REPORT_LOAD_ERRORS = hasattr(KVConnectorBase, "get_block_ids_with_load_errors")
"""Blocks that could not be loaded are computed by the engine instead."""
CAN_REPORT_FAILED_REQUESTS = TransferResults is not None
"""A failed load can be reported by request, which is right with several KV cache groups too."""
KEEPS_BLOCKS_OF_ABORTED_LOADS = _version() >= (0, 20)
"""An aborted request keeps its blocks until its asynchronous load has ended."""
CAN_SEND_WORKER_METADATA = KVConnectorWorkerMetadata is not _Absent

_ATTENTION_SPECS = frozenset(
    (
        "FullAttentionSpec",
        "MLAAttentionSpec",
        "SlidingWindowSpec",
        "ChunkedLocalAttentionSpec",
        "SlidingWindowMLASpec",
        "TQFullAttentionSpec",
        "UniformTypeKVCacheSpecs",
    )
)


def init_base(connector: Any, vllm_config: Any, role: Any, kv_cache_config: Any) -> None:
    """Call the base class's constructor with the arguments it takes."""
    if "kv_cache_config" in inspect.signature(KVConnectorBase.__init__).parameters:
        KVConnectorBase.__init__(connector, vllm_config, role, kv_cache_config)
    else:
        KVConnectorBase.__init__(connector, vllm_config, role)


def adopt_logging() -> None:
    """Let the lines of ucm appear among those of vLLM, unless ucm's logger is set up already."""
    ours, theirs = logging.getLogger("ucm"), logging.getLogger("vllm")
    if not ours.handlers and theirs.handlers:
        ours.handlers = list(theirs.handlers)
        ours.setLevel(theirs.level)
        ours.propagate = theirs.propagate


def set_load_failure_policy(vllm_config: Any, policy: str) -> None:
    """Say what becomes of a request whose load failed; the scheduler reads it after this."""
    if hasattr(vllm_config.kv_transfer_config, "kv_load_failure_policy"):
        vllm_config.kv_transfer_config.kv_load_failure_policy = policy


def runs_ahead(vllm_config: Any) -> bool:
    """Whether a step is scheduled before the output of the one before it is known."""
    return bool(getattr(vllm_config.scheduler_config, "async_scheduling", False))


def why_no_cached_prefix(vllm_config: Any) -> str | None:
    """Why this engine must compute every prompt in full; None when it can start from a prefix.

    vLLM's reference MLA backend for CPUs samples other tokens when the head of a prompt comes from
    a cache, its own included; vLLM switches prefix caching and chunked prefill off for it.
    """
    off = not (
        vllm_config.cache_config.enable_prefix_caching
        or vllm_config.scheduler_config.enable_chunked_prefill
    )
    latent = bool(getattr(vllm_config.model_config, "use_mla", False))
    if off and latent and str(vllm_config.device_config.device_type) == "cpu":
        return "vLLM's latent attention on this CPU can not start from a cached prefix"
    return None


def context_parallel_size(vllm_config: Any) -> int:
    """How many ranks share the tokens of one block table entry."""
    parallel = vllm_config.parallel_config
    decode = int(getattr(parallel, "decode_context_parallel_size", 1) or 1)
    return decode * int(getattr(parallel, "prefill_context_parallel_size", 1) or 1)


def worker_rank(vllm_config: Any) -> int:
    """The rank of this worker within its engine: tensor x pipeline x context parallel."""
    parallel = vllm_config.parallel_config
    return int(parallel.rank) % int(parallel.world_size)


def engine_replica(vllm_config: Any) -> int:
    """The number of this engine among data-parallel replicas."""
    parallel = vllm_config.parallel_config
    if int(getattr(parallel, "data_parallel_size", 1)) == 1:
        return 0
    return int(getattr(parallel, "data_parallel_rank", 0))


def set_hit_source(connector: Any) -> None:
    """Let vLLM's statistics file the hits under storage."""
    if CacheHitSource is not None:
        connector._cache_hit_source = CacheHitSource.DISK


def transfer_results(ended: set[str], failed: set[str]) -> Any:
    """Ended loads as vLLM wants them."""
    assert TransferResults is not None
    return TransferResults(finished_recving=ended, failed_recving=failed)


# --- the KV cache ---


def kv_groups(kv_cache_config: Any) -> list[tuple[list[str], Any]]:
    """The KV cache groups as (layer names, spec); empty when the engine does not tell."""
    groups = getattr(kv_cache_config, "kv_cache_groups", None) or []
    return [(list(group.layer_names), group.kv_cache_spec) for group in groups]


def is_attention_group(spec: Any) -> bool:
    """Whether the blocks of a group hold the KV of their tokens and nothing else."""
    return type(spec).__name__ in _ATTENTION_SPECS


def num_blocks(vllm_config: Any, kv_cache_config: Any) -> int:
    """Blocks that the engine allocated."""
    count = getattr(kv_cache_config, "num_blocks", None)
    return int(count or vllm_config.cache_config.num_gpu_blocks)


# --- requests ---


def unsupported_request(request: Any) -> str | None:
    """Why the KV of a request can not be named by its tokens; None when it can."""
    if getattr(request, "prompt_embeds", None) is not None:
        return "prompt embeddings"
    if getattr(request, "prompt_is_token_ids", None) is not None:
        return "prompt embeddings"
    if getattr(request, "prompt_token_ids", None) is None:
        return "no token ids"
    if getattr(request, "resumable", False):
        return "streamed input"
    if getattr(request, "pooling_params", None) is not None:
        return "pooling"
    if any(identifier is None for identifier, _, _ in media_of(request)):
        return "media without identifiers"
    return None


def wants_no_cached_prefix(request: Any) -> bool:
    """Whether every token of the prompt must be computed (prompt log-probabilities)."""
    skip = getattr(request, "skip_reading_prefix_cache", None)
    if skip is not None:
        return bool(skip)
    sampling = getattr(request, "sampling_params", None)
    return getattr(sampling, "prompt_logprobs", None) is not None


def media_of(request: Any) -> list[tuple[str | None, int, int]]:
    """Images, sound and video of a prompt as (identifier, first token, tokens)."""
    features = getattr(request, "mm_features", None)
    if features is not None:
        return [
            (item.identifier, item.mm_position.offset, item.mm_position.length) for item in features
        ]
    hashes = list(getattr(request, "mm_hashes", None) or ())
    places = list(getattr(request, "mm_positions", None) or ())
    hashes += [None] * (len(places) - len(hashes))
    return [(name, at.offset, at.length) for name, at in zip(hashes, places, strict=True)]


def engine_hashes(request: Any, blocks: int) -> list[Any] | None:
    """vLLM's own hashes of the first blocks, as its KV events name them; None if it has none."""
    hashes = getattr(request, "block_hashes", None)
    if not hashes or len(hashes) < blocks:
        return None
    try:
        from vllm.v1.core.kv_cache_utils import maybe_convert_block_hash
    except ImportError:
        return None
    return [maybe_convert_block_hash(block_hash) for block_hash in hashes[:blocks]]


# --- KV events ---


def _event(name: str, values: dict[str, Any]) -> Any:
    from vllm.distributed import kv_events

    cls = getattr(kv_events, name)
    fields = cls.__struct_fields__
    return cls(**{key: value for key, value in values.items() if key in fields})


def block_stored(**values: Any) -> Any:
    """vLLM's event for blocks that can be loaded; values it does not know are left out."""
    return _event("BlockStored", values)


def block_removed(block_hashes: list[Any], medium: str) -> Any:
    """vLLM's event for blocks that are gone."""
    return _event("BlockRemoved", {"block_hashes": block_hashes, "medium": medium})


# --- the scheduler's output ---


def block_ids(blocks: Any) -> list[list[int]]:
    """Block ids of a request, one list per KV cache group."""
    ids = blocks.get_block_ids() if hasattr(blocks, "get_block_ids") else blocks
    if len(ids) and isinstance(ids[0], int):
        return [list(ids)]
    return [list(group) for group in ids]


def cached_requests(output: Any) -> Iterator[tuple[str, bool, Sequence[Any] | None, int]]:
    """Requests that were scheduled before: (id, block table replaced?, new block ids, computed)."""
    cached = output.scheduled_cached_reqs
    resumed = getattr(cached, "resumed_req_ids", None)
    if resumed is None:
        flags = cached.resumed_from_preemption
    else:
        flags = [request_id in resumed for request_id in cached.req_ids]
    return zip(cached.req_ids, flags, cached.new_block_ids, cached.num_computed_tokens, strict=True)
