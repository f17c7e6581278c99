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


def _install(parts: str) -> None:
    """A process of the server that goes on without ucm would break the others, so it ends."""
    if importlib.util.find_spec("ucm") is None:
        return  # another Python, which is none of the server's
    from ucm.errors import UcmError
    from ucm.integration.lightllm import install

    try:
        install(parts)
    except UcmError as error:
        print(f"ucm: {error}", file=sys.stderr, flush=True)
        os._exit(2)


if os.environ.get("UCM_LIGHTLLM"):
    _install(os.environ["UCM_LIGHTLLM"])
