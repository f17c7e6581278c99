# SPDX-License-Identifier: Apache-2.0
"""The second reading: a long document is read by vLLM, the server is restarted, and read again.

Run by ./demo.sh. Leaves demo.json and demo.png in the work folder; exit code 1 means that an
answer changed or that the second reading was not fast enough, 2 that something did not work.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import overhead
import plot
import story
from progress import Progress
from rich.console import Console
from rich.table import Table
from server import CONNECTOR, Server

DOCUMENT = Path(__file__).parent / "document.txt"


def main(arguments: list[str] | None = None) -> int:
    """Run the demonstration and return the exit code."""
    options = _parse(arguments)
    console = Console(width=None if sys.stdout.isatty() else 110)
    options.work.mkdir(parents=True, exist_ok=True)
    kv_transfer = options.kv_transfer_config or _connector(options.work, options.pipeline)
    try:
        if options.overhead:
            return _measure_overhead(options, kv_transfer, console)
        return _tell_story(options, kv_transfer, console)
    except (OSError, RuntimeError) as error:
        console.print(f"the demonstration did not work: {error}", style="red", markup=False)
        return 2


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo.sh", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(".demo"), help="folder for all it leaves")
    parser.add_argument("--model", type=Path, required=True, help="folder of the model")
    parser.add_argument("--pipeline", default="Cache|Disk", help="stages of the store")
    parser.add_argument("--ratio", type=float, default=8.0, help="cold / warm that is asked for")
    parser.add_argument("--overhead", action="store_true", help="measure what saving costs")
    parser.add_argument("--rounds", type=int, default=9, help="rounds of --overhead")
    parser.add_argument(
        "--kv-transfer-config", type=json.loads, help="another connector, as vLLM takes it (JSON)"
    )
    parser.add_argument("vllm_flags", nargs="*", help="more flags for vllm serve, after --")
    return parser.parse_args(arguments)


def _connector(work: Path, pipeline: str) -> dict[str, Any]:
    """Write the configuration file, empty the store, and name both to vLLM."""
    store = (work / "store").absolute()
    shutil.rmtree(store, ignore_errors=True)
    store.mkdir()
    config = (work / "ucm.yaml").absolute()
    config.write_text(
        "# The store of the demonstration: host memory in front of files.\n"
        "ucm_connectors:\n"
        "  - ucm_connector_name: UcmPipelineStore\n"
        "    ucm_connector_config:\n"
        f'      store_pipeline: "{pipeline}"\n'
        f'      storage_backends: "{store}"\n'
        f"      capacity_bytes: {8 << 30}\n"
        f"      max_pinned_size: {1 << 30}\n"
    )
    return {**CONNECTOR, "kv_connector_extra_config": {"UCM_CONFIG_FILE": str(config)}}


def _tell_story(options: argparse.Namespace, kv_transfer: dict[str, Any], console: Console) -> int:
    log = options.work / "server.log"
    log.unlink(missing_ok=True)
    server = Server(options.model, log, kv_transfer, options.vllm_flags)
    console.print(f"{DOCUMENT.name}: {len(DOCUMENT.read_text().split())} words; log: {log}")
    told = story.tell(server, DOCUMENT.read_text(), Progress(console))
    report = story.report(told, options.ratio)
    report["pipeline"] = options.pipeline
    (options.work / "demo.json").write_text(json.dumps(report, indent=2) + "\n")
    plot.draw_story(report, options.work / "demo.png")
    for name, question in story.QUESTIONS.items():
        for text in dict.fromkeys(a.answer.text for a in told if a.question == name):
            console.print(f"{question}\n    {' '.join(text.split())}", style="dim", markup=False)
    console.print(_asked_table(told))
    console.print(_summary_table(report))
    console.print(f"left behind: {options.work}/demo.json {options.work}/demo.png {log}")
    for reason in report["failures"]:
        console.print(f"NOT AS PROMISED: {reason}", style="red", markup=False)
    return 1 if report["failures"] else 0


def _asked_table(told: list[story.Asked]) -> Table:
    table = Table(
        title="every question, and where the tokens of its prompt came from", title_justify="left"
    )
    for name in ("server", "question"):
        table.add_column(name, no_wrap=True)
    for name in ("first token", "computed", "engine", "store"):
        table.add_column(name, justify="right", no_wrap=True)
    for asked in told:
        table.add_row(
            asked.run,
            asked.question,
            f"{asked.answer.ttft_s * 1e3:.0f} ms",
            str(asked.computed_tokens),
            str(asked.engine_tokens),
            str(asked.store_tokens),
        )
    return table


def _summary_table(report: dict[str, Any]) -> Table:
    table = Table(title="the second reading", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    cold = report["cold_ttft_s"]
    table.add_row("prompt", f"{report['prompt_tokens']} tokens")
    table.add_row("cold TTFT", f"{cold:.3f} s")
    for key, name in (("restart", "warm TTFT, after a restart"), ("kill", "after kill -9")):
        warm = report[f"{key}_ttft_s"]
        table.add_row(name, f"{warm:.3f} s")
        table.add_row("    ratio", f"{cold / warm:.1f} x")
    table.add_row("blocks stored", str(report["blocks_stored"]))
    table.add_row("blocks loaded", str(report["blocks_loaded"]))
    table.add_row("answers equal", "yes" if report["answers_equal"] else "NO")
    return table


def _measure_overhead(
    options: argparse.Namespace, kv_transfer: dict[str, Any], console: Console
) -> int:
    work, flags = options.work, options.vllm_flags
    plain = Server(options.model, work / "server-without.log", None, flags)
    with_ucm = Server(options.model, work / "server-with.log", kv_transfer, flags)
    result = overhead.measure(
        plain, with_ucm, DOCUMENT.read_text(), options.rounds, Progress(console)
    )
    result["pipeline"] = options.pipeline
    target = work / "overhead.json"
    target.write_text(json.dumps(result, indent=2) + "\n")
    plot.draw_overhead(result, work / "overhead.png")
    table = Table(title=f"what saving costs, medians of {options.rounds} interleaved rounds")
    for name in ("", "without", "with ucm", "ratio"):
        table.add_column(name, justify="right")
    for key, name, unit, scale in (
        ("ttft_s", "cold TTFT", "s", 1.0),
        ("token_s", "time per token", "ms", 1e3),
    ):
        row = result[key]
        table.add_row(
            name,
            f"{row['without'] * scale:.3f} {unit}",
            f"{row['with'] * scale:.3f} {unit}",
            f"{row['ratio']:.3f}",
        )
    console.print(table)
    console.print(f"left behind: {target}")
    for reason in result["failures"]:
        console.print(f"NOT AS PROMISED: {reason}", style="red", markup=False)
    return 1 if result["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
