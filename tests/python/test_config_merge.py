# SPDX-License-Identifier: Apache-2.0
"""Files, dicts and the environment together; and what becomes of a configuration in the core."""

from __future__ import annotations

import pytest

from ucm.config import load_config
from ucm.config.backends import resolve_backend
from ucm.config.pipelines import parse_pipeline
from ucm.errors import ConfigError

MOUNTS = [
    ("/dev/sda1", "/"),
    ("10.0.0.1:/data", "/mnt/nfs"),
    ("10.0.0.1:/data/deep", "/mnt/deep"),
    ("filer:/", "/mnt/root dir"),
    ("10.0.0.2:/twice", "/mnt/old"),
    ("10.0.0.2:/twice", "/mnt/fresh"),
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "ucm.yaml"
    path.write_text(
        """
ucm_connectors:
  - ucm_connector_name: UcmPipelineStore
    ucm_connector_config: {store_pipeline: "Cache|Disk", storage_backends: /file, io_threads: 3}
use_layerwise: true
monitoring: {prometheus: {enabled: true, port: 9100}, logging: {level: WARNING}}
"""
    )
    return path


def test_a_dict_may_name_a_file_and_override_its_keys(file):
    config = load_config(
        {"UCM_CONFIG_FILE": str(file), "io_threads": 8, "use_layerwise": False}, environ={}
    )
    assert config.store.storage_backends == ("/file",)
    assert config.store.io_threads == 8
    assert config.use_layerwise is False


def test_the_environment_wins_over_the_file_and_loses_to_the_program(file):
    environ = {"UCM_POSIX_STORAGE_PATH": "/env", "UCM_TRANSPORT_STREAMS": "3"}
    config = load_config({"UCM_CONFIG_FILE": str(file), "copy_threads": 2}, environ=environ)
    assert config.store.storage_backends == ("/env",)
    assert config.store.copy_threads == 2


def test_the_environment_may_name_the_file(file):
    for variable in ("UCM_CONFIG_FILE", "UNIFIEDCACHE_CONFIG_FILE"):
        assert load_config(environ={variable: str(file)}).store.io_threads == 3


def test_nothing_at_all_is_the_default():
    config = load_config(environ={})
    assert config.store.store_pipeline == "Cache|Posix"
    assert config.metrics_port is None


def test_variables_of_metrics_and_logs_are_honoured(file):
    environ = {"UCM_METRICS_PORT": "9200", "UNIFIED_CACHE_LOG_LEVEL": "debug"}
    config = load_config({"store_pipeline": "Cache"}, environ=environ)
    assert config.metrics_port == 9200
    assert config.log.level == "DEBUG"
    assert load_config(environ={"UC_LOGGER_LEVEL": "error"}).log.level == "ERROR"


def test_variables_change_one_key_of_a_section_and_leave_the_others(file):
    text = file.read_text().replace("{level: WARNING}", "{level: WARNING, file: /tmp/ucm.log}")
    file.write_text(text + "metrics: {enabled: true, prometheus_port: 9300}\n")
    environ = {"UCM_METRICS_PORT": "9200", "UC_LOGGER_LEVEL": "error"}
    config = load_config(file, environ=environ)
    assert config.metrics_port == 9200
    assert (config.log.level, config.log.file) == ("ERROR", "/tmp/ucm.log")
    assert load_config(file, environ={}).metrics_port == 9300


def test_a_value_that_is_the_default_wins_over_another_one_too(file):
    file.write_text(
        "store_pipeline: Cache\nmetrics: {enabled: false, prometheus_port: 9300}\n"
        "monitoring: {prometheus: {enabled: false, address: 127.0.0.1}}\n"
    )
    on = {"metrics": {"enabled": True}, "monitoring": {"prometheus": {"enabled": True}}}
    assert load_config(file, environ={}).metrics_port is None
    config = load_config({"UCM_CONFIG_FILE": str(file), **on}, environ={})
    assert config.metrics_port == 9300
    assert config.monitoring.prometheus.address == "127.0.0.1"
    switched = load_config(file, environ={"UCM_METRICS_ENABLED": "true"})
    assert switched.metrics.enabled


def test_a_flag_that_changes_nothing_here_says_so():
    (note,) = load_config({"load_only_first_rank": True}, environ={}).notes
    assert "each rank itself reads" in note
    assert load_config({"load_only_first_rank": False}, environ={}).notes == ()


def test_metrics_can_be_switched_off_by_the_environment(file):
    assert load_config(file, environ={}).metrics_port == 9100
    assert load_config(file, environ={"UCM_METRICS_ENABLED": "false"}).metrics_port is None


def test_a_variable_that_does_not_fit_is_named():
    with pytest.raises(ConfigError, match="UCM_METRICS_PORT='web'"):
        load_config(environ={"UCM_METRICS_PORT": "web"})
    with pytest.raises(ConfigError, match="true or false"):
        load_config(environ={"UCM_METRICS_ENABLED": "perhaps"})


def test_a_variable_without_effect_is_answered():
    (note,) = load_config(environ={"UCM_DISABLE_PATCHES": "1"}).notes
    assert "UCM_DISABLE_PATCHES" in note and "patches nothing" in note


def test_flat_keys_and_the_long_form_mean_the_same(file):
    flat = load_config(
        {
            "store_pipeline": "Cache|Disk",
            "storage_backends": "/file",
            "io_threads": 3,
            "use_layerwise": True,
            "monitoring": {
                "prometheus": {"enabled": True, "port": 9100},
                "logging": {"level": "WARNING"},
            },
        },
        environ={},
    )
    assert flat == load_config(file, environ={})


def test_the_doc_set_spelling_of_a_connector_is_accepted():
    config = load_config(
        {"ucm_connectors": [{"name": "UcmPipelineStore", "config": {"io_threads": 2}}]}, environ={}
    )
    assert config.connector_name == "UcmPipelineStore" and config.store.io_threads == 2


def test_a_configuration_can_not_be_changed_by_accident():
    config = load_config(environ={})
    with pytest.raises(AttributeError):
        config.store.io_threads = 4


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("Cache|Posix", "Cache|Posix"),
        ("cache | disk", "Cache|Disk"),
        ("Cache|NFS", "Cache|Posix"),
        ("Cache|DS3FS", "Cache|Posix"),
        ("Cache|Ds3fs", "Cache|Posix"),
        ("Posix", "Posix"),
        ("Empty", "Null"),
        ("Cache|Empty", "Cache|Null"),
        ("Fake", "Fake"),
        ("Cache", "Cache"),
        ("Cache|Disk|NFS", "Cache|Disk|Posix"),
    ],
)
def test_pipelines_become_stages_of_the_core(text, spec):
    assert parse_pipeline(text).spec == spec


@pytest.mark.parametrize(
    ("backend", "path"),
    [
        ("/data", "/data"),
        ("10.0.0.1:/data", "/mnt/nfs"),
        ("10.0.0.1:/data/", "/mnt/nfs"),
        ("10.0.0.1:/data/ucm/x", "/mnt/nfs/ucm/x"),
        ("10.0.0.1:/data/deep/x", "/mnt/deep/x"),
        ("filer:/ucm", "/mnt/root dir/ucm"),
        ("10.0.0.2:/twice", "/mnt/fresh"),
    ],
)
def test_an_export_stands_for_the_place_where_it_is_mounted(backend, path):
    assert resolve_backend(backend, MOUNTS) == path


@pytest.mark.parametrize("backend", ["10.0.0.1:/database", "10.0.0.3:/data", "[fe80::1]:/x"])
def test_an_export_that_is_not_mounted_is_no_directory_here(backend):
    with pytest.raises(ConfigError, match=r"not mounted here.*mount -t nfs"):
        resolve_backend(backend, MOUNTS)


def test_a_text_with_a_colon_is_two_directories_as_in_released_ucm():
    store = load_config({"storage_backends": "/a:/b"}, environ={}).store
    assert store.core_options()["storage_backends"] == ["/a", "/b"]


def options(config):
    return load_config({"storage_backends": "/x", **config}, environ={}).store.core_options()


def test_the_core_gets_only_what_was_set():
    assert options({"store_pipeline": "Cache|Posix"}) == {"storage_backends": ["/x"]}
    assert options({"store_pipeline": "Cache"}) == {}


def test_the_core_gets_each_key_in_its_type():
    found = options(
        {
            "store_pipeline": "Cache|Disk",
            "io_direct": True,
            "capacity_bytes": "2GiB",
            "timeout_ms": 1500,
            "dir_mode": "0750",
            "eviction_policy": "LRU",
            "disk.io_threads": 2,
        }
    )
    assert found == {
        "storage_backends": ["/x"],
        "io_direct": True,
        "capacity_bytes": 2 << 30,
        "timeout_s": 1.5,
        "dir_mode": 0o750,
        "eviction_policy": "lru",
        "disk.io_threads": 2,
    }


def test_nfs_brings_retries_unless_the_configuration_says_otherwise():
    assert options({"store_pipeline": "Cache|NFS"})["retry_count"] == 3
    assert options({"store_pipeline": "Cache|NFS", "retry_count": 0})["retry_count"] == 0
    assert "retry_count" not in options({"store_pipeline": "Cache|Posix"})


def test_keys_of_stages_that_are_not_there_do_not_reach_the_core(caplog):
    assert "io_depth" not in options({"store_pipeline": "Cache|NFS", "io_depth": 4})
    assert "`io_depth` has no effect with `Cache|NFS`: the stage Disk uses it" in caplog.text


def test_the_absent_mark_of_collection_follows_the_given_one():
    found = options({"store_pipeline": "Disk", "eviction_high": 0.5})
    assert found["eviction_low"] == pytest.approx(0.45)
    found = options({"store_pipeline": "Disk", "eviction_low": 0.9})
    assert found["eviction_high"] == pytest.approx(0.95)


def test_ranks_of_a_disk_stage_have_directories_of_their_own():
    store = load_config({"store_pipeline": "Disk", "storage_backends": "/x"}, environ={}).store
    assert store.core_options(rank=3)["storage_backends"] == ["/x/rank-3"]
    store = load_config({"store_pipeline": "Posix", "storage_backends": "/x"}, environ={}).store
    assert store.core_options(rank=3)["storage_backends"] == ["/x"]


def test_each_note_is_logged_once(caplog):
    for _ in range(3):
        load_config({"nfs_rsize": 12345}, environ={})
    assert caplog.text.count("rsize is a mount option") <= 1
