# SPDX-License-Identifier: Apache-2.0
"""Platforms, versions, drivers."""

from __future__ import annotations

import platform
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from ucm.cli.findings import FAIL, INFO, OK, WARN, Finding, Subject

_OLDEST_VLLM = (0, 9, 2)
_OLDEST_TORCH = (2, 0)
_OLDEST_KERNEL = (5, 6)
_DRIVERS = {
    "NVIDIA driver": ("/proc/driver/nvidia/version", "nvidia-smi"),
    "Ascend driver": ("/usr/local/Ascend/driver/version.info", "npu-smi"),
    "Moore Threads driver": ("/proc/driver/mtgpu/version", "mthreads-gmi"),
    "MetaX driver": ("/opt/mxdriver/version", "mx-smi"),
}


def check(subject: Subject) -> Iterator[Finding]:
    """Platforms, then versions, then drivers."""
    yield from _core(subject)
    yield from _packages()
    yield from _kernel()
    yield from _drivers()
    yield Finding(
        INFO,
        "operations",
        "Grafana dashboard, alert rules and manifests are packaged",
        "print them with ucm deploy",
    )


def _core(subject: Subject) -> Iterator[Finding]:
    try:
        from ucm import _core
    except ImportError as error:
        yield Finding(
            FAIL,
            "native core",
            f"can not be loaded: {error}",
            "pip install --force-reinstall . in a checkout",
        )
        return
    yield Finding(OK, "ucm", f"{_core.version()}: stages {', '.join(_core.stage_names())}")
    wanted = subject.config.store.platform if subject.config else None
    reports = {each["name"]: each for each in _core.platforms()}
    for name, report in reports.items():
        devices = f"{report['devices']} device{'s' if report['devices'] != 1 else ''}"
        if report["loaded"]:
            yield Finding(OK, f"platform {name}", f"loaded, {devices}")
        else:
            state = FAIL if name == wanted else WARN
            reason = report["reason"].removeprefix(f"platform {name}: ")
            yield Finding(state, f"platform {name}", f"not loaded: {reason}", _hint(name))
    if wanted not in (None, "auto", *reports):
        yield Finding(
            FAIL,
            f"platform {wanted}",
            "asked for by the configuration and not in this build",
            f"PLATFORM={wanted} pip install . in a checkout",
        )


def _hint(name: str) -> str:
    return f"install the driver and run-time libraries of {name}, or use a build without it"


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: `2.13.0+cpu` -> (2, 13, 0)."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(each) for each in match[0].split(".")) if match else ()


def version_of(distribution: str) -> str | None:
    """Version of an installed package, which is not imported."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _packages() -> Iterator[Finding]:
    yield Finding(OK, "Python", f"{platform.python_version()} ({sys.executable})")
    numpy = version_of("numpy")
    yield Finding(
        OK if numpy else FAIL, "numpy", numpy or "missing", "" if numpy else "pip install numpy"
    )
    yield _engine("torch", _OLDEST_TORCH, "needed by vLLM; ucm itself does without")
    yield _engine("vllm", _OLDEST_VLLM, "pip install vllm to serve with it")
    client = version_of("prometheus_client")
    if client is None:
        advice = "pip install prometheus_client"
        yield Finding(WARN, "prometheus_client", "missing: no metrics endpoint", advice)
    else:
        yield Finding(OK, "prometheus_client", client)


def _engine(name: str, oldest: tuple[int, ...], absent: str) -> Finding:
    version = version_of(name)
    if version is None:
        return Finding(INFO, name, "not installed", absent)
    if numbers(version) < oldest:
        least = ".".join(map(str, oldest))
        return Finding(FAIL, name, f"{version} is too old", f"install {least} or newer")
    return Finding(OK, name, version)


def _kernel() -> Iterator[Finding]:
    release = platform.release()
    found = f"{release}, {platform.libc_ver()[0]} {platform.libc_ver()[1]}"
    if numbers(release) < _OLDEST_KERNEL:
        yield Finding(
            WARN, "Linux", f"{found}: without a usable io_uring", "5.6 or newer is better"
        )
    else:
        yield Finding(OK, "Linux", found)


def _drivers() -> Iterator[Finding]:
    found = False
    for name, (file, tool) in _DRIVERS.items():
        path = Path(file)
        if path.is_file():
            line = (path.read_text(encoding="utf-8", errors="replace").splitlines() or [""])[0]
            yield Finding(INFO, name, re.sub(r"\s+", " ", line))
        elif shutil.which(tool):
            yield Finding(INFO, name, f"{shutil.which(tool)} is there")
        else:
            continue
        found = True
    if not found:
        yield Finding(INFO, "accelerator", "no driver was found: blocks go to and from host memory")
    torch = version_of("torch")
    if torch and "+" in torch:
        yield Finding(INFO, "torch built for", torch.partition("+")[2])
