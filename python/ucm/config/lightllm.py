# SPDX-License-Identifier: Apache-2.0
"""Settings of the LightLLM adapters: variables, because its processes share nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from ucm.config.env import section_values
from ucm.config.fields import key
from ucm.errors import ConfigError

VARIABLE = "UCM_LIGHTLLM"
"""Environment variable that names the parts; what a started process finds in it, it installs."""
PARTS = {
    "index": "page index shared by the server's processes, in place of CpuKvCacheClient's",
    "memory": "memory of the CPU pages: huge pages, NUMA, registered with the device",
    "transfer": "copies between KV buffer and CPU pages, in place of LightLLM's kernels",
}


@dataclasses.dataclass(frozen=True)
class LightLlmConfig:
    """`lightllm`: what of ucm a LightLLM server uses, and the variables of LightLLM it heeds."""

    parts: str | None = key(
        "str",
        "Parts of ucm that every process of the server installs: a comma-separated list of "
        "`index`, `memory` and `transfer`, or `all`. The launcher sets it for what it starts; its "
        "`--parts` wins.",
        default_text="none; with the launcher index",
        env=(VARIABLE,),
    )
    huge_pages: bool = key(
        "bool",
        "Part memory: CPU pages that lie on plain pages are a warning in the log. Huge pages are "
        "tried in any case.",
        default=False,
        env=("LIGHTLLM_HUGE_PAGE_ENABLE",),
    )
    numa_interleave: bool = key(
        "bool",
        "Part memory: spread the CPU pages over all NUMA nodes.",
        default=False,
        env=("LIGHTLLM_ENABLE_NUMA_INTERLEAVE",),
    )
    disk_limit_tokens: int = key(
        "int",
        "Part index: prompts of fewer tokens are not queued for the disk.",
        unit="tokens",
        default=2048,
        minimum=0,
        env=("LIGHTLLM_DISK_CACHE_PROMPT_LIMIT_LENGTH",),
    )


def parse_parts(text: str) -> tuple[str, ...]:
    """The parts a text names: a comma-separated list, or `all`.

    Raises:
        ConfigError: It names none, or one that does not exist.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    chosen = tuple(PARTS) if words == ["all"] else tuple(part for part in PARTS if part in words)
    unknown = [word for word in words if word not in PARTS and words != ["all"]]
    if unknown or not chosen:
        raise ConfigError(f"parts {text!r}: a list of {', '.join(PARTS)} is expected, or all")
    return chosen


def lightllm_config(environ: Mapping[str, str]) -> LightLlmConfig:
    """The settings that the environment makes.

    Args:
        environ: The variables, usually os.environ.

    Raises:
        ConfigError: A value is out of range or of the wrong kind, or a part does not exist.
    """
    config = LightLlmConfig(**section_values(LightLlmConfig, environ))
    if config.parts is not None:
        parse_parts(config.parts)
    if config.disk_limit_tokens < 0:
        raise ConfigError(
            f"LIGHTLLM_DISK_CACHE_PROMPT_LIMIT_LENGTH={config.disk_limit_tokens}: from 0"
        )
    return config
