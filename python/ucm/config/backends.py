# SPDX-License-Identifier: Apache-2.0
"""`storage_backends`: what is written in a configuration -> directories on this machine."""

from __future__ import annotations

import os
import re

from ucm.errors import ConfigError, Unsupported

_EXPORT = re.compile(r"^(?P<host>\[[0-9A-Fa-f:]+\]|[A-Za-z0-9_.-]+):(?P<path>/.*)$")


def read_mounts(path: str = "/proc/mounts") -> list[tuple[str, str]]:
    """(device, mount point) of everything that is mounted, the newest last."""
    mounts = []
    with open(path, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            words = line.split()
            if len(words) >= 2:
                mounts.append((_unescape(words[0]), _unescape(words[1])))
    return mounts


def _unescape(word: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), word)


def split_paths(text: str) -> list[str]:
    """`a:b` of released UCM is two directories; `host:/export` is one export."""
    if _EXPORT.match(text) or "://" in text or ":" not in text:
        return [text]
    return [part for part in text.split(":") if part]


def resolve_backend(backend: str, mounts: list[tuple[str, str]] | None = None) -> str:
    """One backend as an absolute directory of this machine.

    Args:
        backend: A directory, or `host:/export`.
        mounts: What is mounted; read from /proc/mounts when absent.

    Raises:
        ConfigError: The export is not mounted; the text has the line that mounts it.
        Unsupported: A URL such as s3://bucket.
    """
    scheme, url, _ = backend.partition("://")
    if url:
        if scheme != "file":
            raise Unsupported(
                f"storage_backends {backend!r}: no stage for {scheme}:// is in this version; "
                "mount the bucket and name the mount point, or use `Cache|NFS` on a shared mount"
            )
        backend = backend[len("file://") :]
    match = _EXPORT.match(backend)
    if match is None:
        return os.path.abspath(os.path.expanduser(backend))
    return _mounted(backend, match["path"], mounts if mounts is not None else read_mounts())


def _mounted(backend: str, export: str, mounts: list[tuple[str, str]]) -> str:
    wanted = backend.rstrip("/") or backend
    best: tuple[int, str] | None = None
    for device, point in mounts:
        source = device.rstrip("/") if device != "/" else device
        if ":" not in source:
            continue
        if wanted == source or wanted.startswith(source + "/"):
            inside = wanted[len(source) :].lstrip("/")
            path = os.path.join(point, inside) if inside else point
            if best is None or len(source) >= best[0]:
                best = (len(source), path)
    if best is not None:
        return best[1]
    point = "/mnt/" + (export.strip("/").split("/")[-1] or "ucm_cache")
    raise ConfigError(
        f"storage_backends {backend!r}: this export is not mounted here. Mount it, then keep the "
        f"configuration as it is:  mkdir -p {point} && mount -t nfs -o "
        f"rw,hard,nfsvers=4.1,rsize=1048576,wsize=1048576 {backend} {point}",
        key="storage_backends",
    )
