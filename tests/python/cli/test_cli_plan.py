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


def model(layers: int, heads: int, kv: int, dim: int, **more: Any) -> dict[str, Any]:
    """config.json as most models have it."""
    shape = {"num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv}
    return {**shape, "head_dim": dim, "hidden_size": heads * dim, **more}


GEMMA_2_LAYERS = ["sliding_attention", "full_attention"] * 21
KNOWN = {
    "Llama-3-8B": (LLAMA_8B, "GQA", 131072),
    "Llama-3.1-405B": (model(126, 128, 8, 128), "GQA", 516096),
    "Llama-4-Scout": ({"text_config": model(48, 40, 8, 128)}, "GQA", 196608),
    "Llama-7B": (LLAMA_7B, "MHA", 524288),
    "fp8 KV": (FP8_KV, "GQA", 65536),
    "Qwen2-7B": (
        model(28, 28, 4, 128, sliding_window=131072, use_sliding_window=False),
        "GQA",
        57344,
    ),
    "Qwen3-8B": (model(36, 32, 8, 128), "GQA", 147456),
    "Qwen3-32B": (model(64, 64, 8, 128, hidden_size=5120), "GQA", 262144),
    "Qwen3-235B-A22B": (QWEN3_235B, "GQA", 192512),
    "Qwen3-Next-80B-A3B": (model(48, 16, 2, 256, full_attention_interval=4), "GQA", 24576),
    "Qwen hybrid": (HYBRID, "GQA", 2 * 2 * 4 * 128 * 2),
    "Mixtral-8x7B": (model(32, 32, 8, 128, sliding_window=None), "GQA", 131072),
    "Mistral-7B-v0.1": (model(32, 32, 8, 128, sliding_window=4096), "GQA", 131072),
    "Gemma-2-9B": (
        model(42, 16, 8, 256, sliding_window=4096, layer_types=GEMMA_2_LAYERS),
        "GQA",
        344064,
    ),
    "Gemma-3-27B": ({"text_config": model(62, 32, 16, 128, sliding_window=1024)}, "GQA", 507904),
    "gpt-oss-20b": (model(24, 64, 8, 64, sliding_window=128), "GQA", 49152),
    "Phi-3-mini": (model(32, 32, 32, 96), "MHA", 393216),
    "DeepSeek-V3": (DEEPSEEK_V3, "MLA", 70272),
    "DeepSeek-V2-Lite": (
        model(27, 16, 16, 128, kv_lora_rank=512, qk_rope_head_dim=64),
        "MLA",
        31104,
    ),
    "Falcon-7B": (
        {"num_hidden_layers": 32, "n_head": 71, "hidden_size": 4544, "multi_query": True},
        "MQA",
        8192,
    ),
    "Falcon-40B": (
        {
            "num_hidden_layers": 60,
            "num_attention_heads": 128,
            "num_kv_heads": 8,
            "hidden_size": 8192,
            "multi_query": True,
        },
        "GQA",
        122880,
    ),
    "GPT-2": ({"n_layer": 12, "n_head": 12, "n_embd": 768}, "MHA", 36864),
    "ChatGLM3-6B": (
        {
            "num_layers": 28,
            "num_attention_heads": 32,
            "multi_query_group_num": 2,
            "kv_channels": 128,
            "torch_dtype": "float16",
        },
        "GQA",
        28672,
    ),
    "Jamba-v0.1": (model(32, 32, 8, 128, attn_layer_period=8, attn_layer_offset=4), "GQA", 16384),
    "Nemotron-H-8B": (
        model(52, 32, 8, 128, hybrid_override_pattern="M-M-M-M*-" * 4 + "M-M-M-M-" * 2),
        "GQA",
        16384,
    ),
    "MiniMax-Text-01": (
        model(80, 64, 8, 128, attn_type_list=[0, 0, 0, 0, 0, 0, 0, 1] * 10),
        "GQA",
        40960,
    ),
    "heads by layer": (
        {
            "num_hidden_layers": 3,
            "num_attention_heads": 12,
            "num_kv_heads": [3, 4, 5],
            "head_dim": 64,
        },
        "GQA",
        2 * 12 * 64 * 2,
    ),
}


def write(tmp_path: Path, config: dict[str, Any]) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


@pytest.mark.parametrize("name", KNOWN)
def test_bytes_per_token_of_known_models(tmp_path: Path, name: str) -> None:
    config, kind, token_bytes = KNOWN[name]
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
    (tmp_path / "config.json").write_bytes(b"\xff\x00GGUF")
    assert "not a config.json" in ucm("plan", "--model", tmp_path).stderr
    (tmp_path / "config.json").write_text("[1, 2]")
    assert "an object is expected" in ucm("plan", "--model", tmp_path).stderr
    assert "models are not downloaded" in ucm("plan", "--model", "Qwen/Qwen3-8B").stderr
    assert ucm("plan").exit_code == 2


GEMMA_3_4B = {"text_config": {"model_type": "gemma3_text", "num_hidden_layers": 34}}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "num_hidden_layers is missing"),
        ({"num_hidden_layers": 2}, "num_attention_heads is missing"),
        (GEMMA_3_4B, "model type 'gemma3_text' has a default for it"),
        (model(2, 4, 4, 64, text_config=None) | {"num_hidden_layers": "2"}, "is '2'"),
        (model(2, 4, 4, 64) | {"num_hidden_layers": True}, "is True"),
        (model(2, 4, 4, 64) | {"num_hidden_layers": 0}, "is 0"),
        (model(2, 4, 4, 64) | {"num_attention_heads": -4}, "is -4"),
        (model(2, 4, 4, 64) | {"num_key_value_heads": 0}, "num_key_value_heads is 0"),
        (model(2, 4, 4, 64) | {"num_key_value_heads": [1]}, "num_key_value_heads is [1]"),
        (model(2, 4, 4, 64) | {"head_dim": "wide"}, "head_dim is 'wide'"),
        (model(2, 4, 4, 64) | {"head_dim": None, "hidden_size": 1.5}, "hidden_size is 1.5"),
        (model(2, 4, 4, 64) | {"kv_lora_rank": 512}, "qk_rope_head_dim is missing"),
        (model(2, 4, 4, 64) | {"layer_types": ["mamba"] * 2}, "0 of 2 layers would keep KV"),
        (model(2, 4, 4, 64) | {"num_hidden_layers": 10**30}, "num_hidden_layers is 1000"),
        (model(2, 4, 4, 64) | {"num_key_value_heads": 10**400}, "num_key_value_heads is 1000"),
        (model(2, 4, 4, 64) | {"head_dim": None, "hidden_size": 3}, "4 heads share fewer values"),
    ],
)
def test_a_configuration_that_lacks_something_says_what(
    tmp_path: Path, config: dict[str, Any], words: str
) -> None:
    result = ucm("plan", "--model", write(tmp_path, config), env={"COLUMNS": "300"})
    assert result.exit_code == 1
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("text", ['{"a":' * 50000, "[" * 50000, f'{{"a": {"9" * 5000}}}'])
def test_a_file_that_json_can_not_read_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    result = ucm("plan", "--model", tmp_path)
    assert result.exit_code == 1
    assert "not a config.json" in result.stderr


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "1e308", "many"])
@pytest.mark.parametrize("option", ["--gpu-gb", "--cpu-gb", "--disk-gb"])
def test_a_size_that_no_machine_has_is_a_wrong_command_line(
    tmp_path: Path, option: str, text: str
) -> None:
    result = ucm("plan", "--model", write(tmp_path, model(2, 4, 4, 64)), option, text)
    assert result.exit_code == 2
    assert "a number from 0 to 1e+09" in result.stderr


def test_a_dtype_that_is_not_known_is_said(tmp_path: Path) -> None:
    config = model(2, 4, 4, 64) | {"torch_dtype": "float7"}
    report = ucm_json("plan", "--model", write(tmp_path, config))[1]
    assert report["kv_dtype"] == "bf16"
    assert "torch_dtype 'float7' is not known: bf16 is assumed" in report["notes"]


def test_what_the_figures_leave_out_is_said(tmp_path: Path) -> None:
    for name, words in (
        ("Gemma-2-9B", "21 layers with a sliding window of 4096 tokens are counted whole"),
        ("Mistral-7B-v0.1", "layers with a sliding window of 4096 tokens are counted whole"),
        ("Jamba-v0.1", "the state of 28 layers without attention is not counted"),
        ("heads by layer", "different numbers of KV heads"),
    ):
        result = ucm_json("plan", "--model", write(tmp_path, KNOWN[name][0]))[1]
        assert any(words in note for note in result["notes"]), name
    for name in ("Qwen2-7B", "Mixtral-8x7B", "Llama-3-8B"):
        assert ucm_json("plan", "--model", write(tmp_path, KNOWN[name][0]))[1]["notes"] == []
