# SPDX-License-Identifier: Apache-2.0
"""The YAML of the deployment and the performance guide, as it stands."""

from __future__ import annotations

import pytest
from small_stores import GUIDES

from ucm.config import load_config
from ucm.errors import ConfigError, UcmError

MANIFESTS = ("deploy_6_1.yaml", "deploy_6_2.yaml")
FILES = sorted(path.name for path in GUIDES.glob("*.yaml") if path.name not in MANIFESTS)


def guide(name: str):
    return load_config(GUIDES / name, environ={})


@pytest.mark.parametrize("name", FILES)
def test_every_yaml_block_of_the_guides_loads(name):
    config = guide(name)
    assert config.store.spec == "Cache|Posix"


def test_the_guides_hold_nineteen_yaml_blocks():
    assert len(FILES) + len(MANIFESTS) == 19


def test_the_basic_configuration_means_what_it_says():
    config = guide("deploy_3_1.yaml")
    assert config.store.storage_backends == ("/data/ucm_cache",)
    assert (config.store.buffer_number, config.store.block_size) == (2048, 16)
    assert config.store.io_direct is True
    assert config.metrics_config_path == "./metrics_config.yaml"
    assert config.load_only_first_rank is False
    assert config.ucm_sparse_config["ESA"]["min_blocks"] == 4
    assert len(config.notes) == 1 and "ESA" in config.notes[0]


def test_the_advanced_configuration_means_what_it_says():
    config = guide("deploy_3_2.yaml")
    assert config.store.storage_backends == ("/mnt/nfs/ucm_cache", "/mnt/nfs/ucm_cache_backup")
    assert config.store.retry_count == 3 and config.store.timeout_s == 30
    assert config.multi_gpu.enabled and config.multi_gpu.strategy == "round_robin"
    assert config.metrics_port == 9090
    assert (config.log.level, config.log.file) == ("INFO", "/var/log/ucm/ucm.log")


def test_an_export_of_the_guide_that_is_not_mounted_is_answered_with_the_mount_command():
    config = guide("deploy_5_3.yaml")
    with pytest.raises(ConfigError, match=r"mount -t nfs .*:/data/ucm_cache") as caught:
        config.store.core_options()
    assert caught.value.line == 5


def test_the_config_map_of_the_guide_holds_a_configuration():
    assert guide("deploy_6_3.yaml").store.buffer_number == 2048


@pytest.mark.parametrize("name", MANIFESTS)
def test_another_manifest_is_told_apart_from_a_configuration(name):
    with pytest.raises(ConfigError, match="this is a Kubernetes"):
        guide(name)


def test_the_platform_section_names_type_and_devices():
    config = guide("deploy_7_3.yaml")
    assert config.store.platform == "ascend"
    assert config.store.device_ids == (0, 1, 2, 3)
    assert config.store.ascend_config.enable_hccl
    assert "HCCL" in config.notes[0]


def test_of_a_key_that_stands_several_times_the_last_counts_with_a_note():
    config = guide("perf_2_1.yaml")
    assert config.store.buffer_number == 4096
    assert "line 3" in config.notes[1] and ":5:" in config.notes[1]


def test_the_pool_sizes_of_the_guide_are_bytes():
    store = guide("perf_2_2.yaml").store
    assert (store.pinned_pool_size, store.max_pinned_size) == (1 << 30, 4 << 30)


def test_the_cache_section_switches_prefetching_on():
    store = guide("perf_4_1.yaml").store
    assert (store.cache_capacity, store.prefetch_enabled, store.prefetch_depth) == (50000, True, 4)


def test_keys_of_remote_stages_are_answered_and_io_uring_is_honoured():
    config = guide("perf_4_4.yaml")
    assert config.store.use_io_uring is True
    assert len(config.notes) == 4
    assert all("No remote stage" in note or "no remote stage" in note for note in config.notes)


def test_the_production_configuration_uses_direct_io():
    config = guide("perf_8_2.yaml")
    assert config.store.io_direct is True
    assert config.ucm_sparse_method == "GSA"


def test_the_cluster_configuration_spreads_by_round_robin():
    store = guide("perf_8_3.yaml").store
    assert store.path_strategy == "round_robin"
    assert store.core_options()["storage_backends"] == [
        "/mnt/nfs1/ucm_cache",
        "/mnt/nfs2/ucm_cache",
    ]


@pytest.mark.parametrize("name", FILES)
def test_what_has_no_effect_is_said_in_words(name):
    for note in guide(name).notes:
        assert len(note.split()) > 5


def test_errors_of_the_configuration_are_value_errors():
    with pytest.raises(ValueError):
        load_config({"store_pipeline": "Cache|Tape"}, environ={})
    assert issubclass(ConfigError, UcmError)
