# SPDX-License-Identifier: Apache-2.0
"""`ucm replay` on small traces, against an LRU written here."""

from __future__ import annotations

import builtins
import json
import random
from collections import OrderedDict
from pathlib import Path

import pytest
from cli_runs import ucm, ucm_json

from ucm.cli.replay import POLICIES


def written(path: Path, requests: list[list[int]]) -> Path:
    """A trace of requests, one a second."""
    lines = [
        json.dumps({"timestamp": 1000 * i, "input_length": 512 * len(ids), "hash_ids": ids})
        for i, ids in enumerate(requests)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def sessions(seed: int, count: int) -> list[list[int]]:
    """Conversations that grow behind a common prompt, some of them too old to be held."""
    draw = random.Random(seed)
    grown: dict[int, int] = {}
    requests = []
    for i in range(count):
        session = draw.choice(list(grown)[-12:]) if grown and draw.random() < 0.7 else i
        grown[session] = grown.get(session, 0) + draw.randint(1, 4)
        requests.append([0, 1, 2, *(1000 * (session + 1) + b for b in range(grown[session]))])
    return requests


def lru_hits(requests: list[list[int]], capacity: int) -> int:
    """Blocks in the longest held prefix; tails are used before heads, of all of a request."""
    held: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for ids in requests:
        prefix = next((i for i, each in enumerate(ids) if each not in held), len(ids))
        hits += prefix
        steps = [ids[first : first + 16] for first in range(prefix, len(ids), 16)]
        for batch in [ids[:prefix], *steps]:
            for each in reversed(batch):
                if each not in held and len(held) == capacity:
                    held.popitem(last=False)
                held[each] = None
                held.move_to_end(each)
        for each in reversed(ids):
            if each in held:
                held.move_to_end(each)
    return hits


def test_the_head_of_a_prompt_that_was_stored_in_steps_outlives_its_tail(tmp_path):
    prompt = list(range(40))
    trace = written(tmp_path / "trace.jsonl", [prompt, list(range(100, 110)), prompt])
    code, report = ucm_json("replay", trace, "--capacity", 45, "--policy", "lru")
    assert code == 0
    assert report["results"][0]["hits"] == 35


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return written(tmp_path / "trace.jsonl", sessions(1, 300))


def rates(report: dict) -> dict[tuple[str, int], float]:
    return {(each["policy"], each["capacity"]): each["hit_rate"] for each in report["results"]}


def test_lru_hits_what_an_lru_of_the_same_capacity_hits(trace):
    requests = sessions(1, 300)
    code, report = ucm_json(
        "replay", trace, "--policy", "lru", "--capacity", 20, "--capacity", 90, "--capacity", 300
    )
    assert code == 0
    assert (report["trace"], report["pipeline"], report["requests"]) == (
        "trace.jsonl",
        "Fake",
        300,
    )
    assert report["blocks"] == sum(map(len, requests))
    assert {each["capacity"]: each["hits"] for each in report["results"]} == {
        capacity: lru_hits(requests, capacity) for capacity in (20, 90, 300)
    }
    assert report["results"][0]["hit_rate"] == report["results"][0]["hits"] / report["blocks"]


@pytest.mark.parametrize("pipeline", ["Fake", "Cache", "Disk"])
def test_every_stage_hits_the_same_blocks(trace, tmp_path, pipeline):
    code, report = ucm_json(
        *("replay", trace, "--pipeline", pipeline, "--policy", "lru", "--capacity", 150),
        *("--block-bytes", "8KiB", "--path", tmp_path),
    )
    assert code == 0
    assert report["results"][0]["hits"] == lru_hits(sessions(1, 300), 150)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["trace.jsonl"]


@pytest.mark.parametrize("policy", ["arc", "lru2", "s3fifo"])
def test_a_cache_of_real_blocks_follows_its_policy(tmp_path, policy):
    path = written(tmp_path / "t.jsonl", sessions(2, 600))
    words = ("replay", path, "--policy", policy, "--policy", "lru", "--capacity", 60)
    plain = rates(ucm_json(*words)[1])
    real = rates(
        ucm_json(*words, "--pipeline", "Cache", "--block-bytes", "4KiB", "--path", tmp_path)[1]
    )
    assert real["lru", 60] == plain["lru", 60]
    # Slots are taken before those of the same request are stored, so some choices differ.
    assert real[policy, 60] == pytest.approx(plain[policy, 60], abs=0.012)
    assert abs(plain[policy, 60] - plain["lru", 60]) > 0.015


def test_a_cache_in_front_of_a_disk_adds_what_it_holds(trace, tmp_path):
    requests = sessions(1, 300)
    code, report = ucm_json(
        *("replay", trace, "--pipeline", "Cache|Disk", "--policy", "lru", "--capacity", 80),
        *("--block-bytes", "8KiB", "--path", tmp_path),
    )
    assert code == 0
    cache = 2 * max(map(len, requests))
    # The disk does not see what the Cache answers, so its order is a little different.
    at_least = lru_hits(requests, 80) - report["blocks"] // 50
    assert at_least <= report["results"][0]["hits"] <= lru_hits(requests, 80 + cache)
    assert report["pipeline"] == "Cache|Disk with blocks of 8 KiB"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["trace.jsonl"]


def test_without_a_limit_every_repeated_prefix_is_hit_under_every_policy(trace):
    requests = sessions(1, 300)
    report = ucm_json("replay", trace, "--capacity", "all")[1]
    expected = lru_hits(requests, report["unique_blocks"]) / report["blocks"]
    assert report["unlimited"] == expected
    assert rates(report) == {
        (policy, report["unique_blocks"]): expected for policy in sorted(POLICIES)
    }


def test_shares_are_of_the_unique_blocks(tmp_path):
    path = written(tmp_path / "t.jsonl", [list(range(200))])
    words = [word for each in ("5%", "0.5", "7", "1k", "all") for word in ("--capacity", each)]
    report = ucm_json("replay", path, *words, "--policy", "arc")[1]
    assert [each["capacity"] for each in report["results"]] == [7, 10, 100, 200, 1000]
    assert report["results"][2]["share"] == 0.5


def test_auto_is_not_half_a_point_behind_lru_at_any_capacity(tmp_path):
    path = written(tmp_path / "t.jsonl", sessions(2, 2000))
    words = [word for each in (20, 50, 120, 400, 1200) for word in ("--capacity", each)]
    found = rates(ucm_json("replay", path, *words, "--policy", "lru", "--policy", "auto")[1])
    for capacity in (20, 50, 120, 400, 1200):
        assert found["auto", capacity] >= found["lru", capacity] - 0.005


def test_requests_run_in_order_of_time_and_can_be_limited(tmp_path):
    path = tmp_path / "t.jsonl"
    late = {"timestamp": 9000, "hash_ids": [1, 2, 3]}
    early = {"timestamp": 10.5, "hash_ids": [1, 2, 4]}
    middle = {"timestamp": 500, "hash_ids": []}
    path.write_text("\n".join(map(json.dumps, (late, early, middle))))
    report = ucm_json("replay", path, "--capacity", "all", "--policy", "lru")[1]
    assert (report["requests"], report["results"][0]["hits"]) == (2, 2)
    first = ucm_json("replay", path, "--capacity", "all", "--policy", "lru", "--requests", 1)[1]
    assert (first["requests"], first["unique_blocks"], first["results"][0]["hits"]) == (1, 3, 0)


def test_the_table_has_a_row_per_capacity_and_a_column_per_policy(trace, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    result = ucm("replay", trace, "--capacity", 50, "--capacity", 100)
    assert result.exit_code == 0
    for policy in POLICIES:
        assert policy in result.stdout
    rate = lru_hits(sessions(1, 300), 100) / sum(map(len, sessions(1, 300)))
    row = next(line for line in result.stdout.splitlines() if line.split()[:1] == ["100"])
    assert f"{rate:.4f}" in row
    assert "without a limit" in result.stdout


def test_plot_writes_a_picture_or_says_what_to_install(trace, tmp_path, monkeypatch):
    image = tmp_path / "rates.png"
    words = ("replay", trace, "--capacity", 50, "--capacity", 100, "--plot", image)
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        pass
    else:
        assert ucm(*words).exit_code == 0
        assert image.read_bytes().startswith(b"\x89PNG")
        image.unlink()
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    result = ucm(*words)
    assert result.exit_code == 1
    assert "pip install matplotlib" in result.stderr
    assert not image.exists()


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[1]",
        "7",
        "[" * 50000,
        '{"timestamp": 1}',
        '{"timestamp": NaN, "hash_ids": [1]}',
        '{"timestamp": 1e999, "hash_ids": [1]}',
        *(
            f'{{"timestamp": 1, "hash_ids": {ids}}}'
            for ids in ('["x"]', '"123"', "[true]", '{"1": 2}', "[1.5]", "[1e999]")
        ),
    ],
    ids=range(13),
)
def test_a_line_that_is_no_request_is_named(tmp_path, line):
    path = tmp_path / "t.jsonl"
    path.write_text('{"timestamp": 0, "hash_ids": [1]}\n' + line + "\n")
    result = ucm("replay", path)
    assert result.exit_code == 1
    assert "line 2" in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--capacity", "0"),
        ("--capacity", "many"),
        ("--capacity", "-5%"),
        ("--capacity", "100000000000000000M"),
        ("--policy", "mru"),
        ("--pipeline", "Posix"),
        ("--pipeline", "Disk", "--block-bytes", "5000"),
    ],
)
def test_a_wrong_word_is_a_usage_error(trace, words):
    assert ucm("replay", trace, *words).exit_code == 2


def test_an_empty_trace_is_an_error(tmp_path):
    (tmp_path / "t.jsonl").write_text("\n")
    result = ucm("replay", tmp_path / "t.jsonl")
    assert result.exit_code == 1
    assert "no request" in result.stderr


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00\n", b'{"timestamp": 1, "hash_ids": [Infinity]}\n']
)
def test_a_file_that_is_no_trace_is_an_error(tmp_path, content):
    (tmp_path / "t.jsonl").write_bytes(content)
    result = ucm("replay", tmp_path / "t.jsonl")
    assert result.exit_code == 1
    assert "line 1: no request" in result.stderr
