# SPDX-License-Identifier: Apache-2.0
"""Real stores below tmp_path, and the commands run on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner, Result

from ucm.cli.main import cli
from ucm.store.factory import open_store
from ucm.store.store import Store

STAGES = ("Posix", "Disk")
SIZE = 8192
LAYOUT_ID = 7


def ucm(*words: object, **kwargs: Any) -> Result:
    """Runs a command line; anything but an orderly exit is an error of the test."""
    result = CliRunner().invoke(cli, [str(word) for word in words], **kwargs)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def ucm_json(*words: object) -> tuple[int, Any]:
    """Runs a command line with --json: (exit code, document)."""
    result = ucm(*words, "--json")
    return result.exit_code, json.loads(result.stdout)


def key(index: int) -> bytes:
    return index.to_bytes(16, "big")


def content(index: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, size, dtype=np.uint8)


def opened(
    stage: str, root: Path, size: int = SIZE, *, more: dict[str, Any] | None = None, **kwargs: Any
) -> Store:
    """A small store of one stage; `more` are further settings."""
    config: dict[str, Any] = {
        "store_pipeline": stage,
        "storage_backends": str(root),
        "buffer_number": 8,
        "huge_pages": "off",
        "prefault": False,
    }
    config.update(more or {})
    if stage == "Disk":
        config.update(capacity_bytes=24 << 20, segment_bytes=1 << 20)
    return open_store(config, layout=([size], 1), layout_id=LAYOUT_ID, **kwargs)


def fill(
    stage: str, root: Path, count: int, *, first: int = 0, size: int = SIZE, **kwargs: Any
) -> None:
    """Blocks first .. first + count - 1, one after the other."""
    with opened(stage, root, size, **kwargs) as store:
        for index in range(first, first + count):
            store.dump([key(index)], 0, content(index, size)).wait(60)


def stored(stage: str, root: Path, count: int, *, size: int = SIZE, **kwargs: Any) -> list[int]:
    """Which of the blocks 0 .. count - 1 come back; each is compared."""
    found = []
    with opened(stage, root, size, **kwargs) as store:
        for index, there in enumerate(store.lookup([key(each) for each in range(count)])):
            if there:
                target = np.zeros(size, dtype=np.uint8)
                store.load([key(index)], 0, target).wait(60)
                assert (target == content(index, size)).all(), f"block {index} has other bytes"
                found.append(index)
    return found


def snapshot(root: Path) -> dict[str, bytes]:
    """Every file below a directory with its content."""
    return {
        str(each.relative_to(root)): each.read_bytes()
        for each in sorted(root.rglob("*"))
        if each.is_file()
    }


def damage(stage: str, root: Path, index: int) -> None:
    """Flips one byte of a stored block on the disk."""
    wanted = content(index).tobytes()
    for file in root.rglob("*"):
        data = file.read_bytes() if file.is_file() else b""
        if wanted in data:
            at = data.index(wanted) + 100
            with open(file, "r+b") as stream:
                stream.seek(at)
                stream.write(bytes([data[at] ^ 1]))
            return
    raise AssertionError(f"block {index} is not in {root}")
