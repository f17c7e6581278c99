# SPDX-License-Identifier: Apache-2.0
"""`ucm plan`: bytes per token of known models, capacities, advice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_runs import ucm, ucm_json

LLAMA_8B = {
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
    "torch_dtype": "bfloat16",
}
QWEN3_235B = {
    "num_hidden_layers": 94,
    "num_attention_heads": 64,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "hidden_size": 4096,
    "torch_dtype": "bfloat16",
}
DEEPSEEK_V3 = {
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "hidden_size": 7168,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "torch_dtype": "bfloat16",
}
LLAMA_7B = {
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "hidden_size": 4096,
    "torch_dtype": "float16",
}
HYBRID = {
    "text_config": {
        **QWEN3_235B,
        "num_hidden_layers": 8,
        "layer_types": ["linear_attention"] * 6 + ["full_attention"] * 2,
    }
}
FP8_KV = {**LLAMA_8B, "quantization_config": {"kv_cache_scheme": {"num_bits": 8, "type": "float"}}}


def write(tmp_path: Path, config: dict[str, Any]) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


@pytest.mark.parametrize(
    ("config", "kind", "token_bytes"),
    [
        (LLAMA_8B, "GQA", 131072),
        (QWEN3_235B, "GQA", 192512),
        (DEEPSEEK_V3, "MLA", 70272),
        (LLAMA_7B, "MHA", 524288),
        (HYBRID, "GQA", 2 * 2 * 4 * 128 * 2),
        (FP8_KV, "GQA", 65536),
    ],
)
def test_bytes_per_token_of_known_models(
    tmp_path: Path, config: dict[str, Any], kind: str, token_bytes: int
) -> None:
    code, report = ucm_json("plan", "--model", write(tmp_path, config), "--cpu-gb", 400)
    assert code == 0
    assert (report["kind"], report["token_bytes"]) == (kind, token_bytes)
    cpu = report["levels"][1]
    assert cpu["tokens_per_gb"] == 2**30 // token_bytes
    assert cpu["tokens"] == 400 * 2**30 // token_bytes
    assert report["pages"][2]["page_bytes"] == 256 * token_bytes
    assert report["pages"][2]["cpu_pages"] == 400 * 2**30 // (256 * token_bytes)


@pytest.mark.parametrize(
    ("dtype", "token_bytes"), [("fp16", 131072), ("fp8", 65536), ("int8", 81920), ("fp32", 262144)]
)
def test_the_dtype_of_the_kv_can_be_said(tmp_path: Path, dtype: str, token_bytes: int) -> None:
    model = write(tmp_path, LLAMA_8B)
    assert ucm_json("plan", "--model", model, "--kv-dtype", dtype)[1]["token_bytes"] == token_bytes


@pytest.mark.parametrize(
    ("config", "ranks", "copies"), [(LLAMA_8B, 8, 1), (QWEN3_235B, 8, 2), (DEEPSEEK_V3, 8, 8)]
)
def test_ranks_that_keep_the_same_heads_share_the_gpu_memory(
    tmp_path: Path, config: dict[str, Any], ranks: int, copies: int
) -> None:
    arguments = ("--model", write(tmp_path, config), "--gpu-gb", 100, "--tp", ranks)
    report = ucm_json("plan", *arguments)[1]
    assert report["levels"][0]["token_bytes"] == copies * report["token_bytes"]
    assert report["levels"][0]["tokens"] == 100 * 2**30 // (copies * report["token_bytes"])


@pytest.mark.parametrize(
    ("words", "page_tokens"),
    [
        (("--load", "chat"), 64),
        (("--load", "chat", "--disk-gb", 100), 128),
        (("--load", "mixed", "--disk-gb", 100), 256),
        (("--load", "long"), 256),
        (("--load", "long", "--disk-gb", 100), 512),
        (("--load", "chat", "--prompt", 131072), 64),
        (("--load", "chat", "--prompt", 131073), 128),
        (("--load", "chat", "--prompt", 1_000_000), 512),
    ],
)
def test_the_advice_follows_the_load_the_disk_and_the_longest_prompt(
    tmp_path: Path, words: tuple[Any, ...], page_tokens: int
) -> None:
    model = write(tmp_path, LLAMA_8B)
    report = ucm_json("plan", "--model", model, "--cpu-gb", 64, *words)[1]
    assert report["page_tokens"] == page_tokens
    assert f"--cpu_cache_token_page_size {page_tokens}" in report["lightllm_options"]


def test_the_text_names_everything_a_person_asks_for(tmp_path: Path) -> None:
    words = ("--gpu-gb", 200, "--cpu-gb", 400, "--disk-gb", 1000)
    result = ucm("plan", "--model", write(tmp_path, QWEN3_235B), *words, env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for text in ("192,512 bytes per token", "5,577", "2,231,012", "--cpu_cache_storage_size 400"):
        assert text in result.stdout
    assert "204,800" in result.stdout
    assert "cpu is 2 times the GPU's memory" in result.stderr


def test_what_can_not_be_planned_is_one_sentence(tmp_path: Path) -> None:
    missing = ucm("plan", "--model", tmp_path / "nothing.json")
    assert (missing.exit_code, "config.json is expected" in missing.stderr) == (1, True)
    (tmp_path / "config.json").write_text("{")
    assert "not a config.json" in ucm("plan", "--model", tmp_path).stderr
    lacking = ucm("plan", "--model", write(tmp_path, {"num_hidden_layers": 2}))
    assert "num_attention_heads is None" in lacking.stderr
    assert ucm("plan").exit_code == 2
