# SPDX-License-Identifier: Apache-2.0
"""One ``vllm serve`` process: start it, wait until it answers, stop it or kill it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CONNECTOR = {
    "kv_connector": "UCMConnector",
    "kv_connector_module_path": "ucm.integration.vllm.ucm_connector",
    "kv_role": "kv_both",
}


@dataclass
class Server:
    """A vLLM server on a free port of 127.0.0.1, in a process group of its own.

    Args:
        model: the model's folder.
        log: the file to which everything is added that the server prints.
        kv_transfer: vLLM's kv_transfer_config, or None to serve without a connector.
        flags: more flags for ``vllm serve``.
        kv_space_gib: memory for the engine's own KV blocks, in GiB.
        start_timeout_s: how long it may take until /health answers.
    """

    model: Path
    log: Path
    kv_transfer: dict[str, Any] | None = None
    flags: list[str] = field(default_factory=list)
    kv_space_gib: int = 2
    start_timeout_s: float = 600.0
    port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    log_begin: int = field(default=0, repr=False)
    """Where the lines of the running server begin."""

    def start(self, tick: Callable[[float, str], None]) -> float:
        """Start the server and return the seconds until it was healthy.

        Args:
            tick: called a few times a second with the seconds so far and the log's last line.

        Raises:
            RuntimeError: it ended or was not healthy in time; the text holds the log's tail.
        """
        self.port = _free_port()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        begin = time.monotonic()
        with self.log.open("ab") as out:
            self.log_begin = out.seek(0, os.SEEK_END)
            self.process = subprocess.Popen(
                self._command(),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        while not self._healthy():
            spent = time.monotonic() - begin
            if self.process.poll() is not None or spent > self.start_timeout_s:
                self.kill()
                raise RuntimeError(f"vllm serve did not start; {self.log} ends:\n{self.tail(25)}")
            tick(spent, self.tail(1))
            time.sleep(0.25)
        return time.monotonic() - begin

    def stop(self, timeout_s: float = 60.0) -> None:
        """End the server in good order (SIGTERM); what is left after the time-out is killed."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout_s)
        self.kill()

    def kill(self) -> None:
        """kill -9 for every process of the server, at once."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def tail(self, lines: int) -> str:
        """The last lines of the running server's log that say something."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(max(self.log_begin, self.log.stat().st_size - 16384))
            text = file.read().decode(errors="replace")
        kept = [line for line in text.replace("\r", "\n").splitlines() if line.strip()]
        return "\n".join(kept[-lines:])

    def _healthy(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(self.model)]
        command += ["--served-model-name", "demo", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--dtype", "bfloat16", "--max-model-len", "8192", "--max-num-seqs", "4"]
        command += ["--enforce-eager", "--generation-config", "vllm"]
        if self.kv_transfer is not None:
            command += ["--kv-transfer-config", json.dumps(self.kv_transfer)]
        return command + self.flags

    def _environment(self) -> dict[str, str]:
        cpus = sorted(os.sched_getaffinity(0))[:32]
        return {
            **os.environ,
            # A fixed set of cores: with "auto" the thread count, and with it the rounding of
            # sums, would differ between a server with a connector and one without.
            "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cpus)),
            "VLLM_CPU_KVCACHE_SPACE": str(self.kv_space_gib),
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
            "PYTHONUNBUFFERED": "1",
        }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
