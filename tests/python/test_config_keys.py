# SPDX-License-Identifier: Apache-2.0
"""Every key that the guides, released UCM and its documents name is honoured or answered."""

from __future__ import annotations

import pytest

from ucm.config import AscendConfig, StoreConfig, load_config
from ucm.errors import ConfigError

RELEASED_STORE = {
    "unique_id": "engine-0",
    "device_id": 0,
    "tensor_size": 4096,
    "tensor_size_list": [4096],
    "shard_size": 4096,
    "block_size": 16,
    "io_direct": True,
    "timeout_ms": 30000,
    "cpu_affinity_cores": [0, 1],
    "cache_buffer_capacity_gb": 256,
    "share_buffer_enable": True,
    "waiting_queue_depth": 8192,
    "running_queue_depth": 524288,
    "cache_stream_number": 4,
    "posix_io_engine": "psync",
    "posix_data_trans_concurrency": 128,
    "posix_lookup_concurrency": 16,
    "posix_open_concurrency": 32,
    "posix_commit_concurrency": 4,
    "data_dir_shard_bytes": 3,
    "posix_gc_enable": True,
    "posix_capacity_gb": 0,
    "posix_gc_trigger_threshold_ratio": 0.7,
    "posix_gc_recycle_percent": 0.1,
    "posix_gc_concurrency": 16,
    "posix_gc_check_interval_sec": 30,
    "posix_gc_max_recycle_count_per_shard": 50000,
    "posix_gc_shard_sample_ratio": 0.1,
    "buffer_number": 4096,
    "stream_number": 8,
    "ior_entries": 1,
    "ior_depth": 1,
    "numa_id": -1,
    "buffer_size": 4096,
    "local_rank_size": 1,
    "use_scatter_gather": False,
    "shard_data_dir": True,
    "kv_block_size": 4096,
    "role": "worker",
    "device": 0,
    "io_size": 4096,
    "use_direct": False,
    "storage_capacity": 0,
    "recycle_enable": 0,
    "recycle_threshold_ratio": 0.7,
    "tempDumpDirEnable": False,
    "hotnessEnable": True,
    "hotnessInterval": 60,
    "transferTimeoutMs": 30000,
    "local_hostname": "h",
    "metadata_server": "m",
    "global_segment_size": 1,
    "local_buffer_size": 1,
    "protocol": "tcp",
    "device_name": "",
    "master_server_address": "a",
    "compress_ratio": 32,
    "data_type": 0,
    "decompress_thread_num": 8,
    "streamNumber": 8,
    "posix_gc_task_timeout_ms": 300000,
    "posix_gc_precise_mode": True,
    "cache_load_backend_only": False,
    "cache_io_aggregation": False,
    "cache_sdma_direct": False,
    "loadExclusiveBufferNumber": 1024,
    "aioQueueDepth": 128,
    "loadHandleCacheSize": 8192,
    "store_health": {"enabled": True},
    "global_segment_size_gb": 30,
    "replica_num": 1,
    "share_buffer_capacity_gb": 1,
    "yuanrong_host": "h",
}
RELEASED_TOP = {
    "use_layerwise": False,
    "enable_event_sync": True,
    "hit_ratio": 0.5,
    "metrics_config_path": "",
    "ucm_sparse_config": {"ESA": {"sparse_ratio": 0.3}},
    "load_only_first_rank": False,
    "persist_token_threshold": 0,
    "load_tokens_threshold": 2048,
    "wa_dump_block_wise": True,
    "enable_record_traces": False,
    "enable_metrics": True,
    "use_lite": False,
}
DOCUMENTED_STORE = {
    "store_pipeline": "Posix",
    "storage_backends": "/x",
    "io_threads": 8,
    "preallocate_buckets": True,
    "file_mode": "0644",
    "dir_mode": 0o755,
    "use_direct_io": True,
    "io_block_size": 4096,
    "cache_capacity": 10000,
    "prefetch_enabled": True,
    "prefetch_depth": 4,
    "eviction_threshold": 0.9,
    "warmup_enabled": False,
    "stats_interval": 60,
    "write_back_policy": "async",
    "write_back_batch_size": 32,
    "write_back_interval": 1.0,
    "path_strategy": "hash",
    "nfs_rsize": 1048576,
    "nfs_wsize": 1048576,
    "nfs_mount_options": "rw",
    "s3_endpoint": "e",
    "s3_access_key": "k",
    "s3_secret_key": "s",
    "connection_pool_size": 32,
    "max_concurrent_requests": 64,
    "multipart_threshold": 8388608,
    "multipart_chunk_size": 8388608,
    "cluster_endpoints": ["a"],
    "use_rdma": False,
    "rdma_device": "d",
    "replication_factor": 1,
    "transport": {
        "pinned_pool_size": 1 << 30,
        "max_pinned_size": 4 << 30,
        "num_streams": 2,
        "enable_batch": True,
        "batch_size": 16,
        "enable_double_buffer": True,
    },
    "transport_streams": 2,
    "pinned_pool_size": 1 << 30,
    "max_pinned_size": 4 << 30,
    "nfs_config": {"retry_count": 3, "timeout_seconds": 30},
    "ascend_config": {"enable_hccl": True},
    "use_io_uring": True,
}
DOCUMENTED_TOP = {
    "metrics": {"enabled": True, "prometheus_port": 9090},
    "logging": {"level": "INFO", "format": "%(message)s"},
    "monitoring": {"prometheus": {"enabled": True, "port": 9090}, "logging": {"level": "INFO"}},
    "multi_gpu": {"enabled": True, "strategy": "round_robin"},
    "platform": {"type": "ascend", "device_ids": [0, 1]},
    "ucm_sparse_method": "GSA",
    "load_failure_policy": "recompute",
}
SAY_THE_DEFAULT = ("posix_gc_enable", "role", "prefetch_depth")
HONOURED = {
    "timeout_ms": ("timeout_s", 30.0),
    "cache_buffer_capacity_gb": ("max_pinned_size", 256 << 30),
    "share_buffer_enable": ("share", True),
    "cache_stream_number": ("copy_threads", 4),
    "stream_number": ("copy_threads", 8),
    "transport_streams": ("copy_threads", 2),
    "posix_data_trans_concurrency": ("io_threads", 128),
    "posix_gc_trigger_threshold_ratio": ("eviction_high", 0.7),
    "posix_gc_recycle_percent": ("eviction_low", 0.63),
    "kv_block_size": ("block_bytes", 4096),
    "io_size": ("tensor_size", 4096),
    "use_direct": ("io_direct", False),
    "use_direct_io": ("io_direct", True),
    "aioQueueDepth": ("io_depth", 128),
    "transferTimeoutMs": ("timeout_s", 30.0),
    "file_mode": ("file_mode", 0o644),
    "dir_mode": ("dir_mode", 0o755),
    "recycle_enable": ("capacity_bytes", 0),
}


def one(name, value):
    return load_config({name: value}, environ={})


@pytest.mark.parametrize("name", [*RELEASED_STORE, *DOCUMENTED_STORE])
def test_a_store_key_is_honoured_or_answered(name):
    value = {**RELEASED_STORE, **DOCUMENTED_STORE}[name]
    config = one(name, value)
    changed = config.store != StoreConfig()
    assert changed or config.notes or name in SAY_THE_DEFAULT, f"{name} is accepted in silence"


@pytest.mark.parametrize("name", HONOURED)
def test_another_name_of_a_key_sets_the_key(name):
    field, wanted = HONOURED[name]
    value = {**RELEASED_STORE, **DOCUMENTED_STORE}[name]
    assert getattr(one(name, value).store, field) == wanted


@pytest.mark.parametrize("name", [*RELEASED_TOP, *DOCUMENTED_TOP])
def test_a_key_beside_the_store_is_accepted(name):
    value = {**RELEASED_TOP, **DOCUMENTED_TOP}[name]
    if value == "":
        value = "metrics.yaml"
    config = one(name, value)
    known = {field for field in config.__dataclass_fields__}
    assert name in known or name == "platform" or config.notes


def test_keys_of_the_store_also_stand_inside_its_section():
    config = load_config(
        {
            "ucm_connectors": [
                {
                    "ucm_connector_name": "UcmPipelineStore",
                    "ucm_connector_config": {**DOCUMENTED_STORE, "posix_gc_recycle_percent": 0.2},
                }
            ]
        },
        environ={},
    )
    assert config.store.io_threads == 8
    assert config.store.eviction_low == pytest.approx(0.56)


def test_a_key_without_effect_says_what_to_use():
    (note,) = one("posix_lookup_concurrency", 16).notes
    assert "io_threads" in note and "no effect" in note.lower()


def test_the_transport_section_says_the_same_as_plain_keys():
    store = one("transport", DOCUMENTED_STORE["transport"]).store
    assert (store.pinned_pool_size, store.max_pinned_size, store.copy_threads) == (
        1 << 30,
        4 << 30,
        2,
    )


def test_collection_that_is_switched_off_has_no_capacity():
    config = load_config({"posix_capacity_gb": 10, "posix_gc_enable": False}, environ={})
    assert config.store.capacity_bytes == 0


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, "no collective that HCCL could run"),
        (
            {"platform": {"type": "ascend", "device_ids": [0, 1]}},
            "no collective that HCCL could run",
        ),
        ({"platform": "cuda"}, "`ascend_config` has no effect: the platform is cuda"),
    ],
)
def test_the_ascend_section_is_read_and_its_keys_are_answered(config, told):
    read = load_config({**config, "ascend_config": {"enable_hccl": True}}, environ={})
    assert read.store.ascend_config == AscendConfig(enable_hccl=True)
    assert len(read.notes) == 1 and told in read.notes[0]
    quiet = {"platform": "ascend", "ascend_config": {"enable_hccl": False}}
    assert load_config(quiet, environ={}).notes == ()


@pytest.mark.parametrize("section", [{"enable_hcl": True}, {"enable_hccl": "perhaps"}, 3])
def test_a_wrong_ascend_section_is_refused(section):
    with pytest.raises(ConfigError, match=r"ascend_config|enable_hccl"):
        one("ascend_config", section)


def test_a_scheduler_role_is_a_store_for_lookups():
    assert one("role", "scheduler").store.device_id == -1
