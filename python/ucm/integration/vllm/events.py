# SPDX-License-Identifier: Apache-2.0
"""KV events: routers learn which blocks the store holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from ucm.integration.vllm import compat
from ucm.integration.vllm.metadata import WorkerReport
from ucm.integration.vllm.settings import Settings
from ucm.integration.vllm.tracking import RequestTrack

_MOST_WAITING = 1 << 17
_MEDIUM = "STORAGE"


@dataclasses.dataclass(slots=True)
class _Saving:
    """A block on its way to the store, as a router knows it."""

    hash: Any
    parent: Any
    tokens: list[int]
    lora_id: int | None
    lora_name: str | None
    reports: int = 0


class EventLog:
    """Turns the workers' reports into vLLM's events.

    A block is announced when all ranks have stored their parts of it; one that failed to load is
    announced as removed. Blocks are named by vLLM's own hashes where it has them, as in the events
    of the engine's own cache. Blocks that the store evicts are not announced.
    """

    def __init__(self, settings: Settings) -> None:
        self._size = settings.block_tokens
        self._parts = settings.ranks.parts
        self._saving: dict[bytes, _Saving] = {}
        self._stored: dict[bytes, Any] = {}
        self._events: list[Any] = []

    def saving(self, track: RequestTrack, first: int, end: int) -> None:
        """Remember blocks that are being saved."""
        request, keys = track.request, track.chain.keys
        hashes = compat.engine_hashes(request, end) or keys
        tokens = request.all_token_ids
        lora = getattr(request, "lora_request", None)
        for block in range(first, min(end, len(keys))):
            if len(self._saving) >= _MOST_WAITING:
                self._saving.pop(next(iter(self._saving)))
            self._saving[keys[block]] = _Saving(
                hash=hashes[block],
                parent=hashes[block - 1] if block else None,
                tokens=list(tokens[block * self._size : (block + 1) * self._size]),
                lora_id=lora.lora_int_id if lora is not None else None,
                lora_name=lora.lora_name if lora is not None else None,
            )

    def reported(self, report: WorkerReport) -> None:
        """Hear what the workers stored and lost."""
        for key, count in report.stored.items():
            saving = self._saving.get(key)
            if saving is None:
                continue
            saving.reports += count
            if saving.reports >= self._parts:
                del self._saving[key]
                self._remember(key, saving.hash)
                self._events.append(self._stored_event(saving))
        gone = [self._stored.pop(key) for key in report.lost if key in self._stored]
        if gone:
            self._events.append(compat.block_removed(gone, _MEDIUM))

    def take(self) -> Iterable[Any]:
        """The events since the last call."""
        events, self._events = self._events, []
        return events

    def _remember(self, key: bytes, block_hash: Any) -> None:
        if len(self._stored) >= _MOST_WAITING:
            self._stored.pop(next(iter(self._stored)))
        self._stored[key] = block_hash

    def _stored_event(self, saving: _Saving) -> Any:
        return compat.block_stored(
            block_hashes=[saving.hash],
            parent_block_hash=saving.parent,
            token_ids=saving.tokens,
            block_size=self._size,
            lora_id=saving.lora_id,
            lora_name=saving.lora_name,
            medium=_MEDIUM,
        )
