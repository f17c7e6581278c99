# SPDX-License-Identifier: Apache-2.0
"""`ucm bench`: what it measures is really done, checked and cleaned up."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_runs import ucm, ucm_json
from processes import started

from ucm.cli import bench_pieces
from ucm.errors import Unavailable
from ucm.store.store import Store

SMALL = ("--size", "64KiB", "--count", "8", "--batch", "4", "--rounds", "2", "--threads", "2")
ACTIONS = {
    "Cache": ["put", "warm get"],
    "Posix": ["put", "cold get"],
    "Disk": ["put", "cold get"],
    "Cache|Posix": ["put", "warm get", "cold get"],
    "Cache|Disk": ["put", "warm get", "cold get"],
}


@pytest.mark.parametrize("pipeline", ACTIONS)
def test_a_store_is_measured_beside_its_baseline(tmp_path, pipeline):
    code, report = ucm_json("bench", "store", "--pipeline", pipeline, "--path", tmp_path, *SMALL)
    assert code == 0
    assert [each["action"] for each in report["results"]] == ACTIONS[pipeline]
    for each in report["results"]:
        assert (each["size"], each["batch"], each["count"]) == (65536, 4, 8)
        assert each["gb_per_s"] > 0 and each["baseline"]["gb_per_s"] > 0
        assert 0 < each["batch_ms"]["p50"] <= each["batch_ms"]["p99"]
        assert len(each["ratios"]) == 2
        assert min(each["ratios"]) <= each["ratio"] <= max(each["ratios"])
        assert each["baseline"]["name"].endswith(" x2")
    assert list(tmp_path.iterdir()) == []


def test_sizes_batches_and_pipelines_are_multiplied(tmp_path):
    words = ["--pipeline", "Cache", "--pipeline", "Posix", "--size", "4096", "--size", "8192"]
    words += [
        "--batch",
        "1",
        "--batch",
        "3",
        "--count",
        "6",
        "--rounds",
        "1",
        "--path",
        str(tmp_path),
    ]
    report = ucm_json("bench", "store", *words)[1]
    cases = {(each["pipeline"], each["size"], each["batch"]) for each in report["results"]}
    assert len(cases) == 8


def test_the_table_fits_80_columns(tmp_path):
    result = ucm("bench", "store", "--pipeline", "Cache|Disk", "--path", tmp_path, *SMALL)
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "…" not in result.stdout
    for word in ("put", "warm", "cold", "pwrite x2", "preadv x2", "memcpy x2", "ratio"):
        assert word in result.stdout


def test_buffered_transfers_are_measured_too(tmp_path):
    words = ("--pipeline", "Disk", "--buffered", "--path", tmp_path)
    code, report = ucm_json("bench", "store", *words, *SMALL)
    assert (code, {each["direct"] for each in report["results"]}) == (0, {False})


@pytest.mark.parametrize("broken_call", [1, 3], ids=["at once", "behind the baseline"])
@pytest.mark.parametrize("pipeline", ["Cache", "Disk"])
def test_a_load_that_brings_other_bytes_ends_the_run(tmp_path, monkeypatch, pipeline, broken_call):
    load, calls = Store.load_data, []

    def short(self, ids, shard_index, addresses, event=0):
        calls.append(len(ids))
        first = 1 if len(calls) == broken_call else 0
        return load(self, ids[first:], shard_index[first:], addresses[first:], event)

    monkeypatch.setattr(Store, "load_data", short)
    result = ucm("bench", "store", "--pipeline", pipeline, "--path", tmp_path, *SMALL)
    assert result.exit_code == 1
    assert "other bytes" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_quickly_and_leaves_nothing(tmp_path, number):
    words = ["bench", "store", "--pipeline", "Cache|Disk", "--size", "64KiB", "--count", "64"]
    words += ["--rounds", "100000", "--path", str(tmp_path)]
    code = "from ucm.cli.main import main; main()"
    run = started(
        [sys.executable, "-c", code, *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("ucm-bench-*/store/*/FORMAT.json")):
            assert time.monotonic() < deadline and run.poll() is None
            time.sleep(0.05)
        time.sleep(0.3)
        run.send_signal(number)
        out, err = run.communicate(timeout=60)
    finally:
        run.kill()
    assert run.returncode == 128 + number
    assert out == ""
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("pipeline", ["Cache", "Disk", "Fake", "Cache|Posix"])
def test_lookups_are_measured_for_hits_and_misses(tmp_path, pipeline):
    words = ("--pipeline", pipeline, "--count", "500", "--batch", "1", "--batch", "64")
    code, report = ucm_json("bench", "lookup", *words, "--rounds", "1", "--path", tmp_path)
    assert code == 0
    assert [(each["count"], each["batch"]) for each in report["results"]] == [(500, 1), (500, 64)]
    for each in report["results"]:
        assert min(each["hit_ns"], each["miss_ns"], each["baseline"]["hit_ns"]) > 0
    assert list(tmp_path.iterdir()) == []


def test_a_lookup_that_answers_wrong_ends_the_run(tmp_path, monkeypatch):
    lookup, calls = Store.lookup, []

    def forgetful(self, ids):
        calls.append(len(ids))
        answers = lookup(self, ids)
        return answers if len(calls) == 1 else [*answers[:-1], False]

    monkeypatch.setattr(Store, "lookup", forgetful)
    words = ("--pipeline", "Fake", "--count", "100", "--rounds", "1", "--path", tmp_path)
    result = ucm("bench", "lookup", *words)
    assert result.exit_code == 1
    assert "answered wrong" in result.stderr


def test_blocks_that_found_no_room_end_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(Store, "lookup", lambda self, ids: [True] * (len(ids) - 1) + [False])
    words = ("--pipeline", "Fake", "--count", "100", "--rounds", "1", "--path", tmp_path)
    result = ucm("bench", "lookup", *words)
    assert result.exit_code == 1
    assert "keeps 99 of 100 blocks" in result.stderr


def test_transport_says_that_no_device_is_involved():
    words = ("--platform", "cpu", "--size", "1MiB", "--size", "4MiB", "--rounds", "2")
    code, report = ucm_json("bench", "transport", *words)
    assert code == 0
    assert "no device" in report["remark"]
    assert [(each["size"] >> 20, each["action"]) for each in report["results"]] == [
        (1, "h2d"),
        (1, "d2h"),
        (4, "h2d"),
        (4, "d2h"),
    ]
    assert "no device" in ucm("bench", "transport", *words).stdout


def test_scattered_pieces_are_measured_beside_one_large_copy(tmp_path):
    words = ("--platform", "cpu", "--fragmented", "--bytes", "4MiB", "--rounds", "1")
    sizes = ("--piece", "4KiB", "--piece", "256KiB")
    code, report = ucm_json("bench", "transport", *words, *sizes)
    assert code == 0
    assert "no device" in report["remark"]
    assert report["limit"]["piece_bytes"] == 2 << 20
    assert [(each["method"], each["piece_bytes"]) for each in report["results"]] == [
        ("chosen", 4096),
        ("chosen", 256 << 10),
    ]
    for each in report["results"]:
        for way in ("load", "dump", "both"):
            speed, limit = each[f"{way}_gb_per_s"], report["limit"][f"{way}_gb_per_s"]
            assert each[f"{way}_share"] == pytest.approx(speed / limit) and speed > 0
    shown = ucm("bench", "transport", *words).stdout
    assert "one large copy" in shown and "512 KiB" in shown and "no device" in shown


def test_every_point_of_the_plot_of_scattered_pieces_lies_inside_it(tmp_path, monkeypatch):
    pyplot = importlib.import_module("matplotlib.pyplot")
    monkeypatch.setattr(pyplot, "close", lambda figure: None)
    shares = {"load_share": 0.5, "dump_share": 0.9, "both_share": 1.7}  # the last one is highest
    report = {
        "platform": "cpu",
        "remark": "",
        "limit": {f"{way}_gb_per_s": 1.0 for way in ("load", "dump", "both")},
        "results": [{"method": "chosen", "piece_bytes": 4096 << n, **shares} for n in range(12)],
    }
    bench_pieces.plot(pyplot, report, tmp_path / "copies.png")
    panels = pyplot.gcf().axes
    for axes in panels:
        low, high = axes.get_ylim()
        assert low == 0
        assert all(y <= high for line in axes.lines for y in line.get_ydata())
        assert [each.get_text() for each in axes.get_xticklabels()][::11] == ["4 KiB", "8 MiB"]
    monkeypatch.undo()
    pyplot.close(pyplot.gcf())


def test_scattered_pieces_are_plotted_or_it_says_what_to_install(tmp_path):
    image = tmp_path / "copies.png"
    words = ("--platform", "cpu", "--fragmented", "--bytes", "1MiB", "--rounds", "1")
    result = ucm("bench", "transport", *words, "--plot", str(image))
    if importlib.util.find_spec("matplotlib"):
        assert result.exit_code == 0
        assert image.read_bytes().startswith(b"\x89PNG")
    else:
        assert result.exit_code == 1
        assert "pip install matplotlib" in result.stderr


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--fragmented", "--size", "1MiB"], 2, "give --piece"),
        (["--piece", "4KiB"], 2, "go with --fragmented"),
        (["--platform", "musa"], 2, "go with --fragmented"),
        (["--fragmented", "--platform", "musa"], 1, "platform musa is not usable"),
        (["--fragmented", "--platform", "cpu", "--piece", "5000"], 1, "a piece size fits"),
    ],
)
def test_copies_that_can_not_be_measured_are_refused(words, code, text):
    result = ucm("bench", "transport", "--rounds", "1", *words)
    assert result.exit_code == code
    assert text in result.stderr


def test_out_keeps_the_report(tmp_path: Path):
    out = tmp_path / "report.json"
    words = ("--platform", "cpu", "--size", "1MiB", "--rounds", "1", "--out", out)
    shown = ucm_json("bench", "transport", *words)[1]
    assert json.loads(out.read_text()) == shown
    assert [each.name for each in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["store", "--pipeline", "Fake"], 2, "keeps no bytes"),
        (["store", "--pipeline", "Cache|Empty"], 2, "keeps no bytes"),
        (["store", "--pipeline", "Cach"], 1, "did you mean Cache"),
        (["store", "--size", "1000"], 2, "multiple of 4096"),
        (["store", "--count", "1000M", "--pipeline", "Cache"], 1, "smaller --count"),
        (["lookup", "--pipeline", "Empty"], 2, "keeps no bytes"),
    ],
)
def test_what_can_not_be_measured_is_refused_at_once(tmp_path, words, code, text):
    result = ucm("bench", *words, *([] if "--path" in words else ["--path", str(tmp_path)]))
    assert result.exit_code == code
    assert text in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_cuda_without_a_device_is_one_sentence(monkeypatch):
    def absent(device_id):
        raise Unavailable("CUDATransport needs a CUDA device")

    monkeypatch.setattr("ucm.transport._cuda_torch", absent)
    result = ucm("bench", "transport", "--platform", "cuda", "--size", "1MiB")
    assert result.exit_code == 1
    assert "CUDATransport needs" in result.stderr
