# SPDX-License-Identifier: Apache-2.0
"""The tables of `ucm bench`, readable on 80 columns."""

from __future__ import annotations

from typing import Any

from ucm.cli.output import console, table
from ucm.cli.params import bytes_text, count_text

_RIGHT = "right"


def number(value: float) -> str:
    """Three significant digits: 0.012, 1.23, 45.6, 7,890."""
    if value >= 1000:
        return f"{value:,.0f}"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 0.1 else 3
    return f"{value:.{digits}f}"


def show_store(report: dict[str, Any]) -> None:
    """One table per pipeline."""
    out = console()
    for pipeline in dict.fromkeys(each["pipeline"] for each in report["results"]):
        rows = [each for each in report["results"] if each["pipeline"] == pipeline]
        names = dict.fromkeys(f"{each['action']}: {each['baseline']['name']}" for each in rows)
        how = ", O_DIRECT" if any(each["direct"] for each in rows) else ""
        place = f"{report['file_system']}{how}; " if any(_on_disk(each) for each in rows) else ""
        shown = table(
            f"{pipeline} ({place}{report['threads']} threads, {report['rounds']} rounds)",
            [
                ("block", _RIGHT),
                ("batch", _RIGHT),
                ("", "left"),
                ("GB/s", _RIGHT),
                ("blocks/s", _RIGHT),
                ("p50 ms", _RIGHT),
                ("p99 ms", _RIGHT),
                ("CPU s/GB", _RIGHT),
                ("base GB/s", _RIGHT),
                ("ratio", _RIGHT),
            ],
            caption="base: " + "; ".join(names),
        )
        for column in shown.columns[3:]:
            column.header = str(column.header).replace(" ", "\n").replace("blocks/", "blocks\n/")
        for each in rows:
            shown.add_row(
                bytes_text(each["size"]),
                str(each["batch"]),
                each["action"].removesuffix(" get"),
                number(each["gb_per_s"]),
                number(each["blocks_per_s"]),
                number(each["batch_ms"]["p50"]),
                number(each["batch_ms"]["p99"]),
                number(each["cpu_s_per_gb"]),
                number(each["baseline"]["gb_per_s"]),
                f"{each['ratio']:.2f}",
            )
        out.print(shown)
    out.print(
        "warm: get from the Cache; cold: get after reopening, nothing in memory. p50, p99: of one "
        "batch, from its call until it is done. Every load was compared byte for byte."
    )


def _on_disk(row: dict[str, Any]) -> bool:
    return bool(row["pipeline"] != "Cache")


def show_lookup(report: dict[str, Any]) -> None:
    """One table."""
    shown = table(
        f"Lookup, ns per key ({report['rounds']} rounds)",
        [
            ("pipeline", "left"),
            ("keys present", _RIGHT),
            ("batch", _RIGHT),
            ("hit", _RIGHT),
            ("miss", _RIGHT),
            ("Store.lookup", _RIGHT),
            ("base", _RIGHT),
            ("ratio", _RIGHT),
        ],
        caption="hit, miss: the native call; Store.lookup: hits from a list of bytes in Python; "
        "base: hits as `key in set` in Python; ratio: base / hit",
    )
    for each in report["results"]:
        shown.add_row(
            each["pipeline"],
            count_text(each["count"]),
            count_text(each["batch"]),
            number(each["hit_ns"]),
            number(each["miss_ns"]),
            number(each["python_hit_ns"]),
            number(each["baseline"]["hit_ns"]),
            f"{each['ratio']:.2f}",
        )
    console().print(shown)


def show_transport(report: dict[str, Any]) -> None:
    """One table."""
    shown = table(
        f"Transport on {report['platform']} ({report['rounds']} rounds)",
        [
            ("size", _RIGHT),
            ("", "left"),
            ("GB/s", _RIGHT),
            ("ms", _RIGHT),
            ("base GB/s", _RIGHT),
            ("ratio", _RIGHT),
        ],
        caption=f"{report['remark']}; base: {report['results'][0]['baseline']['name']}",
    )
    for each in report["results"]:
        shown.add_row(
            bytes_text(each["size"]),
            each["action"],
            number(each["gb_per_s"]),
            number(each["ms"]),
            number(each["baseline"]["gb_per_s"]),
            f"{each['ratio']:.2f}",
        )
    console().print(shown)


def show_pieces(report: dict[str, Any]) -> None:
    """One table: GB/s, and the share of one large copy."""
    limit = report["limit"]
    columns = [("method", "left"), ("piece", _RIGHT)]
    ways = ("load", "dump", "both")
    for way in ways:
        columns += [(way, _RIGHT), ("share", _RIGHT)]
    shown = table(
        f"Scattered pieces on {report['platform']}, GB/s ({report['rounds']} rounds)",
        columns,
        caption=f"{report['remark']}; shares of one large copy of the same run",
    )
    large = [number(limit[f"{way}_gb_per_s"]) for way in ways]
    shown.add_row(
        limit["method"],
        bytes_text(limit["piece_bytes"]),
        *[text for figure in large for text in (figure, "1.00")],
    )
    for each in report["results"]:
        cells = [
            text
            for way in ways
            for text in (number(each[f"{way}_gb_per_s"]), f"{each[f'{way}_share']:.2f}")
        ]
        shown.add_row(each["method"], bytes_text(each["piece_bytes"]), *cells)
    console().print(shown)
