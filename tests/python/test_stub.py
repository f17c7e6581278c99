# SPDX-License-Identifier: Apache-2.0
"""The committed stub of the native module says what the module offers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_stub_is_what_the_generator_writes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nanobind.stubgen", "-q", "-m", "ucm._core", "-O", tmp_path]
    subprocess.run(command, check=True)
    fresh = (tmp_path / "_core.pyi").read_text()
    kept = (ROOT / "python/ucm/_core.pyi").read_text()
    assert kept == fresh, "run: python -m nanobind.stubgen -m ucm._core -O python/ucm"
