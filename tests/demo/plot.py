# SPDX-License-Identifier: Apache-2.0
"""The pictures that the demonstration leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

_COLD, _WARM = "#8a8d91", "#1f77b4"


def draw_story(report: dict[str, Any], path: Path) -> None:
    """Bars: the time to the first token, cold, after a restart and after kill -9."""
    names = ["cold", "after a restart", "after kill -9"]
    times = [report[f"{key}_ttft_s"] for key in ("cold", "restart", "kill")]
    figure, axes = plt.subplots(figsize=(8, 3.2), layout="constrained")
    bars = axes.barh(names, times, color=[_COLD, _WARM, _WARM], height=0.6)
    labels = [f"{times[0]:.2f} s"]
    labels += [f"{time * 1e3:.0f} ms, {times[0] / time:.0f} times sooner" for time in times[1:]]
    axes.bar_label(bars, labels, padding=6)
    axes.invert_yaxis()
    axes.set_xlim(0, max(times) * 1.15)
    axes.set_xlabel("time to the first token, s")
    equal = "the same answers" if report["answers_equal"] else "ANSWERS DIFFER"
    axes.set_title(
        f"{report['prompt_tokens']} tokens, {report['blocks_stored']} blocks stored, "
        f"{report['blocks_loaded']} loaded; {equal}",
        fontsize=11,
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_overhead(result: dict[str, Any], path: Path) -> None:
    """Points: every round's times without and with the connector."""
    figure, both = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    titles = {"ttft_s": "cold TTFT, s", "token_s": "time per token, s"}
    for axes, (key, title) in zip(both, titles.items(), strict=True):
        for side, color in (("without", _COLD), ("with", _WARM)):
            values = [one[key] for one in result["rounds"][side]]
            axes.plot(range(1, len(values) + 1), values, "o-", color=color, label=side)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("round")
        axes.set_title(f"{title}: ratio of medians {result[key]['ratio']:.3f}", fontsize=11)
        axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
