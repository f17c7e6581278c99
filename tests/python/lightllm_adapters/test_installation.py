# SPDX-License-Identifier: Apache-2.0
"""One command puts ucm into a server of several processes; nothing of the engine is edited."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import stand_in

from ucm.errors import ConfigError
from ucm.integration.lightllm import __main__ as launcher
from ucm.integration.lightllm.installation import environment, parse_parts

pytest.importorskip("torch")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server_environment(folder: Path, **more: str) -> dict[str, str]:
    start = {"page_num": 64, "cpu_cache_token_page_size": 64, "cpu_kv_cache_shm_id": 4711}
    return {
        **os.environ,
        "PYTHONPATH": str(stand_in.build(folder)),
        "LIGHTLLM_UNIQUE_SERVICE_NAME_ID": f"test {uuid.uuid4().hex}",
        "LIGHTLLM_START_ARGS": json.dumps(start),
        "LIGHTLLM_DISK_CACHE_PROMPT_LIMIT_LENGTH": "64",
        **more,
    }


def series(text: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found, f"{name} is not in\n{text}"
    return float(found.group(1))


def test_a_server_of_five_processes_keeps_and_restores_its_pages(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "ucm.integration.lightllm", "--parts", "all", "--model_dir", "m"],
        env=server_environment(tmp_path, UCM_METRICS_PORT=str(free_port())),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout.splitlines()[-1])
    # 6 pages; 3 of them shared with the second prompt of 6; a third of 4. Then all again.
    assert report["matched"] == [0, 3, 0, 6, 6, 4]
    assert report["right"] == [True] * 8
    assert report["offloaded"] == 32
    text = report["figures"]
    assert series(text, 'ucm_blocks{stage="cpu"}') == 13
    assert series(text, 'ucm_capacity_bytes{stage="cpu"}') == 64 * 2 * 64 * 8 * 16 * 2
    assert series(text, 'ucm_transfer_blocks_total{direction="dump",stage="gpu"}') == 32
    assert series(text, 'ucm_transfer_blocks_total{direction="load",stage="gpu"}') == 19
    assert series(text, 'ucm_queue_depth{stage="cpu"}') == 0


def test_without_the_variable_the_engine_is_left_alone(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "lightllm.server.api_server"],
        env=server_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode != 0
    assert "the index of the stand-in was used" in run.stderr


def test_the_machines_own_sitecustomize_still_runs(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.mark = 'it ran'\n")
    variables = environment("index", {**os.environ, "PYTHONPATH": str(tmp_path)})
    program = (
        "import sys\nfrom ucm.integration.lightllm import installed_parts\n"
        "print(sys.mark, installed_parts())"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], env=variables, capture_output=True, text=True
    )
    assert run.stdout == "it ran ('index',)\n", run.stderr


def test_installing_too_late_is_refused(tmp_path: Path) -> None:
    program = (
        "import lightllm.utils.envs_utils\nfrom ucm.errors import ConfigError\n"
        "from ucm.integration.lightllm import install\n"
        "try:\n    install('index')\nexcept ConfigError as error:\n    print(error)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        env=server_environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert "imported already" in run.stdout, run.stderr


def test_an_unknown_client_is_refused_in_words(tmp_path: Path) -> None:
    variables = server_environment(tmp_path)
    (tmp_path / "lightllm/server/multi_level_kv_cache/cpu_cache_client.py").write_text(
        "class CpuKvCacheClient:\n    pass\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", "import lightllm.server.multi_level_kv_cache.manager"],
        env=environment("index", variables),
        capture_output=True,
        text=True,
    )
    assert run.returncode != 0
    assert "start the server without UCM_LIGHTLLM" in run.stderr


def test_parts_are_named_or_all() -> None:
    assert parse_parts("transfer, index") == ("index", "transfer")
    assert parse_parts("all") == ("index", "memory", "transfer")
    for wrong in ("", "idex", "index,all"):
        with pytest.raises(ConfigError, match="index, memory, transfer"):
            parse_parts(wrong)


def test_the_launcher_passes_everything_else_on() -> None:
    parts, line = launcher.command(["--parts=memory", "--tp", "8", "--parts"])
    assert parts == "memory"
    assert line[1:] == ["-m", "lightllm.server.api_server", "--tp", "8", "--parts"]
    assert launcher.command(["--tp", "8"])[0] == "index"
    with pytest.raises(ConfigError):
        launcher.command(["--parts"])


def test_without_lightllm_the_launcher_says_so() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "ucm.integration.lightllm"], capture_output=True, text=True
    )
    assert (run.returncode, run.stderr) == (2, "ucm: LightLLM is not installed in this Python\n")
