# SPDX-License-Identifier: Apache-2.0
"""Services over small tensors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_contents import PAGE_BYTES, Make, tensor_of

from light_mem import PyLocalCacheService


@pytest.fixture(autouse=True)
def no_server_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of LightLLM or LightMem decides a test that does not set it."""
    for name in list(os.environ):
        if name.startswith(("LIGHTLLM", "LIGHTMEM")):
            monkeypatch.delenv(name)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes services in one folder; the last one is closed at the end."""
    made: list[PyLocalCacheService] = []

    def service(
        tensor: Any = None, *, pages: int = 64, page_bytes: int = PAGE_BYTES, **options: Any
    ) -> PyLocalCacheService:
        options = {"storage_size": 256 * page_bytes, "num_shard": 8, "num_worker": 24} | options
        file = options.pop("file", str(tmp_path / "cache_file"))
        memory = tensor_of(pages, page_bytes) if tensor is None else tensor
        made.append(PyLocalCacheService(kvcache_tensor=memory, file=file, **options))
        return made[-1]

    yield service
    for each in made:
        each.close()
