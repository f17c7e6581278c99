# SPDX-License-Identifier: Apache-2.0
"""How the connector is configured, and what it refuses."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from harness import Engine, Shape
from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory
from vllm.distributed.kv_transfer.kv_connector.v1 import KVConnectorRole, supports_hma
from vllm.v1.kv_cache_interface import (
    FullAttentionSpec,
    KVCacheGroupSpec,
    MambaSpec,
    SlidingWindowSpec,
)

from ucm.errors import ConfigError, Unsupported
from ucm.integration.vllm.identity import RankPlan
from ucm.integration.vllm.settings import read_settings
from ucm.integration.vllm.ucm_connector import UCMConnector

pytestmark = pytest.mark.engine

PROMPT = list(range(100))


@pytest.fixture
def engine(tmp_path: Path) -> Any:
    with Engine(Shape(tmp_path)) as engine:
        yield engine


def settings(engine: Engine, extra: dict[str, Any] | None = None, **changes: Any) -> Any:
    """The settings of an engine whose configuration is changed."""
    config = copy.deepcopy(engine.config)
    if extra is not None:
        config.kv_transfer_config.kv_connector_extra_config = extra
    for path, value in changes.items():
        section, name = path.split("__")
        setattr(getattr(config, section), name, value)
    return read_settings(config, engine.cache_config)


def flat(tmp_path: Path, **more: Any) -> dict[str, Any]:
    """Flat store keys."""
    return {"store_pipeline": "Cache|Posix", "storage_backends": str(tmp_path), **more}


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("UcmMooncakeStore", Unsupported, "no remote stage is in this version"),
        ("UcmPiplineStore", ConfigError, "opens one of UcmPipelineStore, "),
    ],
)
def test_a_store_that_is_not_ours_is_refused(
    engine: Engine, tmp_path: Path, name: str, error: type[Exception], text: str
) -> None:
    entry = {"ucm_connector_name": name, "ucm_connector_config": flat(tmp_path)}
    with pytest.raises(error, match=text):
        settings(engine, {"ucm_connectors": [entry]})


def test_vllm_builds_the_connector_by_its_module_path(engine: Engine) -> None:
    transfer = engine.config.kv_transfer_config
    assert KVConnectorFactory.get_connector_class(transfer) is UCMConnector
    assert supports_hma(UCMConnector)
    made = KVConnectorFactory.create_connector(
        engine.config, KVConnectorRole.SCHEDULER, engine.cache_config
    )
    assert isinstance(made, UCMConnector)
    assert made.requires_kv_delivery is False
    made.shutdown()


def test_flat_keys_a_file_and_the_list_of_connectors_mean_the_same(
    engine: Engine, tmp_path: Path
) -> None:
    keys = flat(tmp_path, buffer_number=64)
    listed = {
        "ucm_connectors": [
            {"ucm_connector_name": "UcmPipelineStore", "ucm_connector_config": keys}
        ],
        "use_layerwise": True,
    }
    file = tmp_path / "ucm.yaml"
    file.write_text(
        f"store_pipeline: Cache|Posix\nstorage_backends: {tmp_path}\nbuffer_number: 64\n"
        "use_layerwise: true\n"
    )
    made = [
        settings(engine, extra)
        for extra in ({**keys, "use_layerwise": True}, listed, {"UCM_CONFIG_FILE": str(file)})
    ]
    assert {one.layerwise for one in made} == {True}
    assert len({(one.config.store.spec, one.config.store.storage_backends) for one in made}) == 1


def test_an_unknown_key_names_the_nearest_known_one(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="storage_backends"):
        settings(engine, {"store_pipeline": "Cache|Posix", "storage_backend": str(tmp_path)})


def test_a_block_size_that_is_not_the_engines_is_refused(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"128 tokens.*16 in the engine"):
        settings(engine, flat(tmp_path, block_size=128))
    assert settings(engine, flat(tmp_path, block_size=16)).block_tokens == 16


def test_a_pipeline_that_ends_in_one_process_is_refused(engine: Engine) -> None:
    with pytest.raises(ConfigError, match=r"`share: true`.*Cache\|Posix"):
        settings(engine, {"store_pipeline": "Cache"})
    assert settings(engine, {"store_pipeline": "Cache", "share": True}).config.store.share


@pytest.mark.parametrize("policy", [None, "recompute", "fail"])
def test_failed_loads_are_recomputed_unless_told_otherwise(
    tmp_path: Path, policy: str | None
) -> None:
    extra = {"load_failure_policy": policy} if policy else {}
    with Engine(Shape(tmp_path, extra=extra)) as engine:
        assert engine.scheduler.recompute_kv_load_failures == (policy != "fail")


def test_loads_run_between_steps_unless_a_failed_one_can_be_taken_back(
    engine: Engine, tmp_path: Path
) -> None:
    def chosen(ahead: bool, **keys: Any) -> bool:
        return settings(
            engine, flat(tmp_path, **keys), scheduler_config__async_scheduling=ahead
        ).async_load

    assert chosen(False) and chosen(True)
    assert not chosen(False, async_load=False)
    assert not chosen(False, use_layerwise=True)
    # With a later step under way, vLLM can not undo a load inside a step.
    assert chosen(True, async_load=False) and chosen(True, use_layerwise=True)


def test_an_engine_that_can_not_start_from_a_prefix_only_saves(
    tmp_path: Path,
) -> None:
    with Engine(Shape(tmp_path, kind="mla")) as engine:
        assert settings(engine).loads
        changes = {
            "cache_config__enable_prefix_caching": False,
            "scheduler_config__enable_chunked_prefill": False,
        }
        assert not settings(engine, **changes).loads
    with Engine(Shape(tmp_path / "plain")) as engine:
        assert settings(engine, **changes).loads


def spec(kind: type, **more: Any) -> Any:
    """A spec of a group of attention layers."""
    return kind(block_size=16, num_kv_heads=2, head_size=8, dtype=torch.int32, **more)


def grouped(engine: Engine, *specs: Any) -> Any:
    """Settings of an engine with these KV cache groups."""
    config = copy.copy(engine.cache_config)
    config.kv_cache_groups = [
        KVCacheGroupSpec([f"layers.{at}"], one) for at, one in enumerate(specs)
    ]
    return read_settings(engine.config, config)


def test_groups_of_attention_layers_are_stored_together(engine: Engine) -> None:
    made = grouped(engine, spec(FullAttentionSpec), spec(SlidingWindowSpec, sliding_window=64))
    assert made.groups == 2 and made.group_of == {"layers.0": 0, "layers.1": 1}
    assert made.async_load  # block ids of two groups can not be told apart inside a step


def test_state_that_is_no_kv_of_tokens_is_refused(engine: Engine) -> None:
    mamba = MambaSpec(block_size=16, shapes=((4, 4),), dtypes=(torch.float32,))
    with pytest.raises(Unsupported, match="MambaSpec"):
        grouped(engine, spec(FullAttentionSpec), mamba)


def test_kv_that_depends_on_later_tokens_is_refused(engine: Engine) -> None:
    with pytest.raises(Unsupported, match="later tokens"):
        grouped(engine, spec(FullAttentionSpec, non_causal=True))


def test_layer_by_layer_needs_graphs_in_pieces(tmp_path: Path) -> None:
    for layerwise in (False, True):
        extra = flat(tmp_path, use_layerwise=layerwise)
        assert UCMConnector.requires_piecewise_for_cudagraph(extra) is layerwise


@pytest.mark.parametrize(
    ("tp", "pp", "mla", "parts"),
    [
        (1, 1, False, [0]),
        (2, 1, False, [0, 1]),
        (2, 2, False, [0, 1, 2, 3]),
        (2, 1, True, [0, 0]),
        (2, 2, True, [0, 0, 1, 1]),
        (1, 2, True, [0, 1]),
    ],
)
def test_ranks_share_parts_only_where_they_hold_the_same_kv(
    tp: int, pp: int, mla: bool, parts: list[int]
) -> None:
    plan = RankPlan.of(
        SimpleNamespace(
            model_config=SimpleNamespace(use_mla=mla),
            parallel_config=SimpleNamespace(world_size=tp * pp, pipeline_parallel_size=pp),
        )
    )
    assert [plan.part_of(rank) for rank in range(tp * pp)] == parts
    assert plan.parts == len(set(parts))
    homes = [plan.home_of(part) for part in range(plan.parts)]
    assert homes == [rank for rank in range(tp * pp) if plan.is_home_of(rank)]


def test_replicas_have_directories_of_their_own() -> None:
    plans = [RankPlan(world=2, stage_ranks=2, shared=False, replica=replica) for replica in (0, 1)]
    assert [[plan.home_of(part) for part in range(2)] for plan in plans] == [[0, 1], [2, 3]]
