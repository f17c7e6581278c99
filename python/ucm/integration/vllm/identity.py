# SPDX-License-Identifier: Apache-2.0
"""What the KV of a vLLM engine depends on, and which rank holds which part of it."""

from __future__ import annotations

import dataclasses
import json
from hashlib import blake2b
from typing import Any

from ucm.integration.common.fingerprint import folder_fingerprint
from ucm.integration.vllm import compat
from ucm.keys import Namespace

_PASSING = ("_name_or_path", "transformers_version", "_commit_hash", "name_or_path")
"""Entries of a model configuration that say nothing about the KV."""


def make_namespace(vllm_config: Any, block_tokens: int) -> Namespace:
    """The namespace of an engine; equal in its scheduler, in all its workers, and after a restart.

    Args:
        vllm_config: vLLM's configuration.
        block_tokens: tokens per block.
    """
    model, cache = vllm_config.model_config, vllm_config.cache_config
    parallel = vllm_config.parallel_config
    hf_config = getattr(model, "hf_config", None)
    fingerprint = folder_fingerprint(model.model)
    revision = [getattr(model, "revision", None), getattr(hf_config, "_commit_hash", None)]
    extras = [
        f"quantization={getattr(model, 'quantization', None)}",
        f"config={_config_digest(hf_config)}",
        f"mla={bool(getattr(model, 'use_mla', False))}",
    ]
    load = getattr(vllm_config, "load_config", None)
    if str(getattr(load, "load_format", "")).rsplit(".", 1)[-1].lower() == "dummy":
        extras.append(f"dummy weights, seed={getattr(model, 'seed', None)}")
    if getattr(cache, "calculate_kv_scales", False):
        # The scales live in one engine only, so its blocks mean nothing to another one.
        extras.append(f"engine={vllm_config.kv_transfer_config.engine_id}")
    speculative = getattr(vllm_config, "speculative_config", None)
    if speculative is not None:
        extras.append(f"draft={getattr(speculative, 'method', None)}:{speculative.model}")
    return Namespace(
        model=f"folder:{fingerprint}" if fingerprint else f"name:{model.model}",
        revision=None if fingerprint else ":".join(map(str, revision)),
        dtype=str(model.dtype),
        kv_dtype=str(cache.cache_dtype),
        block_size=block_tokens,
        tp_size=int(parallel.tensor_parallel_size),
        pp_size=int(parallel.pipeline_parallel_size),
        cp_size=compat.context_parallel_size(vllm_config),
        extras=tuple(extras),
    )


def _config_digest(hf_config: Any) -> str:
    """A digest of the model configuration, overrides such as RoPE scaling included."""
    to_dict = getattr(hf_config, "to_dict", None)
    if to_dict is None:
        return "none"
    values = {key: value for key, value in to_dict().items() if key not in _PASSING}
    text = json.dumps(values, sort_keys=True, default=str)
    return blake2b(text.encode(), digest_size=16).hexdigest()


def request_root_parts(request: Any) -> tuple[str | None, ...]:
    """What all blocks of a request depend on: LoRA adapter and cache salt."""
    lora = getattr(request, "lora_request", None)
    name = path = None
    if lora is not None:
        name = str(getattr(lora, "lora_name", None) or lora.lora_int_id)
        place = str(getattr(lora, "lora_path", None) or "")
        path = folder_fingerprint(place) or place
    return ("lora", name, path, "salt", getattr(request, "cache_salt", None))


@dataclasses.dataclass(frozen=True)
class RankPlan:
    """Which ranks hold parts of a block, and who writes them.

    Every rank holds a part of its own (its heads, its layers), unless the KV is the same on all
    tensor-parallel ranks (MLA): then one stage of the pipeline holds one part, and the ranks of
    that stage share it.
    """

    world: int
    """Ranks of the engine: tensor x pipeline x context parallel."""
    stage_ranks: int
    """Consecutive ranks that work on the same layers."""
    shared: bool
    """Whether those ranks hold the same KV."""
    replica: int = 0
    """Number of this engine among data-parallel replicas."""

    @classmethod
    def of(cls, vllm_config: Any) -> RankPlan:
        parallel = vllm_config.parallel_config
        world = int(parallel.world_size)
        stage = max(1, world // int(parallel.pipeline_parallel_size))
        mla = bool(getattr(vllm_config.model_config, "use_mla", False))
        whole = compat.context_parallel_size(vllm_config) == 1
        return cls(world, stage, mla and whole and stage > 1, compat.engine_replica(vllm_config))

    @property
    def parts(self) -> int:
        """How many parts a block has."""
        return self.world // self.stage_ranks if self.shared else self.world

    def part_of(self, rank: int) -> int:
        """The part that a rank holds."""
        return rank // self.stage_ranks if self.shared else rank

    def home_of(self, part: int) -> int:
        """Where ranks have directories of their own: the number of the one that a part lies in.

        Replicas on one machine have directories of their own too.
        """
        return self.replica * self.world + (part * self.stage_ranks if self.shared else part)

    def is_home_of(self, rank: int) -> bool:
        """Whether a rank's part lies in its own directory."""
        return not self.shared or rank % self.stage_ranks == 0
