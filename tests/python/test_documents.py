# SPDX-License-Identifier: Apache-2.0
"""The Python of the README and of the quick start runs as it stands, paths aside."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

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
