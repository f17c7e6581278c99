# SPDX-License-Identifier: Apache-2.0
"""The Python of the performance guide runs as it stands, paths and devices aside."""

from __future__ import annotations

import subprocess
import sys

import pytest
from small_stores import GUIDES

pytest.importorskip("torch")


def run(tmp_path, code: str) -> str:
    path = tmp_path / "snippet.py"
    path.write_text(code)
    done = subprocess.run(
        [sys.executable, "-X", "utf8", str(path)],
        capture_output=True,
        encoding="utf-8",
        timeout=280,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def guide(name: str) -> str:
    return (GUIDES / name).read_text(encoding="utf-8")


def test_the_hit_rate_benchmark_finds_what_it_wrote_and_finds_it_again_after_a_restart(tmp_path):
    code = guide("perf_6_1.txt").replace("/data/ucm_cache", str(tmp_path / "cache"))
    output = run(tmp_path, code).splitlines()
    assert output == ["First lookup: 0/1000 hits", "Second lookup: 100/1000 hits (10.0%)"]
    assert run(tmp_path, code).startswith("First lookup: 100/1000 hits")


def test_the_pool_snippet_prints_its_figures(tmp_path):
    output = run(tmp_path, guide("perf_2_3.txt"))
    assert "使用率: 0.0%" in output and "峰值: 0" in output


def test_the_monitor_snippet_prints_its_figures(tmp_path):
    output = run(tmp_path, guide("perf_7_2.txt"))
    assert "命中率: 0.0%" in output and "WARNING: 命中率低于 50%" in output


def test_the_transfer_benchmark_without_a_gpu_says_why(tmp_path):
    torch = pytest.importorskip("torch")
    call = "\nif __name__ == '__main__':\n    import time\n    benchmark_transfer_speed()\n"
    code = guide("perf_6_2.txt") + call
    if torch.cuda.is_available():
        assert "256 MB" in run(tmp_path, code)
        return
    with pytest.raises(AssertionError, match="Unavailable: CUDATransport needs a CUDA device"):
        run(tmp_path, code)


def test_the_transfer_benchmark_runs_on_the_host_transport(tmp_path):
    code = guide("perf_6_2.txt").replace("CUDATransport", "CPUTransport").replace("cuda:0", "cpu")
    code = code.replace("[1, 4, 16, 64, 256]", "[1, 4, 16]")
    call = "\nif __name__ == '__main__':\n    import time\n    benchmark_transfer_speed()\n"
    output = run(tmp_path, code + call)
    assert "Transfer Speed Benchmark:" in output and " 16 MB:" in output
