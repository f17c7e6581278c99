# SPDX-License-Identifier: Apache-2.0
"""Ports, and the metrics endpoint on this machine."""

from __future__ import annotations

import errno
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from ucm.cli.findings import FAIL, INFO, OK, WARN, Finding, Subject
from ucm.config import UcmConfig
from ucm.errors import UcmError

_ANSWER_S = 2.0
_LISTEN = "0A"
_EVERYWHERE = ("", "0.0.0.0", "::", "localhost", "127.0.0.1", "::1")


def check(subject: Subject) -> Iterator[Finding]:
    """The API's port, the metrics' port, and what answers there."""
    yield _api_port(subject.port)
    if subject.config is None:
        return
    port, address = metrics_port(subject.config)
    if port is None:
        yield Finding(
            INFO,
            "metrics",
            "no endpoint of their own; vLLM has them in its /metrics",
            "monitoring: {prometheus: {port: 9090}} opens one",
        )
    elif port == subject.port:
        yield Finding(
            FAIL,
            "metrics port",
            f"{port} is the port of the engine's API as well",
            "choose another with monitoring.prometheus.port",
        )
    else:
        yield from _metrics(port, address)


def metrics_port(config: UcmConfig) -> tuple[int | None, str]:
    """Port and address of the metrics endpoint; the port is None when none is asked for."""
    section = config.monitoring.prometheus if config.monitoring else None
    if config.metrics_port is not None:
        return config.metrics_port, section.address if section else ""
    if section is not None or not config.enable_metrics or not config.metrics_config_path:
        return None, ""
    from ucm.metrics.settings import read_metrics_file

    try:
        file = read_metrics_file(config.metrics_config_path)
    except UcmError:
        return None, ""  # the section Configuration says why
    if not file.enabled or file.prometheus is None or not file.prometheus.enabled:
        return None, ""
    return file.prometheus.port or 9090, file.prometheus.address


def is_free(port: int) -> bool:
    """Whether a server could listen on a port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def _api_port(port: int) -> Finding:
    try:
        free = is_free(port)
    except PermissionError:
        return Finding(FAIL, "API port", f"{port}: not allowed for this user", "use one above 1023")
    if free:
        return Finding(OK, "API port", f"{port} is free")
    if "vllm:" in answer_of(port):
        return Finding(OK, "API port", f"{port}: a vLLM server is running there")
    return Finding(
        FAIL,
        "API port",
        f"{port} is taken by {holder_of(port)}",
        "stop it, or choose another port for the engine (--port)",
    )


def _metrics(port: int, address: str) -> Iterator[Finding]:
    if address not in _EVERYWHERE:
        yield Finding(INFO, "metrics port", f"{port} on {address}: only this machine is examined")
        return
    if is_free(port):
        yield Finding(OK, "metrics port", f"{port} is free; no engine is running yet")
        return
    text = answer_of(port)
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    ours = sum(line.startswith(("ucm_", "ucm:", "vllm:ucm")) for line in lines)
    if ours:
        yield Finding(
            OK, "metrics", f"http://127.0.0.1:{port}/metrics answers: {ours} values of ucm"
        )
    else:
        what = "answers without metrics of ucm" if text else "does not answer as /metrics"
        yield Finding(
            WARN if lines else FAIL,
            "metrics port",
            f"{port} is taken by {holder_of(port)}, which {what}",
            "choose another with monitoring.prometheus.port (9090 is Prometheus' own)",
        )


def answer_of(port: int) -> str:
    """What http://127.0.0.1:port/metrics says; empty when it says nothing."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/metrics", timeout=_ANSWER_S) as answer:
            return str(answer.read(4 << 20).decode("utf-8", "replace"))
    except (OSError, ValueError, urllib.error.URLError):
        return ""


def holder_of(port: int) -> str:
    """Which process listens on a port, as far as this user may see."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for words in (line.split() for line in lines):
            if words[3] == _LISTEN and int(words[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{words[9]}]")
    for folder in Path("/proc").glob("[0-9]*/fd"):
        try:
            if any(os.readlink(each) in inodes for each in folder.iterdir()):
                name = (folder.parent / "comm").read_text(encoding="utf-8").strip()
                return f"{name} (process {folder.parent.name})"
        except OSError:
            continue  # another user's process, or one that ended
    return "another program"
