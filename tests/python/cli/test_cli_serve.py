# SPDX-License-Identifier: Apache-2.0
"""`ucm serve`: the command it becomes."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from cli_runs import ucm, ucm_json

CONFIG = "store_pipeline: Cache|Posix\nstorage_backends: {root}\n"
SERVE = "from ucm.cli.main import main; main()"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "ucm.yaml"
    file.write_text(CONFIG.format(root=tmp_path / "blocks"))
    return file


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """A package named vllm that prints its arguments; nothing of it is imported before exec."""
    package = tmp_path / "engine" / "vllm"
    (package / "entrypoints" / "cli").mkdir(parents=True)
    (package / "config").mkdir()
    for folder in (package, package / "entrypoints", package / "entrypoints" / "cli"):
        (folder / "__init__.py").write_text("")
    (package / "config" / "kv_transfer.py").write_text("kv_load_failure_policy = 'fail'\n")
    (package / "entrypoints" / "cli" / "main.py").write_text(
        "import json, os, sys\n"
        "def main():\n"
        "    print(json.dumps({'argv': sys.argv[1:], 'pid': os.getpid()}))\n"
        "if __name__ == '__main__':\n"
        "    main()\n"
    )
    return package


def serve(engine: Path | None, *words: object) -> subprocess.CompletedProcess[str]:
    path = str(engine.parent) if engine else ""
    return subprocess.run(
        [sys.executable, "-c", SERVE, "serve", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "80"},
    )


def transfer_of(words: list[str]) -> dict:
    return json.loads(words[words.index("--kv-transfer-config") + 1])


def test_dry_run_prints_a_command_that_a_shell_takes(config):
    result = ucm("serve", "org/model", "--ucm-config", config, "--port", 8001, "--dry-run")
    assert result.exit_code == 0
    words = shlex.split(result.stdout)
    assert words[:3] == ["vllm", "serve", "org/model"]
    assert words[3:5] == ["--port", "8001"]
    assert transfer_of(words) == {
        "kv_connector": "UCMConnector",
        "kv_connector_module_path": "ucm.integration.vllm.ucm_connector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {"UCM_CONFIG_FILE": str(config)},
        "kv_load_failure_policy": "recompute",
    }


def test_the_path_of_the_configuration_becomes_absolute(config, monkeypatch):
    monkeypatch.chdir(config.parent)
    words = shlex.split(ucm("serve", "m", "--ucm-config", "ucm.yaml", "--dry-run").stdout)
    assert transfer_of(words)["kv_connector_extra_config"] == {"UCM_CONFIG_FILE": str(config)}


@pytest.mark.parametrize("role", ["kv_both", "kv_producer", "kv_consumer"])
def test_the_role_is_handed_on(config, role):
    words = ["serve", "m", "--ucm-config", config, "--kv-role", role, "--dry-run"]
    assert ucm_json(*words)[1]["kv_transfer_config"]["kv_role"] == role


def test_a_role_that_vllm_does_not_know_is_a_wrong_command_line(config):
    result = ucm("serve", "m", "--ucm-config", config, "--kv-role", "sink", "--dry-run")
    assert result.exit_code == 2
    assert "kv_producer" in result.stderr


def test_every_flag_reaches_vllm_in_its_order(config):
    flags = ["-tp", "4", "-dph", "--enforce-eager", "--max-model-len=8192", "--json-like", "x y"]
    words = ucm_json("serve", "m", *flags, "--ucm-config", config, "--dry-run")[1]["command"]
    at = words.index("m")
    assert words[at + 1 : at + 1 + len(flags)] == flags


def test_the_policy_of_the_configuration_is_handed_on(config):
    config.write_text(config.read_text() + "load_failure_policy: fail\n")
    report = ucm_json("serve", "m", "--ucm-config", config, "--dry-run")[1]
    assert report["kv_transfer_config"]["kv_load_failure_policy"] == "fail"


def test_a_block_size_of_the_configuration_is_given_to_vllm_once(config):
    config.write_text(config.read_text() + "block_size: 32\n")
    words = shlex.split(ucm("serve", "m", "--ucm-config", config, "--dry-run").stdout)
    assert words[words.index("--block-size") + 1] == "32"
    again = ucm("serve", "m", "--ucm-config", config, "--block-size", "32", "--dry-run").stdout
    assert again.count("--block-size") == 1


@pytest.mark.parametrize("flag", [["--block-size", "16"], ["--block-size=16"]], ids=" ".join)
def test_another_block_size_than_the_configuration_s_is_refused(config, flag):
    config.write_text(config.read_text() + "block_size: 32\n")
    result = ucm("serve", "m", *flag, "--ucm-config", config, "--dry-run")
    assert result.exit_code == 2
    assert "16" in result.stderr and "32" in result.stderr


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--port", "1", "m"], "MODEL comes before"),
        (["m", "--kv-transfer-config", "{}"], "--kv-transfer-config is made from"),
        (["m", "--kv-transfer-config={}"], "--kv-transfer-config is made from"),
    ],
)
def test_a_command_line_that_can_not_be_meant_is_refused(config, words, text):
    result = ucm("serve", *words, "--ucm-config", config, "--dry-run")
    assert result.exit_code == 2
    assert text in result.stderr


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("store_pipelin: Cache\n", "store_pipeline"),
        ("store_pipeline: Cache|Posix\n", "storage_backends"),
        ("store_pipeline: [\n", "not valid YAML"),
        ("store_pipeline: Cache|Redis\nstorage_backends: /x\n", "no remote stage"),
    ],
)
def test_a_configuration_that_can_not_be_used_stops_before_vllm(config, engine, text, wanted):
    config.write_text(text)
    result = serve(engine, "m", "--ucm-config", config)
    assert result.returncode == 1
    assert wanted in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_a_configuration_that_does_not_exist_is_a_wrong_command_line(tmp_path):
    assert ucm("serve", "m", "--ucm-config", tmp_path / "none.yaml").exit_code == 2


def test_the_process_becomes_vllm(config, engine):
    done = serve(engine, "m", "--ucm-config", config, "--port", 8001)
    assert done.returncode == 0, done.stderr
    words = json.loads(done.stdout)["argv"]
    assert words[:4] == ["serve", "m", "--port", "8001"]
    assert transfer_of(words)["kv_load_failure_policy"] == "recompute"


def test_a_vllm_that_does_not_know_the_policy_does_not_get_it(config, engine):
    (engine / "config" / "kv_transfer.py").write_text("kv_role = None\n")
    words = json.loads(serve(engine, "m", "--ucm-config", config).stdout)["argv"]
    assert "kv_load_failure_policy" not in transfer_of(words)


def test_without_vllm_the_error_says_what_to_install(config, monkeypatch):
    monkeypatch.setattr("ucm.cli.serve.find_vllm", lambda: None)
    result = ucm("serve", "m", "--ucm-config", config)
    assert result.exit_code == 1
    assert "pip install vllm" in result.stderr
