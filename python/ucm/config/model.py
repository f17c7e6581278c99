# SPDX-License-Identifier: Apache-2.0
"""The one typed model of the configuration. docs/configuration.md is made from it."""

from __future__ import annotations

import dataclasses
from typing import Any

from ucm.config.fields import GIB, Alias, key
from ucm.config.source import Origin


def _seconds(milliseconds: Any) -> float:
    return float(milliseconds) / 1000


def _gib(count: Any) -> int:
    return int(float(count) * GIB)


_DISKS = ("Posix", "Disk")


@dataclasses.dataclass(frozen=True)
class NfsConfig:
    """`nfs_config`: care for network file systems."""

    retry_count: int | None = key(
        "int",
        "How often a failed operation of the Posix stage is tried again, with back-off.",
        default_text="3 with `NFS`, else 0",
        minimum=0,
        maximum=100,
    )
    timeout_seconds: float | None = key(
        "float",
        "Time limit of one transfer; the same as `timeout_s`, which wins when both are given.",
        unit="s",
        minimum=0.001,
    )


@dataclasses.dataclass(frozen=True)
class TransportConfig:
    """`transport`: the copies between device and host."""

    pinned_pool_size: int | None = key("bytes", "See `pinned_pool_size`.", unit="bytes", minimum=0)
    max_pinned_size: int | None = key("bytes", "See `max_pinned_size`.", unit="bytes", minimum=0)
    num_streams: int | None = key("int", "See `copy_threads`.", minimum=1, maximum=64)


@dataclasses.dataclass(frozen=True)
class StoreConfig:
    """One store: what stands in `ucm_connector_config`, or flat at the top."""

    store_pipeline: str = key(
        "str",
        "Stages from the fastest, joined by `|`: `Cache|Posix`, `Cache|Disk`, `Cache|NFS`, "
        "`Cache|DS3FS`, `Cache|Empty`, any of them alone, and longer ones.",
        default="Cache|Posix",
    )
    storage_backends: tuple[str, ...] = key(
        "paths",
        "A directory or a list of directories. `host:/export` stands for the directory where "
        "that export is mounted already.",
        default=(),
        default_text="none; needed by Posix, NFS, DS3FS and Disk",
        env=("UCM_POSIX_STORAGE_PATH",),
    )
    buffer_number: int | None = key(
        "int",
        "Staging slots of the Cache; a slot holds one block. With `Fake`, how many blocks it "
        "remembers.",
        unit="slots",
        minimum=1,
        stages=("Cache", "Fake"),
        default_text="see Memory of the Cache",
    )
    cache_capacity: int | None = key(
        "int", "Blocks the Cache may hold.", unit="blocks", minimum=1, stages=("Cache", "Fake")
    )
    pinned_pool_size: int | None = key(
        "bytes",
        "Bytes of host memory taken at start.",
        unit="bytes",
        minimum=4096,
        env=("UCM_PINNED_POOL_SIZE",),
        stages=("Cache",),
    )
    max_pinned_size: int | None = key(
        "bytes",
        "Hard cap on the host memory of the Cache.",
        unit="bytes",
        minimum=4096,
        stages=("Cache",),
        aliases=(Alias("cache_buffer_capacity_gb", _gib, "float", "GiB"),),
    )
    block_size: int | None = key(
        "int",
        "TOKENS per block; must equal the engine's block size, which is checked at start. "
        "Through `factory_v1` and `UcmPipelineStore(config)`, as in released UCM, it is BYTES.",
        unit="tokens",
        minimum=1,
        default_text="the engine's",
    )
    block_bytes: int | None = key(
        "bytes",
        "Bytes per block, all shards together.",
        unit="bytes",
        minimum=1,
        default_text="the engine's layout, or the first tensor",
        aliases=(Alias("kv_block_size"),),
    )
    shard_size: int | None = key(
        "bytes",
        "Bytes of one shard (a layer or a group of layers).",
        unit="bytes",
        minimum=1,
        default_text="one shard per block",
    )
    tensor_size: int | None = key(
        "bytes",
        "Bytes of each tensor of a shard, when all are equal.",
        unit="bytes",
        minimum=1,
        aliases=(Alias("io_size"),),
    )
    tensor_size_list: tuple[int, ...] = key(
        "sizes",
        "Bytes of each tensor of a shard, in order; their sum is the shard.",
        unit="bytes",
        default=(),
        default_text="[]",
    )
    eviction_policy: str | None = key(
        "str",
        "Which block leaves first when a stage is full.",
        choices=("auto", "lru", "arc", "lru2", "s3fifo"),
        stages=("Cache", "Disk", "Fake"),
    )
    capacity_bytes: int | None = key(
        "bytes",
        "Bytes a disk stage may use on each of its backends; 0 is no limit.",
        unit="bytes",
        minimum=0,
        stages=(*_DISKS, "Fake"),
        aliases=(Alias("posix_capacity_gb", _gib, "float", "GiB"), "storage_capacity"),
    )
    eviction_high: float | None = key(
        "float",
        "Collection starts when this share of the capacity is used.",
        minimum=0.01,
        maximum=1,
        stages=_DISKS,
        aliases=("posix_gc_trigger_threshold_ratio", "recycle_threshold_ratio"),
    )
    eviction_low: float | None = key(
        "float",
        "Collection ends when this share of the capacity is used.",
        minimum=0,
        maximum=1,
        stages=_DISKS,
    )
    io_direct: bool | None = key(
        "bool",
        "O_DIRECT with aligned buffers; falls back with a warning where the file system refuses.",
        stages=_DISKS,
        aliases=("use_direct_io", "use_direct"),
    )
    use_io_uring: bool | None = key(
        "bool", "io_uring where the kernel allows it, threads otherwise.", stages=("Disk",)
    )
    io_threads: int | None = key(
        "int",
        "Threads that read and write files.",
        minimum=1,
        maximum=1024,
        stages=_DISKS,
        aliases=("posix_data_trans_concurrency",),
    )
    io_depth: int | None = key(
        "int",
        "Transfers under way at once in the Disk stage.",
        minimum=1,
        maximum=65536,
        stages=("Disk",),
        aliases=("aioQueueDepth",),
    )
    segment_bytes: int | None = key(
        "bytes",
        "Size of one preallocated segment file.",
        unit="bytes",
        minimum=4096,
        stages=("Disk",),
    )
    path_strategy: str | None = key(
        "str",
        "How blocks spread over several backends; a block is found whatever the strategy was.",
        choices=("hash", "round_robin"),
        stages=("Posix",),
    )
    verify: str | None = key(
        "str",
        "Which blocks are checked against their checksum when they come back.",
        choices=("always", "sample", "never"),
        stages=_DISKS,
    )
    durability: str | None = key(
        "str",
        "When a write is flushed: never, by groups, or before every `done`.",
        choices=("none", "group", "strict"),
        stages=_DISKS,
    )
    dir_mode: int | None = key(
        "mode", "Permissions of directories.", default_text="0700", stages=_DISKS
    )
    file_mode: int | None = key("mode", "Permissions of files.", default_text="0600", stages=_DISKS)
    lookup_ttl_s: float | None = key(
        "float",
        "How long an answer of a lookup about a file may be reused.",
        unit="s",
        minimum=0,
        stages=("Posix",),
    )
    retry_count: int | None = key(
        "int",
        "How often a failed operation is tried again, with back-off.",
        default_text="3 with `NFS`, else 0",
        minimum=0,
        maximum=100,
        stages=("Posix",),
    )
    nfs_config: NfsConfig | None = key(
        "section", "Retries and time limit for network file systems.", section=NfsConfig
    )
    timeout_s: float | None = key(
        "float",
        "Time limit of one transfer and of one wait.",
        unit="s",
        minimum=0.001,
        maximum=1e7,
        default_text="30",
        aliases=(
            Alias("timeout_ms", _seconds, "float", "ms"),
            Alias("transferTimeoutMs", _seconds, "float", "ms"),
        ),
    )
    prefetch_enabled: bool = key(
        "bool",
        "After a prefix lookup, read the first blocks of the hit from the slow stage ahead of "
        "their load.",
        default=False,
    )
    prefetch_depth: int = key(
        "int", "How many blocks are read ahead.", unit="blocks", default=4, minimum=1, maximum=65536
    )
    copy_threads: int | None = key(
        "int",
        "Threads (with a device: streams) that copy between the caller's memory and the Cache.",
        minimum=1,
        maximum=64,
        stages=("Cache",),
        env=("UCM_TRANSPORT_STREAMS",),
        aliases=("cache_stream_number", "transport_streams", "stream_number"),
    )
    huge_pages: str | None = key(
        "str",
        "Huge pages for the Cache: hugetlb, then transparent ones, then 4 KiB; or off.",
        choices=("auto", "off"),
        stages=("Cache",),
    )
    prefault: bool | None = key(
        "bool", "Touch all memory of the Cache at start.", stages=("Cache",)
    )
    transport: TransportConfig | None = key(
        "section", "The same keys grouped, as documented elsewhere.", section=TransportConfig
    )
    platform: str | None = key(
        "str",
        "Whose device memory the caller's addresses are: cpu, cuda, musa, maca, ascend, or auto. "
        "`platform: {type: ..., device_ids: [...]}` says the same.",
        default_text="auto: the accelerator that is loaded, else cpu",
        choices=("auto", "cpu", "cuda", "musa", "maca", "ascend"),
    )
    device_ids: tuple[int, ...] = key(
        "sizes", "Device of each local rank.", default=(), default_text="rank r uses device r"
    )
    device_id: int | None = key(
        "int",
        "Device of this store. -1, as in released UCM: a scheduler's store, which answers "
        "lookups and refuses transfers.",
        minimum=-1,
        aliases=("device",),
    )
    unique_id: str | None = key(
        "str", "Name of the store in logs and messages; no shared memory bears it."
    )
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    """`<stage>.<key>` settings, as given: they win over the plain key for that stage."""
    origin: Origin | None = dataclasses.field(default=None, compare=False, repr=False)

    def core_options(self, *, rank: int | None = None) -> dict[str, Any]:
        """The flat options of the native core. See `ucm.config.core.core_options`."""
        from ucm.config.core import core_options

        return core_options(self, rank=rank)

    @property
    def spec(self) -> str:
        """The pipeline in the stage names of the native core, e.g. `Cache|Posix`."""
        from ucm.config.pipelines import parse_pipeline

        return parse_pipeline(self.store_pipeline).spec


@dataclasses.dataclass(frozen=True)
class PrometheusConfig:
    """`monitoring.prometheus`: the endpoint for a scraper."""

    enabled: bool = key("bool", "Serve /metrics on a port of its own.", default=True)
    port: int | None = key(
        "int",
        "TCP port of the endpoint.",
        minimum=1,
        maximum=65535,
        default_text="9090 when the section is present",
    )
    address: str = key("str", "Address the endpoint listens on.", default="0.0.0.0")


@dataclasses.dataclass(frozen=True)
class LoggingConfig:
    """`logging`, or `monitoring.logging`: what is written, and where."""

    level: str | None = key(
        "str",
        "Least severe level that is written.",
        default_text="INFO",
        choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
        env=("UNIFIED_CACHE_LOG_LEVEL", "UC_LOGGER_LEVEL"),
    )
    file: str | None = key(
        "str", "File that also receives the lines; rotated.", default_text="none", env=("UCM_LOG_PATH",)
    )
    format: str | None = key("str", "A format of Python's logging module.")


@dataclasses.dataclass(frozen=True)
class MonitoringConfig:
    """`monitoring`: metrics endpoint and logs."""

    prometheus: PrometheusConfig | None = key(
        "section", "The metrics endpoint.", section=PrometheusConfig
    )
    logging: LoggingConfig | None = key("section", "The logs.", section=LoggingConfig)


@dataclasses.dataclass(frozen=True)
class MetricsConfig:
    """`metrics`: the short form of the metrics endpoint."""

    enabled: bool = key(
        "bool", "Offer metrics at all.", default=True, env=("UCM_METRICS_ENABLED",), aliases=("enable",)
    )
    prometheus_port: int | None = key(
        "int",
        "TCP port of the endpoint; absent, none is opened.",
        minimum=1,
        maximum=65535,
        env=("UCM_METRICS_PORT",),
        default_text="none",
    )


@dataclasses.dataclass(frozen=True)
class MultiGpuConfig:
    """`multi_gpu`: accepted; the engine places work on its devices."""

    enabled: bool = key("bool", "Several devices in one engine; needs no switch.", default=True)
    strategy: str | None = key(
        "str",
        "Each rank of the engine has a store of its own, so there is nothing to distribute.",
        choices=("round_robin",),
    )


@dataclasses.dataclass(frozen=True)
class UcmConfig:
    """The whole configuration: the store, and what stands beside it at the top."""

    store: StoreConfig = dataclasses.field(default_factory=StoreConfig)
    connector_name: str = "UcmPipelineStore"
    connector_module_path: str | None = None
    use_layerwise: bool = key(
        "bool", "Load layer i+1 while layer i computes; save layer by layer.", default=False
    )
    load_only_first_rank: bool = key(
        "bool",
        "With MLA: one rank reads a block from the store and hands it to the others.",
        default=False,
    )
    load_failure_policy: str | None = key(
        "str",
        "What the engine does with blocks that could not be loaded.",
        choices=("recompute", "fail"),
        default_text="recompute",
        aliases=("kv_load_failure_policy",),
    )
    persist_token_threshold: int = key(
        "int",
        "Requests with fewer tokens are neither looked up nor saved.",
        unit="tokens",
        default=0,
        minimum=0,
    )
    load_tokens_threshold: int = key(
        "int",
        "Hits of fewer tokens than this are computed instead of loaded.",
        unit="tokens",
        default=0,
        minimum=0,
    )
    metrics_config_path: str | None = key(
        "str", "A YAML file that says which metrics are offered and where; see Metrics file."
    )
    enable_metrics: bool = key("bool", "Offer metrics at all.", default=True)
    metrics: MetricsConfig | None = key(
        "section", "The metrics endpoint, short form.", section=MetricsConfig
    )
    monitoring: MonitoringConfig | None = key(
        "section", "Metrics endpoint and logs.", section=MonitoringConfig
    )
    logging: LoggingConfig | None = key("section", "The logs.", section=LoggingConfig)
    multi_gpu: MultiGpuConfig | None = key(
        "section", "Accepted; the engine places work on its devices.", section=MultiGpuConfig
    )
    ucm_sparse_method: str | None = key(
        "str",
        "Sparse attention method. Checked, and not part of this version: one warning says so.",
        choices=("ESA", "GSA", "GSAOnDevice", "KVStarMultiStep", "KVStar", "Blend", "ReRoPE", "RERoPE"),
    )
    ucm_sparse_config: dict[str, Any] | None = key(
        "mapping",
        "`{METHOD: {...}}`, one method. Checked, and not part of this version.",
    )
    notes: tuple[str, ...] = dataclasses.field(default=(), compare=False)
    """Sentences about keys that were accepted without an effect; `ucm doctor` prints them."""
    origin: Origin | None = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def metrics_port(self) -> int | None:
        """Port of the metrics endpoint, or None when none is asked for."""
        if not self.enable_metrics or (self.metrics is not None and not self.metrics.enabled):
            return None
        prometheus = self.monitoring.prometheus if self.monitoring else None
        if prometheus is not None:
            return (prometheus.port or 9090) if prometheus.enabled else None
        return self.metrics.prometheus_port if self.metrics else None

    @property
    def log(self) -> LoggingConfig:
        """The logging section, wherever it stands."""
        inner = self.monitoring.logging if self.monitoring else None
        return self.logging or inner or LoggingConfig()
