# SPDX-License-Identifier: Apache-2.0
"""`ucm plan`: how many tokens the levels of a cache hold, and which page size suits."""

from __future__ import annotations

import math
from typing import Any

import click

from ucm.cli.output import console, note, table, write_json
from ucm.cli.params import GIGABYTES, bytes_text, count_text, json_option
from ucm.kv_shape import DTYPES, KvShape, kv_shape, read_config

_GB = 1024**3  # as LightLLM counts it
PAGE_SIZES = (64, 128, 256, 512)
"""Tokens per page that are compared; LightLLM takes powers of two."""
ADVICE = {
    "chat": (64, 128, "short prompts: little is lost at a prompt's end, more prefixes are shared"),
    "mixed": (128, 256, "prompts of all lengths: a compromise"),
    "long": (256, 512, "long prompts: fewer and larger transfers"),
}
"""Kind of load -> page sizes from, to, and why, as LightLLM's deployment guide advises."""
_HASHED_PAGES = 2048  # of a prompt, unless LIGHTLLM_TOKEN_HASH_LIST_SIZE says otherwise
_HUGE_PAGE = 2 * 1024**2
_RATIOS = {"cpu": (5, 10), "disk": (20, 50)}


def level(name: str, gigabytes: float, token_bytes: int, first: float | None) -> dict[str, Any]:
    """One level of the plan."""
    nbytes = int(gigabytes * _GB)
    ratio = gigabytes / first if first else None
    return {
        "level": name,
        "bytes": nbytes,
        "token_bytes": token_bytes,
        "tokens_per_gb": _GB // token_bytes,
        "tokens": nbytes // token_bytes,
        "ratio_to_gpu": round(ratio, 2) if ratio is not None else None,
    }


def page_row(
    shape: KvShape, tokens: int, cpu_bytes: int, disk_bytes: int, prompt: int | None
) -> dict[str, Any]:
    """What pages of `tokens` tokens mean."""
    nbytes = tokens * shape.token_bytes()
    hashed = _HASHED_PAGES * tokens
    return {
        "page_tokens": tokens,
        "page_bytes": nbytes,
        "cpu_pages": cpu_bytes // nbytes,
        "disk_pages": disk_bytes // nbytes,
        "longest_cached_prompt": hashed,
        "unused_tokens_per_prompt": tokens / 2,
        "covers_prompt": None if prompt is None else prompt <= hashed,
    }


def advise(load: str, disk: bool, prompt: int | None) -> tuple[int, str]:
    """The page size for a kind of load.

    Args:
        load: A key of `ADVICE`.
        disk: Whether there is a disk level, which prefers larger pages.
        prompt: Tokens of the longest prompt, or None.

    Returns:
        Tokens per page, and why.
    """
    smaller, larger, why = ADVICE[load]
    chosen = larger if disk else smaller
    reason = f"{why}{'; with a disk level the larger of the range' if disk else ''}"
    needed = math.ceil((prompt or 0) / _HASHED_PAGES)
    if prompt is not None and needed > chosen:
        chosen = 1 << (needed - 1).bit_length()
        reason = f"LightLLM keeps {_HASHED_PAGES} pages of a prompt: {prompt:,} tokens need more"
    return chosen, reason


@click.command(
    epilog="Example: ucm plan --model /models/Qwen3-235B-A22B --gpu-gb 200 --cpu-gb 1200 "
    "--disk-gb 6000"
)
@click.option("--model", required=True, help="A model's config.json, or its folder.")
@click.option("--gpu-gb", type=GIGABYTES, default=0.0, help="KV memory of all GPUs.")
@click.option("--cpu-gb", type=GIGABYTES, default=0.0, help="Host memory to use.")
@click.option("--disk-gb", type=GIGABYTES, default=0.0, help="Disk space to use.")
@click.option("--tp", type=click.IntRange(min=1), default=1, help="Tensor-parallel ranks.")
@click.option(
    "--kv-dtype",
    type=click.Choice(["auto", *DTYPES]),
    default="auto",
    help="Of the KV; by default what the model says.",
)
@click.option(
    "--load",
    "load",
    type=click.Choice(list(ADVICE)),
    default="mixed",
    help="What the prompts are like; decides the advice.",
)
@click.option("--prompt", type=click.IntRange(min=1), help="Tokens of the longest prompt.")
@json_option()
def plan(
    model: str,
    gpu_gb: float,
    cpu_gb: float,
    disk_gb: float,
    tp: int,
    kv_dtype: str,
    load: str,
    prompt: int | None,
    as_json: bool,
) -> None:
    """Print what a model's KV takes and what GPU, CPU and disk hold of it.

    A GB is 1024^3 bytes, as in LightLLM's options.
    """
    shape = kv_shape(read_config(model), kv_dtype)
    report = make_plan(shape, (gpu_gb, cpu_gb, disk_gb), tp, load, prompt)
    if as_json:
        write_json(report)
        return
    _show(report)


def make_plan(
    shape: KvShape,
    gigabytes: tuple[float, float, float],
    ranks: int,
    load: str,
    prompt: int | None,
) -> dict[str, Any]:
    """The plan as a document.

    Args:
        shape: The model's KV.
        gigabytes: GPU, CPU and disk.
        ranks: Tensor-parallel ranks.
        load: A key of `ADVICE`.
        prompt: Tokens of the longest prompt, or None.
    """
    gpu, cpu, disk = gigabytes
    token = shape.token_bytes()
    levels = [
        level("gpu", gpu, shape.token_bytes(ranks), None),
        level("cpu", cpu, token, gpu),
        level("disk", disk, token, gpu),
    ]
    pages = [
        page_row(shape, tokens, levels[1]["bytes"], levels[2]["bytes"], prompt)
        for tokens in PAGE_SIZES
    ]
    chosen, why = advise(load, disk > 0, prompt)
    options = [f"--enable_cpu_cache --cpu_cache_storage_size {cpu:g}"] if cpu else []
    options += [f"--cpu_cache_token_page_size {chosen}"] if cpu else []
    options += [f"--enable_disk_cache --disk_cache_storage_size {disk:g}"] if cpu and disk else []
    return {
        "kind": shape.kind,
        "layers": shape.layers,
        "kv_dtype": shape.kv_dtype,
        "token_bytes": token,
        "levels": levels,
        "pages": pages,
        "page_tokens": chosen,
        "page_reason": why,
        "lightllm_options": " ".join(options),
        "huge_pages_2mib": math.ceil(levels[1]["bytes"] / _HUGE_PAGE),
        "notes": [*shape.notes, *_remarks(shape, levels, ranks)],
    }


def _remarks(shape: KvShape, levels: list[dict[str, Any]], ranks: int) -> list[str]:
    remarks = []
    for each in levels[1:]:
        low, high = _RATIOS[each["level"]]
        ratio = each["ratio_to_gpu"]
        if ratio is not None and each["bytes"] and not low <= ratio <= high:
            remarks.append(
                f"{each['level']} is {ratio:g} times the GPU's memory; the guide suggests "
                f"{low} to {high} times"
            )
    copies = levels[0]["token_bytes"] // levels[1]["token_bytes"]
    if levels[0]["bytes"] and copies > 1:
        what = "its KV" if shape.kind == "MLA" else "a KV head"
        remarks.append(
            f"{copies} ranks keep {what} each, so a token takes {copies} times as much on the GPUs"
        )
    if ranks % shape.heads and shape.heads % ranks:
        remarks.append(f"{ranks} ranks do not share {shape.heads} KV heads evenly")
    if levels[2]["bytes"] and not levels[1]["bytes"]:
        remarks.append("LightLLM's disk level works through its CPU level: give --cpu-gb as well")
    if shape.kv_dtype == "fp8":
        remarks.append("not every LightLLM has a CPU level for an fp8 KV cache: try it at start")
    return remarks


def _show(report: dict[str, Any]) -> None:
    out = console()
    out.print(
        f"{report['kind']}, {report['layers']} layers, KV in {report['kv_dtype']}: "
        f"{count_text(report['token_bytes'])} bytes per token"
    )
    columns = [
        ("level", "left"),
        ("size", "right"),
        ("tokens per GB", "right"),
        ("tokens", "right"),
    ]
    levels = table(None, columns)
    given = [each for each in report["levels"] if each["bytes"]]
    for each in given:
        size, tokens = bytes_text(each["bytes"]), count_text(each["tokens"])
        levels.add_row(each["level"], size, count_text(each["tokens_per_gb"]), tokens)
    if given:
        out.print(levels)
    else:
        per_gb = count_text(report["levels"][1]["tokens_per_gb"])
        out.print(f"{per_gb} tokens per GB; --gpu-gb, --cpu-gb and --disk-gb give capacities")
    held = [each["level"] for each in given if each["level"] != "gpu"]
    columns = [("tokens", "right"), ("page", "right")]
    columns += [(f"{name} pages", "right") for name in held]
    columns += [("longest prompt kept", "right"), ("", "left")]
    pages = table(None, columns)
    for each in report["pages"]:
        pages.add_row(
            str(each["page_tokens"]),
            bytes_text(each["page_bytes"]),
            *(count_text(each[f"{name}_pages"]) for name in held),
            count_text(each["longest_cached_prompt"]),
            "advised" if each["page_tokens"] == report["page_tokens"] else "",
        )
    out.print(pages)
    out.print(f"Page size: {report['page_tokens']} tokens ({report['page_reason']}).")
    if report["lightllm_options"]:
        out.print(f"LightLLM: {report['lightllm_options']}", soft_wrap=True)
        out.print(f"Huge pages of 2 MiB for the CPU level: {report['huge_pages_2mib']:,}")
    for remark in report["notes"]:
        note(f"note: {remark}")
