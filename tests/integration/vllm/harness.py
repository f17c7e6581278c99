# SPDX-License-Identifier: Apache-2.0
"""vLLM's real Scheduler with both roles of the connector in one process, and no model.

The stand-in for the model writes, for every scheduled token and layer, a number that depends on the
token, its position and the number that stands in the KV cache for the position before it, read back
from there. So a single wrong byte in a loaded block changes everything that is computed after it,
the sampled tokens included, and the right numbers are known without any engine.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from vllm.config import (
    CacheConfig,
    DeviceConfig,
    KVTransferConfig,
    ModelConfig,
    ParallelConfig,
    SchedulerConfig,
    VllmConfig,
)
from vllm.distributed.kv_transfer.kv_connector.utils import KVOutputAggregator
from vllm.distributed.kv_transfer.kv_connector.v1 import KVConnectorRole
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import (
    FullAttentionSpec,
    KVCacheConfig,
    KVCacheGroupSpec,
    KVCacheTensor,
    MLAAttentionSpec,
)
from vllm.v1.outputs import KVConnectorOutput, ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus
from vllm.v1.structured_output import StructuredOutputManager

from ucm.integration.vllm.ucm_connector import UCMConnector

VOCABULARY = 1000
HEADS, WIDTH = 2, 16
_MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "dtype": "float32",
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 8192,
    "vocab_size": VOCABULARY,
}


def next_number(before: int, token: int, layer: int, position: int) -> int:
    """The number that the stand-in computes for one token of one layer. Never 0."""
    mixed = before * 1103515245 + token * 2654435761 + layer * 97 + position * 31 + 12345
    return mixed % 0x7FFFFFC3 + 1


def right_numbers(tokens: list[int], layer: int) -> list[int]:
    """What stands in the KV cache for each token when nothing went wrong."""
    numbers, before = [], 0
    for position, token in enumerate(tokens):
        before = next_number(before, token, layer, position)
        numbers.append(before)
    return numbers


def right_answer(prompt: list[int], count: int, layers: int) -> list[int]:
    """The tokens that are sampled when nothing went wrong."""
    tokens = list(prompt)
    numbers = right_numbers(tokens, layers - 1)
    before = numbers[-1]
    for _ in range(count):
        tokens.append(before % VOCABULARY)
        before = next_number(before, tokens[-1], layers - 1, len(tokens) - 1)
    return tokens[len(prompt) :]


@dataclasses.dataclass
class Shape:
    """How an engine is built. ``kind`` is one of packed, pair, mla: three layouts of KV tensors."""

    root: Path
    spec: str = "Cache|Disk"
    kind: str = "packed"
    blocks: int = 64
    block_size: int = 16
    layers: int = 3
    layerwise: bool = False
    async_load: bool = False
    tp: int = 1
    pp: int = 1
    max_tokens: int = 8192
    max_seqs: int = 16
    events: bool = False
    role: str = "kv_both"
    engine: dict[str, Any] = dataclasses.field(default_factory=dict)
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)


class Engine:
    """A scheduler and its workers. Use it as a context manager, or call `close`."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.config = _vllm_config(shape)
        self.names = [f"model.layers.{number}.self_attn.attn" for number in range(shape.layers)]
        self.cache_config = _kv_cache_config(shape, self.names)
        self.config.cache_config.num_gpu_blocks = shape.blocks
        init_none_hash(sha256)
        self.hasher = get_request_block_hasher(shape.block_size, sha256)
        self.workers = [Worker(self, rank) for rank in range(shape.tp * shape.pp)]
        self.scheduler = Scheduler(
            vllm_config=self.config,
            kv_cache_config=self.cache_config,
            structured_output_manager=StructuredOutputManager(self.config),
            block_size=shape.block_size,
            log_stats=True,
        )
        self.scheduler.kv_event_publisher.publish = lambda batch: self.events.extend(batch.events)
        self.aggregator = KVOutputAggregator(len(self.workers))
        self.answers: dict[str, list[int]] = {}
        self.events: list[Any] = []
        self.stats: dict[str, Any] = {}
        self.preemptions = 0
        self._computed: dict[str, int] = {}
        self._closed = False

    @property
    def connector(self) -> UCMConnector:
        """The scheduler's connector."""
        return self.scheduler.connector

    def request(self, name: str, prompt: list[int], count: int = 4, **more: Any) -> Request:
        """Make a request; it is not added yet."""
        sampling = SamplingParams(max_tokens=count, ignore_eos=True, temperature=0.0)
        sampling.update_from_generation_config({}, VOCABULARY - 1)
        return Request(
            request_id=name,
            prompt_token_ids=list(prompt),
            sampling_params=sampling,
            pooling_params=None,
            block_hasher=self.hasher,
            **more,
        )

    def add(self, name: str, prompt: list[int], count: int = 4, **more: Any) -> Request:
        """Add a request."""
        request = self.request(name, prompt, count, **more)
        self.answers[name] = []
        self.scheduler.add_request(request)
        return request

    def step_that_loads(self, between: Callable[[], None]) -> None:
        """Steps up to the first that loads blocks; ``between`` runs before its workers do."""
        planned = False

        def call_when_planned(meta: Any) -> None:
            nonlocal planned
            planned = bool(meta.loads)
            if planned:
                between()

        for _ in range(1000):  # a lookup of slow storage is answered some steps later
            self.step(call_when_planned)
            if planned:
                return
        raise AssertionError("nothing is loaded")

    def step(self, between: Callable[[Any], None] | None = None) -> Any:
        """One step of the engine; ``between`` gets the connector's plan before the workers do."""
        output = self.scheduler.schedule()
        self.preemptions += len(getattr(output, "preempted_req_ids", None) or ())
        if between is not None:
            between(output.kv_connector_metadata)
        results = [worker.run(output) for worker in self.workers]
        merged = self.aggregator.aggregate(results, output_rank=len(results) - 1)
        for name, count in output.num_scheduled_tokens.items():
            self._computed[name] = self._computed.get(name, 0) + count
        for per_client in self.scheduler.update_from_output(output, merged).values():
            for each in per_client.outputs:
                self.answers[each.request_id] += each.new_token_ids
            if per_client.scheduler_stats and per_client.scheduler_stats.kv_connector_stats:
                self._keep_stats(per_client.scheduler_stats.kv_connector_stats)
        return output

    def run_checked(self, *, steps: int = 4000) -> None:
        """Steps until nothing is left to do; all KV is checked after every step."""
        for _ in range(steps):
            if not self.scheduler.has_unfinished_requests():
                break
            self.step()
            for request in self.scheduler.running:
                self.assert_right_kv(request)
        assert not self.scheduler.has_unfinished_requests(), "the engine does not finish"
        self.step()

    def serve(self, name: str, prompt: list[int], count: int = 4, **more: Any) -> list[int]:
        """Add one request, run it to its end, and answer its tokens."""
        self.add(name, prompt, count, **more)
        self.run_checked()
        return self.answers[name]

    def assert_right_kv(self, request: Request) -> None:
        """Everything that counts as computed stands in the cache as it should."""
        tokens = list(request.all_token_ids)[: request.num_computed_tokens]
        for worker in self.workers:
            assert not worker.wrong_positions(request.request_id, tokens)

    def ask(self, request: Request, computed: int) -> int:
        """How many tokens the connector finds; asks until it knows."""
        for _ in range(1000):
            tokens, between = self.connector.get_num_new_matched_tokens(request, computed)
            if tokens is not None:
                assert between == (self.shape.async_load and tokens > 0)
                return tokens
        raise AssertionError("the connector does not find out")

    def abort(self, name: str) -> None:
        """The client of a request has gone."""
        self.scheduler.finish_requests(name, RequestStatus.FINISHED_ABORTED)

    def computed(self, name: str) -> int:
        """How many tokens of a request were scheduled in all."""
        return self._computed.get(name, 0)

    def forget_block(
        self, prompt: list[int], number: int, ranks: Iterable[int] | None = None
    ) -> None:
        """One block of a prompt vanishes from the store, on all ranks or on some."""
        request = self.request("finder", prompt)
        key = self.connector._scheduler._track(request).keys(number, number + 1)
        self.connector._scheduler.finished("finder")
        for rank in range(len(self.workers)) if ranks is None else ranks:
            store = self.workers[rank].connector._worker.store
            store.abandon(store.plain_keys(key))

    def settle_loads(self) -> None:
        """Wait until the loads that are under way have ended."""
        for worker in self.workers:
            for transfer in worker.connector._worker._loads.values():
                transfer.wait(30)

    def settle(self) -> None:
        """Wait until everything that was saved can be looked up."""
        for worker in self.workers:
            for group in worker.connector._worker._saves:
                for transfer in group:
                    transfer.wait(30)

    def assert_no_leak(self) -> None:
        """No request is left, and every block but the null block is free."""
        assert not self.scheduler.requests
        assert not self.scheduler.running and not self.scheduler.waiting
        pool = self.scheduler.kv_cache_manager.block_pool
        assert pool.get_num_free_blocks() == self.shape.blocks - 1
        assert all(block.ref_cnt == 0 for block in pool.blocks if not block.is_null)
        planner = self.connector._scheduler
        assert not planner._tracks and not planner._refused and not planner._planned
        for worker in self.workers:
            assert not worker.connector._worker._loads

    def count(self, name: str, section: str = "counters") -> float:
        """A count that the connectors reported, all roles together."""
        return self.stats.get(section, {}).get(name, 0)

    def _keep_stats(self, data: dict[str, Any]) -> None:
        merged = UCMConnector.build_kv_connector_stats(self.stats)
        self.stats = merged.aggregate(UCMConnector.build_kv_connector_stats(data)).data

    def close(self) -> None:
        """End the engine as a stop of the server does. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self.settle()
        self.scheduler.shutdown()
        for worker in self.workers:
            worker.connector.shutdown()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Worker:
    """One rank: KV tensors, block tables, the stand-in for the model, and a connector."""

    def __init__(self, engine: Engine, rank: int) -> None:
        shape = engine.shape
        self.engine, self.rank = engine, rank
        config = copy.copy(engine.config)
        config.parallel_config = copy.copy(engine.config.parallel_config)
        config.parallel_config.rank = rank
        stage, per_stage = rank // shape.tp, shape.layers // shape.pp
        self.layers = range(stage * per_stage, (stage + 1) * per_stage)
        self.caches, self.views = _kv_tensors(shape, [engine.names[at] for at in self.layers])
        # Ranks of one stage hold different heads, except with MLA.
        mark = 0 if shape.kind == "mla" else (rank % shape.tp) * 1000
        self.pattern = np.arange(self.views[0][0, 0].size, dtype=np.int32) * 7 + mark
        self.connector = UCMConnector(config, KVConnectorRole.WORKER, engine.cache_config)
        self.connector.register_kv_caches(self.caches)
        self.tables: dict[str, list[int]] = {}

    def run(self, output: Any) -> ModelRunnerOutput:
        """One step, with the hooks in vLLM's order."""
        connector, meta = self.connector, output.kv_connector_metadata
        self._update_tables(output)
        connector.handle_preemptions(meta)
        connector.bind_connector_metadata(meta)
        result = KVConnectorOutput()
        first = getattr(output, "has_sync_kv_loads", True)
        if first:
            connector.start_load_kv(None)
        sampled = self._forward(output) if output.total_num_scheduled_tokens else {}
        if not first:
            connector.start_load_kv(None)
        connector.wait_for_save()
        transfers = connector.get_transfer_results(output.finished_req_ids)
        result.finished_sending = transfers.finished_sending
        result.finished_recving = transfers.finished_recving
        result.failed_recving = transfers.failed_recving
        result.invalid_block_ids = connector.get_block_ids_with_load_errors()
        result.kv_connector_stats = connector.get_kv_connector_stats()
        result.kv_connector_worker_meta = connector.build_connector_worker_meta()
        connector.clear_connector_metadata()
        for name in output.finished_req_ids:
            self.tables.pop(name, None)
        names = list(output.num_scheduled_tokens)
        return ModelRunnerOutput(
            req_ids=names,
            req_id_to_index={name: at for at, name in enumerate(names)},
            sampled_token_ids=[sampled.get(name, []) for name in names],
            logprobs=None,
            prompt_logprobs_dict={},
            pooler_output=[],
            kv_connector_output=result,
        )

    def _update_tables(self, output: Any) -> None:
        for new in output.scheduled_new_reqs:
            self.tables[new.req_id] = list(new.block_ids[0])
        cached = output.scheduled_cached_reqs
        for name, fresh in zip(cached.req_ids, cached.new_block_ids, strict=True):
            if name in cached.resumed_req_ids:
                self.tables[name] = list(fresh[0])
            elif fresh is not None:
                self.tables[name] += fresh[0]

    def _forward(self, output: Any) -> dict[str, list[int]]:
        computed = {new.req_id: new.num_computed_tokens for new in output.scheduled_new_reqs}
        cached = output.scheduled_cached_reqs
        computed.update(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
        last: dict[str, int] = {}
        for layer, view in zip(self.layers, self.views, strict=True):
            name = self.engine.names[layer]
            self.connector.wait_for_layer_load(name)
            for request, count in output.num_scheduled_tokens.items():
                last[request] = self._compute(layer, view, request, computed[request], count)
            self.connector.save_kv_layer(name, self.caches[name], None)
        sampled = {}
        for request, count in output.num_scheduled_tokens.items():
            if computed[request] + count >= self._request(request).num_tokens:
                sampled[request] = [last[request] % VOCABULARY]
        return sampled

    def _compute(self, layer: int, view: np.ndarray, name: str, start: int, count: int) -> int:
        table, tokens = self.tables[name], self._request(name).all_token_ids
        before = self.read(view, table, start - 1) if start else 0
        for position in range(start, start + count):
            before = next_number(before, tokens[position], layer, position)
            block, slot = divmod(position, self.engine.shape.block_size)
            view[table[block], slot] = before ^ self.pattern
        return before

    def read(self, view: np.ndarray, table: list[int], position: int) -> int:
        """The number that stands in the cache; damage of any byte of the token changes it."""
        block, slot = divmod(position, self.engine.shape.block_size)
        numbers = view[table[block], slot] ^ self.pattern
        return int(numbers[0]) if (numbers == numbers[0]).all() else int(numbers.sum()) | 1

    def _request(self, name: str) -> Request:
        return self.engine.scheduler.requests[name]

    def wrong_positions(self, name: str, tokens: list[int]) -> list[tuple[int, int]]:
        """(layer, position) of everything in the cache that is not as it should be."""
        wrong = []
        for layer, view in zip(self.layers, self.views, strict=True):
            for position, number in enumerate(right_numbers(tokens, layer)):
                if self.read(view, self.tables[name], position) != number:
                    wrong.append((layer, position))
        return wrong


def _kv_tensors(shape: Shape, names: list[str]) -> tuple[dict[str, torch.Tensor], list[np.ndarray]]:
    """KV tensors as vLLM registers them, and views (blocks, tokens, values) of the same memory."""
    blocks, tokens, layers = shape.blocks, shape.block_size, len(names)
    if shape.kind == "mla":
        whole = torch.zeros((layers, blocks, tokens, HEADS * WIDTH), dtype=torch.int32)
        tensors = list(whole)
        views = [tensor.numpy() for tensor in tensors]
    elif shape.kind == "pair":
        tensors = [
            torch.zeros((2, blocks, tokens, HEADS, WIDTH // 2), dtype=torch.int32) for _ in names
        ]
        views = [_Pair(tensor.numpy()) for tensor in tensors]
    else:
        whole = torch.zeros((layers, blocks, HEADS, tokens, WIDTH), dtype=torch.int32)
        tensors = list(whole)
        views = [_Packed(tensor.numpy()) for tensor in tensors]
    return dict(zip(names, tensors, strict=True)), views


class _Packed:
    """(blocks, heads, tokens, width) seen as (blocks, tokens, values)."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __getitem__(self, at: tuple[int, int]) -> np.ndarray:
        return self.array[at[0], :, at[1]].reshape(-1)

    def __setitem__(self, at: tuple[int, int], values: np.ndarray) -> None:
        self.array[at[0], :, at[1]] = values.reshape(HEADS, WIDTH)


class _Pair:
    """(2, blocks, tokens, heads, width) seen as (blocks, tokens, values)."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __getitem__(self, at: tuple[int, int]) -> np.ndarray:
        return self.array[:, at[0], at[1]].reshape(-1)

    def __setitem__(self, at: tuple[int, int], values: np.ndarray) -> None:
        self.array[:, at[0], at[1]] = values.reshape(2, HEADS, WIDTH // 2)


def model_folder(root: Path) -> Path:
    """A model folder with a configuration and no weights."""
    folder = root / "model"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(_MODEL))
    return folder


def _vllm_config(shape: Shape) -> VllmConfig:
    model = ModelConfig(
        model=str(model_folder(shape.root)), dtype="float32", skip_tokenizer_init=True, seed=0
    )
    extra = {
        "store_pipeline": shape.spec,
        "storage_backends": str(shape.root / "blocks"),
        "buffer_number": 256,
        **({"segment_bytes": 1 << 20, "capacity_bytes": 8 << 20} if "Disk" in shape.spec else {}),
        "use_layerwise": shape.layerwise,
        "async_load": shape.async_load,
        **shape.extra,
    }
    transfer = KVTransferConfig(
        kv_connector="UCMConnector",
        kv_connector_module_path="ucm.integration.vllm.ucm_connector",
        kv_role=shape.role,
        kv_connector_extra_config=extra,
    )
    config = VllmConfig(
        model_config=model,
        cache_config=CacheConfig(block_size=shape.block_size, enable_prefix_caching=True),
        scheduler_config=SchedulerConfig(
            max_num_seqs=shape.max_seqs,
            max_num_batched_tokens=shape.max_tokens,
            max_model_len=8192,
            is_encoder_decoder=False,
            async_scheduling=False,
        ),
        parallel_config=ParallelConfig(),
        device_config=DeviceConfig("cpu"),
        kv_transfer_config=transfer,
    )
    config.cache_config.block_size = shape.block_size
    config.parallel_config.tensor_parallel_size = shape.tp
    config.parallel_config.pipeline_parallel_size = shape.pp
    config.parallel_config.world_size = shape.tp * shape.pp
    if shape.kind == "mla":
        _Mla.take(model)
    if shape.events:
        from vllm.config import KVEventsConfig

        config.kv_events_config = KVEventsConfig(enable_kv_cache_events=True, publisher="null")
    return config


class _Mla(ModelConfig):
    """The configuration of a model whose KV is the same on all tensor-parallel ranks."""

    use_mla = True

    @classmethod
    def take(cls, model: ModelConfig) -> None:
        """Make a configuration one of these."""
        model.__class__ = cls


def _kv_cache_config(shape: Shape, names: list[str]) -> KVCacheConfig:
    mla = shape.kind == "mla"
    spec_class = MLAAttentionSpec if mla else FullAttentionSpec
    spec = spec_class(
        block_size=shape.block_size,
        num_kv_heads=1 if mla else HEADS,
        head_size=HEADS * WIDTH if mla else WIDTH // 2,
        dtype=torch.int32,
    )
    page = spec.page_size_bytes
    tensor = KVCacheTensor(
        size=page * shape.blocks * len(names),
        layers=names,
        layer_stride=page * shape.blocks,
        block_stride=page,
    )
    return KVCacheConfig(
        num_blocks=shape.blocks,
        kv_cache_tensors=[tensor],
        kv_cache_groups=[KVCacheGroupSpec(names, spec)],
    )
