# SPDX-License-Identifier: Apache-2.0
"""`UCMConnector`: what vLLM sees. It hands every call to the side that its role plays."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ucm import monitoring
from ucm.integration.vllm import compat
from ucm.integration.vllm.layerwise import LayerwiseSide
from ucm.integration.vllm.metadata import StepMetadata
from ucm.integration.vllm.metrics import ConnectorCounts, ConnectorMetrics
from ucm.integration.vllm.scheduler import SchedulerSide
from ucm.integration.vllm.settings import read_config, read_settings
from ucm.integration.vllm.worker import WorkerSide

if TYPE_CHECKING:
    import torch


class UCMConnector(compat.KVConnectorBase, compat.SupportsHMA):
    """Keeps vLLM's KV blocks in a store of ucm.

    Args:
        vllm_config: vLLM's configuration; ucm's is in its `kv_connector_extra_config`.
        role: of this object: one is made in the scheduler and one in each worker.
        kv_cache_config: the KV cache groups; vLLM before 0.11.1 does not tell them.

    Raises:
        ConfigError: ucm's configuration can not be used.
        Unsupported: the engine keeps state that can not be stored.
    """

    def __init__(self, vllm_config: Any, role: Any, kv_cache_config: Any = None) -> None:
        compat.init_base(self, vllm_config, role, kv_cache_config)
        compat.adopt_logging()
        settings = read_settings(vllm_config, kv_cache_config)
        compat.set_load_failure_policy(
            vllm_config, settings.config.load_failure_policy or "recompute"
        )
        self._ucm_counts = settings.config.enable_metrics
        self._ucm_config = vllm_config
        self._ucm_cache_config = kv_cache_config
        self._scheduler: SchedulerSide | None = None
        self._worker: WorkerSide | None = None
        if role == compat.KVConnectorRole.SCHEDULER:
            monitoring.begin_log(settings.config)
            self._scheduler = SchedulerSide(settings)
            compat.set_hit_source(self)
        else:
            rank = compat.worker_rank(vllm_config)
            monitoring.begin(settings.config, {"worker_id": str(rank)}, port_offset=rank)
            side = LayerwiseSide if settings.layerwise else WorkerSide
            self._worker = side(settings, rank)

    # --- properties and class methods that vLLM asks before it makes a connector ---

    @property
    def requires_kv_delivery(self) -> bool:
        """A cache: a save that does not happen is a later miss, nothing else."""
        return False

    @classmethod
    def requires_piecewise_for_cudagraph(cls, extra_config: dict[str, Any]) -> bool:
        """Layer by layer, Python code runs between the pieces of the graph."""
        return bool(read_config(extra_config).use_layerwise)

    @classmethod
    def build_kv_connector_stats(cls, data: dict[str, Any] | None = None) -> ConnectorCounts:
        """Counts that arrived as plain data."""
        return ConnectorCounts(data)

    @classmethod
    def build_prom_metrics(
        cls, vllm_config: Any, metric_types: Any, labelnames: Any, per_engine_labelvalues: Any
    ) -> ConnectorMetrics:
        """The metrics of vLLM's endpoint."""
        return ConnectorMetrics(vllm_config, metric_types, labelnames, per_engine_labelvalues)

    # --- the scheduler's side ---

    def get_num_new_matched_tokens(
        self, request: Any, num_computed_tokens: int
    ) -> tuple[int | None, bool]:
        """Tokens that can be loaded, and whether between steps; None: ask again later."""
        return self._planner.matched_tokens(request, num_computed_tokens)

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        """Blocks have been found for a request."""
        self._planner.after_allocation(request, blocks, num_external_tokens)

    def build_connector_meta(self, scheduler_output: Any) -> StepMetadata:
        """What the workers load and save in a step."""
        return self._planner.step(scheduler_output)

    def update_connector_output(self, connector_output: Any) -> None:
        """What the workers report."""
        self._planner.worker_output(connector_output)

    def request_finished(
        self, request: Any, block_ids: list[int]
    ) -> tuple[bool, dict[str, Any] | None]:
        """A request ended. Its blocks can go: what is saved has been copied."""
        self._planner.finished(request.request_id)
        return False, None

    def request_finished_all_groups(
        self, request: Any, block_ids: tuple[list[int], ...]
    ) -> tuple[bool, dict[str, Any] | None]:
        """The same, with several KV cache groups."""
        return self.request_finished(request, [])

    def reset_cache(self) -> bool:
        """The engine drops its own cache, as it has to when its weights are replaced."""
        self._planner.reset()
        return True

    def take_events(self) -> Iterable[Any]:
        """KV events since the last call."""
        events = self._planner.events
        return events.take() if events is not None else ()

    # --- the workers' side ---

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        """The engine's KV tensors: now the store can be opened."""
        blocks = compat.num_blocks(self._ucm_config, self._ucm_cache_config)
        self._mover.register(kv_caches, blocks)

    def bind_connector_metadata(self, connector_metadata: Any) -> None:
        """A step starts."""
        super().bind_connector_metadata(connector_metadata)
        self._mover.begin(connector_metadata)

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        """Load what the step needs; start what later steps need."""
        self._mover.start_loads(self._get_connector_metadata())

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Wait until a layer is loaded."""
        self._mover.wait_for_layer(layer_name)

    def save_kv_layer(
        self, layer_name: str, kv_layer: Any, attn_metadata: Any, **kwargs: Any
    ) -> None:
        """A layer has been computed."""
        self._mover.save_layer(layer_name, self._get_connector_metadata())

    def wait_for_save(self) -> None:
        """Returns when everything that is saved has been copied."""
        self._mover.save(self._get_connector_metadata())

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        """Requests whose loads between steps have ended."""
        return None, self._mover.finished_loads(finished_req_ids) or None

    def get_transfer_results(self, finished_req_ids: set[str]) -> Any:
        """The same, with those that failed."""
        return compat.transfer_results(
            self._mover.finished_loads(finished_req_ids), self._mover.take_failed_loads()
        )

    def get_block_ids_with_load_errors(self) -> set[int]:
        """Blocks that the engine has to compute."""
        return self._mover.take_invalid_blocks()

    def build_connector_worker_meta(self) -> Any:
        """How loads went, and for KV events what was stored and lost."""
        return self._mover.take_report()

    # --- both ---

    def get_kv_connector_stats(self) -> ConnectorCounts | None:
        """Counts since the last call."""
        if self._worker is not None:
            data = self._worker.take_counts()
        else:
            data = self._planner.tally.take()
        return ConnectorCounts(data) if data and self._ucm_counts else None

    def shutdown(self) -> None:
        """Let go of everything."""
        side: Any = self._scheduler if self._scheduler is not None else self._worker
        side.close()

    @property
    def _planner(self) -> SchedulerSide:
        if self._scheduler is None:
            raise RuntimeError("this call belongs to the scheduler's connector")
        return self._scheduler

    @property
    def _mover(self) -> WorkerSide:
        if self._worker is None:
            raise RuntimeError("this call belongs to a worker's connector")
        return self._worker
