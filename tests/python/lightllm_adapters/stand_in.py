# SPDX-License-Identifier: Apache-2.0
"""A package `lightllm` with the modules and calls of the contract, on CPU tensors.

It stands for the engine, not for ucm: what LightLLM does itself (hashing, matching, offloading,
loading, one process each for matching, routing and every rank) is written from its documented
behaviour; its index and its memory raise, so whatever works was put in by ucm.
"""

from __future__ import annotations

from pathlib import Path

from stand_in_levels import DISK, LEVELS

ENVS = """
import json, os
from types import SimpleNamespace

def get_unique_server_name():
    return os.environ["LIGHTLLM_UNIQUE_SERVICE_NAME_ID"]

def get_env_start_args():
    return SimpleNamespace(**json.loads(os.environ["LIGHTLLM_START_ARGS"]))
"""

RANKS = """
import os

def get_current_rank_in_dp():
    return int(os.environ.get("STAND_IN_RANK", "0"))

def get_dp_world_size():
    return 2
"""

CREATOR = """
from dataclasses import dataclass
from typing import Tuple
import torch

@dataclass(frozen=True)
class CpuCacheTensorSpec:
    shm_key: int
    shape: Tuple[int, ...]
    dtype: torch.dtype
    size_bytes: int

class CpuCacheCreator:
    def __init__(self, tensor_spec: CpuCacheTensorSpec):
        self.tensor_spec = tensor_spec

    def create_or_attach(self, init_shm_data: bool, pin: bool) -> torch.Tensor:
        raise RuntimeError("the memory of the stand-in was used")
"""

CLIENT = """
from types import SimpleNamespace
from lightllm.utils.envs_utils import get_env_start_args

class CpuKvCacheClient(object):
    def __init__(self, only_create_meta_data: bool, init_shm_data: bool):
        self.args = get_env_start_args()
        shape = (self.args.page_num, 2, self.args.cpu_cache_token_page_size, 8, 16)
        nbytes = 2
        for each in shape:
            nbytes *= each
        self.kv_cache_tensor_meta = SimpleNamespace(page_num=shape[0], calcu_size=lambda: nbytes)
        self.page_num = shape[0]
        self.lock = None
        self._create_cpu_status_list(init_shm_data)
        if not only_create_meta_data:
            import torch
            from lightllm.common.cpu_cache.creator import CpuCacheCreator, CpuCacheTensorSpec
            spec = CpuCacheTensorSpec(self.args.cpu_kv_cache_shm_id, shape, torch.float16, nbytes)
            self.cpu_kv_cache_tensor = CpuCacheCreator(spec).create_or_attach(
                init_shm_data=init_shm_data, pin=not init_shm_data
            )

    def _create_cpu_status_list(self, init_shm_data):
        raise RuntimeError("the index of the stand-in was used")
"""

NORMAL = """
class NormalMemOperator:
    def __init__(self, mem_manager):
        self.mem_manager = mem_manager

    def load_cpu_cache_to_gpu(self, mem_indexes, page_indexes, cpu_cache_client, req):
        raise RuntimeError("the copies of the stand-in were used")

    def offload_gpu_kv_to_cpu_cache(
        self, mem_indexes, page_indexes, page_readies, cpu_cache_client, req
    ):
        raise RuntimeError("the copies of the stand-in were used")

class OtherMemOperator(NormalMemOperator):
    def load_cpu_cache_to_gpu(self, mem_indexes, page_indexes, cpu_cache_client, req):
        return "loaded by itself"
"""

SERVER = '''
import json, multiprocessing, os, sys, time, urllib.request
from types import SimpleNamespace
from lightllm.utils.envs_utils import get_env_start_args

TOKENS, SLOTS = 64, 1024

def content(token, rank):
    """(2 layers, 4 heads, 16) of a token on a rank."""
    import torch
    return ((torch.arange(128) + 37 * token + 11 * rank) % 509).reshape(2, 4, 16).half()

def fill(kv_buffer, slots, prompt, rank):
    import torch
    for slot, token in zip(slots, prompt):
        kv_buffer[:, slot] = content(token, rank)

def match_process(pipe):
    """Matches prompts in the CPU pages, as the process of that name does."""
    from lightllm.server.multi_level_kv_cache.manager import CpuKvCacheClient
    client = CpuKvCacheClient(only_create_meta_data=False, init_shm_data=True)
    pipe.send("init ok")
    while True:
        kind, value = pipe.recv()
        if kind == "match":
            pages = []
            client.lock.acquire_sleep1ms()
            for key in value:
                page, ready = client.query_one_page(key)
                if page is None:
                    break
                pages.append(page)
            client.lock.release()
            assert client.check_allpages_ready(pages)
            pipe.send(pages)
        elif kind == "drain":
            groups = client.get_pages_to_offloading()
            found = [[int(client.page_items.linked_items[p].hash_key) for p in g] for g in groups]
            for group in groups:
                client.deref_pages(group)
            pipe.send(found)
        elif kind == "figures":
            url = f"http://127.0.0.1:{os.environ['UCM_METRICS_PORT']}/metrics"
            pipe.send(urllib.request.urlopen(url, timeout=10).read().decode())
        else:
            return

def route_process(pipe):
    """Gives back the pages of a request that was dropped before it ran."""
    from lightllm.server.router.manager import CpuKvCacheClient
    client = CpuKvCacheClient(only_create_meta_data=True, init_shm_data=False)
    while True:
        kind, value = pipe.recv()
        if kind == "end":
            return
        client.lock.acquire_sleep1ms()
        client.deref_pages(value)
        client.lock.release()
        pipe.send("dropped")

def rank_process(pipe, rank):
    """Offloads what finished requests computed, loads what the next ones need."""
    os.environ["STAND_IN_RANK"] = str(rank)
    import torch
    from lightllm.common.kv_cache_mem_manager.operator.normal import NormalMemOperator
    from lightllm.common.kv_cache_mem_manager.operator.normal import OtherMemOperator
    from lightllm.server.router.model_infer.mode_backend.multi_level_kv_cache import (
        CpuKvCacheClient,
    )
    client = CpuKvCacheClient(False, False)
    kv_buffer = torch.zeros((2, SLOTS, 4, 16), dtype=torch.float16)
    operator = NormalMemOperator(SimpleNamespace(kv_buffer=kv_buffer))
    assert OtherMemOperator(None).load_cpu_cache_to_gpu([], [], None, None) == "loaded by itself"
    while True:
        kind, value = pipe.recv()
        if kind == "compute":
            prompt, slots = value
            fill(kv_buffer, slots, prompt, rank)
            pipe.send(None)
        elif kind == "allocate":
            client.lock.acquire_sleep1ms()
            pipe.send(client.allocate_pages(value, disk_offload_enable=True))
            client.lock.release()
        elif kind == "offload":
            slots, pages, readies = (torch.tensor(each) for each in value)
            operator.offload_gpu_kv_to_cpu_cache(slots, pages, readies, client, None)
            pipe.send(None)
        elif kind == "publish":
            client.update_pages_status_to_ready(value, True, True, len(value) * TOKENS)
            pipe.send(None)
        elif kind == "load":
            slots, pages, prompt = value
            kv_buffer.fill_(-1)
            operator.load_cpu_cache_to_gpu(
                torch.tensor(slots), torch.tensor(pages), cpu_cache_client=client, req=None
            )
            want = kv_buffer.clone()
            fill(want, slots, prompt, rank)
            if rank == 0:
                client.deref_pages(pages)
            pipe.send(bool(torch.equal(kv_buffer, want)))
        else:
            return

class Remote:
    def __init__(self, target, *args):
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=target, args=(other, *args), daemon=True)
        self.process.start()

    def ask(self, kind, value=None):
        self.pipe.send((kind, value))
        return self.pipe.recv()

def hashes(prompt):
    """One per full page but the last token, each of everything so far."""
    import hashlib
    digest, out = hashlib.sha256(), []
    for start in range(0, (len(prompt) - 1) // TOKENS * TOKENS, TOKENS):
        digest.update(json.dumps(prompt[start : start + TOKENS]).encode())
        out.append(int.from_bytes(digest.digest()[:16], "little"))
    return out

def main():
    args = get_env_start_args()
    if getattr(args, "enable_disk_cache", False):
        from lightllm.server.levels import serve_levels
        return serve_levels(args.rounds, args.prompts, args.ranks)
    matcher = Remote(match_process)
    assert matcher.pipe.recv() == "init ok"
    router = Remote(route_process)
    ranks = [Remote(rank_process, 0), Remote(rank_process, 1)]
    base = list(range(1, 64 * 6 + 2))
    prompts = [base, base[:192] + [7 * t for t in range(1, 200)], [3 * t for t in range(1, 260)]]
    report = {"right": [], "matched": [], "offloaded": 0}
    for prompt in prompts + prompts:
        keys = hashes(prompt)
        count = len(keys) * TOKENS
        slots = [(slot * 5) % SLOTS for slot in range(count)]
        pages = matcher.ask("match", keys)
        report["matched"].append(len(pages))
        if pages:
            part = slots[: len(pages) * TOKENS], pages, prompt
            for rank in ranks:
                rank.pipe.send(("load", part))
            report["right"] += [rank.pipe.recv() for rank in ranks]
        for rank in ranks:
            rank.ask("compute", (prompt[:count], slots))
        pages, readies = ranks[0].ask("allocate", keys)
        for rank in ranks:
            rank.ask("offload", (slots, pages, readies))
        ranks[0].ask("publish", pages)
        report["offloaded"] += sum(map(len, matcher.ask("drain")))
    dropped = matcher.ask("match", hashes(base))
    router.ask("drop", dropped)
    report["figures"] = matcher.ask("figures")
    print(json.dumps(report))
    for each in (matcher, router, *ranks):
        each.pipe.send(("end", None))
        each.process.join(30)

if __name__ == "__main__":
    main()
'''

USER = "from lightllm.server.multi_level_kv_cache.cpu_cache_client import CpuKvCacheClient\n"
MODULES = {
    "utils/envs_utils.py": ENVS,
    "utils/dist_utils.py": RANKS,
    "common/cpu_cache/creator.py": CREATOR,
    "common/kv_cache_mem_manager/operator/normal.py": NORMAL,
    "server/multi_level_kv_cache/cpu_cache_client.py": CLIENT,
    "server/multi_level_kv_cache/disk_cache_worker.py": DISK,
    "server/multi_level_kv_cache/manager.py": USER,
    "server/router/manager.py": USER,
    "server/router/model_infer/mode_backend/multi_level_kv_cache.py": USER,
    "server/api_server.py": SERVER,
    "server/levels.py": LEVELS,
}


def build(folder: Path) -> Path:
    """Writes the package; the folder belongs on the path."""
    for name, text in MODULES.items():
        path = folder / "lightllm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for each in [folder / "lightllm", *(folder / "lightllm").rglob("*")]:
        if each.is_dir():
            (each / "__init__.py").touch()
    return folder
