# SPDX-License-Identifier: Apache-2.0
"""`share: true`: processes on one node that use one Cache."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ucm.store.factory import UcmConnectorFactory

BLOCK = 1 << 16
HERE = Path(__file__).parent


def ids(first: int, count: int) -> list[bytes]:
    """Keys of numbered blocks."""
    return [number.to_bytes(16, "big") for number in range(first, first + count)]


def content(number: int) -> np.ndarray:
    """What a numbered block holds."""
    return np.random.default_rng(number).integers(0, 256, BLOCK, dtype=np.uint8)


def dump(store: Any, first: int, count: int) -> None:
    """Store numbered blocks."""
    blocks = [[content(number)] for number in range(first, first + count)]
    store.wait(store.dump(ids(first, count), [0] * count, blocks))


def load(store: Any, first: int, count: int) -> bool:
    """Whether numbered blocks come back as they were."""
    blocks = [np.zeros(BLOCK, np.uint8) for _ in range(count)]
    store.wait(store.load(ids(first, count), [0] * count, [[block] for block in blocks]))
    return all(np.array_equal(block, content(first + i)) for i, block in enumerate(blocks))


def open_store(name: str, **more: Any) -> Any:
    """A Cache alone that is shared under a name."""
    config = {"store_pipeline": "Cache", "share": True, "unique_id": name, "buffer_number": 64}
    sizes = {"block_bytes": BLOCK, "shard_size": BLOCK, "tensor_size": BLOCK}
    return UcmConnectorFactory.create_connector({**config, **sizes, **more})


@pytest.fixture
def name(tmp_path: Path) -> str:
    return f"test-{os.getpid()}-{tmp_path}"


@pytest.fixture
def mine(name: str) -> Iterator[Any]:
    with open_store(name) as store:
        yield store


def run(program: str, name: str) -> subprocess.CompletedProcess[str]:
    """Another process, which has the functions above and `name`."""
    start = "import os, signal, sys\nfrom test_share import *\nname = sys.argv[1]\n"
    return subprocess.run(
        [sys.executable, "-c", start + textwrap.dedent(program), name],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(HERE)},
    )


def test_blocks_of_one_process_are_loaded_by_another(mine: Any, name: str) -> None:
    dump(mine, 0, 5)
    done = run(
        """
        store = open_store(name)
        assert store.lookup(ids(0, 6)) == [True] * 5 + [False]
        assert load(store, 0, 5)
        dump(store, 10, 3)
        """,
        name,
    )
    assert done.returncode == 0, done.stderr
    assert load(mine, 10, 3)


def test_a_store_without_sizes_answers_lookups_of_what_other_processes_hold(
    mine: Any, name: str
) -> None:
    program = """
        store = UcmConnectorFactory.create_connector(
            {"store_pipeline": "Cache", "share": True, "unique_id": name})
        print(store.lookup_on_prefix(ids(0, 4)))
        """
    assert run(program, name).stdout.strip() == "-1"
    dump(mine, 0, 3)
    done = run(program, name)
    assert done.stdout.strip() == "2", done.stderr


def test_a_process_that_is_killed_leaves_its_blocks_and_no_lock(mine: Any, name: str) -> None:
    done = run(
        """
        store = open_store(name)
        dump(store, 0, 5)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        name,
    )
    assert done.returncode == -signal.SIGKILL
    assert load(mine, 0, 5)
    dump(mine, 20, 5)
    assert mine.lookup(ids(20, 5)) == [True] * 5


def test_another_name_is_another_pool(mine: Any, name: str) -> None:
    dump(mine, 0, 2)
    with open_store(name + "x") as other:
        assert other.lookup(ids(0, 2)) == [False, False]


def test_without_share_each_process_has_its_own(mine: Any, name: str) -> None:
    dump(mine, 0, 2)
    with open_store(name, share=False) as other:
        assert other.lookup(ids(0, 2)) == [False, False]


@pytest.mark.parametrize(("policy", "stays"), [("arc", True), ("lru", False)])
def test_the_policy_of_the_first_store_decides_for_all(name: str, policy: str, stays: bool) -> None:
    with (
        open_store(name, eviction_policy=policy) as first,
        open_store(name, eviction_policy="s3fifo") as second,
    ):
        dump(first, 0, 10)
        assert load(second, 0, 10)  # used again: arc keeps them, lru until 64 others came
        for start in range(100, 300, 50):
            dump(second, start, 50)
        assert first.lookup(ids(0, 10)) == [stays] * 10


def test_stores_that_write_to_other_places_share_nothing(tmp_path: Path, name: str) -> None:
    places = [str(tmp_path / "a"), str(tmp_path / "b")]
    pipeline = {"store_pipeline": "Cache|Posix"}
    with (
        open_store(name, storage_backends=places[0], **pipeline) as one,
        open_store(name, storage_backends=places[0], **pipeline) as twin,
        open_store(name, storage_backends=places[1], **pipeline) as other,
    ):
        dump(one, 0, 2)
        assert twin.lookup(ids(0, 2)) == [True, True]
        dump(other, 0, 2)
    with open_store(name, storage_backends=places[1], **pipeline) as later:
        assert load(later, 0, 2)
