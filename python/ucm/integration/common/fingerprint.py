# SPDX-License-Identifier: Apache-2.0
"""Names for model folders that follow their content.

A path says nothing about the weights behind it. The fingerprint of a folder is made from its
configuration and from samples of its weight files, so replaced weights get other keys, and copies
of one model on several machines share theirs.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".tensors")
_SAMPLE_BYTES = 4096
_READ_WHOLE = 8 * _SAMPLE_BYTES
_SAMPLE_EVERY = 1 << 20
_MOST_SAMPLES = 1 << 14
"""Of all files of a folder together: a second of reading where nothing is cached."""
_LONGEST_HEADER = 100 << 20


def folder_fingerprint(path: str | os.PathLike[str]) -> str | None:
    """A text that differs when the weights or the configuration in a folder differ.

    Args:
        path: a model folder, an adapter folder, or one weight file.

    Of a .safetensors file each tensor is sampled at its start, middle and end, so that weights of
    which some layers were trained further are told apart; of other files one sample per MiB.

    Returns:
        32 hex digits; None when there are no weights of that name on this machine.
    """
    files = _weight_files(Path(path))
    if files is None:
        return None
    stats = tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    return _fingerprint(stats)


def _weight_files(path: Path) -> list[Path] | None:
    if path.is_file():
        return [path]
    if not path.is_dir():
        return None
    names = {"config.json", "adapter_config.json"}
    found = [
        entry
        for entry in path.iterdir()
        if (entry.suffix in _WEIGHTS or entry.name in names) and entry.is_file()
    ]
    # A configuration alone says nothing about weights that lie elsewhere.
    return sorted(found) if any(entry.suffix in _WEIGHTS for entry in found) else None


@functools.lru_cache(maxsize=256)
def _fingerprint(stats: tuple[tuple[str, int, int], ...]) -> str:
    # The times are only part of this cache's key: they differ between copies of one model.
    digest = blake2b(digest_size=16, person=b"ucm-folder")
    most = max(64, _MOST_SAMPLES // len(stats))
    for name, size, _ in stats:
        digest.update(f"{Path(name).name}\0{size}\0".encode())
        with open(name, "rb") as file:
            if size <= _READ_WHOLE:
                digest.update(file.read())
                continue
            spans = _tensor_spans(file, size) if name.endswith(".safetensors") else None
            for start in _even(size, most) if spans is None else _of_each(spans, most):
                file.seek(start)
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def _even(size: int, most: int) -> Iterator[int]:
    """Where samples of a file begin whose inside is not known."""
    count = min(most, max(8, size // _SAMPLE_EVERY))
    yield from ((size - _SAMPLE_BYTES) * each // (count - 1) for each in range(count))


def _of_each(spans: list[tuple[int, int]], most: int) -> Iterator[int]:
    """Where samples of tensors begin: three of each, one of each, or one of so many."""
    for first, last in spans[:: -(-len(spans) // most)]:
        latest = max(first, last - _SAMPLE_BYTES)
        middle = (first + latest) // 2
        yield from sorted({first, middle, latest}) if 3 * len(spans) <= most else (middle,)


def _tensor_spans(file: BinaryIO, size: int) -> list[tuple[int, int]] | None:
    """First and last byte of each tensor of a .safetensors file; None if it is no such file."""
    end = 8 + int.from_bytes(file.read(8), "little")
    if not 8 < end <= min(_LONGEST_HEADER, size):
        return None
    try:
        header: dict[str, Any] = json.loads(file.read(end - 8))
        entries = [entry for name, entry in header.items() if name != "__metadata__"]
        places = sorted(tuple(map(int, entry["data_offsets"])) for entry in entries)
        spans = [(end + first, end + last) for first, last in places if last > first]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if not spans or spans[0][0] < end or max(last for _, last in spans) > size:
        return None
    return spans
