# SPDX-License-Identifier: Apache-2.0
"""Both factories, in every documented form."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import yaml
from small_stores import settings

from ucm.errors import ConfigError, InvalidArgument, Unsupported
from ucm.store.factory import UcmConnectorFactory, open_store
from ucm.store.factory_v1 import UcmConnectorFactoryV1
from ucm.store.pipeline.connector import UcmPipelineStore, UcmPipelineStoreBuilder
from ucm.store.store import Store
from ucm.store.ucmstore import UcmKVStoreBase
from ucm.store.ucmstore_v1 import UcmKVStoreBaseV1


@pytest.fixture
def config(tmp_path):
    return settings("Cache|Posix", tmp_path)


def works(store) -> bool:
    store.wait(store.dump([b"a"], 0, np.arange(10)))
    answer = store.lookup([b"a", b"b"]) == [True, False]
    store.close()
    return answer


@pytest.fixture
def other_package(monkeypatch):
    module = types.ModuleType("other_package")

    class Other:
        def __init__(self, config):
            self.config = config

    module.Other = Other
    monkeypatch.setitem(sys.modules, "other_package", module)
    monkeypatch.setattr(UcmConnectorFactory._registry, "_classes", {})
    monkeypatch.setattr(UcmConnectorFactoryV1._registry, "_classes", {})
    return Other


def test_the_documented_form_takes_a_config_and_a_rank(config):
    store = UcmConnectorFactory.create_connector(config, local_rank=0)
    assert isinstance(store, Store) and isinstance(store, UcmKVStoreBase)
    assert works(store)


def test_the_older_form_takes_a_name_and_a_config(config):
    assert works(UcmConnectorFactory.create_connector("UcmPipelineStore", config))
    assert works(
        UcmConnectorFactory.create_connector(connector_name="UcmPipelineStore", config=config)
    )


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("UcmPosixStore", "Posix"),
        ("UcmNfsStore", "Cache|Posix"),
        ("UcmDs3fsStore", "Cache|Posix"),
        ("UcmPcStore", "Cache|Posix"),
        ("UcmDiskStore", "Disk"),
        ("UcmCacheStore", "Cache"),
        ("UcmDramStore", "Cache"),
    ],
)
def test_documented_names_stand_for_pipelines(tmp_path, name, spec):
    config = settings("Disk" if spec == "Disk" else "Cache|Posix", tmp_path)
    del config["store_pipeline"]
    store = UcmConnectorFactory.create_connector(name, config)
    assert store.config.spec == spec
    assert works(store)


@pytest.mark.parametrize("written", ["dict", "file"])
def test_a_name_inside_the_configuration_stands_for_its_pipeline_too(tmp_path, written):
    config = settings("Disk", tmp_path)
    del config["store_pipeline"]
    source = {
        "ucm_connectors": [{"ucm_connector_name": "UcmDiskStore", "ucm_connector_config": config}]
    }
    if written == "file":
        (tmp_path / "ucm.yaml").write_text(yaml.safe_dump(source))
        source = str(tmp_path / "ucm.yaml")
    for arguments in ((source,), ("UcmPipelineStore", source), ("UcmDiskStore", source)):
        store = UcmConnectorFactory.create_connector(*arguments)
        assert store.config.spec == ("Cache|Posix" if "UcmPipelineStore" in arguments else "Disk")
        assert works(store)


def test_a_file_and_the_long_form_open_the_same_store(tmp_path, config):
    long = {
        "ucm_connectors": [
            {"ucm_connector_name": "UcmPipelineStore", "ucm_connector_config": config}
        ]
    }
    path = tmp_path / "ucm.yaml"
    path.write_text(yaml.safe_dump(long))
    for source in (long, str(path), path, {"UCM_CONFIG_FILE": str(path)}):
        with UcmConnectorFactory.create_connector(source) as store:
            assert store.config.storage_backends == (config["storage_backends"],)


def test_open_store_takes_a_typed_configuration(config):
    from ucm import load_config

    with open_store(load_config(config)) as store, open_store(load_config(config).store) as other:
        assert store.config == other.config


def test_ranks_beyond_zero_of_a_disk_stage_do_not_share_a_writer(tmp_path):
    config = settings("Cache|Disk", tmp_path)
    stores = [UcmConnectorFactory.create_connector(config, local_rank=rank) for rank in (0, 1, 2)]
    for store in stores:
        store.wait(store.dump([b"a"], 0, np.arange(10)))
    for store in stores:
        store.close()
    assert {path.name for path in (tmp_path / "blocks").iterdir()} >= {"rank-1", "rank-2"}


def test_an_unknown_name_is_a_value_error_with_the_nearest_name(config):
    with pytest.raises(ValueError, match="did you mean UcmPipelineStore"):
        UcmConnectorFactory.create_connector("UcmPiplineStore", config)
    with pytest.raises(ValueError, match="register_connector"):
        UcmConnectorFactoryV1.create_connector("Nothing", config)


@pytest.mark.parametrize("factory", [UcmConnectorFactory, UcmConnectorFactoryV1])
def test_mooncake_is_refused_with_what_to_use(factory, config):
    with pytest.raises(Unsupported, match="Cache\\|NFS"):
        factory.create_connector("UcmMooncakeStore", config)


@pytest.mark.parametrize("factory", [UcmConnectorFactory, UcmConnectorFactoryV1])
def test_a_registered_class_of_another_package_is_used(factory, config, other_package):
    factory.register_connector("Other", "other_package", "Other")
    assert isinstance(factory.create_connector("Other", config), other_package)


def test_a_configuration_may_name_the_module_of_its_store(other_package, tmp_path):
    entry = {
        "ucm_connector_name": "Other",
        "ucm_connector_module_path": "other_package",
        "ucm_connector_config": {"store_pipeline": "Cache"},
    }
    assert isinstance(
        UcmConnectorFactory.create_connector({"ucm_connectors": [entry]}), other_package
    )
    path = tmp_path / "ucm.yaml"
    path.write_text(yaml.safe_dump({"ucm_connectors": [entry]}))
    store = UcmConnectorFactory.create_connector(str(path))
    assert isinstance(store, other_package) and store.config == str(path)
    store = UcmConnectorFactoryV1.create_connector("Other", {}, "other_package")
    assert isinstance(store, other_package)


def test_a_module_or_class_that_is_absent_is_named():
    UcmConnectorFactory._registry.register("Gone", "no.such.module", "X")
    with pytest.raises(ConfigError, match=r"'no.such.module' can not be imported"):
        UcmConnectorFactory.create_connector("Gone", {"store_pipeline": "Cache"})
    with pytest.raises(ConfigError, match="has no class 'Absent'"):
        UcmConnectorFactoryV1.create_connector("Absent", {}, "json")
    with pytest.raises(InvalidArgument, match="a text is expected"):
        UcmConnectorFactory.register_connector("X", "", "Y")


def test_calls_without_a_configuration_are_answered():
    for arguments in ((), ("UcmPipelineStore",)):
        with pytest.raises(InvalidArgument, match="config"):
            UcmConnectorFactory.create_connector(*arguments)
    with pytest.raises(InvalidArgument, match="local_rank is a whole number"):
        UcmConnectorFactory.create_connector({"store_pipeline": "Cache"}, -1)


@pytest.mark.parametrize("name", ["UcmPipelineStore", "UcmNfsStore"])
def test_the_released_factory_answers_a_configuration_that_is_no_dict(name):
    for config in (None, [], "ucm.yaml"):
        with pytest.raises(ConfigError, match="a dict is expected, not"):
            UcmConnectorFactoryV1.create_connector(name, config)
    with pytest.raises(ConfigError, match="unknown store None"):
        UcmConnectorFactoryV1.create_connector(None, {})


def test_the_released_factory_takes_the_module_of_its_store(tmp_path):
    config = settings("Cache|Posix", tmp_path, device_id=0, shard_size=80, block_size=80)
    store = UcmConnectorFactoryV1.create_connector(
        "UcmPipelineStore", config, "ucm.store.pipeline.connector"
    )
    assert isinstance(store, UcmPipelineStore) and isinstance(store, UcmKVStoreBaseV1)
    store.wait(store.dump([b"a" * 16], [0], [[np.arange(10)]]))
    assert store.lookup([b"a" * 16]) == [True]
    store.close()


def test_the_released_builder_makes_stores_and_needs_no_registration(tmp_path):
    config = settings("Cache|Posix", tmp_path)
    with UcmPipelineStoreBuilder.get("Posix")(config) as store:
        assert store.store.config.spec == "Posix"
    with pytest.raises(Unsupported, match="store_pipeline"):
        UcmPipelineStoreBuilder.register("Mine", lambda: None)
