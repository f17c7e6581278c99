# SPDX-License-Identifier: Apache-2.0
"""The scheduler's side: which blocks are loaded, which are saved."""

from __future__ import annotations

import logging
import secrets
import time
from typing import Any

from ucm.integration.common import parts
from ucm.integration.common.fallback import Breaker, Fallback
from ucm.integration.vllm import compat
from ucm.integration.vllm.events import EventLog
from ucm.integration.vllm.lookup import PartsLookup, PrefixLookup
from ucm.integration.vllm.metadata import LoadJob, SaveJob, StepMetadata, WorkerReport
from ucm.integration.vllm.metrics import Tally
from ucm.integration.vllm.settings import Settings
from ucm.integration.vllm.tracking import RequestTrack
from ucm.keys import KEY_BYTES, root_key, unpack

_log = logging.getLogger("ucm.integration.vllm")
_MOST_SENT = 1 << 16
_LEAN_STEPS = 4
"""Steps for which a block that is loaded inside a step may still turn out to have failed."""


class SchedulerSide:
    """Plans loads and saves. Opens the store for lookups only. Called from one thread."""

    def __init__(self, settings: Settings, lookup: PrefixLookup | None = None) -> None:
        self._settings = settings
        self._size = settings.block_tokens
        self._namespace = settings.namespace
        self.tally = Tally()
        self._loads = Fallback("load", self._breaker(), self.tally.failure)
        """Loads as the workers report them: when they keep failing, no hits are promised."""
        self._parts = PartsLookup(settings)
        self._lookup = lookup or PrefixLookup(
            self._parts.count,
            Fallback("lookup", self._breaker(), self.tally.failure),
            background=parts.has_slow_lookup(settings.config.store),
            wait_s=settings.lookup_wait_s if compat.CAN_DEFER_LOOKUP else settings.lookup_timeout_s,
            timeout_s=settings.lookup_timeout_s,
        )
        self._tracks: dict[str, RequestTrack] = {}
        self._refused: set[str] = set()
        self._planned: list[LoadJob] = []
        self._ended: list[bytes] = []
        self._loading: list[dict[int, str]] = []
        self._sent: dict[bytes, float] = {}
        self._loads_in_step = False
        self.events = EventLog(settings) if settings.events else None

    def _breaker(self) -> Breaker:
        return Breaker(self._settings.breaker_failures, self._settings.breaker_delay_s)

    # --- before a request is scheduled ---

    def matched_tokens(self, request: Any, computed: int) -> tuple[int | None, bool]:
        """How many tokens beyond ``computed`` can be loaded, and whether between steps.

        Asking changes nothing: the answer is the same until the store or ``computed`` changes.
        """
        track = self._track(request)
        if track is None or not self._settings.loads or compat.wants_no_cached_prefix(request):
            return 0, False
        track.asked, track.local, track.hits = True, computed // self._size, None
        # At least one token is left to compute, or there would be no logits to sample from.
        most = (len(request.all_token_ids) - 1) // self._size
        if most <= track.local or computed % self._size or track.load_failed():
            return 0, False
        hits = self._lookup.ask(request.request_id, track.keys(0, most))
        if hits is None:
            return (None, False) if compat.CAN_DEFER_LOOKUP else (0, False)
        if hits < 0:
            return 0, False
        beyond = hits - track.local
        if beyond < 0:
            # The store lost the head of what the engine still holds; the tail may be there.
            tail = self._lookup.ask(f"{request.request_id}/tail", track.keys(track.local, most))
            if tail is None and compat.CAN_DEFER_LOOKUP:
                return None, False
            beyond = tail or 0
        track.hits = hits
        tokens = max(0, beyond) * self._size
        if tokens < max(1, self._settings.config.load_tokens_threshold):
            return 0, False
        if not self._loads.would_allow():
            return 0, False
        return tokens, self._settings.async_load

    def after_allocation(self, request: Any, blocks: Any, external_tokens: int) -> None:
        """The engine has made room for a request, and for the tokens it wants loaded."""
        track = self._track(request)
        if track is None:
            return
        track.replace_blocks(blocks)
        if not track.asked:
            return  # the second call for one load
        self._forget_questions(request.request_id)
        track.asked = False
        count = external_tokens // self._size
        end = track.local + count
        track.reached = end * self._size
        track.next_save, track.gap = end, (0, 0)
        if track.hits is not None and track.hits < track.local and self._settings.groups == 1:
            track.gap = (track.hits, track.local)
        if count:
            self._loads.allows()  # when the breaker is open, this load is its probe
            track.note_load()
            track.batches += 1
            self._plan_load(track, end)
        self.tally.add("query_tokens", len(request.all_token_ids) - track.local * self._size)
        self.tally.add("hit_tokens", external_tokens)

    def _plan_load(self, track: RequestTrack, end: int) -> None:
        request, first = track.request, track.local
        job = LoadJob(
            request_id=request.request_id,
            keys=track.keys(first, end),
            blocks=track.table(first, end),
            first_block=first,
            asynchronous=self._settings.async_load,
        )
        self._planned.append(job)

    # --- when a step is scheduled ---

    def step(self, output: Any) -> StepMetadata:
        """Plan one step: the loads that were promised, and the blocks that become full."""
        meta = StepMetadata(loads=self._planned, ended=self._ended)
        self._planned, self._ended = [], []
        self._note_loading(meta.loads)
        self._loads_in_step |= any(not job.asynchronous for job in meta.loads)
        scheduled = output.num_scheduled_tokens
        for new in output.scheduled_new_reqs:
            track = self._tracks.get(new.req_id)
            if track is not None:
                track.replace_blocks(new.block_ids)
                self._plan_save(meta, track, new.num_computed_tokens, scheduled[new.req_id], True)
        for request_id, resumed, fresh, computed in compat.cached_requests(output):
            track = self._tracks.get(request_id)
            if track is None:
                continue
            if resumed:
                track.replace_blocks(fresh)
            else:
                track.append_blocks(fresh)
            self._plan_save(meta, track, computed, scheduled.get(request_id, 0), resumed)
        return meta

    def _plan_save(
        self, meta: StepMetadata, track: RequestTrack, computed: int, scheduled: int, fresh: bool
    ) -> None:
        size = self._size
        if computed < track.reached:
            # Drafted tokens were rejected, or a load failed: from here on blocks are made again.
            track.next_save = min(track.next_save, computed // size)
            track.gap = (0, 0)
            meta.rewound.append(track.request.request_id)
        track.reached = computed + scheduled
        if not self._settings.saves:
            return
        full = min(track.reached, len(track.request.all_token_ids)) // size
        if full <= track.next_save and track.gap[0] == track.gap[1]:
            return
        leans_on = self._leans_on(track, computed) if fresh and self._loading else ()
        if track.gap[0] < track.gap[1] and not self._on_its_way(track.keys(*track.gap)):
            self._save(meta, track, *track.gap, leans_on)
        if track.next_save < full:
            self._save(meta, track, track.next_save, full, leans_on)
        track.gap = (0, 0)
        track.next_save = max(track.next_save, full)

    def _save(
        self, meta: StepMetadata, track: RequestTrack, first: int, end: int, leans_on: tuple
    ) -> None:
        keys, blocks = track.savable(first, end)
        if not keys:
            return
        track.batches += 1
        meta.saves.append(SaveJob(track.request.request_id, keys, blocks, leans_on))
        self._sent[keys[-KEY_BYTES:]] = time.monotonic()
        if len(self._sent) > _MOST_SENT:
            del self._sent[next(iter(self._sent))]
        if self.events is not None:
            self.events.saving(track, first, end)

    def _on_its_way(self, keys: bytes) -> bool:
        """Whether these blocks were sent to the store so recently that it may not show them yet."""
        horizon = time.monotonic() - self._settings.timeout_s
        sent = (self._sent.get(key, 0.0) for key in unpack(keys))
        return max(sent, default=0.0) > horizon

    def _note_loading(self, loads: list[LoadJob]) -> None:
        """Remember which blocks are loaded inside steps: others may use them before they are."""
        inside = {
            int(block): job.request_id
            for job in loads
            if not job.asynchronous
            for block in job.blocks[:, 0]
        }
        if inside or self._loading:
            self._loading = [inside, *self._loading][:_LEAN_STEPS]
            if not any(self._loading):
                self._loading = []

    def _leans_on(self, track: RequestTrack, computed: int) -> tuple[str, ...]:
        held = track.blocks[0][: -(-computed // self._size)]
        owners = {
            owners[block] for owners in self._loading if owners for block in held if block in owners
        }
        return tuple(owners - {track.request.request_id})

    # --- what came back, and the end of a request ---

    def worker_output(self, output: Any) -> None:
        """Hear how loads went on the workers, and what they stored."""
        report = getattr(output, "kv_connector_worker_meta", None)
        if isinstance(report, WorkerReport):
            self._note_loads(report.good_loads, report.bad_loads)
            if self.events is not None:
                self.events.reported(report)
        elif not compat.CAN_SEND_WORKER_METADATA:
            # Here nobody tells whether the store failed, or lacked single blocks only.
            ended = self._loads_in_step or bool(getattr(output, "finished_recving", None))
            bad = bool(getattr(output, "invalid_block_ids", None))
            self._note_loads(ended and not bad, bad)
        self._loads_in_step = False

    def _note_loads(self, good: int, bad: int) -> None:
        """Loads of one step; what one rank could not load is lost for all."""
        if bad:
            self._loads.store_failed()
        elif good:
            self._loads.succeeded()

    def finished(self, request_id: str) -> None:
        """Forget a request; with the next step the store hears which blocks were its chain."""
        track = self._tracks.pop(request_id, None)
        if track is not None and track.batches + (track.local > 0) > 1:
            self._ended.append(track.keys(0, track.next_save))
        self._refused.discard(request_id)
        self._forget_questions(request_id)

    def _forget_questions(self, request_id: str) -> None:
        self._lookup.forget(request_id)
        self._lookup.forget(f"{request_id}/tail")

    def reset(self) -> None:
        """Answer nothing that was stored before: the engine may compute with other weights now.

        What is stored from here on has keys that nobody knows but this scheduler, until it ends:
        the weights are not those of the model's folder any more. Requests that are under way hold
        KV of both, and are neither loaded nor saved from here on.
        """
        self._namespace = root_key(self._namespace, "reset", secrets.token_bytes(KEY_BYTES))
        for request_id in self._tracks:
            self._forget_questions(request_id)
        self._refused.update(self._tracks)
        self._tracks.clear()
        self._ended.clear()

    def close(self) -> None:
        """Let go of the store and of the lookup thread."""
        self._lookup.close()
        self._parts.close()

    def _track(self, request: Any) -> RequestTrack | None:
        request_id = request.request_id
        track = self._tracks.get(request_id)
        if track is not None and track.request is request:
            return track
        if request_id in self._refused:
            return None
        reason = compat.unsupported_request(request)
        short = len(request.all_token_ids) < self._settings.config.persist_token_threshold
        if reason is not None or short:
            self._refused.add(request_id)
            self.tally.add("refused_requests", 1)
            _log.debug("request %s is not cached: %s", request_id, reason or "too short")
            return None
        track = RequestTrack(request, self._namespace, self._size)
        self._tracks[request_id] = track
        return track
