# SPDX-License-Identifier: Apache-2.0
"""Is `auto` ever more than half a point behind `lru`? Replays traces through the metadata store.

    python tests/bench/policies.py conversation_trace.jsonl synthetic_trace.jsonl

Ends with 1 when it is at one of the capacities.
"""

from __future__ import annotations

import json
import subprocess
import sys

_SHARES = ("0.5%", "1%", "1.6%", "2%", "3%", "5%", "7%", "10%", "15%", "20%", "30%", "40%", "70%")
_MOST_POINTS = 0.5


def main(traces: list[str]) -> int:
    late = 0
    for trace in traces:
        words = [word for share in (*_SHARES, "all") for word in ("--capacity", share)]
        done = subprocess.run(
            ["ucm", "replay", trace, *words, "--policy", "lru", "--policy", "auto", "--json"],
            check=True,
            capture_output=True,
        )
        report = json.loads(done.stdout)
        rates = {(each["policy"], each["capacity"]): each for each in report["results"]}
        for capacity in sorted({each["capacity"] for each in report["results"]}):
            lru, auto = (100 * rates[name, capacity]["hit_rate"] for name in ("lru", "auto"))
            behind = lru - auto > _MOST_POINTS
            late += behind
            print(
                f"{report['trace']} {capacity:7} blocks  lru {lru:6.2f}  auto {auto:6.2f}  "
                f"{auto - lru:+.2f}{'  BEHIND' if behind else ''}"
            )
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
