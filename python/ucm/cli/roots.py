# SPDX-License-Identifier: Apache-2.0
"""Stores on disk, recognised by their FORMAT.json, and the lock of their writer."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

NAMESPACE_PREFIX = "n-"
FORMAT = "FORMAT.json"
LOCK = "LOCK"
_STAGES = {"ucm-posix": "Posix", "ucm-pages": "Disk"}
_FLOCK = "hhqqi0q"  # struct flock of a 64-bit Linux
_PAGE = 4096


@dataclasses.dataclass(frozen=True)
class Root:
    """One store: a directory with a FORMAT.json of ours.

    Args:
        stage: Disk or Posix.
        path: The directory.
        format: What FORMAT.json says.
    """

    stage: str
    path: Path
    format: dict[str, Any]

    @property
    def slot_bytes(self) -> int:
        """Bytes of a slot of a Disk store; 0 for Posix."""
        return int(self.format.get("slot_bytes", 0))

    def stored_bytes(self, payload: int) -> int:
        """What a block of `payload` bytes takes in this store."""
        if self.stage == "Disk":
            return self.slot_bytes
        return -(-payload // _PAGE) * _PAGE + _PAGE


def namespace_of(record: dict[str, Any], root: Root) -> str:
    """The namespace a block of a Posix store lies in; empty for none."""
    if root.stage != "Posix":
        return ""
    folder = Path(record["location"]).relative_to(root.path).parts[0]
    return folder.removeprefix(NAMESPACE_PREFIX) if folder.startswith(NAMESPACE_PREFIX) else ""


def read_root(path: Path) -> Root | None:
    """The store in a directory; None when there is none that this version knows."""
    try:
        format_ = json.loads((path / FORMAT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(format_, dict) or format_.get("format") not in _STAGES:
        return None
    return Root(_STAGES[format_["format"]], path, format_)


def find_roots(path: Path) -> list[Root]:
    """The stores of a backend: itself, its slot folders, and those of its ranks.

    Raises:
        click.ClickException: There is none, or the path is no directory.
    """
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise click.ClickException(f"{path} {what}; give a directory that storage_backends names")
    roots = list(_roots_of(path))
    if not roots:
        raise click.ClickException(
            f"{path} holds no store of ucm: there is no {FORMAT} of a Posix or Disk store in it, "
            "in its slot folders or in its rank-* folders"
        )
    return roots


def _roots_of(path: Path) -> Iterator[Root]:
    own = read_root(path)
    if own is not None:
        yield own
        if own.stage == "Disk":
            return
    ranks = sorted(each for each in path.glob("rank-*") if each.is_dir())
    for backend in (path, *ranks):
        slots = [each for each in backend.iterdir() if each.name.isdigit() and each.is_dir()]
        for folder in sorted(slots, key=lambda each: int(each.name)):
            root = read_root(folder)
            if root is not None and root.stage == "Disk":
                yield root


def walk(root: Root, verify: bool, on_block: Callable[[dict[str, Any]], None]) -> None:
    """Calls on_block for every block of one store; nothing is changed."""
    from ucm import _core
    from ucm.errors import NotFound

    def own(record: dict[str, Any]) -> None:
        if record["stage"] == root.stage:
            on_block(record)

    try:
        _core.inspect(str(root.path), verify, own)
    except NotFound:
        raise click.ClickException(
            f"{root.path} holds a {root.stage} store that this version of ucm can not read"
        ) from None


def writer_of(root: Root) -> str | None:
    """Who has a Disk store open for writing: `process 123`, or None."""
    if root.stage != "Disk":
        return None
    try:
        with open(root.path / LOCK, "r+b") as file:
            answer = fcntl.fcntl(file, fcntl.F_OFD_GETLK, _whole_file())
            if struct.unpack(_FLOCK, answer)[0] == fcntl.F_UNLCK:
                return None
            pid = file.read(32).decode("ascii", "replace").strip()
    except OSError:
        return None
    return f"process {pid}" if pid.isdigit() else "another process"


@contextmanager
def writing(root: Root) -> Iterator[None]:
    """Keeps writers out of a Disk store meanwhile.

    Raises:
        click.ClickException: A writer has it open.
    """
    if root.stage != "Disk":
        yield
        return
    with open(root.path / LOCK, "a+b") as file:
        try:
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, _whole_file())
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise busy(root) from None
        yield


def busy(root: Root) -> click.ClickException:
    """The refusal when somebody writes."""
    holder = writer_of(root) or "another process"
    return click.ClickException(
        f"{root.path} is open for writing by {holder}; stop the engine that uses it first"
    )


def _whole_file() -> bytes:
    return struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
