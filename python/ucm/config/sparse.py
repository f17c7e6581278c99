# SPDX-License-Identifier: Apache-2.0
"""`ucm_sparse_*`: checked against what the methods document, then answered by one sentence."""

from __future__ import annotations

import difflib
from typing import Any

from ucm.config.source import Origin

_COMMON: dict[str, tuple[type, ...]] = {
    "sparse_ratio": (float, int),
    "local_window_sz": (int,),
    "init_window_sz": (int,),
    "min_blocks": (int,),
}
METHODS: dict[str, dict[str, tuple[type, ...]]] = {
    "ESA": {
        **_COMMON,
        "retrieval_stride": (int,),
        "retrieval_workers": (int,),
        "retrieval_cache_size": (int,),
    },
    "GSA": {
        **_COMMON,
        "prefetch_workers": (int,),
        "prefetch_ahead": (int,),
        "max_pending_prefetch": (int,),
    },
    "GSAOnDevice": dict(_COMMON),
    "KVStar": {
        **_COMMON,
        "checkpoint_interval": (int,),
        "lock_duration": (int,),
        "update_threshold": (int,),
        "base_method": (str,),
        "retrieval_stride": (int,),
    },
    "Blend": {
        "blend_chunk_size": (int,),
        "min_match_ratio": (float, int),
        "position_correction": (bool, str),
        "recompute_boundary": (int,),
        "rope_theta": (float, int),
        "chunk_end_token_id": (int,),
        "ratio": (float, int),
    },
    "ReRoPE": {
        "max_position": (int,),
        "extend_factor": (float, int),
        "rope_theta": (float, int),
        "base_method": (str,),
    },
}
METHODS["KVStarMultiStep"] = METHODS["KVStar"]
METHODS["RERoPE"] = METHODS["ReRoPE"]

NOTE = (
    "sparse attention ({method}) is not part of this version: the settings were checked and have "
    "no effect; prefix reuse works without them"
)


def check_sparse(config: dict[str, Any], origin: Origin, path: tuple[Any, ...]) -> list[str]:
    """Checks `ucm_sparse_config`.

    Returns:
        The methods that are configured.

    Raises:
        ConfigError: An unknown method or key, a wrong type, or a ratio outside (0, 1].
    """
    for method, settings in config.items():
        here = (*path, method)
        if method not in METHODS:
            raise origin.error(
                f"unknown sparse method {method!r}{_hint(method, METHODS)}; known: "
                f"{', '.join(METHODS)}",
                here,
                _nearest(method, METHODS),
            )
        if settings is None:
            continue
        if not isinstance(settings, dict):
            raise origin.error(f"{method}: a mapping of settings is expected", here)
        for name, value in settings.items():
            _check_setting(method, name, value, origin, (*here, name))
    return list(config)


def _check_setting(
    method: str, name: str, value: Any, origin: Origin, path: tuple[Any, ...]
) -> None:
    known = METHODS[method]
    if name not in known:
        raise origin.error(
            f"unknown key {name!r} of the sparse method {method}{_hint(name, known)}",
            path,
            _nearest(name, known),
        )
    kinds = known[name]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise origin.error(f"{name}: {wanted} is expected, not {value!r}", path)
    share: Any = value
    if name in ("sparse_ratio", "min_match_ratio", "ratio") and not 0 < share <= 1:
        raise origin.error(f"{name}: a share in (0, 1] is expected, not {value!r}", path)


def _nearest(word: object, known: Any) -> str | None:
    close = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.5)
    return close[0] if close else None


def _hint(word: object, known: Any) -> str:
    nearest = _nearest(word, known)
    return f"; did you mean {nearest!r}?" if nearest else ""
