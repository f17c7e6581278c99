# SPDX-License-Identifier: Apache-2.0
"""What saving costs: the same requests to a server without and one with the connector, in turn."""

from __future__ import annotations

import statistics
import time
from typing import Any

import client
from progress import Progress
from server import Server
from story import QUESTIONS, prompt

TTFT_LIMIT = 1.10
TOKEN_LIMIT = 1.02
# Enough of them: between two runs of 96, machines differ by more than the limit.
DECODED_TOKENS = 384


def measure(
    without: Server, with_connector: Server, document: str, rounds: int, progress: Progress
) -> dict[str, Any]:
    """Ask both servers the same cold question in turn, a different text in every round.

    Args:
        without: a server that has no connector.
        with_connector: the same server with one.
        document: the text; its first line changes from round to round, so every reading is cold.
        rounds: how many pairs; who goes first changes from pair to pair.
        progress: where to say what is going on.

    Returns:
        Medians, their ratios, every single value, and "failures", ready for JSON.
    """
    servers = {"without": without, "with": with_connector}
    seen: dict[str, list[dict[str, float]]] = {"without": [], "with": []}
    try:
        for side, server in servers.items():
            progress.start(server, f"vllm serve ({side} the connector)")
            _one(server.port, side, "of warming up", document, progress)
        for number in range(rounds):
            order = ("without", "with") if number % 2 == 0 else ("with", "without")
            for side in order:
                seen[side].append(
                    _one(servers[side].port, side, str(number + 1), document, progress)
                )
    finally:
        for server in servers.values():
            server.stop()
    return summarize(seen)


def summarize(seen: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Medians per side, their ratios, and what is over its limit."""
    result: dict[str, Any] = {"rounds": seen, "failures": []}
    for key, name, limit in (
        ("ttft_s", "cold TTFT", TTFT_LIMIT),
        ("token_s", "time per token", TOKEN_LIMIT),
    ):
        medians = {side: statistics.median(one[key] for one in seen[side]) for side in seen}
        ratio = medians["with"] / medians["without"]
        result[key] = {**medians, "ratio": ratio, "limit": limit}
        if ratio > limit:
            result["failures"].append(f"{name} with the connector: {ratio:.3f}, limit {limit:g}")
    return result


def _one(port: int, side: str, name: str, document: str, progress: Progress) -> dict[str, float]:
    text = prompt(f"Reading {name}.\n\n{document}", QUESTIONS["breaker"])
    answer = progress.step(
        f"round {name}, {side}",
        lambda: client.ask(port, text, max_tokens=DECODED_TOKENS, ignore_eos=True),
    )
    # What one server still writes must not be counted against the other.
    time.sleep(1.0)
    return {"ttft_s": answer.ttft_s, "token_s": answer.token_s}
