# SPDX-License-Identifier: Apache-2.0
"""Configurations nobody thought of."""

from __future__ import annotations

import dataclasses

import yaml
from hypothesis import given
from hypothesis import strategies as st

from ucm.config import StoreConfig, UcmConfig, load_config
from ucm.config.fields import keys_of, names_of
from ucm.config.load import load_config as load
from ucm.config.source import read_yaml
from ucm.errors import ConfigError, UcmError

_VALUES = {
    "bool": st.booleans(),
    "int": st.integers(1, 64),
    "float": st.floats(0.02, 0.9),
    "bytes": st.integers(4096, 1 << 40),
    "mode": st.sampled_from(["0700", "0o755", 0o750]),
    "paths": st.lists(st.sampled_from(["/a", "/b/c", "/d"]), min_size=1, unique=True),
    "quotas": st.dictionaries(
        st.sampled_from(["a", "b.1", "C-x_2"]), st.sampled_from(["10%", "20.5%", "1GiB", 1 << 20])
    ),
    "sizes": st.lists(st.integers(0, 9), max_size=4),
}
_TREE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def values_of(name):
    entry = keys_of(StoreConfig)[name]
    if entry.choices:
        return st.sampled_from(entry.choices)
    if entry.kind == "bytes" and entry.maximum is not None:
        return st.integers(int(entry.minimum), int(entry.maximum))
    return _VALUES[entry.kind]


PLAIN = [
    name
    for name, entry in keys_of(StoreConfig).items()
    if entry.kind in _VALUES or (entry.kind == "str" and entry.choices)
]
SETTINGS = st.sets(st.sampled_from(PLAIN)).flatmap(
    lambda names: st.fixed_dictionaries({name: values_of(name) for name in sorted(names)})
)


@given(SETTINGS)
def test_what_is_written_in_yaml_is_what_a_dict_says(settings):
    text = yaml.safe_dump(settings)
    document = read_yaml(text, "x.yaml")
    assert load_config(document.values, environ={}) == load_config(settings, environ={})
    for name in settings:
        assert text.splitlines()[document.origin.lines[(name,)] - 1].startswith(name)


@given(SETTINGS)
def test_the_flat_and_the_long_form_give_the_same_store(settings):
    long = {
        "ucm_connectors": [
            {"ucm_connector_name": "UcmPipelineStore", "ucm_connector_config": settings}
        ]
    }
    assert load_config(long, environ={}).store == load_config(settings, environ={}).store


@given(SETTINGS)
def test_options_of_the_core_are_plain_values(settings):
    config = load_config({"storage_backends": "/x", **settings}, environ={})
    low, high = config.store.eviction_low, config.store.eviction_high
    if low is not None and high is not None and low >= high:
        return
    for name, value in config.store.core_options().items():
        assert isinstance(name, str)
        assert isinstance(value, bool | int | float | str | list)


@given(st.dictionaries(st.text(max_size=12), _TREE, max_size=4))
def test_any_mapping_gives_a_configuration_or_a_configuration_error(values):
    try:
        assert isinstance(load(values, environ={}), UcmConfig)
    except UcmError as error:
        assert str(error)


@given(st.sampled_from(sorted(names_of(StoreConfig))), _TREE)
def test_any_value_of_a_key_is_accepted_or_answered_with_the_key(name, value):
    try:
        load({name: value}, environ={})
    except ConfigError as error:
        assert name in str(error)
    except UcmError:
        assert name == "store_pipeline"


@given(st.text(max_size=60))
def test_any_text_is_read_or_answered_with_an_error(text):
    try:
        document = read_yaml(text, "x.yaml")
    except ConfigError as error:
        assert error.file == "x.yaml"
    else:
        assert isinstance(document.values, dict)


def test_the_model_describes_every_field():
    for cls in (StoreConfig, UcmConfig):
        described = set(keys_of(cls))
        for field in dataclasses.fields(cls):
            assert field.name in described or field.name in (
                "overrides",
                "origin",
                "notes",
                "store",
                "connector_name",
                "connector_module_path",
            )
        for entry in keys_of(cls).values():
            assert entry.doc.endswith(".")
