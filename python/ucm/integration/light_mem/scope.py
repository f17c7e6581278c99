# SPDX-License-Identifier: Apache-2.0
"""Whose pages a folder holds.

LightLLM's hashes cover token ids only. What else decides the content of a page stands in the
arguments of its server, which every process of it finds in the environment.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from ucm.integration.common.fingerprint import folder_fingerprint

START_ARGS = "LIGHTLLM_START_ARGS"

# All that changes the bytes of a page or the meaning of its hash.
_ARGUMENTS = (
    "cpu_cache_token_page_size",
    "data_type",
    "dp",
    "linear_att_hash_page_size",
    "linear_att_page_block_num",
    "llm_kv_type",
    "mtp_mode",
    "nnodes",
    "node_rank",
    "quant_cfg",
    "quant_type",
    "tp",
)
_MODELS = ("model_dir", "mtp_draft_model_dir")


class Scope(NamedTuple):
    """Whose pages they are, and whether they mean anything after this run."""

    text: str
    keep: bool
    nodes: int
    rank: int


def scope_of(page_bytes: int, environ: Mapping[str, str]) -> Scope:
    """What fences the pages of this process.

    Args:
        page_bytes: Bytes of one page.
        environ: The variables, usually os.environ.

    Returns:
        A text equal for equal servers, on every machine. `keep` is False for a multimodal model:
        the ids of its images begin anew with each start, so its hashes do not outlive it.

    Raises:
        ValueError: The arguments of the server are there and are no JSON object.
    """
    parts: dict[str, Any] = {"page_bytes": page_bytes}
    arguments: dict[str, Any] = {}
    text = environ.get(START_ARGS, "")
    if text:
        arguments = json.loads(text)
        if not isinstance(arguments, dict):
            raise ValueError(f"{START_ARGS} is no JSON object")
        parts |= {name: arguments.get(name) for name in _ARGUMENTS}
        parts |= {name: _model(arguments.get(name)) for name in _MODELS}
    return Scope(
        json.dumps(parts, sort_keys=True),
        not arguments.get("enable_multimodal"),
        int(arguments.get("nnodes") or 1),
        int(arguments.get("node_rank") or 0),
    )


def _model(value: Any) -> Any:
    # A folder is named by its content, so that replaced weights are another model.
    folders = value if isinstance(value, list) else [value]
    named = [folder_fingerprint(str(each)) or each if each else None for each in folders]
    return named if isinstance(value, list) else named[0]
