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
from typing import Any

import pytest
import stand_in

from ucm.config.lightllm import LightLlmConfig, lightllm_config
from ucm.errors import ConfigError
from ucm.integration.lightllm import __main__ as launcher
from ucm.integration.lightllm.installation import environment, parse_parts

pytest.importorskip("torch")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server_environment(
    folder: Path, arguments: dict[str, object] | None = None, **more: str
) -> dict[str, str]:
    start = {"page_num": 64, "cpu_cache_token_page_size": 64, "cpu_kv_cache_shm_id": 4711}
    start |= arguments or {}
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


PAGE_BYTES = 2 * 64 * 8 * 16 * 2
"""Two layers of 64 tokens with 8 heads of 16 half floats."""
GPU, CPU, DISK = "gpu", "cpu", "disk"


def levels_run(folder: Path, disk: Path, rounds: int, ranks: int) -> dict[str, Any]:
    arguments = {
        "enable_disk_cache": True,
        "disk_cache_dir": str(disk),
        "disk_cache_storage_size": 0.03,
        "rounds": rounds,
        "prompts": 18,
        "ranks": ranks,
    }
    run = subprocess.run(
        [sys.executable, "-m", "ucm.integration.lightllm", "--parts=all", "--enable_disk_cache"],
        env=server_environment(folder, arguments, UCM_METRICS_PORT=str(free_port())),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    report: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    assert report["right"] and all(report["right"])
    assert report["mistakes"] == [] and report["reads"] > 3
    return report


def moved(report: dict[str, Any], stage: str, direction: str) -> float:
    where = f'{{direction="{direction}",stage="{stage}"}}'
    pages = series(report["figures"], f"ucm_transfer_blocks_total{where}")
    assert series(report["figures"], f"ucm_transfer_bytes_total{where}") == pages * PAGE_BYTES
    return pages


def check_levels(report: dict[str, Any], stored: int) -> None:
    """One endpoint says of each level what the server's processes counted for themselves."""
    text, counts = report["figures"], report["counts"]
    assert moved(report, GPU, "load") == report["loads"]
    assert moved(report, GPU, "dump") == report["offloads"]
    # A rank's allocation asks the index for each page as well.
    asked = counts["cpu asked"] + report["offloads"]
    assert series(text, 'ucm_lookup_blocks_total{stage="cpu"}') == asked
    found = counts["cpu found"] + report["ready"]
    assert series(text, 'ucm_lookup_hit_blocks_total{stage="cpu"}') == found
    assert series(text, 'ucm_capacity_bytes{stage="cpu"}') == 64 * PAGE_BYTES
    assert moved(report, DISK, "load") == counts["disk loaded"]
    assert series(text, 'ucm_blocks{stage="disk"}') == stored
    assert series(text, 'ucm_used_bytes{stage="disk"}') == stored * PAGE_BYTES
    assert series(text, 'ucm_lookup_hit_blocks_total{stage="disk"}') >= counts["disk loaded"]
    assert series(text, 'ucm_queue_depth{stage="disk"}') == 0
    failures = re.findall(r"^ucm_failures_total\{.*\} (\S+)$", text, re.MULTILINE)
    assert {float(each) for each in failures} == {0.0}


def test_three_levels_under_load_show_their_figures_at_one_endpoint(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    # 18 prompts of 6 pages are more than the 64 CPU pages, so the second round needs the disk.
    first = levels_run(tmp_path, disk, rounds=2, ranks=2)
    assert first["matched"] == [0] * 18 + [6] * 18
    check_levels(first, stored=108)
    assert moved(first, DISK, "dump") == 108
    assert moved(first, DISK, "load") > 0
    # Another server on the same directory begins with what this one stored.
    second = levels_run(tmp_path, disk, rounds=1, ranks=1)
    assert second["matched"] == [6] * 18
    check_levels(second, stored=108)
    assert moved(second, DISK, "load") == 108
    assert moved(second, DISK, "dump") == 0


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


def import_manager(variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A process of a server with ucm's page index, as far as its first import of the client."""
    return subprocess.run(
        [sys.executable, "-c", "import lightllm.server.multi_level_kv_cache.manager"],
        env=environment("index", variables),
        capture_output=True,
        text=True,
    )


def test_an_unknown_client_is_refused_in_words(tmp_path: Path) -> None:
    variables = server_environment(tmp_path)
    (tmp_path / "lightllm/server/multi_level_kv_cache/cpu_cache_client.py").write_text(
        "class CpuKvCacheClient:\n    pass\n"
    )
    run = import_manager(variables)
    assert run.returncode != 0
    assert "start the server without UCM_LIGHTLLM" in run.stderr


def test_a_client_with_calls_ucm_does_not_know_is_refused_in_words(tmp_path: Path) -> None:
    variables = server_environment(tmp_path)
    client = tmp_path / "lightllm/server/multi_level_kv_cache/cpu_cache_client.py"
    client.write_text(
        client.read_text() + "\n    def mark_pages_recyclable(self, page_list):\n        pass\n"
    )
    run = import_manager(variables)
    assert run.returncode != 0
    assert "has calls that ucm does not: mark_pages_recyclable" in run.stderr


def test_a_process_of_the_server_that_can_not_install_ends(tmp_path: Path) -> None:
    variables = environment("index", server_environment(tmp_path)) | {"UCM_LIGHTLLM": "indx"}
    run = subprocess.run(
        [sys.executable, "-c", "print('it went on')"], env=variables, capture_output=True, text=True
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("ucm: parts 'indx'")


def test_a_python_without_ucm_is_left_alone(tmp_path: Path) -> None:
    variables = environment("index", os.environ)
    run = subprocess.run(
        [sys.executable, "-S", "-c", "import sitecustomize; print('it went on')"],
        env=variables,
        capture_output=True,
        text=True,
    )
    assert run.stdout == "it went on\n", run.stderr


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
    assert launcher.command(["--tp", "8"], "all")[0] == "all"
    with pytest.raises(ConfigError):
        launcher.command(["--parts"])


def test_the_variable_chooses_the_parts_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    for value, words in (("memory", ""), ("memmory", "ucm: parts 'memmory'")):
        program = tmp_path / "lightllm" / "server"
        run = subprocess.run(
            [sys.executable, "-m", "ucm.integration.lightllm"],
            env=server_environment(tmp_path, UCM_LIGHTLLM=value),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert program.exists() and run.returncode != 0
        assert words in run.stderr
        # Without part `index` the stand-in's own index is reached, which raises.
        assert ("the index of the stand-in was used" in run.stderr) == (value == "memory")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LIGHTLLM_DISK_CACHE_PROMPT_LIMIT_LENGTH", "many"),
        ("LIGHTLLM_DISK_CACHE_PROMPT_LIMIT_LENGTH", "-1"),
        ("LIGHTLLM_HUGE_PAGE_ENABLE", "perhaps"),
        ("UCM_LIGHTLLM", "everything"),
    ],
)
def test_variables_that_make_no_sense_are_refused(variable: str, value: str) -> None:
    with pytest.raises(ConfigError, match=value):
        lightllm_config({variable: value})


def test_the_settings_come_from_the_environment() -> None:
    assert lightllm_config({}) == LightLlmConfig(None, False, False, 2048)
    said = {
        "UCM_LIGHTLLM": "all",
        "LIGHTLLM_HUGE_PAGE_ENABLE": "1",
        "LIGHTLLM_ENABLE_NUMA_INTERLEAVE": "True",
        "LIGHTLLM_DISK_CACHE_PROMPT_LIMIT_LENGTH": "64",
    }
    assert lightllm_config(said) == LightLlmConfig("all", True, True, 64)


def test_without_lightllm_the_launcher_says_so() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "ucm.integration.lightllm"], capture_output=True, text=True
    )
    assert (run.returncode, run.stderr) == (2, "ucm: LightLLM is not installed in this Python\n")
