# SPDX-License-Identifier: Apache-2.0
"""What importing ucm does, and does not."""

from __future__ import annotations

import subprocess
import sys

import pytest

MODULES = (
    "ucm",
    "ucm.config",
    "ucm.store.store",
    "ucm.store.factory",
    "ucm.store.factory_v1",
    "ucm.store.pipeline.connector",
    "ucm.shared.trans",
    "ucm.shared.trans.pinned_pool",
    "ucm.shared.metrics.ucmmonitor",
    "ucm.metrics.prometheus",
    "ucm.log",
)


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("module", MODULES)
def test_importing_brings_no_torch_no_engine_no_thread_and_no_handler(module):
    code = (
        "import signal, sys, threading, logging\n"
        "signals = (signal.SIGINT, signal.SIGSEGV, signal.SIGTERM)\n"
        "before = {s: signal.getsignal(s) for s in signals}\n"
        f"import {module}\n"
        "assert before == {s: signal.getsignal(s) for s in before}\n"
        "assert threading.active_count() == 1\n"
        "assert not logging.getLogger('ucm').handlers and not logging.getLogger().handlers\n"
        "print([m for m in ('torch', 'vllm', 'lightllm', 'prometheus_client') if m in sys.modules])"
    )
    assert run(code) == "[]"


def test_the_public_names_are_there_and_others_are_not():
    code = (
        "import ucm\n"
        "print(all(getattr(ucm, name) is not None for name in ucm.__all__))\n"
        "try:\n    ucm.absent\nexcept AttributeError as error:\n    print(error)"
    )
    assert run(code).splitlines() == ["True", "module 'ucm' has no attribute 'absent'"]


def test_the_package_says_that_it_is_typed():
    assert (
        run(
            "from importlib.resources import files\n"
            "print(files('ucm').joinpath('py.typed').is_file())"
        )
        == "True"
    )
