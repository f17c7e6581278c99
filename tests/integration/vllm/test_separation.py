# SPDX-License-Identifier: Apache-2.0
"""No block is served to a request whose KV would be another one."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from harness import VOCABULARY, Engine, Shape, model_folder
from vllm.lora.request import LoRARequest
from vllm.multimodal.inputs import MultiModalFeatureSpec, PlaceholderRange

from ucm.integration.common.fingerprint import folder_fingerprint
from ucm.integration.vllm.identity import make_namespace
from ucm.keys import Namespace, unpack

pytestmark = pytest.mark.engine

_RANDOM = random.Random(8)
PROMPT = [_RANDOM.randrange(VOCABULARY) for _ in range(100)]


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    shape = Shape(tmp_path)
    with Engine(shape) as cold:
        cold.serve("cold", PROMPT)
    engine = Engine(shape)
    yield engine
    engine.close()


def found(engine: Engine, prompt: list[int] = PROMPT, **more: Any) -> int:
    """Tokens that are found for a request with these traits."""
    name = f"probe-{len(more)}-{random.random()}"
    return engine.ask(engine.request(name, prompt, **more), 0)


def lora(name: str, path: Path) -> LoRARequest:
    """A LoRA adapter."""
    path.mkdir(exist_ok=True)
    (path / "adapter_model.safetensors").write_bytes(name.encode() * 100)
    return LoRARequest(name, 1, str(path))


def image(identifier: str | None, offset: int, length: int = 20) -> MultiModalFeatureSpec:
    """An image in a prompt."""
    return MultiModalFeatureSpec(
        data=None,
        modality="image",
        identifier=identifier,
        mm_position=PlaceholderRange(offset=offset, length=length),
    )


def test_the_same_request_finds_its_blocks(engine: Engine) -> None:
    assert found(engine) == 96


def test_a_cache_salt_separates(engine: Engine) -> None:
    assert found(engine, cache_salt="tenant") == 0


def test_a_lora_adapter_separates(engine: Engine, tmp_path: Path) -> None:
    assert found(engine, lora_request=lora("one", tmp_path / "one")) == 0


def test_adapters_of_one_name_with_other_weights_separate(tmp_path: Path) -> None:
    with Engine(Shape(tmp_path)) as engine:
        engine.serve("cold", PROMPT, lora_request=lora("one", tmp_path / "one"))
        engine.settle()
        assert found(engine, lora_request=lora("one", tmp_path / "one")) == 96
        changed = tmp_path / "other"
        lora("two", changed)
        assert found(engine, lora_request=LoRARequest("one", 1, str(changed))) == 0


def test_an_image_separates_from_its_block_on(engine: Engine) -> None:
    assert found(engine, mm_features=[image("cat", 40)]) == 32


def test_another_image_or_place_separates(engine: Engine) -> None:
    def keys(*images: MultiModalFeatureSpec) -> list[bytes]:
        request = engine.request(f"probe-{random.random()}", PROMPT, mm_features=list(images))
        return unpack(engine.connector._scheduler._track(request).keys(0, 6))

    cat = keys(image("cat", 40))
    assert keys(image("cat", 40)) == cat
    for other in ([image("dog", 40)], [image("cat", 41)], [], [image("cat", 40), image("cat", 60)]):
        changed = keys(*other)
        same = [one == two for one, two in zip(cat, changed, strict=True)]
        first = 3 if len(other) == 2 else 2  # the block in which the difference begins
        assert same == [True] * first + [False] * (6 - first)


@pytest.mark.parametrize("offset", [32, 36, 44])
def test_an_image_within_one_block_separates_too(engine: Engine, offset: int) -> None:
    def keys(name: str) -> list[bytes]:
        request = engine.request(
            f"probe-{name}-{offset}", PROMPT, mm_features=[image(name, offset, 4)]
        )
        return unpack(engine.connector._scheduler._track(request).keys(0, 6))

    same = [one == two for one, two in zip(keys("cat"), keys("dog"), strict=True)]
    assert same == [True] * 2 + [False] * 4


@pytest.mark.parametrize(
    "traits",
    [
        {"prompt_embeds": torch.zeros(100, 4)},
        {"prompt_is_token_ids": [True] * 50 + [False] * 50},
        {"resumable": True},
    ],
    ids=["prompt embeddings", "some prompt embeddings", "streamed input"],
)
def test_requests_that_tokens_do_not_name_are_neither_loaded_nor_saved(
    engine: Engine, traits: dict[str, Any]
) -> None:
    request = engine.request("odd", PROMPT, **traits)
    assert engine.connector.get_num_new_matched_tokens(request, 0) == (0, False)
    assert engine.connector._scheduler._track(request) is None
    engine.connector._scheduler.finished("odd")
    assert "odd" not in engine.connector._scheduler._refused


def test_media_without_identifiers_are_neither_loaded_nor_saved(engine: Engine) -> None:
    request = engine.request("odd", PROMPT)
    request.mm_features = [image(None, 40)]
    assert engine.connector.get_num_new_matched_tokens(request, 0) == (0, False)
    assert engine.connector._scheduler._track(request) is None


def test_prompt_log_probabilities_compute_every_token(engine: Engine) -> None:
    request = engine.request("logprobs", PROMPT)
    request.skip_reading_prefix_cache = True
    assert engine.connector.get_num_new_matched_tokens(request, 0) == (0, False)


def test_a_reset_separates_what_comes_from_what_was(tmp_path: Path) -> None:
    with Engine(Shape(tmp_path)) as engine:
        engine.serve("cold", PROMPT)
        engine.settle()
        assert found(engine) == 96
        assert engine.scheduler.reset_prefix_cache(reset_connector=True)
        assert found(engine) == 0
        engine.serve("after", PROMPT)
        engine.settle()
        assert found(engine) == 96
    with Engine(Shape(tmp_path)) as engine:  # computes with the weights of the folder again
        assert found(engine) == 96


def test_a_request_that_a_reset_meets_is_not_saved(tmp_path: Path) -> None:
    with Engine(Shape(tmp_path)) as engine:
        engine.add("under way", PROMPT, count=40)
        for _ in range(3):
            engine.step()
        engine.settle()
        engine.step()
        before = engine.count("saved_blocks")
        assert before == 6
        assert engine.scheduler.reset_prefix_cache(
            reset_running_requests=True, reset_connector=True
        )
        engine.run_checked()
        engine.settle()
        engine.step()
        assert engine.count("saved_blocks") == before
        engine.assert_no_leak()


def config(tmp_path: Path) -> Any:
    """The parts of vLLM's configuration that make a namespace."""
    return SimpleNamespace(
        model_config=SimpleNamespace(
            model=str(model_folder(tmp_path)),
            revision=None,
            dtype="bfloat16",
            quantization=None,
            use_mla=False,
            seed=0,
            hf_config=SimpleNamespace(to_dict=lambda: {"rope_theta": 1e4, "_name_or_path": "x"}),
        ),
        cache_config=SimpleNamespace(cache_dtype="auto", calculate_kv_scales=False),
        parallel_config=SimpleNamespace(tensor_parallel_size=2, pipeline_parallel_size=1),
        load_config=SimpleNamespace(load_format="auto"),
        kv_transfer_config=SimpleNamespace(engine_id="e1"),
        speculative_config=None,
    )


def change(values: Any, path: str, value: Any) -> None:
    """Set ``a.b`` of a configuration."""
    *way, last = path.split(".")
    for name in way:
        values = getattr(values, name)
    setattr(values, last, value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model_config.model", "some/other-model"),
        ("model_config.dtype", "float16"),
        ("model_config.quantization", "fp8"),
        ("model_config.use_mla", True),
        ("model_config.hf_config.to_dict", lambda: {"rope_theta": 5e5}),
        ("cache_config.cache_dtype", "fp8_e4m3"),
        ("parallel_config.tensor_parallel_size", 1),
        ("parallel_config.pipeline_parallel_size", 2),
        ("parallel_config.decode_context_parallel_size", 2),
        ("load_config.load_format", "dummy"),
        ("speculative_config", SimpleNamespace(method="eagle", model="draft")),
    ],
)
def test_what_the_kv_depends_on_makes_another_namespace(
    tmp_path: Path, path: str, value: Any
) -> None:
    before = make_namespace(config(tmp_path), 16).digest()
    changed = config(tmp_path)
    change(changed, path, value)
    assert make_namespace(changed, 16).digest() != before
    assert make_namespace(config(tmp_path), 32).digest() != before


def test_a_namespace_is_the_same_wherever_the_model_lies(tmp_path: Path) -> None:
    here, there = config(tmp_path / "a"), config(tmp_path / "b")
    for place in ("a", "b"):
        (tmp_path / place / "model" / "weights.safetensors").write_bytes(b"weights")
    there.model_config.hf_config.to_dict = lambda: {"rope_theta": 1e4, "_name_or_path": "y"}
    assert make_namespace(here, 16) == make_namespace(there, 16)
    (tmp_path / "b" / "model" / "weights.safetensors").write_bytes(b"other")
    assert make_namespace(here, 16) != make_namespace(there, 16)


def test_scales_that_an_engine_works_out_for_itself_are_its_own(tmp_path: Path) -> None:
    one, two = config(tmp_path), config(tmp_path)
    two.kv_transfer_config.engine_id = "e2"
    assert make_namespace(one, 16) == make_namespace(two, 16)
    for each in (one, two):
        each.cache_config.calculate_kv_scales = True
    assert make_namespace(one, 16) != make_namespace(two, 16)


def test_every_field_of_a_namespace_counts() -> None:
    plain = Namespace(model="m")
    for field in dataclasses.fields(Namespace):
        old = getattr(plain, field.name)
        new = 7 if isinstance(old, int) else ("x",) if isinstance(old, tuple) else "x"
        assert dataclasses.replace(plain, **{field.name: new}).digest() != plain.digest()
    assert Namespace(model="m", revision="").digest() != plain.digest()


def test_a_fingerprint_follows_the_content_of_large_files(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(1 << 20))
    before = folder_fingerprint(tmp_path)
    assert folder_fingerprint(tmp_path) == before
    data = bytearray(1 << 20)
    data[-1] = 1
    weights.write_bytes(data)
    assert folder_fingerprint(tmp_path) != before
    assert folder_fingerprint(tmp_path / "absent") is None


def safetensors(path: Path, changed: str | None = None) -> None:
    """Sixty layers of weights of 64 KiB and 256 KiB; those of one tensor differ if it is named."""
    header, data = {}, bytearray()
    for layer in range(60):
        for name, size in ((f"{layer}.attention", 1 << 16), (f"{layer}.mlp", 1 << 18)):
            places = [len(data), len(data) + size]
            header[name] = {"dtype": "U8", "shape": [size], "data_offsets": places}
            data += (b"\1" if name == changed else b"\0") * size
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.mark.parametrize("changed", [f"{layer}.attention" for layer in (0, 7, 31, 59)])
def test_weights_of_which_one_layer_was_trained_further_are_told_apart(
    tmp_path: Path, changed: str
) -> None:
    for place, what in (("one", None), ("two", changed)):
        (tmp_path / place).mkdir()
        safetensors(tmp_path / place / "model.safetensors", what)
    assert folder_fingerprint(tmp_path / "one") != folder_fingerprint(tmp_path / "two")


def test_a_header_that_can_not_be_right_is_sampled_like_any_file(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    marks = set()
    for text in (b"[]", b"{}", b'{"a": {"data_offsets": [0, 99999999]}}', b'{"a": 1}', b"\xff"):
        weights.write_bytes(len(text).to_bytes(8, "little") + text + bytes(1 << 17))
        marks.add(folder_fingerprint(tmp_path))
    assert len(marks) == 5 and None not in marks


def test_a_folder_without_weights_is_named_by_its_path(tmp_path: Path) -> None:
    assert folder_fingerprint(model_folder(tmp_path)) is None
    here, there = config(tmp_path / "a"), config(tmp_path / "b")
    assert make_namespace(here, 16) != make_namespace(there, 16)
