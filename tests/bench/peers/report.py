# SPDX-License-Identifier: Apache-2.0
"""Results of peers.py as a table in Markdown and as plots."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

TITLES = {
    "put": "Put: bytes in the caller's memory to stored",
    "get": "Warm get: stored to bytes in the caller's memory",
    "cold": "Cold get: the same with nothing in the page cache",
    "lookup": "Batch lookup, half of the blocks present",
}
# Who is compared with whom: ours, its step, the peers' step, and the peers.
PAIRS = (
    ("ucm-cache", ("put", "get", "lookup"), ("lmcache-cpu", "mooncake", "mooncake-tcp")),
    ("ucm-disk", ("put", "cold", "lookup"), ("lmcache-disk", "lmcache-disk-direct")),
    ("ucm-posix", ("put", "get", "cold", "lookup"), ("lmcache-disk", "lmcache-disk-direct")),
    # Answers from memory on both sides.
    ("ucm-posix-ttl", ("lookup",), ("lmcache-disk", "lmcache-disk-direct")),
)


def size_text(block_bytes: int) -> str:
    mebi = block_bytes / (1 << 20)
    return f"{mebi:g} MiB" if mebi >= 1 else f"{block_bytes >> 10} KiB"


def figure(step: str) -> str:
    """The figure that a step is judged by."""
    return "ns_per_key" if step == "lookup" else "GBps"


def index(report: dict[str, Any]) -> dict[tuple[str, int], dict[str, Any]]:
    return {(row["system"], row["block_bytes"]): row for row in report["rows"]}


Ratio = tuple[str, str, int, str, float, list[float], float | None]


def ratios(report: dict[str, Any]) -> Iterator[Ratio]:
    """(ours, step, block bytes, peer, ratio, spread, ratio of CPU): above 1 we are ahead."""
    rows = index(report)
    for ours, steps, peers in PAIRS:
        for step in steps:
            for block_bytes in dict.fromkeys(row["block_bytes"] for row in report["rows"]):
                mine = rows.get((ours, block_bytes), {}).get("steps", {}).get(step)
                for peer in peers:
                    other = rows.get((peer, block_bytes), {}).get("steps", {}).get(step)
                    if not mine or not other:
                        continue
                    key = figure(step)
                    one, two = (other, mine) if step == "lookup" else (mine, other)
                    low, high = one[f"{key}_spread"]
                    least, most = two[f"{key}_spread"]
                    spread = [low / most, high / least]
                    cpu = other["cpu_s_per_GB"] / mine["cpu_s_per_GB"] if key == "GBps" else None
                    yield ours, step, block_bytes, peer, one[key] / two[key], spread, cpu


def write_table(report: dict[str, Any], path: Path) -> None:
    """Everything that was measured, one table a step."""
    machine, versions = report["machine"], report["versions"]
    lines = [
        "# Side by side with peers",
        "",
        f"{report['date']}, {machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, "
        f"{machine['file_system']}; load {machine['load_before']} before, "
        f"{machine.get('load_after', '?')} after the run. "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + f". {report['rounds']} rounds of {report['total_bytes'] >> 20} MiB; median, and in "
        "brackets the least and the most of the rounds. Written by tests/bench/peers; README.md "
        "says how to read it.",
        "",
    ]
    for step, title in TITLES.items():
        lines += [f"## {title}", ""]
        lines += lookup_table(report) if step == "lookup" else step_table(report, step)
    lines += [
        "## Ours over theirs",
        "",
        "Above 1 we are ahead. The spread goes from our least over their most to our most over "
        "their least; CPU is their seconds a GB over ours, which other work on the machine "
        "disturbs less.",
        "",
        "| ours | step | block | peer | ratio | spread | CPU |",
        "|---|---|---|---|---|---|---|",
    ]
    for ours, step, block_bytes, peer, ratio, (low, high), cpu in ratios(report):
        mark = f"{ratio:.2f}" if ratio >= 1 else f"**{ratio:.2f}**"
        lines.append(
            f"| {ours} | {step} | {size_text(block_bytes)} | {peer} | {mark} "
            f"| {low:.2f} to {high:.2f} | {'' if cpu is None else f'{cpu:.2f}'} |"
        )
    failed = [row for row in report["rows"] if "error" in row]
    lines += ["", "## What could not run", ""]
    lines += [
        f"- {row['label']}, {size_text(row['block_bytes'])}: {row['error']}" for row in failed
    ] or ["Everything ran."]
    path.write_text("\n".join(lines) + "\n")


def step_table(report: dict[str, Any], step: str) -> list[str]:
    memory = step == "put"
    head = "| block | system | GB/s | CPU s/GB |" + (
        " memory / stored |" if memory else " p50 us | p99 us |"
    )
    lines = [head, "|---|---|---|---|---|" + ("" if memory else "---|")]
    for row in report["rows"]:
        if step not in row.get("steps", {}):
            continue
        found = row["steps"][step]
        low, high = found["GBps_spread"]
        cells = [
            size_text(row["block_bytes"]),
            row["label"],
            f"{found['GBps']:.2f} ({low:.2f} to {high:.2f})",
            f"{found['cpu_s_per_GB']:.3f}",
        ]
        if memory:
            held = found.get("memory_bytes")
            cells.append("" if held is None else f"{held / report['total_bytes']:.2f}")
        else:
            cells += [f"{found['p50_us']:.0f}", f"{found['p99_us']:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def lookup_table(report: dict[str, Any]) -> list[str]:
    lines = ["| block | system | ns a key |", "|---|---|---|"]
    for row in report["rows"]:
        if "lookup" not in row.get("steps", {}):
            continue
        found = row["steps"]["lookup"]
        low, high = found["ns_per_key_spread"]
        lines.append(
            f"| {size_text(row['block_bytes'])} | {row['label']} "
            f"| {found['ns_per_key']:.0f} ({low:.0f} to {high:.0f}) |"
        )
    return [*lines, ""]


def write_plots(report: dict[str, Any], folder: Path) -> None:
    """One picture a step: a group of bars a block size, ours filled, the others hatched."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    sizes = list(dict.fromkeys(row["block_bytes"] for row in report["rows"]))
    rows = index(report)
    colours = pyplot.get_cmap("tab20").colors
    names = list(dict.fromkeys(row["system"] for row in report["rows"]))
    for step, title in TITLES.items():
        key = figure(step)
        shown = [
            name
            for name in names
            if any(step in rows[name, size].get("steps", {}) for size in sizes)
        ]
        if not shown:
            continue
        picture, axes = pyplot.subplots(figsize=(11, 5))
        width = 0.85 / len(shown)
        for place, name in enumerate(shown):
            steps = [rows[name, size].get("steps", {}).get(step) for size in sizes]
            values = [found[key] if found else 0 for found in steps]
            edges = [found[f"{key}_spread"] if found else [0, 0] for found in steps]
            errors = [
                [max(0.0, value - edge[0]) for value, edge in zip(values, edges, strict=True)],
                [max(0.0, edge[1] - value) for value, edge in zip(values, edges, strict=True)],
            ]
            axes.bar(
                [group + (place - (len(shown) - 1) / 2) * width for group in range(len(sizes))],
                values,
                width,
                yerr=errors,
                error_kw={"linewidth": 0.8},
                label=rows[name, sizes[0]]["label"],
                color=colours[names.index(name) % len(colours)],
                hatch="" if name.startswith("ucm") else "//",
                edgecolor="black",
                linewidth=0.4,
            )
        axes.set_xticks(range(len(sizes)), [size_text(size) for size in sizes])
        axes.set(title=title, xlabel="block", ylabel="ns a key" if step == "lookup" else "GB/s")
        if step == "lookup":
            axes.set_yscale("log")
        axes.grid(axis="y", alpha=0.3)
        # Below the axes: no bar hides behind it.
        axes.legend(
            fontsize=8, ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.12), frameon=False
        )
        picture.savefig(folder / f"peers-{step}.png", dpi=110, bbox_inches="tight")
        pyplot.close(picture)
