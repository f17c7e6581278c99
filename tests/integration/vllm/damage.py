# SPDX-License-Identifier: Apache-2.0
"""Ways in which stored blocks can come to harm, on the files of a Posix or a Disk stage."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

_BLOCK_NAME = 32  # hex digits


def block_files(root: Path) -> list[Path]:
    """Files that hold one block each (Posix)."""
    return sorted(
        path
        for path in root.rglob("*")
        if path.is_file() and len(path.name) >= _BLOCK_NAME and path.parent.name == path.name[:2]
    )


def segments(root: Path) -> Iterator[tuple[Path, int]]:
    """Files that hold slots (Disk), with the bytes of a slot."""
    for path in sorted(root.rglob("seg-*")):
        yield path, int(path.parent.name)


def extents(root: Path) -> list[tuple[Path, int, int]]:
    """(file, offset, bytes) of everything that may hold a block."""
    found = [(path, 0, path.stat().st_size) for path in block_files(root)]
    for path, slot in segments(root):
        whole = path.stat().st_size // slot
        found += [
            (path, number * slot, slot) for number in range(whole) if _used(path, number, slot)
        ]
    return found


def _used(path: Path, number: int, slot: int) -> bool:
    with open(path, "rb") as file:
        file.seek(number * slot)
        return any(file.read(slot))


def _edit(path: Path, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def _read(path: Path, offset: int, count: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(count)


def zero(root: Path) -> None:
    """The second half of every block is zeros."""
    for path, offset, count in extents(root):
        _edit(path, offset + count // 2, bytes(count - count // 2))


def flip(root: Path) -> None:
    """One bit of every block is another one."""
    for number, (path, offset, _) in enumerate(extents(root)):
        at = offset + 100 + 13 * number
        _edit(path, at, bytes([_read(path, at, 1)[0] ^ 4]))


def truncate(root: Path) -> None:
    """Every file ends in the middle of what it held."""
    for path in {path for path, _, _ in extents(root)}:
        last = max(offset + count for where, offset, count in extents(root) if where == path)
        with open(path, "r+b") as file:
            file.truncate(last // 2 + 100)


def swap(root: Path) -> None:
    """Neighbouring blocks have changed places, whole and unharmed."""
    for one, two in _pairs(extents(root)):
        first, second = _read(*one), _read(*two)
        _edit(two[0], two[1], first)
        _edit(one[0], one[1], second)


def _pairs(items: list[tuple[Path, int, int]]) -> Iterator[tuple[tuple, tuple]]:
    return zip(items[::2], items[1::2], strict=False)


def delete(root: Path) -> None:
    """Every third block is gone; of segments, the whole file."""
    for path in block_files(root)[::3]:
        path.unlink()
    for path, _ in list(segments(root)):
        path.unlink()


def foreign(root: Path) -> None:
    """Some blocks are files of somebody else, and strange things lie about."""
    for path in block_files(root)[::2]:
        path.write_text("this is no block")
    for path, slot in segments(root):
        _edit(path, 0, b"this is no segment" + bytes(slot))
    for folder in [path for path in root.rglob("*") if path.is_dir()]:
        (folder / "notes.txt").write_text("do not mind me")
        (folder / ("f" * _BLOCK_NAME)).write_bytes(b"\0" * 5000)


def lose(root: Path) -> None:
    """Everything is gone."""
    shutil.rmtree(root)


KINDS: dict[str, Callable[[Path], None]] = {
    function.__name__: function for function in (zero, flip, truncate, swap, delete, foreign, lose)
}
