# SPDX-License-Identifier: Apache-2.0
"""Run by Python itself at the start of each process of a server that was started with ucm."""

import importlib.machinery
import importlib.util
import os
import sys


def _run_the_next_one() -> None:
    """What this file hides: the machine's own sitecustomize."""
    here = os.path.dirname(os.path.abspath(__file__))
    others = [path for path in sys.path if os.path.abspath(path or ".") != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


_run_the_next_one()
if os.environ.get("UCM_LIGHTLLM"):
    from ucm.integration.lightllm import install

    install(os.environ["UCM_LIGHTLLM"])
