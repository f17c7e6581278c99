# SPDX-License-Identifier: Apache-2.0
"""Names for model folders that follow their content.

A path says nothing about the weights behind it. The fingerprint of a folder is made from its
configuration and from samples of its weight files, so replaced weights get other keys, and copies
of one model on several machines share theirs.
"""

from __future__ import annotations

import functools
import os
from hashlib import blake2b
from pathlib import Path

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
_SAMPLES = 8
_SAMPLE_BYTES = 4096


def folder_fingerprint(path: str | os.PathLike[str]) -> str | None:
    """A text that differs when the weights or the configuration in a folder differ.

    Args:
        path: a model folder, an adapter folder, or one weight file.

    Returns:
        32 hex digits; None when there is nothing of that name on this machine.
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
    return sorted(found) or None


@functools.lru_cache(maxsize=256)
def _fingerprint(stats: tuple[tuple[str, int, int], ...]) -> str:
    # The times are only part of this cache's key: they differ between copies of one model.
    digest = blake2b(digest_size=16, person=b"ucm-folder")
    for name, size, _ in stats:
        digest.update(f"{Path(name).name}\0{size}\0".encode())
        with open(name, "rb") as file:
            if size <= _SAMPLES * _SAMPLE_BYTES:
                digest.update(file.read())
                continue
            for sample in range(_SAMPLES):
                file.seek((size - _SAMPLE_BYTES) * sample // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()
