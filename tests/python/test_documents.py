# SPDX-License-Identifier: Apache-2.0
"""The Python of the README and of the quick start runs as it stands, paths aside."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ucm.config import load_config

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("document", "said"), [("README.md", ""), ("docs/quick-start.md", "[True]\n")]
)
def test_the_python_of_a_document_runs(tmp_path: Path, document: str, said: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    done = subprocess.run(
        [sys.executable, "-c", code.replace("/tmp/ucm_cache", str(tmp_path / "cache"))],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, said), done.stderr


def test_every_file_that_a_document_names_is_there() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        text = document.read_text(encoding="utf-8")
        for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
            assert (document.parent / link).exists(), f"{document}: {link}"


@pytest.mark.parametrize("document", ["README.md", "docs/configuration.md", "docs/vllm.md"])
def test_every_configuration_in_a_document_is_one(tmp_path: Path, document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert examples
    for example in examples:
        file = tmp_path / "example.yaml"
        file.write_text(example)
        assert load_config(file, environ={}).store.core_options()


def test_the_metrics_endpoint_of_the_vllm_guide_is_the_key_that_opens_one() -> None:
    text = (ROOT / "docs/vllm.md").read_text(encoding="utf-8")
    [section, name] = re.findall(r"With `(metrics)\.(\w+)`", text)[0]
    assert load_config({section: {name: 9401}}, environ={}).metrics_port == 9401
