# SPDX-License-Identifier: Apache-2.0
"""`ucm deploy` prints what is packaged."""

from __future__ import annotations

import json

import pytest
import yaml
from cli_runs import ucm, ucm_json

from ucm import deploy as packaged


def test_the_list_names_every_packaged_file():
    text = ucm("deploy", env={"COLUMNS": "200"}).stdout
    assert all(name in text for name in packaged.FILES)
    listed = ucm_json("deploy")[1]
    assert sorted(name for names in listed.values() for name in names) == sorted(packaged.FILES)


def test_the_dashboard_is_printed_as_it_is():
    printed = json.loads(ucm("deploy", "grafana").stdout)
    assert printed == json.loads(packaged.path("grafana/ucm.json").read_text())


@pytest.mark.parametrize("topic", ["k8s", "kubernetes"])
def test_the_manifests_are_one_stream_of_documents(topic):
    kinds = {each["kind"] for each in yaml.safe_load_all(ucm("deploy", topic).stdout) if each}
    assert {"Deployment", "Service", "ConfigMap", "PersistentVolumeClaim"} <= kinds


def test_alerts_are_the_rules_and_nothing_else():
    assert list(yaml.safe_load(ucm("deploy", "alerts").stdout)) == ["groups"]


def test_out_writes_the_files_and_never_over_others(tmp_path):
    out = tmp_path / "manifests"
    assert ucm("deploy", "k8s", "--out", out).exit_code == 0
    names = {name.partition("/")[2] for name in packaged.FILES if name.startswith("kubernetes/")}
    assert {each.name for each in out.iterdir()} == names
    (out / "service.yaml").write_text("mine")
    (out / "configmap.yaml").unlink()
    result = ucm("deploy", "k8s", "--out", out)
    assert result.exit_code == 1
    assert (out / "service.yaml").read_text() == "mine"
    assert not (out / "configmap.yaml").exists()  # all of them, or none


def test_an_unknown_topic_is_answered_with_the_known_ones():
    result = ucm("deploy", "helm")
    assert result.exit_code == 2
    assert "grafana" in result.stderr


def test_a_directory_without_a_topic_is_a_wrong_command_line(tmp_path):
    result = ucm("deploy", "--out", tmp_path / "manifests")
    assert result.exit_code == 2
    assert "needs a TOPIC" in result.stderr
