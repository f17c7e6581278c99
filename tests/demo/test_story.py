# SPDX-License-Identifier: Apache-2.0
"""The demonstration says so when something is not as promised."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import overhead
from client import Answer
from story import FIRST, KILLED, RESTARTED, Asked, report


def asked(
    run: str, question: str, *, ttft_s: float, store: int = 0, text: str | None = None
) -> Asked:
    text = f"about {question}" if text is None else text
    answer = Answer(text, [len(text)], 5900, ttft_s, 0.02)
    return Asked(run, question, answer, 5900 - store, 0, store, 46, store // 128)


def story(**changed: Asked) -> list[Asked]:
    told = {
        "cold": asked(FIRST, "breaker", ttft_s=6.0),
        "cold_second": asked(FIRST, "slot", ttft_s=0.1),
        "restarted": asked(RESTARTED, "breaker", ttft_s=0.2, store=5888),
        "killed": asked(KILLED, "slot", ttft_s=0.3, store=5888),
    }
    return list({**told, **changed}.values())


def test_a_story_as_promised_has_no_failures_and_counts_its_blocks() -> None:
    told = report(story(), 8.0)
    assert told["failures"] == []
    assert told["answers_equal"]
    assert (told["blocks_stored"], told["blocks_loaded"]) == (46, 92)
    assert json.loads(json.dumps(told)) == told


def test_a_different_text_is_a_failure() -> None:
    changed = asked(KILLED, "slot", ttft_s=0.3, store=5888, text="about something else")
    told = report(story(killed=changed), 8.0)
    assert not told["answers_equal"]
    assert told["failures"] == ["the answers differ"]


def test_a_slow_second_reading_is_a_failure() -> None:
    told = report(story(restarted=asked(RESTARTED, "breaker", ttft_s=1.0, store=5888)), 8.0)
    assert told["failures"] == ["restarted: first token 6.0 times sooner, not 8"]


def test_a_reading_that_was_computed_again_is_a_failure() -> None:
    told = report(story(killed=asked(KILLED, "slot", ttft_s=0.3)), 8.0)
    assert told["failures"] == ["after kill -9: nothing came from the store"]


def test_the_overhead_is_a_ratio_of_medians_with_a_limit_on_each() -> None:
    def rounds(*pairs: tuple[float, float]) -> list[dict[str, float]]:
        return [{"ttft_s": ttft, "token_s": token} for ttft, token in pairs]

    result = overhead.summarize(
        {
            "without": rounds((5.0, 0.020), (4.0, 0.020), (9.0, 0.030)),
            "with": rounds((5.2, 0.021), (5.2, 0.021), (1.0, 0.010)),
        }
    )
    assert result["ttft_s"]["ratio"] == 5.2 / 5.0
    assert result["failures"] == ["time per token with the connector: 1.050, limit 1.02"]
