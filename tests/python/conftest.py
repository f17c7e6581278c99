# SPDX-License-Identifier: Apache-2.0
"""Fixtures for the tests of the Python package."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from small_stores import settings

from ucm import log
from ucm.config import core, load
from ucm.store.factory import open_store
from ucm.store.store import Store

hypothesis_settings.register_profile(
    "ucm",
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
hypothesis_settings.load_profile("ucm")

# A shell that runs the tests in the background makes them ignore Ctrl-C, and every child inherits
# that. Some tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the machine changes a configuration."""
    for name in list(os.environ):
        if name.startswith(("UCM_", "UNIFIED", "UC_LOGGER")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def fresh_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test sees how another one set up the log, or what was said once already."""
    logger = logging.getLogger("ucm")
    level = logger.level
    logger.setLevel(logging.NOTSET)
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(log, "_ours", [])
    monkeypatch.setattr(core, "_noted", set())
    monkeypatch.setattr(load, "_reported", set())
    yield
    logger.setLevel(level)


@pytest.fixture
def make_store(tmp_path: Path) -> Iterator[Callable[..., Store]]:
    """Opens stores below tmp_path and closes them at the end."""
    opened: list[Store] = []

    def make(pipeline: str = "Cache|Posix", *, more: dict[str, Any] | None = None, **kwargs: Any):
        opened.append(open_store(settings(pipeline, tmp_path, **(more or {})), **kwargs))
        return opened[-1]

    yield make
    for store in opened:
        store.close()
