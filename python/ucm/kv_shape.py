# SPDX-License-Identifier: Apache-2.0
"""What the KV of one token takes, from a model's config.json as Hugging Face writes it."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from typing import Any

from ucm.errors import InvalidArgument, IoError, NotFound

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
# Most models name things as Llama does; GPT-2, Falcon, ChatGLM and MPT are older.
_TEXT_PARTS = ("text_config", "llm_config", "language_config")
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_HEADS = ("num_attention_heads", "n_head", "n_heads")
_KV_HEADS = ("num_key_value_heads", "num_kv_heads", "multi_query_group_num")
_HEAD_DIMS = ("head_dim", "kv_channels")
_HIDDEN = ("hidden_size", "n_embd", "d_model")
_MOST = 1_000_000  # of layers, heads and their sizes: no model comes near
_INT8_GROUP = 8  # values per scale of an int8 KV cache


@dataclasses.dataclass(frozen=True)
class KvShape:
    """The KV of a model.

    Args:
        kind: MHA, GQA, MQA or MLA.
        layers: Layers that keep KV for every token.
        heads: K heads of the layer that has most, or 1 for MLA.
        values: Values per token in all layers, K and V of all heads together.
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
        return nbytes * copies


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
        with open(file, encoding="utf-8-sig") as stream:
            config = json.load(stream)
    except FileNotFoundError:
        raise NotFound(
            f"{file}: there is no such file; a model's folder or its config.json is expected "
            "(models are not downloaded)"
        ) from None
    except OSError as error:
        raise IoError(f"{file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
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
    inner = [config[name] for name in _TEXT_PARTS if isinstance(config.get(name), dict)]
    text = {**config, **inner[0]} if inner else config
    layers = _whole(text, *_LAYERS)
    kept, notes = _attention_layers(text, layers)
    model_dtype = _model_dtype(text, notes)
    chosen = _kv_dtype(text, model_dtype) if kv_dtype == "auto" else kv_dtype
    if chosen not in DTYPES:
        raise InvalidArgument(f"KV dtype {chosen!r} is none of {', '.join(DTYPES)}")
    if text.get("kv_lora_rank"):
        values = _whole(text, "kv_lora_rank") + _whole(text, "qk_rope_head_dim")
        return KvShape("MLA", kept, 1, values * kept, model_dtype, chosen, tuple(notes))
    attention = _whole(text, *_HEADS)
    per_layer = _kv_heads(text, attention, layers)
    if any(text.get(name) is not None for name in _HEAD_DIMS):
        dim = _whole(text, *_HEAD_DIMS)
    else:
        dim = _whole(text, *_HIDDEN) // attention
        if dim == 0:
            raise InvalidArgument(f"config.json: {attention} heads share fewer values than that")
    most = max(per_layer)
    if min(per_layer) != most:
        notes.append("the layers have different numbers of KV heads; their sum is counted")
    heads = sum(per_layer) * kept // layers
    kind = "MHA" if most == attention else "MQA" if most == 1 else "GQA"
    return KvShape(kind, kept, most, 2 * heads * dim, model_dtype, chosen, tuple(notes))


def _attention_layers(text: Mapping[str, Any], layers: int) -> tuple[int, list[str]]:
    """Layers that keep KV for every token, and what to say about the others."""
    kinds, every = text.get("layer_types"), text.get("full_attention_interval")
    flags, pattern = text.get("attn_type_list"), text.get("hybrid_override_pattern")
    period, places = text.get("attn_layer_period"), text.get("attn_layer_indices")
    kept = layers
    if isinstance(kinds, list) and len(kinds) == layers:
        kept = sum("attention" in str(each) and "linear" not in str(each) for each in kinds)
    elif isinstance(every, int) and every > 0:
        kept = layers // every
    elif isinstance(flags, list) and len(flags) == layers:
        kept = sum(each == 1 for each in flags)
    elif isinstance(pattern, str):
        kept = pattern.count("*")
    elif isinstance(places, list):
        kept = len(places)
    elif isinstance(period, int) and period > 0:
        offset = text.get("attn_layer_offset")
        kept = math.ceil((layers - (offset if isinstance(offset, int) else 0)) / period)
    notes = []
    if kept != layers:
        notes.append(f"the state of {layers - kept} layers without attention is not counted")
    sliding = sum("sliding" in str(each) for each in kinds) if isinstance(kinds, list) else 0
    if text.get("sliding_window") and text.get("use_sliding_window", True) and kept == layers:
        which = f"{sliding} layers" if sliding else "layers"
        notes.append(
            f"{which} with a sliding window of {text['sliding_window']} tokens are counted whole"
        )
    if not 0 < kept <= layers:
        raise InvalidArgument(f"config.json: {kept} of {layers} layers would keep KV")
    return kept, notes


def _kv_heads(text: Mapping[str, Any], attention: int, layers: int) -> list[int]:
    """KV heads of each layer."""
    name = next((each for each in _KV_HEADS if text.get(each) is not None), None)
    if name is None:
        return [1 if text.get("multi_query") is True else attention] * layers
    if isinstance(text[name], list) and len(text[name]) == layers:
        return [_whole({name: each}, name) for each in text[name]]
    return [_whole(text, name)] * layers


def _whole(config: Mapping[str, Any], *names: str) -> int:
    """The value under the first of the names that is there."""
    name = next((each for each in names if config.get(each) is not None), names[0])
    value = config.get(name)
    if value is None:
        kind = config.get("model_type")
        raise InvalidArgument(
            f"config.json: {name} is missing"
            + (f"; model type {kind!r} has a default for it: write it into a copy" if kind else "")
        )
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _MOST:
        raise InvalidArgument(f"config.json: {name} is {value!r}; a positive number is expected")
    return value


def _model_dtype(config: Mapping[str, Any], notes: list[str]) -> str:
    said = str(config.get("torch_dtype") or config.get("dtype") or "bfloat16")
    name = _NAMES.get(said.removeprefix("torch."))
    if name is None:
        notes.append(f"torch_dtype {said[:40]!r} is not known: bf16 is assumed")
    return name or "bf16"


def _kv_dtype(config: Mapping[str, Any], model_dtype: str) -> str:
    quantization = config.get("quantization_config")
    scheme = quantization.get("kv_cache_scheme") if isinstance(quantization, dict) else None
    if isinstance(scheme, dict) and scheme.get("num_bits") == 8:
        return "fp8" if scheme.get("type") == "float" else "int8"
    return model_dtype
