# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: RUF009
"""The model of one store. docs/configuration.md is made from it."""

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
class AscendConfig:
    """`ascend_config`: of stores on Ascend; elsewhere it has no effect."""

    enable_hccl: bool | None = key(
        "bool",
        "Accepted. HCCL carries collectives between NPUs; each rank copies its own blocks between "
        "its NPU and host memory, so there is none to run, and `true` is answered in the log.",
    )


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
    share: bool | None = key(
        "bool",
        "One Cache for all processes of this user on the node with the same `unique_id`, pipeline "
        "and backends: ranks and scheduler of an engine, or several engines. Its size and "
        "`eviction_policy` are those of the first.",
        default_text="false",
        stages=("Cache",),
        aliases=("share_buffer_enable",),
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
        default_text="auto",
        choices=("auto", "lru", "arc", "lru2", "s3fifo"),
        stages=("Cache", "Disk", "Fake"),
    )
    admission: str | None = key(
        "str",
        "Which block a stage keeps: each, or one that comes for the second time (dumped or loaded) "
        "while the first is remembered, for as many blocks as the stage holds.",
        default_text="always",
        choices=("always", "second_use"),
        stages=("Cache", *_DISKS),
    )
    pin_limit: float | None = key(
        "float",
        "Share of a stage's capacity that pinned blocks may take.",
        default_text="0.5",
        minimum=0,
        maximum=0.9,
        stages=("Cache", *_DISKS, "Fake"),
    )
    capacity_bytes: int | None = key(
        "bytes",
        "Bytes a disk stage may use on each of its backends; of a Disk stage each rank of an "
        "engine has so much to itself.",
        default_text="Posix: 0, no limit; Disk: 0, 90 % of what is free",
        unit="bytes",
        minimum=0,
        stages=(*_DISKS, "Fake"),
        aliases=(Alias("posix_capacity_gb", _gib, "float", "GiB"), "storage_capacity"),
    )
    namespace: str | None = key(
        "str",
        "Whose blocks these are in a directory or a shared Cache of several stores: a name of "
        "letters, digits, `.`, `-` and `_`. Stores of other namespaces do not see them.",
        stages=("Posix", "Cache"),
    )
    quotas: tuple[str, ...] | None = key(
        "quotas",
        "`{namespace: 40%, other: 20GiB}`: how much of `capacity_bytes` a namespace may take, and "
        "has to itself; all others share the rest. The same for all stores of a directory. With "
        "`share`, of the Cache as well. Each rank of a Disk stage has a directory, and so its "
        "`capacity_bytes`, to itself.",
        default_text="none",
        stages=("Posix", "Cache"),
    )
    eviction_high: float | None = key(
        "float",
        "Collection starts when this share of the capacity is used.",
        default_text="Posix: 0.9; Disk: 0.95",
        minimum=0.01,
        maximum=1,
        stages=_DISKS,
        aliases=("posix_gc_trigger_threshold_ratio", "recycle_threshold_ratio"),
    )
    eviction_low: float | None = key(
        "float",
        "Collection ends when this share of the capacity is used.",
        default_text="Posix: 0.8; Disk: 0.9",
        minimum=0,
        maximum=1,
        stages=_DISKS,
    )
    io_direct: bool | None = key(
        "bool",
        "O_DIRECT with aligned buffers; falls back with a warning where the file system refuses.",
        default_text="Disk: true; Posix: false, except that a load on a local file system reads "
        "what the page cache has not past it, the first time",
        stages=_DISKS,
        aliases=("use_direct_io", "use_direct"),
    )
    use_io_uring: bool | None = key(
        "bool",
        "io_uring where the kernel allows it, threads otherwise.",
        default_text="true",
        stages=("Disk",),
    )
    io_threads: int | None = key(
        "int",
        "Threads that read and write files.",
        default_text="4; in a pipeline with both, Disk: 1, Posix: 2",
        minimum=1,
        maximum=256,
        stages=_DISKS,
        aliases=("posix_data_trans_concurrency",),
    )
    io_depth: int | None = key(
        "int",
        "Transfers under way at once in the Disk stage.",
        default_text="16",
        minimum=1,
        maximum=4096,
        stages=("Disk",),
        aliases=("aioQueueDepth",),
    )
    segment_bytes: int | None = key(
        "bytes",
        "Size of one preallocated segment file.",
        default_text="1 GiB",
        unit="bytes",
        minimum=4096,
        stages=("Disk",),
    )
    path_strategy: str | None = key(
        "str",
        "How blocks spread over several backends; a block is found whatever the strategy was.",
        default_text="hash",
        choices=("hash", "round_robin"),
        stages=_DISKS,
    )
    verify: str | None = key(
        "str",
        "Which blocks are checked against their checksum when they come back.",
        default_text="always",
        choices=("always", "sample", "never"),
        stages=_DISKS,
    )
    durability: str | None = key(
        "str",
        "When a write is flushed: never, by groups, or before every `done`.",
        default_text="none",
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
        default_text="0",
        unit="s",
        minimum=0,
        stages=("Posix",),
    )
    pack_bytes: int | None = key(
        "bytes",
        "Blocks of at most this size that are dumped together share files (by hard links, on a "
        "store that was made with it): much faster where blocks are small.",
        default_text="64 KiB; 0: a file per block",
        unit="bytes",
        minimum=0,
        maximum=1 << 20,
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
        "Time limit of one transfer and of one wait; a stage below another one that has answered "
        "nothing for half of it is left alone.",
        unit="s",
        minimum=0.001,
        maximum=900000,
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
        default_text="as many as processors, at most 2",
        minimum=1,
        maximum=64,
        stages=("Cache",),
        env=("UCM_TRANSPORT_STREAMS",),
        aliases=("cache_stream_number", "transport_streams", "stream_number"),
    )
    huge_pages: str | None = key(
        "str",
        "Huge pages for the Cache: hugetlb, then transparent ones, then 4 KiB; or off.",
        default_text="auto",
        choices=("auto", "off"),
        stages=("Cache",),
    )
    prefault: bool | None = key(
        "bool",
        "Touch all memory of the Cache at start, so that saving does not wait for pages.",
        default_text="on under an engine, and always where memory is pinned; else off",
        stages=("Cache",),
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
    ascend_config: AscendConfig | None = key(
        "section", "Of stores on Ascend.", section=AscendConfig
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
        "str",
        "Name of the store in logs and messages, and with `share` of the pool that is shared.",
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
