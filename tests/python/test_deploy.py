# SPDX-License-Identifier: Apache-2.0
"""The files for operation name only what exists."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from ucm import deploy
from ucm.config import load_config
from ucm.metrics.names import series_names

WORD = re.compile(r"\bucm_[a-z_]+\b")


def text(name: str) -> str:
    return deploy.path(name).read_text(encoding="utf-8")


def documents(name: str) -> list[dict]:
    return list(yaml.safe_load_all(text(name)))


@pytest.mark.parametrize("name", deploy.FILES)
def test_every_file_is_shipped_and_not_empty(name):
    assert len(text(name)) > 100


def test_another_file_is_not_known():
    with pytest.raises(FileNotFoundError, match=r"grafana/ucm.json"):
        deploy.path("grafana.json")


def test_the_dashboard_asks_for_metrics_that_exist():
    board = json.loads(text("grafana/ucm.json"))
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked = {word for query in queries for word in WORD.findall(query)}
    assert asked <= series_names()
    assert len({name.split("_bucket")[0].split("_sum")[0] for name in asked}) >= 10
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
    assert len(set(places)) == len(places)
    assert all(query.count("(") == query.count(")") for query in queries)
    assert all(query.count("{") == query.count("}") for query in queries)


def test_alerts_ask_for_metrics_that_exist_and_say_what_to_do():
    (group,) = documents("prometheus/alerts.yaml")[0]["groups"]
    for rule in group["rules"]:
        asked = set(WORD.findall(rule["expr"]))
        assert asked and asked <= series_names()
        assert rule["annotations"]["summary"] and rule["annotations"]["description"].endswith(".")
        assert rule["expr"].count("(") == rule["expr"].count(")")


def test_the_scrape_job_reads_the_alerts():
    (config,) = documents("prometheus/prometheus.yml")
    assert config["rule_files"] == ["alerts.yaml"]


def test_the_config_map_is_a_configuration_of_the_deployment():
    config = load_config(deploy.path("kubernetes/configmap.yaml"), environ={})
    (deployment,) = documents("kubernetes/deployment.yaml")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert config.store.storage_backends == (mounts["cache-storage"],)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert config.metrics_port == ports["metrics"]
    assert config.notes == ()


def test_the_deployment_mounts_what_is_declared_and_the_services_reach_it():
    (deployment,) = documents("kubernetes/deployment.yaml")
    pod = deployment["spec"]["template"]
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
    container = pod["spec"]["containers"][0]
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    names = {port["name"] for port in container["ports"]}
    for service in documents("kubernetes/service.yaml"):
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
    (claim,) = documents("kubernetes/pvc.yaml")
    assert claim["metadata"]["name"] == "ucm-cache-pvc"


def test_every_rank_of_the_deployment_has_a_port_for_its_metrics():
    (deployment,) = documents("kubernetes/deployment.yaml")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    (option,) = [each for each in container["args"] if "tensor-parallel-size" in each]
    first = load_config(deploy.path("kubernetes/configmap.yaml"), environ={}).metrics_port
    wanted = {first + rank for rank in range(int(option.partition("=")[2]))}
    ports = {port["containerPort"] for port in container["ports"] if "metrics" in port["name"]}
    (service,) = [each for each in documents("kubernetes/service.yaml") if "metrics" in str(each)]
    assert ports == wanted == {port["port"] for port in service["spec"]["ports"]}


def test_the_deployment_starts_the_connector_with_the_mounted_file():
    (deployment,) = documents("kubernetes/deployment.yaml")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    (option,) = [each for each in container["args"] if each.startswith("--kv-transfer-config=")]
    transfer = json.loads(option.partition("=")[2])
    assert transfer["kv_connector"] == "UCMConnector"
    file = transfer["kv_connector_extra_config"]["UCM_CONFIG_FILE"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    (config_map,) = documents("kubernetes/configmap.yaml")
    directory, _, name = file.rpartition("/")
    assert directory == mounts["config"] and name in config_map["data"]


def test_the_proxy_streams_and_keeps_its_connections():
    conf = text("nginx/ucm.conf")
    for line in (
        "least_conn;",
        "keepalive 64;",
        "proxy_buffering off;",
        "proxy_read_timeout 3600s;",
    ):
        assert line in conf
    assert conf.count("{") == conf.count("}")
    for line in conf.splitlines():
        words = line.strip()
        assert not words or words.startswith("#") or words[-1] in "{};"
