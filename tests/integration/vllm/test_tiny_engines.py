# SPDX-License-Identifier: Apache-2.0
"""Real engines with tiny models: the answers with the store are those without it."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import damage
import models
import pytest
from processes import started

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

HERE = Path(__file__).parent
_RANDOM = random.Random(10)
DOCUMENT = [_RANDOM.randrange(3, 300) for _ in range(1500)]
PROMPTS = [[*DOCUMENT, 7, 8, 9], DOCUMENT + [11] * 200, [5, 6, 7], DOCUMENT[1:]]
TOKENS = 16
STORE = {"buffer_number": 64, "segment_bytes": 32 << 20, "capacity_bytes": 256 << 20}
ENVIRONMENT = {
    "VLLM_CPU_OMP_THREADS_BIND": "0-1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
}

Answers = list[dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(scope="module")
def llama(folder: Path) -> Path:
    return models.make_tiny_llama(folder / "llama")


@pytest.fixture(scope="module")
def mla(folder: Path) -> Path:
    return models.make_tiny_mla(folder / "mla")


def live(
    folder: Path,
    model: Path,
    connector: dict[str, Any] | None,
    prompts: list[list[int]] = PROMPTS,
    **engine: Any,
) -> Answers:
    """One life of an engine in a fresh process."""
    job, answer = folder / "job.json", folder / "answer.json"
    answer.unlink(missing_ok=True)
    job.write_text(
        json.dumps(
            {
                "model": str(model),
                "prompts": prompts,
                "tokens": TOKENS,
                "connector": connector,
                "engine": engine,
            }
        )
    )
    done = subprocess.run(
        [sys.executable, str(HERE / "run_engine.py"), str(job), str(answer)],
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0 and answer.exists(), done.stdout[-2000:] + done.stderr[-6000:]
    return json.loads(answer.read_text())


def tokens(answers: Answers) -> list[list[int]]:
    """What was sampled."""
    return [answer["tokens"] for answer in answers]


def connector(folder: Path, spec: str, **more: Any) -> dict[str, Any]:
    """The configuration of a store in a folder."""
    store = dict(STORE)
    if "Disk" not in spec:
        del store["segment_bytes"]
    return {"store_pipeline": spec, "storage_backends": str(folder), **store, **more}


@pytest.fixture(scope="module")
def llama_alone(folder: Path, llama: Path) -> Answers:
    return live(folder, llama, None)


@pytest.fixture(scope="module")
def filled(folder: Path, llama: Path, llama_alone: Answers) -> Path:
    """A store on disk that one life of the Llama has filled."""
    store = folder / "filled"
    cold = live(folder, llama, connector(store, "Cache|Disk"))
    assert tokens(cold) == tokens(llama_alone)
    assert [answer["cached"] for answer in cold] == [answer["cached"] for answer in llama_alone]
    return store


def test_a_fresh_engine_answers_the_same_from_the_store(
    folder: Path, llama: Path, llama_alone: Answers, filled: Path
) -> None:
    warm = live(folder, llama, connector(filled, "Cache|Disk"))
    assert tokens(warm) == tokens(llama_alone)
    assert warm[0]["cached"] == 1408  # eleven blocks of 128 tokens, from an engine that is gone
    assert warm[3]["cached"] == 1408


def test_layer_by_layer_the_answers_are_the_same(
    folder: Path, llama: Path, llama_alone: Answers
) -> None:
    keys = connector(folder / "layers", "Cache|Posix", use_layerwise=True)
    for life in range(2):
        answers = live(folder, llama, keys, async_scheduling=False)
        assert tokens(answers) == tokens(llama_alone)
        assert answers[0]["cached"] == (1408 if life else 0)


def test_latent_attention_answers_the_same(folder: Path, mla: Path) -> None:
    # The MLA backend for CPUs without AMX samples other tokens after any cached prefix, also one of
    # vLLM's own: there the blocks are saved, and the prompts are computed.
    alone = live(folder, mla, None)
    keys = connector(folder / "latent", "Cache|Posix")
    for _ in range(2):
        answers = live(folder, mla, keys)
        assert tokens(answers) == tokens(alone)
    assert len(damage.block_files(folder / "latent")) >= 1500 // 16


class Server:
    """A running ``vllm serve``."""

    def __init__(self, folder: Path, model: Path, keys: dict[str, Any]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        transfer = {
            "kv_connector": "UCMConnector",
            "kv_connector_module_path": "ucm.integration.vllm.ucm_connector",
            "kv_role": "kv_both",
            "kv_connector_extra_config": keys,
        }
        self.log = folder / "serve.log"
        self.process = started(
            [
                str(Path(sys.executable).parent / "vllm"),
                "serve",
                str(model),
                "--host",
                "127.0.0.1",
                "--port",
                str(self.port),
                "--served-model-name",
                "tiny",
                "--dtype",
                "bfloat16",
                "--enforce-eager",
                "--max-model-len",
                "4096",
                "--kv-transfer-config",
                json.dumps(transfer),
            ],
            env={**os.environ, **ENVIRONMENT},
            stdout=self.log.open("w"),
            stderr=subprocess.STDOUT,
        )

    def wait(self) -> None:
        """Until it answers."""
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()[-6000:]
            try:
                self.get("/health")
                return
            except OSError:
                time.sleep(0.5)
        raise AssertionError(self.log.read_text()[-6000:])

    def get(self, path: str, body: dict[str, Any] | None = None) -> str:
        """Ask it."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.read().decode()

    def complete(self, prompt: list[int]) -> list[int]:
        """Sampled token ids for a prompt."""
        body = {
            "model": "tiny",
            "prompt": prompt,
            "max_tokens": TOKENS,
            "temperature": 0,
            "ignore_eos": True,
            "return_token_ids": True,
        }
        return json.loads(self.get("/v1/completions", body))["choices"][0]["token_ids"]

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = [line for line in self.get("/metrics").splitlines() if line.startswith(name)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def stop(self) -> None:
        """End it as an operator does."""
        self.process.terminate()
        self.process.wait(60)


@pytest.fixture
def server(folder: Path, llama: Path, filled: Path) -> Iterator[Server]:
    running = Server(folder, llama, connector(filled, "Cache|Disk"))
    try:
        running.wait()
        yield running
    finally:
        running.stop()


def test_a_server_answers_from_the_store_and_tells_its_figures(
    server: Server, llama_alone: Answers
) -> None:
    assert [server.complete(prompt) for prompt in PROMPTS] == tokens(llama_alone)
    deadline = time.monotonic() + 30
    while server.metric("vllm:ucm_loaded_blocks_total") < 22 and time.monotonic() < deadline:
        time.sleep(0.5)
        server.complete([3, 4, 5])  # figures travel with the steps of the engine
    assert server.metric("vllm:ucm_loaded_blocks_total") >= 22
    assert server.metric("vllm:ucm_hit_tokens_total") >= 2816
    assert server.metric("vllm:ucm_recomputed_blocks_total") == 0


def test_harm_to_the_stored_blocks_does_not_reach_the_answers(
    folder: Path, llama: Path, llama_alone: Answers, filled: Path
) -> None:
    damage.flip(filled)
    answers = live(folder, llama, connector(filled, "Cache|Disk"))
    assert tokens(answers) == tokens(llama_alone)
