# SPDX-License-Identifier: Apache-2.0
"""`ucm inspect`: what a store holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ucm.cli.output import Meter, console, meter, table, write_json
from ucm.cli.params import age_text, bytes_text, count_text, json_option
from ucm.cli.roots import Root, find_roots, walk, writer_of
from ucm.cli.summary import Summary

_SHOWN = 20


@click.command(epilog="Example: ucm inspect /data/ucm_cache --verify")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--verify", is_flag=True, help="Read and check every block; exit code 1 on damage.")
@click.option("--blocks", is_flag=True, help="List every block.")
@json_option()
def inspect(path: Path, verify: bool, blocks: bool, as_json: bool) -> None:
    """Show what the store in PATH holds: blocks, bytes, layouts, ages.

    PATH is a directory of storage_backends. Nothing is changed; a running engine is not disturbed.
    """
    path = path.absolute()
    summaries = [Summary(root, keep_blocks=blocks) for root in find_roots(path)]
    _read(summaries, verify, quiet=as_json)
    damaged = sum(len(each.damaged) for each in summaries)
    if as_json:
        write_json(
            {
                "path": str(path),
                "verified": verify,
                "blocks": sum(each.blocks for each in summaries),
                "bytes": sum(each.bytes for each in summaries),
                "damaged": damaged,
                "stores": [each.as_dict() for each in summaries],
            }
        )
    else:
        for each in summaries:
            _show(each, verify)
            if blocks:
                _show_blocks(each)
        _show_damage(summaries, verify)
    if damaged:
        raise click.exceptions.Exit(1)


def _read(summaries: list[Summary], verify: bool, quiet: bool) -> None:
    """Verifying takes two walks: the first one counts what the second one reads."""
    total = 0
    if verify:
        for each in summaries:
            total += _payload(each.root)
    with meter("verify" if verify else "read", total or None, unit="bytes", quiet=quiet) as bar:
        for each in summaries:
            _read_one(each, verify, bar)


def _payload(root: Root) -> int:
    sizes: list[int] = []
    walk(root, False, lambda record: sizes.append(record["bytes"]))
    return sum(sizes)


def _read_one(summary: Summary, verify: bool, bar: Meter) -> None:
    def take(record: dict[str, Any]) -> None:
        summary.add(record)
        bar.add(record["bytes"])

    walk(summary.root, verify, take)


def _show(summary: Summary, verified: bool) -> None:
    out, root = console(), summary.root
    out.print(f"[bold]{root.stage}[/bold] {root.path}", soft_wrap=True)
    shown = table(None, [("", "left"), ("", "left")])
    shown.show_header = False
    stored = summary.blocks * root.slot_bytes if root.stage == "Disk" else summary.stored
    shown.add_row("blocks", count_text(summary.blocks))
    shown.add_row("bytes", f"{bytes_text(summary.bytes)} ({bytes_text(stored)} on disk)")
    if root.stage == "Disk":
        slots = int(root.format.get("capacity_slots", 0))
        share = f"{100 * summary.blocks / slots:.1f} % of" if slots else "of"
        shown.add_row(
            "capacity", f"{share} {count_text(slots)} slots of {bytes_text(root.slot_bytes)}"
        )
        shown.add_row("writer", writer_of(root) or "none")
    for layout in summary.layouts():
        sizes = ", ".join(bytes_text(each) for each in layout["block_bytes"])
        shown.add_row(
            f"layout {layout['layout_id']:016x}",
            f"{count_text(layout['blocks'], 'block')} of {sizes}",
        )
    ages = summary.ages()
    if ages:
        shown.add_row(
            "ages",
            f"oldest {age_text(ages['oldest_s'])}, 90 % under {age_text(ages['p90_s'])}, "
            f"half under {age_text(ages['median_s'])}, newest {age_text(ages['newest_s'])}",
        )
    if verified:
        shown.add_row("damaged", count_text(len(summary.damaged)))
    out.print(shown)


def _show_blocks(summary: Summary) -> None:
    """One plain line per block, never cut: made for grep."""
    for record in summary.records:
        place = str(record["location"]).removeprefix(str(summary.root.path)).lstrip("/")
        age = age_text(summary.age_of(record)) if record["written_ns"] else "?"
        click.echo(f"{record['key']}  {bytes_text(record['bytes']):>9}  {age:>7}  {place}")


def _show_damage(summaries: list[Summary], verified: bool) -> None:
    out = console()
    damaged = [record for each in summaries for record in each.damaged]
    for record in damaged[:_SHOWN]:
        out.print(
            f"[red]damaged[/red] {record['key']} in {record['location']}: {record['damage']}",
            soft_wrap=True,
        )
    if len(damaged) > _SHOWN:
        out.print(f"and {count_text(len(damaged) - _SHOWN)} more; --json lists all")
    if damaged:
        out.print("An engine takes a damaged block as a miss, drops it and stores it again.")
    elif verified:
        blocks = sum(each.blocks for each in summaries)
        out.print(f"[green]{count_text(blocks, 'block')} read, all sound.[/green]")
