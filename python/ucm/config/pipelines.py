# SPDX-License-Identifier: Apache-2.0
"""Documented pipeline names -> stages of the native core."""

from __future__ import annotations

import dataclasses
import difflib

from ucm.errors import ConfigError, Unsupported

_STAGES = {
    "cache": "Cache",
    "posix": "Posix",
    "disk": "Disk",
    "nfs": "Posix",
    "ds3fs": "Posix",
    "empty": "Null",
    "null": "Null",
    "fake": "Fake",
}
_SPELLING = {
    "cache": "Cache",
    "posix": "Posix",
    "disk": "Disk",
    "nfs": "NFS",
    "ds3fs": "DS3FS",
    "empty": "Empty",
    "null": "Null",
    "fake": "Fake",
}
NAMED = {
    "UcmPipelineStore": None,
    "UcmPosixStore": "Posix",
    "UcmCacheStore": "Cache",
    "UcmDiskStore": "Disk",
    "UcmNfsStore": "Cache|NFS",
    "UcmPcStore": "Cache|Posix",
    "UcmDs3fsStore": "Cache|DS3FS",
    "UcmDramStore": "Cache",
}
"""Documented store names -> their pipeline; None leaves it to `store_pipeline`."""
_SHARED_DIRECTORY = (
    "no remote stage is in this version; use `Cache|NFS` on a shared directory to share blocks "
    "between nodes, or `Cache|Disk` on a local NVMe"
)
_REFUSED = {
    "mooncake": f"Mooncake: {_SHARED_DIRECTORY}",
    "redis": f"Redis: {_SHARED_DIRECTORY}",
    "s3": "S3: no remote stage is in this version; mount the bucket and use `Cache|Posix` on the "
    "mount point, or use `Cache|NFS`",
    "yuanrong": f"YuanRong: {_SHARED_DIRECTORY}",
    "compress": "Compress: it is lossy, and not in this version; leave it out: `Cache|Posix`",
    "localmooncake": f"Mooncake: {_SHARED_DIRECTORY}",
}


@dataclasses.dataclass(frozen=True)
class PipelineSpec:
    """A pipeline as the native core knows it.

    Args:
        stages: Canonical stage names, from the fastest.
        nfs: Whether a stage was written as NFS, which brings retries.
    """

    stages: tuple[str, ...]
    nfs: bool = False

    @property
    def spec(self) -> str:
        return "|".join(self.stages)

    @property
    def needs_backends(self) -> bool:
        return any(stage in ("Posix", "Disk") for stage in self.stages)


def parse_pipeline(text: str) -> PipelineSpec:
    """Reads a `store_pipeline`.

    Raises:
        ConfigError: A stage is unknown, empty, or stands twice.
        Unsupported: A stage that is documented elsewhere and not in this version.
    """
    words = [word.strip() for word in text.split("|")]
    for word in words:
        if word.lower() in _REFUSED:
            raise Unsupported(f"store_pipeline {text!r}: {_REFUSED[word.lower()]}")
        if word.lower() not in _STAGES:
            raise _unknown(text, word)
    stages = tuple(_STAGES[word.lower()] for word in words)
    for stage in stages:
        if stages.count(stage) > 1:
            raise ConfigError(f"store_pipeline {text!r}: the stage {stage} stands twice")
    if "Cache" in stages[1:]:
        raise ConfigError(f"store_pipeline {text!r}: Cache is the fastest stage and comes first")
    return PipelineSpec(stages, any(word.lower() == "nfs" for word in words))


def _unknown(text: str, word: str) -> ConfigError:
    known = list(_SPELLING.values())
    if not word:
        return ConfigError(f"store_pipeline {text!r}: a stage is empty; write e.g. Cache|Posix")
    close = difflib.get_close_matches(word.lower(), _SPELLING, n=1, cutoff=0.5)
    nearest = _SPELLING[close[0]] if close else None
    hint = f"; did you mean {nearest}?" if nearest else ""
    return ConfigError(
        f"store_pipeline {text!r}: unknown stage {word!r}{hint} Known stages: {', '.join(known)}",
        key="store_pipeline",
        nearest=nearest,
    )
