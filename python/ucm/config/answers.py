# SPDX-License-Identifier: Apache-2.0
"""Keys of other releases and documents that have no effect here: what they are for, what to use.

A key in this table is accepted, and one line of the log says the sentence. A key that is neither
here nor in the model is an error.
"""

from __future__ import annotations

from collections.abc import Iterable

_MOUNT = "is a mount option; give it in /etc/fstab (docs/configuration.md has the line)"
_REMOTE = "belongs to remote stages, and no remote stage is in this version"
_MOONCAKE = "belongs to the Mooncake stage, and no remote stage is in this version; use `Cache|NFS`"
_S3 = "belongs to an S3 stage, which is not in this version; mount the bucket and use `Cache|Posix`"
_3FS = "tunes the native client of 3FS; DS3FS is used through its mount here; use `io_threads`"
_COLLECT = "tunes a periodic collector; collection runs when `eviction_high` is reached"
_WRITE = (
    "chooses how Cache writes back; Cache always writes through in the background, and "
    "`task.done` says when a block is stored"
)
_SPARSE = "belongs to sparse attention, which is not part of this version"
_QUEUE = "limits a queue; tasks larger than the pool flow through it in pieces, without a limit"
_POOL = "sizes a thread pool that does not exist here; use `io_threads`"
_LAYOUT = "shapes the directories on disk; the format is fixed (docs/formats.md)"
_COMPRESS = "belongs to lossy compression, which is not in this version; blocks are stored exactly"

STORE: dict[str, str] = {
    # released UCM, cache
    "share_buffer_capacity_gb": "sizes the shared Cache; use `max_pinned_size` or `buffer_number`",
    "waiting_queue_depth": _QUEUE,
    "running_queue_depth": _QUEUE,
    "cpu_affinity_cores": "pins threads to cores; start the engine under taskset or numactl",
    "cache_load_backend_only": "skips the Cache when loading; leave `Cache` out of the pipeline",
    "cache_io_aggregation": "joins small reads; a block is always one contiguous transfer here",
    "cache_sdma_direct": "uses a copy engine of one vendor; the platform decides by itself",
    "loadExclusiveBufferNumber": "reserves buffers for loads; loads go first by themselves",
    "loadHandleCacheSize": "keeps files open; use `Cache|Disk`, whose files always are",
    # released UCM, posix
    "posix_io_engine": "chooses psync or aio; Posix uses threads (`io_threads`), and `Cache|Disk` "
    "io_uring (`use_io_uring`)",
    "posix_lookup_concurrency": _POOL,
    "posix_open_concurrency": _POOL,
    "posix_commit_concurrency": _POOL,
    "data_dir_shard_bytes": _LAYOUT,
    "shard_data_dir": _LAYOUT,
    "preallocate_buckets": _LAYOUT,
    "io_block_size": _LAYOUT + "; all transfers are multiples of 4096 bytes",
    "posix_gc_concurrency": _COLLECT,
    "posix_gc_check_interval_sec": _COLLECT,
    "posix_gc_max_recycle_count_per_shard": _COLLECT,
    "posix_gc_shard_sample_ratio": _COLLECT,
    "posix_gc_task_timeout_ms": _COLLECT,
    "posix_gc_precise_mode": _COLLECT + ", and counts bytes exactly",
    "store_health": "configures a health check; the vLLM connector stops using a store that fails "
    "and comes back by itself",
    # released UCM, 3FS, NfsStore, Mooncake, YuanRong, compression
    "ior_entries": _3FS,
    "ior_depth": _3FS,
    "numa_id": "binds buffers to a NUMA node; the node next to the device is used",
    "buffer_size": "sizes one buffer; a slot always holds one block (`block_bytes`)",
    "local_rank_size": "counts the ranks of a node; each rank opens its own store",
    "use_scatter_gather": "chooses a copy method; the platform decides by itself",
    "tempDumpDirEnable": _LAYOUT,
    "hotnessEnable": "records accesses for collection; accesses are always recorded",
    "hotnessInterval": "records accesses for collection; accesses are always recorded",
    "local_hostname": _MOONCAKE,
    "metadata_server": _MOONCAKE,
    "master_server_address": _MOONCAKE,
    "global_segment_size": _MOONCAKE,
    "global_segment_size_gb": _MOONCAKE,
    "local_buffer_size": _MOONCAKE,
    "protocol": _MOONCAKE,
    "device_name": _MOONCAKE,
    "replica_num": _MOONCAKE,
    "cluster_endpoints": _MOONCAKE,
    "use_rdma": _MOONCAKE,
    "rdma_device": _MOONCAKE,
    "replication_factor": _MOONCAKE,
    "compress_ratio": _COMPRESS,
    "data_type": _COMPRESS,
    "decompress_thread_num": _COMPRESS,
    "streamNumber": _COMPRESS,
    # the guides
    "connection_pool_size": _REMOTE + "; on a mount use `io_threads`",
    "max_concurrent_requests": _REMOTE + "; on a mount use `io_threads`",
    "multipart_threshold": _REMOTE + "; a block is one contiguous transfer",
    "multipart_chunk_size": _REMOTE + "; a block is one contiguous transfer",
    "s3_endpoint": _S3,
    "s3_access_key": _S3,
    "s3_secret_key": _S3,
    "nfs_rsize": "rsize " + _MOUNT,
    "nfs_wsize": "wsize " + _MOUNT,
    "nfs_mount_options": _MOUNT,
    "eviction_threshold": "says when the Cache starts to evict; it evicts when a slot is needed. "
    "For disk stages use `eviction_high`",
    "warmup_enabled": "fills the Cache at start; blocks come in when they are asked for. To touch "
    "the memory at start use `prefault`",
    "stats_interval": "sets a period of statistics; metrics are counted exactly and read on demand",
    "write_back_policy": _WRITE,
    "write_back_batch_size": _WRITE,
    "write_back_interval": _WRITE,
    "enable_batch": "joins copies into batches; a task is always one batch",
    "batch_size": "joins copies into batches; a task is always one batch",
    "enable_double_buffer": "overlaps copies; use `copy_threads`",
}

TOP: dict[str, str] = {
    "enable_event_sync": "orders saves behind the engine's work; that is always so here",
    "hit_ratio": "makes a connector that pretends hits for benchmarks; `store_pipeline: Fake` "
    "studies hit rates with the real keys and no data",
    "use_lite": "keeps only metadata for hit-rate studies; use `store_pipeline: Fake`",
    "wa_dump_block_wise": "chooses when a save starts; a block is saved as soon as it is full",
    "enable_record_traces": "records requests to a file; take them from the engine's own log",
    "sparse_ratio": _SPARSE,
    "UCM_CONFIG_FILE": "names the configuration file, and only the program or the environment "
    "can say it; a file can not include another",
}

PROMETHEUS: dict[str, str] = {
    "path": "sets the URL path; every path of the port answers, /metrics among them",
}

_PREFIXES = {"yuanrong_": f"belongs to the YuanRong stage; {_REMOTE}; use `Cache|NFS`"}


def store_answer(key: str) -> str | None:
    """The sentence for a store key without effect, or None when the key is not known here."""
    for prefix, answer in _PREFIXES.items():
        if key.startswith(prefix):
            return answer
    return STORE.get(key)


def all_answers() -> Iterable[tuple[str, str]]:
    """Every answered key of the store and of the top level, in the order of the tables."""
    yield from STORE.items()
    for prefix, answer in _PREFIXES.items():
        yield prefix + "*", answer
    yield from TOP.items()
