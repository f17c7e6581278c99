# SPDX-License-Identifier: Apache-2.0
"""`ucm bench transport --fragmented`: many small copies beside one large one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ucm.cli.out_files import label_sizes, written
from ucm.cli.output import Meter
from ucm.cli.params import bytes_text
from ucm.config import StoreConfig
from ucm.store.platform import choose_platform

PIECES = tuple(4096 << step for step in range(12))
"""4 KiB to 8 MiB."""
WAYS = (("load", "host to device"), ("dump", "device to host"), ("both", "both at once"))


def choose(wanted: str) -> tuple[str, int]:
    """The platform and the device to measure.

    Args:
        wanted: auto, or the name of a platform.

    Raises:
        Unavailable: The platform was asked for and can not be used.
    """
    return choose_platform(StoreConfig(platform=wanted))


def run(
    platform: str, device: int, nbytes: int, pieces: Sequence[int], rounds: int, bar: Meter
) -> dict[str, Any]:
    """Measures every method of a device with every piece size.

    Args:
        platform: Its platform.
        device: Its number.
        nbytes: Bytes of host and of device memory; half of them go each way.
        pieces: Bytes of a piece.
        rounds: Rounds that count.
        bar: Shows how far it is.

    Returns:
        `platform`, `remark`, `limit` (one large copy) and `results`: GB/s of each way and its share
        of the limit.

    Raises:
        DeviceError: A copy failed.
        Corruption: A copy brought other bytes.
    """
    from ucm import _core

    def tell(method: str, piece: int) -> None:
        bar.label(f"{platform} {method} {bytes_text(piece)}")
        bar.add()

    measured = _core.copy_figures(platform, device, nbytes, list(pieces), rounds, tell)
    limit, *rows = measured["rows"]
    for row in rows:
        for way, _ in WAYS:
            row[f"{way}_share"] = row[f"{way}_gb_per_s"] / limit[f"{way}_gb_per_s"]
    return {
        "platform": platform,
        "remark": _remark(platform, device, measured["pinned"]),
        "bytes": nbytes,
        "verified": "after each row, byte for byte",
        "limit": limit,
        "results": rows,
    }


def _remark(platform: str, device: int, pinned: bool) -> str:
    if platform == "cpu":
        return "host to host, no device is involved"
    kind = "pinned" if pinned else "unpinned"
    return f"{kind} host memory and device {device}"


def plot(pyplot: Any, report: dict[str, Any], path: Path) -> None:
    """Draws the share of one large copy by piece size: a panel per way, a line per method."""
    figure, panels = pyplot.subplots(1, len(WAYS), figsize=(15, 5), sharey=True)
    for axes, (way, title) in zip(panels, WAYS, strict=True):
        for method in dict.fromkeys(each["method"] for each in report["results"]):
            points = [
                (each["piece_bytes"], each[f"{way}_share"])
                for each in report["results"]
                if each["method"] == method
            ]
            axes.plot(*zip(*points, strict=True), marker="o", label=method)
        limit = report["limit"][f"{way}_gb_per_s"]
        axes.axhline(1, color="grey", linestyle=":", label=f"one large copy, {limit:.1f} GB/s")
        label_sizes(axes, [each["piece_bytes"] for each in report["results"]], bytes_text)
        axes.set(xlabel="piece", title=title)
        axes.grid(alpha=0.3)
        axes.legend()
    # The panels share their axis, so its end is known when the last one is drawn.
    panels[0].set(ylabel="share of one large copy", ylim=(0, None))
    figure.suptitle(f"Copies of scattered pieces on {report['platform']} ({report['remark']})")
    with written(path) as file:
        kind = path.suffix.lstrip(".").lower()
        figure.savefig(file, format=kind, dpi=150, bbox_inches="tight")
    pyplot.close(figure)
