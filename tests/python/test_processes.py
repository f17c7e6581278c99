# SPDX-License-Identifier: Apache-2.0
"""Nothing that the tests start outlives them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from processes import started

HERE = Path(__file__).parent
BEGIN = f"""
import sys, time
sys.path.insert(0, {str(HERE)!r})
from processes import forked, started
"""
STARTED = """
started([sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(600)"])
"""
FORKED = """
if forked() == 0:
    print("begun", flush=True)
"""


@pytest.mark.parametrize("how", [STARTED, FORKED], ids=["started", "forked"])
def test_the_child_of_a_test_that_is_killed_dies_with_it(how: str) -> None:
    process = started(
        [sys.executable, "-c", BEGIN + how + "time.sleep(600)"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.kill()
    # The pipe ends when the child, which holds it too, is gone.
    assert process.communicate(timeout=60) == ("", None)
