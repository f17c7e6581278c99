# SPDX-License-Identifier: Apache-2.0
"""What a wrong configuration is answered with: file, line, key, nearest key, and what to do."""

from __future__ import annotations

import pytest

from ucm.config import load_config
from ucm.errors import ConfigError, Unsupported


def write(tmp_path, text):
    path = tmp_path / "ucm.yaml"
    path.write_text(text)
    return path


def failure(tmp_path, text) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text), environ={})
    return caught.value


CONNECTOR = """
ucm_connectors:
  - ucm_connector_name: UcmPipelineStore
    ucm_connector_config:
      store_pipeline: "Cache|Posix"
"""


def test_an_unknown_key_names_its_file_its_line_and_the_nearest_key(tmp_path):
    error = failure(tmp_path, CONNECTOR + "      storage_backend: /data\n")
    assert (error.line, error.nearest) == (6, "storage_backends")
    assert error.file == str(tmp_path / "ucm.yaml")
    assert error.key == "ucm_connectors.0.ucm_connector_config.storage_backend"
    assert "did you mean `storage_backends`?" in str(error)
    assert str(error).startswith(f"{error.file}:6: ")


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("bufer_number: 1\n", "buffer_number"),
        ("use_layer_wise: true\n", "use_layerwise"),
        ("monitoring:\n  promethius: {port: 1}\n", "prometheus"),
        ("monitoring:\n  prometheus: {prot: 1}\n", "port"),
        ("nfs_config: {retries_count: 1}\n", "retry_count"),
        ("ucm_connector: []\n", "ucm_connectors"),
        ("disk.io_deph: 4\n", "io_depth"),
        ("ucm_sparse_config: {ESA: {sparse_ration: 0.3}}\n", "sparse_ratio"),
        ("ucm_sparse_config: {ESAA: {}}\n", "ESA"),
    ],
)
def test_a_misspelt_key_at_any_place_is_answered_with_the_right_one(tmp_path, text, nearest):
    error = failure(tmp_path, text)
    assert nearest in str(error)
    assert error.line == text.count("\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("buffer_number: many\n", "a whole number is expected, not 'many'"),
        ("buffer_number: true\n", "a whole number is expected, not True"),
        ("buffer_number: 0\n", "1 or more slots is expected, not 0"),
        ("io_direct: 'yes'\n", "true or false is expected, not 'yes'"),
        ("timeout_s: -1\n", "is expected, not -1"),
        ("max_pinned_size: 4 GiX\n", "bytes are expected, as a number or as 4GiB"),
        ("eviction_policy: fifo\n", "one of auto, lru, arc, lru2, s3fifo is expected, not 'fifo'"),
        ("path_strategy: tiered\n", "one of hash, round_robin is expected, not 'tiered'"),
        ("dir_mode: 0999\n", "permissions such as"),
        ("storage_backends: 5\n", "a directory or a list of directories is expected, not 5"),
        ("storage_backends: [/a, /a]\n", "a directory stands twice"),
        ("storage_backends: ['']\n", "a directory is expected, not ''"),
        ("store_pipeline: ''\n", "a text is expected"),
        ("nfs_config: 3\n", "a mapping `key: value` is expected, not 3"),
        ("ucm_sparse_config: {ESA: {min_blocks: 0.5}}\n", "int is expected, not 0.5"),
        ("ucm_sparse_config: {GSA: {sparse_ratio: 3}}\n", "a share in (0, 1] is expected"),
        ("ucm_sparse_method: XSA\n", "is expected, not 'XSA'"),
        ("monitoring: {prometheus: {port: 99999}}\n", "1 to 65535 is expected, not 99999"),
        ("logging: {level: LOUD}\n", "is expected, not 'LOUD'"),
    ],
)
def test_a_value_that_does_not_fit_says_what_is_expected(tmp_path, text, expected):
    error = failure(tmp_path, text)
    assert expected in str(error)
    assert error.line == 1


@pytest.mark.parametrize(
    "source",
    [
        {8000: 1},
        {None: 1},
        {("a", 1): 1},
        {"monitoring": {1: 2}},
        {"ucm_connector_config": {1: 2}},
        {"ucm_connectors": [{1: 2}]},
        {"ucm_sparse_config": {1: {}}},
        {"platform": {1: 2}},
    ],
)
def test_a_key_of_a_dict_that_is_no_text_is_refused(source):
    with pytest.raises(ConfigError, match=r"8000|None|\b1\b"):
        load_config(source, environ={})


def test_a_tiered_strategy_and_other_values_keep_their_line_inside_lists(tmp_path):
    error = failure(tmp_path, CONNECTOR + "      io_threads: 0\n")
    assert error.line == 6


def test_two_names_of_one_key_that_differ_are_refused(tmp_path):
    error = failure(tmp_path, "io_direct: true\nuse_direct_io: false\n")
    assert "two names of one key" in str(error) and error.line == 2


def test_two_names_of_one_key_that_agree_are_fine(tmp_path):
    config = load_config(write(tmp_path, "io_direct: true\nuse_direct_io: true\n"), environ={})
    assert config.store.io_direct is True


def test_a_top_level_key_inside_a_store_is_sent_to_the_top(tmp_path):
    error = failure(tmp_path, CONNECTOR + "      use_layerwise: true\n")
    assert "belongs to the top level" in str(error) and error.line == 6


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ucm_connectors: {}\n", "a list with one connector is expected"),
        ("ucm_connectors: []\n", "a list with one connector is expected, not 0"),
        ("ucm_connectors: [{ucm_connector_name: A}]\n", "ucm_connector_config is missing"),
        ("ucm_connectors: [{ucm_connector_config: {}}]\n", "ucm_connector_name is missing"),
        ("ucm_connectors: [3]\n", "is expected, not 3"),
        ("ucm_connectors: [{ucm_conector_name: A}]\n", "did you mean `ucm_connector_name`?"),
    ],
)
def test_a_connector_list_that_is_wrong_says_how_it_looks(tmp_path, text, expected):
    assert expected in str(failure(tmp_path, text))


def test_two_connectors_are_refused_and_a_longer_pipeline_is_proposed(tmp_path):
    entry = "{ucm_connector_name: A, ucm_connector_config: {}}"
    error = failure(tmp_path, f"ucm_connectors: [{entry}, {entry}]\n")
    assert "longer `store_pipeline`" in str(error)


@pytest.mark.parametrize(
    ("text", "line"), [("a: b: c\n", 1), ("x: 1\ny: [1\n", 3), ("- 1\n", 1), ("\tx: 1\n", 1)]
)
def test_text_that_is_no_mapping_in_yaml_names_the_line(tmp_path, text, line):
    assert failure(tmp_path, text).line == line


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(ConfigError, match="can not be read: No such file") as caught:
        load_config(tmp_path / "absent.yaml", environ={})
    assert caught.value.file == str(tmp_path / "absent.yaml")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="no UTF-8"):
        load_config(path, environ={})


def test_a_number_instead_of_a_path_is_refused():
    with pytest.raises(ConfigError, match="a path or a dict is expected, not int"):
        load_config(5, environ={})


@pytest.mark.parametrize(
    "pipeline", ["Cache|Mooncake", "Cache|Redis", "S3", "Cache|Disk|S3", "Cache|Compress|Posix"]
)
def test_a_stage_that_is_not_in_this_version_names_what_to_use(tmp_path, pipeline):
    path = write(tmp_path, f"\nstore_pipeline: {pipeline}\n")
    with pytest.raises(Unsupported, match=r"Cache\|NFS|Cache\|Posix") as caught:
        load_config(path, environ={})
    assert f"{path}:2: " in str(caught.value)


@pytest.mark.parametrize(
    ("pipeline", "expected"),
    [
        ("Cache|Posixx", "did you mean Posix"),
        ("Cache||Posix", "a stage is empty"),
        ("Posix|Cache", "comes first"),
        ("Cache|Posix|NFS", "stands twice"),
        ("Tape", "Known stages: Cache, Posix, Disk, NFS"),
    ],
)
def test_a_pipeline_that_can_not_be_says_why(pipeline, expected):
    with pytest.raises(ConfigError, match=expected.replace("|", "\\|")):
        load_config({"store_pipeline": pipeline}, environ={})


def test_collection_marks_in_the_wrong_order_are_refused():
    config = load_config(
        {
            "store_pipeline": "Disk",
            "storage_backends": "/x",
            "eviction_high": 0.5,
            "eviction_low": 0.6,
        },
        environ={},
    )
    with pytest.raises(ConfigError, match="collection starts at high"):
        config.store.core_options()


def test_a_missing_directory_of_a_disk_stage_is_named():
    with pytest.raises(ConfigError, match="`storage_backends` is missing"):
        load_config({"store_pipeline": "Cache|Disk"}, environ={}).store.core_options()


def test_an_address_of_a_bucket_is_unsupported():
    config = load_config({"storage_backends": "s3://bucket/x"}, environ={})
    with pytest.raises(Unsupported, match="s3://"):
        config.store.core_options()
