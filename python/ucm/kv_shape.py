# SPDX-License-Identifier: Apache-2.0
"""What the KV of one token takes, from a model's config.json as Hugging Face writes it."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

from ucm.errors import InvalidArgument, NotFound

DTYPES = {"fp32": 4, "bf16": 2, "fp16": 2, "fp8": 1, "int8": 1}
"""KV dtypes by name -> bytes per value."""
_NAMES = {
    "float32": "fp32",
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "float8_e4m3fn": "fp8",
    "float8_e5m2": "fp8",
}
_INT8_GROUP = 8  # values per scale of an int8 KV cache


@dataclasses.dataclass(frozen=True)
class KvShape:
    """The KV of a model.

    Args:
        kind: MHA, GQA, MQA or MLA.
        layers: Layers that keep KV for every token.
        heads: K heads, or 1 for MLA.
        values: Values per token and layer, K and V of all heads together.
        model_dtype: What the model computes in, a name of `DTYPES`.
        kv_dtype: What the KV is kept in, a name of `DTYPES`.
        notes: What the figures leave out.
    """

    kind: str
    layers: int
    heads: int
    values: int
    model_dtype: str
    kv_dtype: str
    notes: tuple[str, ...] = ()

    def token_bytes(self, ranks: int = 1) -> int:
        """Bytes of one token in all layers.

        Args:
            ranks: Tensor-parallel ranks that keep it. Each keeps its heads; with fewer heads than
                ranks, and with MLA, the same heads stand on several.
        """
        copies = ranks if self.kind == "MLA" else max(1, ranks // self.heads)
        nbytes = self.values * DTYPES[self.kv_dtype]
        if self.kv_dtype == "int8":
            nbytes += self.values // _INT8_GROUP * DTYPES[self.model_dtype]
        return nbytes * self.layers * copies


def read_config(path: str) -> dict[str, Any]:
    """A model's configuration.

    Args:
        path: A config.json, or the folder of a model.

    Raises:
        NotFound: There is none.
        InvalidArgument: It is not JSON.
    """
    file = os.path.join(path, "config.json") if os.path.isdir(path) else path
    try:
        with open(file, encoding="utf-8") as stream:
            config = json.load(stream)
    except FileNotFoundError:
        raise NotFound(
            f"{file}: there is no such file; a model's config.json is expected"
        ) from None
    except ValueError as error:
        raise InvalidArgument(f"{file}: not a config.json: {error}") from error
    if not isinstance(config, dict):
        raise InvalidArgument(f"{file}: not a config.json: an object is expected")
    return config


def kv_shape(config: Mapping[str, Any], kv_dtype: str = "auto") -> KvShape:
    """What the KV of a model looks like.

    Args:
        config: config.json; of a multimodal model the part for text is read.
        kv_dtype: A name of `DTYPES`; `auto` takes what the configuration says.

    Raises:
        InvalidArgument: The configuration lacks what is needed.
    """
    text = next((config[name] for name in ("text_config", "llm_config") if name in config), config)
    text = {**config, **text} if text is not config else text
    layers = _whole(text, "num_hidden_layers")
    notes = []
    kinds = text.get("layer_types")
    if isinstance(kinds, list) and len(kinds) == layers:
        linear = sum("linear" in str(kind) for kind in kinds)
        if linear:
            layers -= linear
            notes.append(f"the state of {linear} linear-attention layers is not counted")
    model_dtype = _model_dtype(text)
    chosen = _kv_dtype(text, model_dtype) if kv_dtype == "auto" else kv_dtype
    if chosen not in DTYPES:
        raise InvalidArgument(f"KV dtype {chosen!r} is none of {', '.join(DTYPES)}")
    if text.get("kv_lora_rank"):
        values = _whole(text, "kv_lora_rank") + _whole(text, "qk_rope_head_dim")
        return KvShape("MLA", layers, 1, values, model_dtype, chosen, tuple(notes))
    attention = _whole(text, "num_attention_heads")
    heads = int(text.get("num_key_value_heads") or attention)
    dim = int(text.get("head_dim") or _whole(text, "hidden_size") // attention)
    kind = "MHA" if heads == attention else "MQA" if heads == 1 else "GQA"
    return KvShape(kind, layers, heads, 2 * heads * dim, model_dtype, chosen, tuple(notes))


def _whole(config: Mapping[str, Any], name: str) -> int:
    value = config.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidArgument(f"config.json: {name} is {value!r}; a positive number is expected")
    return value


def _model_dtype(config: Mapping[str, Any]) -> str:
    said = str(config.get("torch_dtype") or config.get("dtype") or "bfloat16")
    return _NAMES.get(said.removeprefix("torch."), "bf16")


def _kv_dtype(config: Mapping[str, Any], model_dtype: str) -> str:
    quantization = config.get("quantization_config")
    scheme = quantization.get("kv_cache_scheme") if isinstance(quantization, dict) else None
    if isinstance(scheme, dict) and scheme.get("num_bits") == 8:
        return "fp8" if scheme.get("type") == "float" else "int8"
    return model_dtype
