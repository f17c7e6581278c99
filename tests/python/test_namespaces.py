# SPDX-License-Identifier: Apache-2.0
"""Namespaces and quotas of a shared directory, from the configuration to the commands."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ucm.config import load_config
from ucm.errors import ConfigError, InvalidArgument
from ucm.store.factory import open_store

SIZE = 8192
FILE = SIZE + 4096


def opened(root: Path, namespace: str | None, **more: Any) -> Any:
    config: dict[str, Any] = {
        "store_pipeline": "Posix",
        "storage_backends": str(root),
        "buffer_number": 8,
        "huge_pages": "off",
        "prefault": False,
        **more,
    }
    if namespace is not None:
        config["namespace"] = namespace
    return open_store(config, layout=([SIZE], 1), layout_id=7)


def key(index: int) -> bytes:
    return index.to_bytes(16, "big")


def fill(store: Any, first: int, count: int) -> None:
    for index in range(first, first + count):
        store.dump([key(index)], 0, np.full(SIZE, index % 251, dtype=np.uint8)).wait(60)


def used(root: Path, namespace: str) -> int:
    total = 0
    for each in (root / f"n-{namespace}").glob("??/" + "?" * 32):
        with contextlib.suppress(FileNotFoundError):  # collected in the meantime
            total += each.stat().st_size
    return total


def test_a_namespace_keeps_to_its_quota_and_the_others_keep_their_blocks(tmp_path: Path) -> None:
    shared = {"capacity_bytes": 100 * FILE, "quotas": {"a": "20%", "b": f"{30 * FILE // 1024}KiB"}}
    with opened(tmp_path, "a", **shared) as a, opened(tmp_path, "b", **shared) as b:
        fill(b, 0, 20)
        for first in range(0, 100, 10):
            fill(a, 1000 + first, 10)
            assert used(tmp_path, "a") <= 20 * FILE
        assert all(b.lookup([key(each) for each in range(20)]))
        assert not any(a.lookup([key(each) for each in range(20)]))
        stats = a.stats()
        assert any("ucm_namespace_quota_bytes" in name for name in stats), sorted(stats)


def test_a_shared_cache_is_divided_for_all_its_stores(tmp_path: Path) -> None:
    shared = {
        "store_pipeline": "Cache|Posix",
        "capacity_bytes": 1000 * FILE,
        "share": True,
        "unique_id": tmp_path.name,
        "buffer_number": 40,
        "quotas": {"a": "25%", "b": "50%"},
    }
    with (
        opened(tmp_path, "a", **shared) as a,
        opened(tmp_path, "a", **shared) as again,
        opened(tmp_path, "b", **shared) as b,
        opened(tmp_path, None, **shared) as rest,
    ):
        fill(b, 0, 20)
        fill(a, 0, 30)
        fill(again, 30, 30)
        fill(rest, 0, 30)
        held = [store.stats()['ucm_blocks{stage="Cache"}'] for store in (a, again, b, rest)]
        assert held == [10, 10, 20, 10]
        # Each has written its own down.
        assert used(tmp_path, "a") == 60 * FILE
        assert used(tmp_path, "b") == 20 * FILE


@pytest.mark.parametrize(
    ("quotas", "text"),
    [
        ({"a": "60%", "b": "50%"}, "110% together"),
        ({"a": "20XiB"}, "a: a share such as 40% or bytes such as 20GiB"),
        ({"a": "0%"}, "more than 0%"),
        ({"a/b": "10%"}, "a namespace is 1 to 64 letters"),
        ("a=10%", "a mapping `namespace: 40%`"),
    ],
)
def test_a_mistake_in_the_quotas_is_answered_with_the_key(quotas: Any, text: str) -> None:
    with pytest.raises(ConfigError, match="quotas") as raised:
        load_config({"storage_backends": "/x", "quotas": quotas}, environ={})
    assert text in str(raised.value)


def test_what_only_the_stage_can_judge_is_refused_at_opening(tmp_path: Path) -> None:
    for more, text in (
        ({"quotas": {"a": "40%"}}, "needs capacity_bytes"),
        ({"capacity_bytes": 10 * FILE, "quotas": {"a": 11 * FILE}}, "more than the capacity"),
        ({"capacity_bytes": 10 * FILE, "quotas": {"b": "100%"}}, "nothing is left for the rest"),
    ):
        with pytest.raises(InvalidArgument, match=text):
            opened(tmp_path, "a", **more)


def test_sizes_and_shares_reach_the_stage_as_they_are_meant() -> None:
    settings = {"storage_backends": "/x", "quotas": {"a": "12.5 %", "b": "1.5GiB", "c": 4096}}
    options = load_config(settings, environ={}).store.core_options()
    assert options["quotas"] == ["a=12.5%", "b=1610612736", "c=4096"]
