# SPDX-License-Identifier: Apache-2.0
"""`ucm doctor`: each trouble is found, named and answered."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from cli_runs import fill, opened, snapshot, ucm, ucm_json

from ucm.metrics import prometheus

CONFIG = "store_pipeline: Cache|Posix\nstorage_backends: {root}\ncapacity_bytes: 64MiB\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "blocks"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def config(tmp_path: Path, root: Path) -> Path:
    file = tmp_path / "ucm.yaml"
    file.write_text(CONFIG.format(root=root))
    return file


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def with_metrics(config: Path, port: int) -> None:
    """Lets the configuration ask for a metrics endpoint."""
    config.write_text(config.read_text() + f"metrics: {{prometheus_port: {port}}}\n")


def examine(*words: object) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """(exit code, name of a finding -> findings)."""
    port = () if "--port" in words else ("--port", free_port())
    code, report = ucm_json("doctor", *words, *port)
    found: dict[str, list[dict[str, Any]]] = {}
    for each in report["findings"]:
        found.setdefault(each["name"].strip(), []).append(each)
    assert code == (1 if report["counts"]["fail"] else 0)
    assert report["healthy"] == (code == 0)
    return code, found


def states(found: dict[str, list[dict[str, Any]]], name: str) -> list[str]:
    return [each["state"] for each in found[name]]


def test_a_sound_configuration_and_directory_are_ok(config, root):
    code, found = examine("--config", config)
    assert code == 0
    for name in ("configuration", "path", "permissions", "API port", "ucm", "platform cpu"):
        assert states(found, name) == ["ok"], found[name]
    assert {"locked memory", "open files", "huge pages", "/dev/shm", "NUMA nodes"} <= set(found)
    assert {"O_DIRECT", "io_uring", "file system", "Linux", "Python", "torch", "vllm"} <= set(found)


def test_nothing_is_left_behind_and_missing_directories_are_not_made(config, root, tmp_path):
    config.write_text(CONFIG.format(root=root / "deep" / "er"))
    before = sorted(tmp_path.rglob("*"))
    _, found = examine("--config", config)
    assert states(found, "path") == ["ok"]
    assert f"in {root}" in found["path"][0]["found"]
    assert sorted(tmp_path.rglob("*")) == before


def test_people_get_one_line_each_and_a_count(config):
    text = ucm("doctor", "--config", config, "--port", free_port(), env={"COLUMNS": "300"}).stdout
    assert "Storage\n" in text
    assert any(line.startswith("ok") and " path " in line for line in text.splitlines())
    assert "nothing failed" in text.splitlines()[-1]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("store_pipelin: Cache\n", "store_pipeline"),
        ("store_pipeline: [\n", "YAML"),
        ("store_pipeline: Cache|Posix\n", "storage_backends"),
    ],
)
def test_a_broken_configuration_fails_and_the_rest_is_still_examined(config, text, wanted):
    config.write_text(text)
    code, found = examine("--config", config)
    assert code == 1
    assert states(found, "configuration") == ["fail"]
    assert wanted in found["configuration"][0]["found"]
    assert "API port" in found


def test_the_configuration_of_the_environment_is_examined(config, monkeypatch):
    monkeypatch.setenv("UCM_CONFIG_FILE", str(config))
    assert states(examine()[1], "configuration") == ["ok"]


def test_a_configuration_file_that_is_missing_fails(tmp_path):
    code, found = examine("--config", tmp_path / "none.yaml")
    assert (code, states(found, "configuration")) == (1, ["fail"])


def test_keys_without_effect_are_worth_a_look(config):
    config.write_text(config.read_text() + "waiting_queue_depth: 3\n")
    code, found = examine("--config", config)
    assert code == 0
    assert states(found, "key without effect") == ["warn"]
    assert "waiting_queue_depth" in found["key without effect"][0]["found"]


def test_a_path_that_is_a_file_or_below_one_fails(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for path in (file, file / "below"):
        code, found = examine("--path", path)
        assert (code, states(found, "path")) == (1, ["fail"])
        assert "is a file" in found["path"][0]["found"]


def test_a_directory_that_can_not_be_written_fails_with_what_to_do():
    code, found = examine("--path", "/proc/ucm")
    assert (code, states(found, "path")) == (1, ["fail"])
    assert "install -d" in found["path"][0]["advice"]


def test_a_directory_open_to_others_is_worth_a_look_unless_the_configuration_says_so(config, root):
    root.chmod(0o755)
    found = examine("--config", config)[1]
    assert states(found, "permissions") == ["warn"]
    assert "chmod 0700" in found["permissions"][0]["advice"]
    config.write_text(config.read_text() + 'dir_mode: "0755"\n')
    assert states(examine("--config", config)[1], "permissions") == ["ok"]


def test_a_capacity_beyond_the_disk_fails(config, root):
    total = shutil.disk_usage(root).total
    config.write_text(CONFIG.format(root=root).replace("64MiB", str(2 * total)))
    code, found = examine("--config", config)
    assert (code, states(found, "space")) == (1, ["fail"])
    assert "capacity_bytes" in found["space"][0]["found"]


def test_a_posix_store_without_a_capacity_is_worth_a_look(config, root):
    config.write_text(CONFIG.format(root=root).replace("capacity_bytes: 64MiB\n", ""))
    (space,) = examine("--config", config)[1]["space"]
    assert space["state"] == "warn"


def test_each_of_several_paths_is_examined_once(config, root, tmp_path):
    found = examine("--config", config, "--path", root, "--path", tmp_path)[1]
    assert len(found["path"]) == 2


def test_a_file_system_in_memory_is_worth_a_look():
    found = examine("--path", "/dev/shm")[1]
    assert states(found, "file system") == ["warn"]
    assert "tmpfs" in found["file system"][0]["found"]


def test_the_writer_of_a_store_is_named_and_not_disturbed(root):
    fill("Disk", root, 2)
    before = snapshot(root)
    assert "in use" not in examine("--path", root)[1]
    assert snapshot(root) == before
    with opened("Disk", root):
        found = examine("--path", root)[1]
    assert f"process {os.getpid()}" in found["in use"][0]["found"]


def test_a_storage_that_hangs_fails_in_time_and_the_rest_is_still_examined(root, monkeypatch):
    over = threading.Event()
    monkeypatch.setattr("ucm.cli.check_storage._PATIENCE_S", 0.2)
    monkeypatch.setattr("ucm.cli.check_storage.probe", lambda folder: over.wait(60) and "")
    try:
        code, found = examine("--path", root)
    finally:
        over.set()
    assert (code, states(found, "path")) == (1, ["fail"])
    assert "does not answer" in found["path"][0]["found"]
    assert "Python" in found


def test_a_pipeline_that_keeps_nothing_is_worth_a_look(config):
    config.write_text("store_pipeline: Cache|Empty\n")
    assert states(examine("--config", config)[1], "pipeline") == ["warn"]


def test_a_cache_larger_than_the_memory_fails(config):
    config.write_text("store_pipeline: Cache\nmax_pinned_size: 900TiB\n")
    code, found = examine("--config", config)
    assert (code, states(found, "memory")) == (1, ["fail"])


def test_a_low_limit_of_open_files_is_found_with_the_command_that_raises_it():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        for limit, state in ((200, "fail"), (1024, "warn")):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            found = examine()[1]
            assert states(found, "open files") == [state]
            assert "ulimit -n" in found["open files"][0]["advice"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_taken_api_port_fails_and_names_who_has_it():
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        port = other.getsockname()[1]
        code, found = examine("--port", port)
    assert (code, states(found, "API port")) == (1, ["fail"])
    assert f"process {os.getpid()}" in found["API port"][0]["found"]
    assert states(examine("--port", port)[1], "API port") == ["ok"]


def test_a_free_metrics_port_is_ok(config):
    with_metrics(config, free_port())
    assert states(examine("--config", config)[1], "metrics port") == ["ok"]


def test_the_metrics_of_a_running_engine_are_recognised(config, root, tmp_path):
    with opened("Posix", tmp_path / "other"):
        endpoint = prometheus.serve(0, "127.0.0.1")
        try:
            with_metrics(config, endpoint.port)
            (metrics,) = examine("--config", config)[1]["metrics"]
        finally:
            endpoint.close()
    assert metrics["state"] == "ok"
    assert "values of ucm" in metrics["found"]


@pytest.fixture
def stranger() -> Iterator[tuple[HTTPServer, list[bytes]]]:
    """A web server that answers what the list holds."""
    says = [b"hello"]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(says[0])

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server, says
    server.shutdown()
    server.server_close()
    thread.join()


def test_another_program_on_the_metrics_port_is_found(config, stranger):
    port = stranger[0].server_port
    with_metrics(config, port)
    (metrics,) = examine("--config", config)[1]["metrics port"]
    assert metrics["state"] in ("warn", "fail")
    assert "prometheus.port" in metrics["advice"]


def test_a_running_vllm_on_the_api_port_is_no_trouble(stranger):
    server, says = stranger
    assert examine("--port", server.server_port)[0] == 1
    says[0] = b'vllm:num_requests_running{model_name="m"} 0.0\n'
    assert states(examine("--port", server.server_port)[1], "API port") == ["ok"]


def test_one_port_for_the_api_and_the_metrics_fails(config):
    port = free_port()
    with_metrics(config, port)
    found = examine("--config", config, "--port", port)[1]
    assert states(found, "metrics port") == ["fail"]


def test_the_log_file_must_be_writable(config, tmp_path):
    text = config.read_text()
    config.write_text(text + f"logging: {{file: {tmp_path / 'logs' / 'ucm.log'}}}\n")
    assert states(examine("--config", config)[1], "log file") == ["ok"]
    assert not (tmp_path / "logs").exists()
    (tmp_path / "file").write_text("")
    config.write_text(text + f"logging: {{file: {tmp_path / 'file' / 'ucm.log'}}}\n")
    code, found = examine("--config", config)
    assert (code, states(found, "log file")) == (1, ["fail"])


def test_the_metrics_file_is_read(config, tmp_path):
    file = tmp_path / "metrics.yaml"
    config.write_text(config.read_text() + f"metrics_config_path: {file}\n")
    assert states(examine("--config", config)[1], "metrics file") == ["warn"]
    file.write_text("metrics: {enabled: maybe}\n")
    assert states(examine("--config", config)[1], "metrics file") == ["fail"]
    port = free_port()
    file.write_text(f"prometheus: {{port: {port}}}\n")
    found = examine("--config", config)[1]
    assert states(found, "metrics file") == ["ok"]
    assert str(port) in found["metrics port"][0]["found"]


def test_a_platform_that_is_not_in_the_build_fails_when_it_is_asked_for(config):
    config.write_text(config.read_text() + "platform: ascend\n")
    code, found = examine("--config", config)
    assert (code, states(found, "platform ascend")) == (1, ["fail"])
