# SPDX-License-Identifier: Apache-2.0
"""`ucm clear`: removes a store, and nothing but what ucm wrote."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from ucm.cli.output import console, note, write_json
from ucm.cli.params import bytes_text, count_text, json_option
from ucm.cli.roots import FORMAT, LOCK, NAMESPACE_PREFIX, Root, find_roots, writing

_FOLDER = re.compile(r"[0-9a-f]{2}")
_BLOCK = re.compile(r"[0-9a-f]{32}(\.r\d+)?")
_PAGES = re.compile(rf"{LOCK}|{re.escape(FORMAT)}(\..+)?|index(\..+)?|table(\..+)?|seg-\d{{5,}}")
_TEMPORARY = ".t-"
_PIN = ".p-"
_COLLECTOR = ".collector"


@click.command(epilog="Example: ucm clear /data/ucm_cache --yes")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option()
def clear(path: Path, yes: bool, as_json: bool) -> None:
    """Remove the store in PATH with all its blocks.

    Only files that ucm wrote are removed, and only from directories with ucm's FORMAT.json; PATH
    itself stays. A Disk store must not be in use.
    """
    path = path.absolute()
    roots = find_roots(path)
    files = [list(own_files(root)) for root in roots]
    total = sum(_allocated(each) for listed in files for each in listed)
    count = sum(len(listed) for listed in files)
    if not yes:
        stores = ", ".join(f"{root.stage} in {root.path}" for root in roots)
        question = f"Remove {stores}: {count_text(count)} files, {bytes_text(total)}?"
        if not _confirmed(question):
            note("nothing was removed")
            raise click.exceptions.Exit(1)
    for root, listed in zip(roots, files, strict=True):
        with writing(root):
            _remove(root, listed)
    for root in roots:
        _drop_empty(root.path, path)
    left = _left_over(path)
    if as_json:
        write_json({"path": str(path), "files": count, "bytes": total, "left": left})
        return
    console().print(f"removed {count_text(count, 'file')} ({bytes_text(total)})", soft_wrap=True)
    if left:
        console().print(
            f"{count_text(left)} files in {path} are not ucm's and stay", soft_wrap=True
        )


def _confirmed(question: str) -> bool:
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        raise click.UsageError("nobody can answer here; give --yes") from None


def own_files(root: Root) -> Iterator[Path]:
    """The files of a store; FORMAT.json comes last, so that a store half removed is recognised."""
    if root.stage == "Disk":
        yield from sorted(
            each
            for each in root.path.iterdir()
            if each.name not in (FORMAT, LOCK) and _PAGES.fullmatch(each.name) and _is_file(each)
        )
        yield root.path / FORMAT
        if (root.path / LOCK).exists():
            yield root.path / LOCK
        return
    for place in _namespaces(root.path):
        for folder in _block_folders(place):
            for each in sorted(folder.iterdir()):
                name = each.name.removeprefix(_PIN)
                own = _BLOCK.fullmatch(name) and name.startswith(folder.name)
                if (own or each.name.startswith(_TEMPORARY)) and _is_file(each):
                    yield each
    for each in sorted(root.path.iterdir()):
        if (each.name.startswith(_TEMPORARY) or each.name == _COLLECTOR) and _is_file(each):
            yield each
    yield root.path / FORMAT


def _namespaces(path: Path) -> list[Path]:
    """Where the blocks of a Posix store lie: itself, and the folders of its namespaces."""
    named = (each for each in path.iterdir() if each.name.startswith(NAMESPACE_PREFIX))
    return [path, *sorted(each for each in named if _is_folder(each))]


def _block_folders(path: Path) -> list[Path]:
    folders = (each for each in path.iterdir() if _FOLDER.fullmatch(each.name))
    return sorted(each for each in folders if _is_folder(each))


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _allocated(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0


def _remove(root: Root, files: list[Path]) -> None:
    for each in files:
        each.unlink(missing_ok=True)
    if root.stage == "Posix":
        for place in _namespaces(root.path):
            for folder in _block_folders(place):
                _rmdir(folder)
            if place != root.path:
                _rmdir(place)


def _drop_empty(folder: Path, stop: Path) -> None:
    """Removes folders that ucm made and that are empty now, up to but without `stop`."""
    while folder != stop and stop in folder.parents and _rmdir(folder):
        folder = folder.parent


def _rmdir(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        folder.rmdir()
        return True
    return False


def _left_over(path: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(path))
