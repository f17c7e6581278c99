# SPDX-License-Identifier: Apache-2.0
"""The demonstration's story: three servers in a row, two questions about one document."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from typing import Any

import client
from client import Answer
from progress import Progress
from server import Server

QUESTIONS = {"breaker": "What does a breaker do?", "slot": "What is a slot?"}
MAX_TOKENS = 48
FIRST, RESTARTED, KILLED = "empty store", "restarted", "after kill -9"


@dataclass(frozen=True)
class Asked:
    """One question, its answer, and where the KV of its prompt came from, in tokens."""

    run: str
    question: str
    answer: Answer
    computed_tokens: int
    engine_tokens: int
    store_tokens: int
    blocks_stored: int
    """Blocks that this server has put into its store so far."""
    blocks_loaded: int
    """Blocks that were loaded for this question."""


def tell(server: Server, document: str, progress: Progress) -> list[Asked]:
    """Read the document with an empty store, after a restart, and after kill -9.

    The second server dies while it writes the blocks of another text, so that the third one
    opens a store that nobody has closed.
    """
    told: list[Asked] = []
    try:
        _begin(server, FIRST, progress)
        told += [_ask(server, FIRST, name, document, progress) for name in ("breaker", "slot")]
        progress.step("stopping the server", server.stop)
        _begin(server, RESTARTED, progress)
        told += [_ask(server, RESTARTED, name, document, progress) for name in ("breaker", "slot")]
        progress.step("kill -9 while it saves another text", lambda: _kill(server, document))
        _begin(server, KILLED, progress)
        told += [_ask(server, KILLED, name, document, progress) for name in ("slot", "breaker")]
    finally:
        server.stop()
    return told


def report(told: list[Asked], asked_ratio: float) -> dict[str, Any]:
    """Everything the story has shown, ready for JSON; "failures" lists what was not as promised."""
    first = {run: next(a for a in told if a.run == run) for run in (FIRST, RESTARTED, KILLED)}
    cold = first[FIRST].answer.ttft_s
    equal = all(
        len({(a.answer.text, *a.answer.token_ids) for a in told if a.question == name}) == 1
        for name in QUESTIONS
    )
    loaded = sum(a.blocks_loaded for a in told)
    stored = max(a.blocks_stored for a in told if a.run == FIRST)
    failures = [] if equal else ["the answers differ"]
    for run in (RESTARTED, KILLED):
        ratio = cold / first[run].answer.ttft_s
        if ratio < asked_ratio:
            failures.append(f"{run}: first token {ratio:.1f} times sooner, not {asked_ratio:g}")
        if first[run].store_tokens == 0:
            failures.append(f"{run}: nothing came from the store")
    return {
        "prompt_tokens": first[FIRST].answer.prompt_tokens,
        "cold_ttft_s": cold,
        "restart_ttft_s": first[RESTARTED].answer.ttft_s,
        "kill_ttft_s": first[KILLED].answer.ttft_s,
        "asked_ratio": asked_ratio,
        "blocks_stored": stored,
        "blocks_loaded": loaded,
        "answers_equal": equal,
        "failures": failures,
        "asked": [asdict(a) for a in told],
    }


def prompt(document: str, question: str) -> str:
    """The message that asks a question about a document."""
    return f"{document}\n\nQuestion: {question}"


def _begin(server: Server, run: str, progress: Progress) -> None:
    progress.start(server, f"vllm serve ({run})")
    # The first request of a process pays for things that have nothing to do with its text.
    client.ask(server.port, "Say hello.", max_tokens=4)


def _ask(server: Server, run: str, name: str, document: str, progress: Progress) -> Asked:
    before = client.metrics(server.port)
    answer = progress.step(
        f'{run}: "{QUESTIONS[name]}"',
        lambda: client.ask(server.port, prompt(document, QUESTIONS[name]), max_tokens=MAX_TOKENS),
    )
    after = client.metrics(server.port)
    engine = _rise(before, after, "vllm:prefix_cache_hits_total")
    store = _rise(before, after, "vllm:external_prefix_cache_hits_total")
    return Asked(
        run=run,
        question=name,
        answer=answer,
        computed_tokens=answer.prompt_tokens - engine - store,
        engine_tokens=engine,
        store_tokens=store,
        blocks_stored=_rise({}, after, "vllm:ucm_saved_blocks_total"),
        blocks_loaded=_rise(before, after, "vllm:ucm_loaded_blocks_total"),
    )


def _rise(before: dict[str, float], after: dict[str, float], name: str) -> int:
    return round(after.get(name, 0.0) - before.get(name, 0.0))


def _kill(server: Server, document: str) -> None:
    """Kill the server at the first token of an answer, while the blocks of its prompt are saved."""
    other = "\n\n\n".join(reversed(document.split("\n\n\n")))
    with contextlib.closing(client.stream(server.port, other, max_tokens=MAX_TOKENS)) as events:
        for event in events:
            if any(choice.get("token_ids") for choice in event.get("choices", [])):
                break
        server.kill()
