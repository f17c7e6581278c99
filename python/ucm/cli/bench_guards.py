# SPDX-License-Identifier: Apache-2.0
"""What a benchmark needs before it begins, and its temporary directory."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from ucm.cli.params import bytes_text

_SPARE = 1 << 30


def available(pipelines: Sequence[str]) -> tuple[str, ...]:
    """Those of the default pipelines that this build has."""
    from ucm import _core

    known = _core.stage_names()
    return tuple(each for each in pipelines if all(s in known for s in each.split("|")))


def check_pipeline(pipeline: str, *refused: str) -> None:
    from ucm.config.pipelines import parse_pipeline

    stages = parse_pipeline(pipeline).stages
    if "Null" in stages or any(each in stages for each in refused):
        raise click.UsageError(
            f"--pipeline {pipeline!r}: it keeps no bytes, so there is nothing to get back; choose "
            "Cache, Disk, Posix or a combination"
        )


def check_size(size: int) -> None:
    if size % 4096:
        raise click.UsageError(f"--size {size}: a multiple of 4096 is expected, for O_DIRECT")


def check_room(path: Path, count: int, size: int) -> None:
    """Two copies go to files, and four into memory."""
    from ucm.cli.check_host import meminfo

    needed, free = 2 * count * size + _SPARE, shutil.disk_usage(path).free
    memory, available = 4 * count * size, meminfo()["MemAvailable"]
    if needed > free:
        raise click.ClickException(
            f"{path} has {bytes_text(free)} free and {bytes_text(needed)} are needed: choose a "
            "smaller --count or another --path"
        )
    if memory > available:
        raise click.ClickException(
            f"{bytes_text(available)} of memory are available and {bytes_text(memory)} are needed: "
            "choose a smaller --count or --size"
        )


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """A directory of this run, gone at its end whatever the end is."""
    with tempfile.TemporaryDirectory(prefix="ucm-bench-", dir=path) as folder:
        yield Path(folder)
