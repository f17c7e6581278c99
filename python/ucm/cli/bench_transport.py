# SPDX-License-Identifier: Apache-2.0
"""`ucm bench transport`: copies between host and device."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import click
import numpy as np

from ucm.cli.output import Meter
from ucm.errors import Unavailable
from ucm.transport import CPUTransport, CUDATransport

_WARM_UP = 2
GB = 1e9


@dataclasses.dataclass(frozen=True)
class Platform:
    """What is measured.

    Args:
        name: cpu or cuda.
        remark: What a reader of the figures must know.
        transport: The transport.
    """

    name: str
    remark: str
    transport: Any


def choose(wanted: str) -> Platform:
    """The platform to measure.

    Args:
        wanted: auto, cpu or cuda.

    Raises:
        Unavailable: cuda was asked for and can not be used.
    """
    if wanted != "cpu":
        try:
            transport = CUDATransport(0)
            return Platform("cuda", "pinned host memory and CUDA device 0", transport)
        except Unavailable as error:
            if wanted == "cuda":
                raise
            reason = str(error).partition(";")[0]
            return Platform(
                "cpu", f"host to host, no device is involved ({reason})", CPUTransport()
            )
    return Platform("cpu", "host to host, no device is involved", CPUTransport())


def run_size(platform: Platform, size: int, rounds: int, bar: Meter) -> list[dict[str, Any]]:
    """h2d and d2h of one size, each beside its baseline.

    Raises:
        click.ClickException: A copy brought other bytes.
    """
    transport = platform.transport
    host, back = transport.get_pinned_buffer(size), transport.get_pinned_buffer(size)
    try:
        _fill(host)
        device, plain_copy, baseline = _other_side(platform, size)
        h2d = _alternate(
            lambda: transport.synchronize(transport.h2d(host, device)),
            lambda: plain_copy(device, host),
            rounds,
            bar,
        )
        transport.synchronize(transport.h2d(host, device))
        d2h = _alternate(
            lambda: transport.synchronize(transport.d2h(device, back)),
            lambda: plain_copy(back, device),
            rounds,
            bar,
        )
        transport.synchronize(transport.d2h(device, back))
        if not np.array_equal(np.asarray(host), np.asarray(back)):
            raise click.ClickException(f"{size} bytes came back from the device with other content")
    finally:
        transport.release_pinned_buffer(host)
        transport.release_pinned_buffer(back)
    return [
        _figures(platform, size, action, times, baseline)
        for action, times in (("h2d", h2d), ("d2h", d2h))
    ]


def _fill(host: Any) -> None:
    memory = np.asarray(host)
    memory[:] = np.frombuffer(np.random.default_rng().bytes(memory.nbytes), dtype=np.uint8)


def _other_side(platform: Platform, size: int) -> tuple[Any, Callable[[Any, Any], None], str]:
    """Memory on the device, a plain copy to compare with, and its name."""
    if platform.name == "cpu":
        target = np.zeros(size, dtype=np.uint8)
        return target, lambda to, origin: np.copyto(np.asarray(to), np.asarray(origin)), "memcpy"
    import torch

    pageable = torch.from_numpy(np.zeros(size, dtype=np.uint8))

    def copy(to: Any, origin: Any) -> None:
        (to if to.is_cuda else pageable).copy_(origin if origin.is_cuda else pageable)
        torch.cuda.synchronize()

    return torch.empty(size, dtype=torch.uint8, device="cuda:0"), copy, "pageable copy"


def _alternate(
    ours: Callable[[], None], theirs: Callable[[], None], rounds: int, bar: Meter
) -> tuple[list[float], list[float]]:
    """Seconds of each round; who begins alternates."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + _WARM_UP):
        for who in (0, 1) if number % 2 == 0 else (1, 0):
            begin = time.perf_counter()
            (ours, theirs)[who]()
            seconds = time.perf_counter() - begin
            if number >= _WARM_UP:
                times[who].append(seconds)
        bar.add()
    return times


def _figures(
    platform: Platform,
    size: int,
    action: str,
    times: tuple[list[float], list[float]],
    baseline: str,
) -> dict[str, Any]:
    ours, theirs = times
    return {
        "platform": platform.name,
        "size": size,
        "action": action,
        "gb_per_s": size / statistics.median(ours) / GB,
        "ms": statistics.median(ours) * 1e3,
        "baseline": {"name": baseline, "gb_per_s": size / statistics.median(theirs) / GB},
        "ratio": statistics.median(b / a for a, b in zip(ours, theirs, strict=True)),
    }


def steps(rounds: int) -> int:
    """Steps of the progress bar per size."""
    return 2 * (rounds + _WARM_UP)
