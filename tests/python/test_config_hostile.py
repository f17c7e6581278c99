# SPDX-License-Identifier: Apache-2.0
"""Configurations that mean harm, or come from a broken generator: one short error each."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucm.config import UcmConfig, load_config
from ucm.config.source import read_yaml
from ucm.errors import ConfigError, UcmError

NINES = "9" * 400


def repeated(depth: int, each: str, first: str) -> str:
    """Nine aliases to nine aliases to nine aliases."""
    lines = [f"a0: &a0 {first}"]
    lines += [
        f"a{at}: &a{at} {each.format(', '.join([f'*a{at - 1}'] * 9))}" for at in range(1, depth)
    ]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nfs_config: &a {retry_count: *a}", "1: an alias stands within its own anchor"),
        ("&a\nmonitoring: *a", "an alias stands within its own anchor"),
        ("storage_backends: &a [*a]", "1: an alias stands within its own anchor"),
        ("nfs_config: &a\n  <<: *a", "an alias stands within its own anchor"),
        ("? &a [*a]\n: 3", "an alias stands within its own anchor"),
        (repeated(12, "[{}]", "[x]"), "more than 100000 values"),
        (repeated(12, "{{<<: [{}]}}", "{x: 1}"), "more than 100000 values"),
        ("a: " + "[" * 80 + "]" * 80, "deeper than 64 levels"),
        ("a: " + "[" * 3000 + "]" * 3000, "deeper than 64 levels"),
        ("a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 99)), "deeper"),
        ("nfs_config:\n  <<: 3", "`<<` on line 2: a mapping"),
        ("<<: [3]", "`<<` on line 1: a mapping"),
        (f"buffer_number: {NINES}", "less than 2^63"),
        (f"buffer_number: {NINES * 20}", "can not be read"),
        (f"capacity_bytes: {NINES}G", "less than 2^63"),
        ("capacity_bytes: 99999999999999999T", "less than 2^63"),
        (f"timeout_s: {NINES}", "less than 2^63"),
        (f"tensor_size_list: [{NINES}]", "less than 2^63"),
        (f"quotas: {{a: {NINES}T}}", "bytes such as 20GiB"),
        ("breaker_delay_s: .inf", "a number is expected, not inf"),
        ("lookup_wait_s: -.inf", "a number is expected, not -inf"),
        ("timeout_s: .nan", "a number is expected, not nan"),
        ("capacity_bytes: -5", "0 or more bytes is expected, not -5"),
        ("posix_gc_recycle_percent: .nan", "a share between 0 and 1"),
        ('storage_backends: "/a\\0b"', "without NUL"),
        ('storage_backends: "\\ud800"', "UTF-8 text is expected"),
        ('unique_id: "a\\0"', "without NUL"),
        ("io_direct: !!bool abc", "can not be read: 'abc'"),
        ("timeout_s: !!timestamp xx", "can not be read: 'xx'"),
        ("buffer_number: !!int abc", "can not be read: 'abc'"),
        ("kind: ConfigMap\napiVersion: v1\ndata: 3", "Kubernetes ConfigMap"),
        ("kind: [a]\napiVersion: v1", "not a configuration of ucm"),
        ("ucm_connector_config: 0", "a mapping `key: value` is expected, not 0"),
        ("[a, b]: 3", "quote it"),
        ("2020-01-01: 3", "quote it"),
        ("a: 1\n---\nb: 2", "another document"),
        ("a: \x07", "not valid YAML"),
        (f"store_pipeline: {'Cache|' * 9999}Posix", "stands twice"),
    ],
    ids=range(38),
)
def test_a_hostile_file_is_answered_with_one_short_error(tmp_path, text, expected):
    path = tmp_path / "ucm.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ={})
    assert expected in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize("name", ["buffer_number", "timeout_s", "capacity_bytes", "io_direct"])
def test_a_number_that_python_does_not_write_is_refused_too(name):
    with pytest.raises(ConfigError, match=name):
        load_config({name: 10**5000}, environ={})


def test_a_dict_that_contains_itself_is_refused_where_it_has_no_place():
    endless: dict = {"retry_count": 1}
    endless["timeout_seconds"] = endless
    with pytest.raises(ConfigError, match="timeout_seconds"):
        load_config({"nfs_config": endless}, environ={})


def test_the_key_that_stands_twice_is_noted_with_both_lines(tmp_path):
    path = tmp_path / "ucm.yaml"
    path.write_text("buffer_number: 1\nbuffer_number: 2\n")
    config = load_config(path, environ={})
    assert config.store.buffer_number == 2
    assert f"{path}:2: `buffer_number` stands on line 1 already" in config.notes[0]


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    path = tmp_path / "ucm.yaml"
    path.write_text("\ufeffbuffer_number: 8\n", encoding="utf-8")
    assert load_config(path, environ={}).store.buffer_number == 8


def test_a_folder_is_no_file(tmp_path: Path):
    with pytest.raises(ConfigError, match="Is a directory"):
        load_config(tmp_path, environ={})


TAGS = [f"!!{name} " for name in ("int", "bool", "timestamp", "binary", "map", "set", "omap")]
KEYS = ["nfs_config", "storage_backends", "ucm_connectors", "quotas", "monitoring"]
MARKS = ["&a ", "*a", "<<: ", *"[]{}|'~", ": ", ", ", "\n", "  ", "- ", "? ", "# ", "\t"]
WORDS = [*MARKS, *TAGS, *KEYS, "x", "1", ".inf"]


@given(st.lists(st.sampled_from(WORDS), max_size=24).map("".join))
def test_any_words_of_yaml_are_a_configuration_or_a_configuration_error(text):
    try:
        values = read_yaml(text, "x.yaml").values
        assert isinstance(load_config(values, environ={}), UcmConfig)
    except UcmError as error:
        assert str(error)
