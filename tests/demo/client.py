# SPDX-License-Identifier: Apache-2.0
"""Questions to an OpenAI-compatible server, timed; and its metrics, read as numbers."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What came back, and when.

    ttft_s counts from sending the request until the first token; token_s is the mean time between
    the later tokens.
    """

    text: str
    token_ids: list[int]
    prompt_tokens: int
    ttft_s: float
    token_s: float


def ask(port: int, content: str, *, max_tokens: int, ignore_eos: bool = False) -> Answer:
    """Send one user message, greedy and streaming, and time the answer.

    Args:
        port: of the server on 127.0.0.1.
        content: the message.
        max_tokens: the longest answer, in tokens.
        ignore_eos: go on to max_tokens whatever the model says.

    Raises:
        RuntimeError: the server refused, or ended the answer early; the text quotes it.
    """
    begin = time.perf_counter()
    text, tokens, prompt_tokens = "", [], 0
    first = last = 0.0
    for event in stream(port, content, max_tokens=max_tokens, ignore_eos=ignore_eos):
        prompt_tokens = (event.get("usage") or {}).get("prompt_tokens", prompt_tokens)
        for choice in event.get("choices", []):
            ids = choice.get("token_ids") or []
            if ids:
                last = time.perf_counter()
                first = first or last
            tokens += ids
            text += (choice.get("delta") or {}).get("content") or ""
    if not tokens:
        raise RuntimeError("the server ended the answer before its first token")
    pace = (last - first) / (len(tokens) - 1) if len(tokens) > 1 else 0.0
    return Answer(text, tokens, prompt_tokens, first - begin, pace)


def stream(
    port: int, content: str, *, max_tokens: int, ignore_eos: bool = False
) -> Iterator[dict[str, Any]]:
    """The events of one streaming answer; closing the iterator closes the connection."""
    body = {
        "model": "demo",
        "messages": [{"role": "user", "content": content}],
        "temperature": 0,
        "max_tokens": max_tokens,
        "ignore_eos": ignore_eos,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
    }
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"the server answered {response.status}: {response.read()[:500]!r}")
        for line in response:
            if not line.startswith(b"data: "):
                continue
            if line.strip() == b"data: [DONE]":
                return
            event = json.loads(line[6:])
            if "error" in event:
                raise RuntimeError(f"the server broke off: {event['error']}")
            yield event
    finally:
        connection.close()


def metrics(port: int) -> dict[str, float]:
    """Every sample of the server's /metrics by its name, summed over its labels."""
    from prometheus_client.parser import text_string_to_metric_families

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/metrics")
        page = connection.getresponse().read().decode()
    finally:
        connection.close()
    values: dict[str, float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if not sample.name.endswith(("_bucket", "_created")):
                values[sample.name] = values.get(sample.name, 0.0) + sample.value
    return values
