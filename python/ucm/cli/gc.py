# SPDX-License-Identifier: Apache-2.0
"""`ucm gc`: removes the oldest blocks of a store."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ucm.cli.output import Meter, console, meter, write_json
from ucm.cli.params import AGE, SizeType, bytes_text, count_text, json_option
from ucm.cli.roots import Root, busy, find_roots, namespace_of, walk, writer_of
from ucm.errors import Unavailable

_BATCH = 1024


@dataclasses.dataclass(frozen=True)
class Block:
    """A stored block: when it was written, what it takes, its key, its store and namespace."""

    written_ns: int
    stored: int
    key: bytes
    root: int
    namespace: str


@click.command(epilog="Example: ucm gc /data/ucm_cache --capacity 200GiB --dry-run")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--capacity", type=SizeType(minimum=0), help="Keep at most this much, the newest.")
@click.option("--older-than", type=AGE, help="Remove blocks written longer ago: 12h, 7d, 2w.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@json_option()
def gc(
    path: Path, capacity: int | None, older_than: float | None, dry_run: bool, as_json: bool
) -> None:
    """Remove the oldest blocks of the store in PATH.

    A Disk store must not be in use; its files keep their size and the space is used again.
    """
    if capacity is None and older_than is None:
        raise click.UsageError("say what to remove: --capacity SIZE or --older-than AGE")
    roots = find_roots(path.absolute())
    for root in roots:
        if not dry_run and writer_of(root):
            raise busy(root)
    blocks = read_blocks(roots)
    victims = choose(blocks, capacity, older_than)
    if victims and not dry_run:
        remove(roots, victims, quiet=as_json)
    _report(blocks, victims, dry_run, as_json)


def read_blocks(roots: list[Root]) -> list[Block]:
    """All blocks, the oldest first."""
    blocks: list[Block] = []
    for index, root in enumerate(roots):

        def take(record: dict[str, Any], index: int = index, root: Root = root) -> None:
            stored = root.stored_bytes(record["bytes"])
            key = bytes.fromhex(record["key"])
            place = namespace_of(record, root)
            blocks.append(Block(int(record["written_ns"]), stored, key, index, place))

        walk(root, False, take)
    return sorted(blocks, key=lambda block: block.written_ns)


def choose(blocks: list[Block], capacity: int | None, older_than: float | None) -> list[Block]:
    """Which blocks leave.

    Args:
        blocks: All blocks, the oldest first.
        capacity: Bytes that may stay.
        older_than: Age in seconds beyond which a block leaves.
    """
    limit_ns = time.time_ns() - int(older_than * 1e9) if older_than is not None else None
    used = sum(block.stored for block in blocks)
    victims = []
    for block in blocks:
        too_old = limit_ns is not None and block.written_ns < limit_ns
        too_much = capacity is not None and used > capacity
        if not (too_old or too_much):
            break
        victims.append(block)
        used -= block.stored
    return victims


def remove(roots: list[Root], victims: list[Block], quiet: bool) -> None:
    """Removes blocks through their own stores, the oldest first.

    Raises:
        click.ClickException: A writer has a store open.
    """
    with meter("remove", len(victims), quiet=quiet) as bar:
        places = sorted({(block.root, block.namespace) for block in victims})
        for place in places:
            keys = [block.key for block in victims if (block.root, block.namespace) == place]
            root = roots[place[0]]
            try:
                with opened(root, place[1]) as pipeline:
                    _remove_keys(pipeline, keys, bar)
            except Unavailable:
                raise busy(root) from None


def _remove_keys(pipeline: Any, keys: list[bytes], bar: Meter) -> None:
    for start in range(0, len(keys), _BATCH):
        batch = keys[start : start + _BATCH]
        pipeline.remove(b"".join(batch))
        bar.add(len(batch))


@contextmanager
def opened(root: Root, namespace: str = "") -> Iterator[Any]:
    """The pipeline of one store, open for writing, with no side effect on its neighbours."""
    from ucm import _core

    if root.stage == "Posix":
        own = {"namespace": namespace} if namespace else {}
        pipeline = _core.Pipeline("Posix", {"storage_backends": [str(root.path)], **own})
        try:
            yield pipeline
        finally:
            pipeline.close()
        return
    # A Disk stage makes room among the slot folders of its backend. Seen through a backend of its
    # own, with the capacity it has, this store is alone and nothing is evicted.
    with tempfile.TemporaryDirectory(prefix="ucm-gc-") as backend:
        os.symlink(root.path, os.path.join(backend, str(root.slot_bytes)))
        options: dict[str, Any] = {
            "storage_backends": [backend],
            "capacity_bytes": int(root.format["capacity_slots"]) * root.slot_bytes,
            "eviction_high": 1.0,
            "eviction_low": 1.0,
            "cache.buffer_number": 1,
            "cache.huge_pages": "off",
            "cache.prefault": False,
        }
        pipeline = _core.Pipeline("Disk", options, [root.slot_bytes])
        try:
            yield pipeline
        finally:
            pipeline.close()


def _report(blocks: list[Block], victims: list[Block], dry_run: bool, as_json: bool) -> None:
    freed = sum(block.stored for block in victims)
    total = sum(block.stored for block in blocks)
    if as_json:
        write_json(
            {
                "dry_run": dry_run,
                "blocks": len(blocks),
                "bytes": total,
                "removed_blocks": len(victims),
                "removed_bytes": freed,
            }
        )
        return
    verb = "would remove" if dry_run else "removed"
    console().print(
        f"{verb} {count_text(len(victims))} of {count_text(len(blocks))} blocks "
        f"({bytes_text(freed)}); {bytes_text(total - freed)} {'would stay' if dry_run else 'stay'}",
        soft_wrap=True,
    )
