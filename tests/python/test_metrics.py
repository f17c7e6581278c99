# SPDX-License-Identifier: Apache-2.0
"""Metrics of stores, the monitor, and the endpoint."""

from __future__ import annotations

import urllib.request

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ucm.config import load_config
from ucm.errors import ConfigError
from ucm.metrics import monitor, prometheus
from ucm.metrics.names import BY_NAME, METRICS, RELEASED, series_names
from ucm.metrics.settings import read_metrics_file
from ucm.shared.metrics.ucmmonitor import StatsMonitor
from ucm.store.factory import open_store

SIZE = 4096


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Sums start at zero for each test."""
    monkeypatch.setattr(monitor, "_past", {})
    monkeypatch.setattr(StatsMonitor, "_instance", None)
    for store in list(monitor._stores):
        monitor._stores.discard(store)


def work(store, blocks=4):
    ids = [bytes([n]) * 16 for n in range(blocks)]
    data = [np.full(SIZE, n, np.uint8) for n in range(blocks)]
    store.lookup(ids)
    store.wait(store.dump(ids, 0, data))
    store.lookup(ids)
    store.wait(store.load(ids, 0, data))


@pytest.mark.parametrize(
    "pipeline", ["Cache|Posix", "Cache|Disk", "Cache", "Posix", "Fake", "Empty"]
)
def test_every_metric_of_the_core_is_described(make_store, pipeline):
    store = make_store(pipeline)
    ids, data = [b"a" * 16], np.zeros(SIZE, np.uint8)
    store.lookup(ids)
    store.wait(store.dump(ids, 0, data))
    samples = store.metrics()
    assert samples
    for name, kind, labels, value in samples:
        assert BY_NAME[name].kind == kind
        assert tuple(sorted(labels)) == tuple(sorted(BY_NAME[name].labels))
        if kind == "histogram":
            bounds, counts, total = value
            assert len(counts) == len(bounds) + 1 and list(bounds) == sorted(bounds) and total >= 0


def test_figures_of_a_store_count_what_its_callers_saw(make_store):
    store = make_store()
    work(store)
    stats = store.stats()
    assert (stats["lookup_count"], stats["lookup_hits"], stats["hit_rate"]) == (8, 4, 0.5)
    assert stats["save_bytes"] == stats["load_bytes"] == 4 * SIZE
    assert stats["load_speed"] > 0 and stats["save_speed"] > 0
    assert stats['ucm_blocks{stage="Posix"}'] == 4


def test_the_monitor_adds_up_stores_and_keeps_those_that_closed(make_store, tmp_path):
    first = make_store("Cache")
    work(first)
    second = make_store("Cache|Posix")
    work(second)
    first.close()
    stats = StatsMonitor.get_instance().get_stats()
    assert (stats["lookup_count"], stats["lookup_hits"]) == (16, 8)
    assert stats["load_bytes"] == 8 * SIZE
    second.close()
    again = StatsMonitor.get_instance().get_stats()
    assert again["load_bytes"] == 8 * SIZE and again["hit_rate"] == 0.5
    assert StatsMonitor.get_instance() is StatsMonitor.get_instance()


def test_counters_never_go_back_when_sizes_settle(make_store):
    store = make_store()
    store.lookup([b"a"] * 10)
    before = {name: value for name, kind, labels, value in monitor.collect() if kind == "counter"}
    store.wait(store.dump([b"a"], 0, np.zeros(8)))
    after: dict[str, float] = {}
    for name, kind, _, value in monitor.collect():
        if kind == "counter":
            after[name] = after.get(name, 0) + value
    assert all(after[name] >= value for name, value in before.items())


def test_an_idle_monitor_answers_zeros():
    stats = StatsMonitor.get_instance().get_stats()
    assert (stats["hit_rate"], stats["load_speed"], stats["save_speed"]) == (0, 0, 0)


def test_the_monitor_takes_records_from_outside():
    instance = StatsMonitor.get_instance()
    instance.record_lookup(10, 4)
    instance.record_load(2, 1000, 0.5)
    instance.record_save(3, 3000, 1.5)
    instance.record_save(1, 1000, 0.5)
    stats = instance.get_stats()
    assert stats["hit_rate"] == pytest.approx(0.4)
    assert (stats["load_speed"], stats["save_speed"]) == (2000, 2000)
    assert (stats["load_blocks"], stats["save_blocks"]) == (2, 4)


def scrape(text: str) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels.get("stage", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "direction" not in sample.labels or sample.labels["direction"] == "load"
    }


def test_the_endpoint_serves_what_the_stores_count(make_store):
    work(make_store())
    endpoint = prometheus.serve(0, "127.0.0.1", {"model_name": "m"})
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{endpoint.port}/metrics") as answer:
            text = answer.read().decode()
    finally:
        endpoint.close()
    values = scrape(text)
    assert values["ucm_lookup_blocks_total", "store"] == 8
    assert values["ucm_lookup_hit_blocks_total", "store"] == 4
    assert values["ucm_blocks", "Posix"] == 4
    assert 'model_name="m"' in text
    assert {name for name, _ in values} <= series_names()


def test_histograms_are_cumulative_and_end_with_infinity():
    samples = [
        (
            "ucm_transfer_seconds",
            "histogram",
            {"stage": "Cache", "direction": "load"},
            ([0.1, 1.0], [3, 2, 1], 4.5),
        )
    ]
    registry = CollectorRegistry()
    registry.register(prometheus.StoreCollector(source=lambda: samples))
    text = generate_latest(registry).decode()
    found = {
        sample.labels.get("le"): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "ucm_transfer_seconds_bucket"
    }
    assert found == {"0.1": 3, "1.0": 5, "+Inf": 6}
    assert "ucm_transfer_seconds_sum" in text and "# HELP ucm_transfer_seconds " in text


def test_an_existing_registry_takes_the_metrics_with_another_prefix(make_store):
    work(make_store())
    registry = CollectorRegistry()
    prometheus.register(registry, prefix="ucm:")
    assert b'ucm:lookup_blocks_total{stage="store"} 8.0' in generate_latest(registry)


def test_a_port_that_is_taken_is_named_and_does_not_stop_the_engine(caplog):
    endpoint = prometheus.serve(0, "127.0.0.1")
    try:
        with pytest.raises(
            ConfigError, match=f"127.0.0.1:{endpoint.port}.*monitoring.prometheus.port"
        ):
            prometheus.serve(endpoint.port, "127.0.0.1")
        section = {"prometheus": {"port": endpoint.port, "address": "127.0.0.1"}}
        assert prometheus.start(load_config({"monitoring": section}, environ={})) is None
        assert "no metrics endpoint" in caplog.text
    finally:
        endpoint.close()


def test_a_port_beyond_the_last_one_does_not_stop_the_engine(caplog):
    config = load_config({"metrics": {"prometheus_port": 65535}}, environ={})
    assert prometheus.start(config, port_offset=1) is None
    assert "65536" in caplog.text


def test_several_stores_of_one_process_share_an_endpoint(tmp_path):
    free = prometheus.serve(0, "127.0.0.1")
    free.close()
    section = {"prometheus": {"port": free.port, "address": "127.0.0.1"}}
    config = {"store_pipeline": "Cache", "prefault": False, "monitoring": section}
    with open_store(config), open_store(config):
        endpoint = prometheus.start(load_config(config, environ={}))
        with urllib.request.urlopen(f"http://127.0.0.1:{free.port}/metrics") as answer:
            assert b"ucm_lookup_blocks_total" in answer.read()
    endpoint.close()


def test_workers_of_one_node_take_ports_behind_each_other():
    free = prometheus.serve(0, "127.0.0.1")
    free.close()
    section = {"prometheus": {"port": free.port - 3, "address": "127.0.0.1"}}
    config = load_config({"monitoring": section}, environ={})
    endpoint = prometheus.start(config, {"worker_id": "3"}, port_offset=3)
    assert endpoint is not None
    assert endpoint.port == free.port
    endpoint.close()


def test_no_endpoint_is_opened_unless_it_is_asked_for():
    assert prometheus.start(load_config({}, environ={})) is None
    off = {"monitoring": {"prometheus": {"port": 9090}}, "enable_metrics": False}
    assert prometheus.start(load_config(off, environ={})) is None


RELEASED_FILE = """
log_interval: 5
multiproc_dir: "/vllm-workspace"
metric_prefix: "ucm:"
histogram_max_length: 10000
counter: []
gauge:
  - {name: "lookup_blocks_total", documentation: "x", multiprocess_mode: "all"}
histogram:
  - {name: "load_speed", documentation: "GB/s", buckets: [0, 1]}
  - {name: "ucm:interval_lookup_hit_rates", documentation: "x", buckets: [0, 1]}
"""
DOCUMENTED_FILE = """
metrics:
  enabled: true
  prometheus: {enabled: true, port: 0x2382, path: /metrics}
  labels: {cluster: a}
  collection_interval: 10
  histogram_buckets: [1, 2]
"""


def test_the_metrics_file_of_released_ucm_is_read_and_its_names_are_answered(tmp_path, caplog):
    path = tmp_path / "metrics.yaml"
    path.write_text(RELEASED_FILE)
    assert read_metrics_file(str(path)).metric_prefix == "ucm:"
    assert f"metric 'load_speed' is {RELEASED['load_speed']}" in caplog.text
    assert f"{path}:2: `log_interval`" in caplog.text


def test_the_documented_metrics_file_opens_an_endpoint(tmp_path):
    path = tmp_path / "metrics.yaml"
    path.write_text(DOCUMENTED_FILE)
    file = read_metrics_file(str(path))
    assert (file.prometheus.port, file.labels) == (9090, {"cluster": "a"})
    path.write_text("metrics: {enabled: false}\nprometheus: {enabled: true}\n")
    config = load_config({"metrics_config_path": str(path)}, environ={})
    assert prometheus.start(config) is None


def test_a_metrics_file_that_is_absent_is_a_warning(caplog):
    assert read_metrics_file("/no/such/metrics.yaml").enabled is True
    assert "does not exist" in caplog.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("metric_prefx: x\n", "did you mean `metric_prefix`"),
        ("counter: 3\n", "a list of metrics"),
        ("gauge: [{nam: x}]\n", "lacks its `name`"),
        ("metrics: 3\n", "a mapping is expected"),
        ("labels: {stage: x}\n", "label 'stage': the metrics have one of that name"),
        ("labels: {le: x}\n", "label 'le': the metrics have one of that name"),
        ("labels: {a b: x}\n", "label 'a b': letters, digits"),
        ("labels: {__a: x}\n", "label '__a': letters, digits"),
        ("metrics: {labels: {9: x}}\n", "the key 9 is no text"),
        ("metric_prefix: 9 bad\n", "not '9 bad'"),
    ],
)
def test_a_metrics_file_that_is_wrong_names_the_line(tmp_path, text, expected):
    path = tmp_path / "metrics.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=expected) as caught:
        read_metrics_file(str(path))
    assert caught.value.line == 1


def test_a_metrics_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "metrics.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="no UTF-8 text"):
        read_metrics_file(str(path))


def test_names_are_well_formed():
    for metric in METRICS:
        assert metric.name.startswith("ucm_") and metric.help.endswith(".")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        if metric.unit in ("bytes", "seconds") and metric.kind != "counter":
            assert metric.name.endswith("_" + metric.unit)
