# SPDX-License-Identifier: Apache-2.0
"""The stand-in's disk level: the worker around the real `light_mem`, and a run over three levels.

Written from the documented behaviour of LightLLM, as the rest of the stand-in.
"""

DISK = """
import os, time
import torch
from light_mem import PyLocalCacheService, PyState
from lightllm.server.multi_level_kv_cache.cpu_cache_client import CpuKvCacheClient

class DiskCacheWorker:
    def __init__(self, gigabytes: float, client: CpuKvCacheClient, folder: str):
        os.makedirs(folder, exist_ok=True)
        self.client = client
        self.queued = self.already = 0
        self.service = PyLocalCacheService(
            kvcache_tensor=client.cpu_kv_cache_tensor.flatten(1).view(dtype=torch.uint8),
            file=os.path.join(folder, "cache_file"),
            storage_size=int(gigabytes * 1024**3),
            num_shard=8,
            num_worker=24,
        )
        self.at_work = False

    def run(self):
        while True:
            time.sleep(0.1)
            self.at_work = True
            for group in self.client.get_pages_to_offloading():
                self.offload(group)
            self.at_work = False

    def offload(self, group):
        items = self.client.page_items.linked_items
        keys = [int(items[page].hash_key) for page in group]
        self.queued += len(group)
        if all(self.service.query(keys)):
            self.client.deref_pages(group)
            return
        rows = torch.tensor(group, dtype=torch.int32, device="cpu")
        task = self.service.create(hash_128s=keys, kv_page_indexer=rows, mode="w")
        if task.page_already_list:
            self.client.deref_pages(task.page_already_list)
        while not task.data_safe():
            time.sleep(0.001)
        self.already += len(task.page_already_list)
        self.client.deref_pages(sorted(set(group) - set(task.page_already_list)))

    def loadable(self, keys, start):
        found = self.service.query(keys)
        return (found.index(False, start) if False in found[start:] else len(keys)) - start

    def load(self, keys, pages, start):
        rows = torch.tensor(pages, dtype=torch.int32, device="cpu")
        task = self.service.create(
            hash_128s=keys, kv_page_indexer=rows, mode="r", start_pos=start
        )
        while not task.ready():
            time.sleep(0.001)
        return all(state == PyState.Finished for state in task.state())
"""

LEVELS = '''
import json, os, random, threading, time, urllib.request
from lightllm.server.api_server import Remote, SLOTS, TOKENS, hashes, rank_process
from lightllm.utils.envs_utils import get_env_start_args

def match_levels(client, disk, keys, counts):
    """Pages of the longest prefix in CPU memory and on the disk, with a reference each."""
    pages = []
    for key in keys:
        counts["cpu asked"] += 1
        page, _ = client.query_one_page(key)
        if page is None:
            break
        counts["cpu found"] += 1
        pages.append(page)
    if len(pages) == len(keys):
        return pages
    hit = len(pages)
    more = disk.loadable(keys, hit)
    if more == 0:
        return pages
    fresh, ready = client.allocate_pages(keys[hit : hit + more], disk_offload_enable=True)
    counts["cpu asked"] += more
    counts["cpu found"] += sum(ready)
    pages += fresh
    assert disk.load(keys[: len(pages)], pages, hit)
    counts["disk loaded"] += len(fresh)
    client.update_pages_status_to_ready(pages, deref=False, disk_offload_enable=False)
    return pages

def levels_process(pipe):
    """What LightLLM's process of that name does, with a disk level."""
    from collections import Counter
    from lightllm.server.multi_level_kv_cache.disk_cache_worker import DiskCacheWorker
    from lightllm.server.multi_level_kv_cache.manager import CpuKvCacheClient
    args = get_env_start_args()
    client = CpuKvCacheClient(only_create_meta_data=False, init_shm_data=True)
    disk = DiskCacheWorker(args.disk_cache_storage_size, client, args.disk_cache_dir)
    threading.Thread(target=disk.run, daemon=True).start()
    counts = Counter()
    pipe.send("init ok")
    while True:
        kind, value = pipe.recv()
        if kind == "match":
            pipe.send(match_levels(client, disk, value, counts))
        elif kind == "settle":
            while client.pages.stats()["offload_waiting"] or disk.at_work:
                time.sleep(0.005)
            while disk.service.active_threads("w"):
                time.sleep(0.001)
            pipe.send(None)
        elif kind == "counts":
            counts["disk queued"], counts["disk already"] = disk.queued, disk.already
            pipe.send(dict(counts))
        else:
            return

def scrape():
    url = f"http://127.0.0.1:{os.environ['UCM_METRICS_PORT']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()

def counters(text):
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("ucm_")]
    return {name: float(value) for name, value in lines if "_total" in name}

class Scraper(threading.Thread):
    """Reads the endpoint all the time, as a monitor would; a counter that falls is a mistake."""

    def __init__(self):
        super().__init__(daemon=True)
        self.reads, self.mistakes, self.ended = 0, [], threading.Event()

    def run(self):
        last = {}
        while not self.ended.wait(0.02):
            now = counters(scrape())
            self.mistakes += [name for name, value in last.items() if now.get(name, 0) < value]
            last = now
            self.reads += 1

def serve_levels(rounds, prompts, ranks):
    matcher = Remote(levels_process)
    assert matcher.pipe.recv() == "init ok"
    ranks = [Remote(rank_process, rank) for rank in range(ranks)]
    scraper = Scraper()
    scraper.start()
    report = {"matched": [], "right": [], "loads": 0, "offloads": 0, "allocated": 0, "ready": 0}
    for round_ in range(rounds):
        for number in range(prompts):
            prompt = [(number + 2) * t for t in range(1, 6 * TOKENS + 2)]
            keys = hashes(prompt)
            slots = [(slot * 5 + number) % SLOTS for slot in range(len(keys) * TOKENS)]
            pages = matcher.ask("match", keys)
            report["matched"].append(len(pages))
            if pages:
                for rank in ranks:
                    rank.pipe.send(("load", (slots[: len(pages) * TOKENS], pages, prompt)))
                report["right"] += [rank.pipe.recv() for rank in ranks]
                report["loads"] += len(pages)
            for rank in ranks:
                rank.ask("compute", (prompt[: len(keys) * TOKENS], slots))
            pages, readies = ranks[0].ask("allocate", keys)
            assert -1 not in pages
            for rank in ranks:
                rank.ask("offload", (slots, pages, readies))
            ranks[0].ask("publish", pages)
            report["offloads"] += len(pages)
            report["ready"] += sum(readies)
            if number % 6 == 5:
                matcher.ask("settle")
        matcher.ask("settle")
    scraper.ended.set()
    scraper.join()
    report |= {"counts": matcher.ask("counts"), "figures": scrape()}
    report |= {"reads": scraper.reads, "mistakes": scraper.mistakes}
    print(json.dumps(report))
    for each in (matcher, *ranks):
        each.pipe.send(("end", None))
        each.process.join(30)
'''
