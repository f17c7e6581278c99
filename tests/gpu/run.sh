#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the CUDA platform from the tree without network and runs everything that needs a GPU, in under eight minutes.
# usage: tests/gpu/run.sh RESULTS_FOLDER        leaves gpu.json and gpu.log there; exit 0: everything passed
#        tests/gpu/run.sh --dry-run RESULTS     the same steps on the simulated device, without a GPU; where nvcc is,
#                                               what a real run would build is built too
# What does not fit into UCM_GPU_SECONDS (460) is cut off and counts as failed. UCM_GPU_BUILD names another build folder; one that is configured already is taken as it is.
# Needs nvcc, CMake >= 3.24, g++ >= 12 and Python with PyTorch; .gpu/ (tests/gpu/pack.sh) brings the rest.
set -u
dry=0
[ "${1:-}" != --dry-run ] || { dry=1; shift; }
results=${1:?usage: tests/gpu/run.sh [--dry-run] RESULTS_FOLDER}
mkdir -p "$results"
results=$(cd "$results" && pwd)
cd "$(dirname "$0")/../.."
root=$(pwd)
log=$results/gpu.log
json=$results/gpu.json
steps=$results/steps.txt
build=${UCM_GPU_BUILD:-$root/build/gpu}
jobs=${JOBS:-$(nproc)}
python=${PYTHON:-python3}
: >"$log"
: >"$steps"
failed=0
end=$(($(date +%s) + ${UCM_GPU_SECONDS:-460}))

# step NAME LIMIT_S COMMAND...: runs it with its output in the log. The dry run has no limit in all.
step() {
    name=$1
    limit=$2
    shift 2
    began=$(date +%s)
    left=$((end - began))
    [ "$dry" = 1 ] || [ "$limit" -le "$left" ] || limit=$left
    if [ "$limit" -le 0 ]; then
        failed=1
        printf '%s|no time left|0\n' "$name" >>"$steps"
        return 1
    fi
    printf '\n=== %s\n' "$name" >>"$log"
    rc=0
    timeout "$limit" "$@" >>"$log" 2>&1 || rc=$?
    spent=$(($(date +%s) - began))
    [ "$rc" -eq 0 ] && word=passed || { word="failed ($rc)"; failed=1; }
    printf '%s|%s|%s\n' "$name" "$word" "$spent" >>"$steps"
    printf '%-34s %-14s %4s s\n' "$name" "$word" "$spent"
    return "$rc"
}

if [ "$dry" = 0 ] && [ -d .gpu/prefix ]; then
    PKG_CONFIG_PATH=$root/.gpu/prefix/lib/pkgconfig
    export PKG_CONFIG_PATH CMAKE_PREFIX_PATH="$root/.gpu/prefix"
    site=$results/site
    step "carried wheels" 120 "$python" -m pip install -q --no-index --no-deps --no-compile --upgrade --target "$site" \
        .gpu/wheels/*.whl
    export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}" PATH="$site/bin:$PATH"
fi

if [ "$dry" = 1 ]; then
    suite=$build/tests/cpp/device_contract/ucm_device_contract_test
    figures="$build/tests/cpp/device_contract/ucm_gpu_figures_dry cuda 4"
    targets="ucm_device_contract_test ucm_gpu_figures_dry"
    modules=$build/lib/sim
    sanitizer=
    options="-DUCM_TESTS=ON -DUCM_PLATFORMS=cpu"
else
    suite=$build/tests/gpu/ucm_gpu_test
    figures="$build/tests/gpu/ucm_gpu_figures cuda"
    targets="ucm_gpu_test ucm_gpu_figures"
    modules=$build/lib
    options="-DUCM_GPU_TESTS=ON -DUCM_PLATFORMS=cuda -DCMAKE_CUDA_ARCHITECTURES=native"
    sanitizer=$(command -v compute-sanitizer || true)
    [ -n "$sanitizer" ] || sanitizer=$(ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | head -n 1)
    nvidia-smi >>"$log" 2>&1 || true
fi

build_all() {
    if [ ! -f "$build/CMakeCache.txt" ]; then
        # shellcheck disable=SC2086
        step configure 120 cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release $options || return 1
    fi
    if [ "$dry" = 1 ] && command -v nvcc >/dev/null; then
        step "configure for CUDA" 120 cmake -S . -B "$build-cuda" -G Ninja -DCMAKE_BUILD_TYPE=Release -DUCM_WERROR=ON \
            -DUCM_GPU_TESTS=ON -DUCM_PLATFORMS=cuda -DCMAKE_CUDA_ARCHITECTURES=90
        step "build for CUDA" 1800 cmake --build "$build-cuda" -j "$jobs" --target ucm_gpu_test ucm_gpu_figures
    fi
    # shellcheck disable=SC2086
    step build "$((240 + 1560 * dry))" cmake --build "$build" -j "$jobs" --target $targets || return 1
}

run_all() {
    export UCM_PLATFORM_DIR=$modules
    step "device and store suites" 120 "$suite"
    step "race, ten times" 120 "$suite" --gtest_filter='*Race*' --gtest_repeat=10 --gtest_brief=1
    if [ -n "$sanitizer" ]; then
        step "compute-sanitizer memcheck" 150 "$sanitizer" --error-exitcode 9 "$suite" \
            --gtest_filter='*OddPieces*:*RowsAt*:*WhatIsDumped*'
    elif [ "$dry" = 0 ]; then
        printf 'compute-sanitizer|absent|0\n' >>"$steps"
    fi
    # shellcheck disable=SC2086
    step figures 120 sh -c '"$@" >"$0"' "$results/figures.json" $figures
    if [ "$dry" = 0 ]; then
        unset UCM_PLATFORM_DIR
        step "package for cuda" 240 env PLATFORM=cuda "$python" -m pip install -q --no-index --no-deps \
            --no-build-isolation --config-settings=cmake.define.CMAKE_CUDA_ARCHITECTURES=native \
            --target "$results/package" .
        PYTHONPATH=$results/package${PYTHONPATH:+:$PYTHONPATH}
        export PYTHONPATH
        step "Python on the device" 120 "$python" -m pytest -p no:cacheprovider -q -o addopts= tests/gpu/test_on_device.py
    fi
}

# The report is written whatever fails.
if build_all; then run_all; fi
"$python" - "$steps" "$results/figures.json" "$json" "$dry" <<'PY'
import json, platform, subprocess, sys, time

steps, figures, out, dry = sys.argv[1:]
rows = [line.rstrip("\n").split("|") for line in open(steps, encoding="utf-8")]
try:
    measured = json.load(open(figures, encoding="utf-8"))
except (OSError, ValueError):
    measured = None
try:
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    card = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
except (OSError, subprocess.CalledProcessError):
    card = None
report = {
    "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    "simulated": dry == "1",
    "card": card,
    "kernel": platform.release(),
    "steps": [{"name": n, "outcome": o, "seconds": int(s)} for n, o, s in rows],
    "figures": measured,
}
if measured:
    limit = next(r for r in measured["rows"] if r["method"] == "one large copy")
    report["ratios_to_one_large_copy"] = [
        {"piece_bytes": r["piece_bytes"]}
        | {way: round(r[way] / limit[way], 3) for way in ("h2d_gb_s", "d2h_gb_s", "both_gb_s")}
        for r in measured["rows"]
        if r["method"] == "chosen"
    ]
json.dump(report, open(out, "w", encoding="utf-8"), indent=1)
PY
rm -rf "$steps" "$results/figures.json" "$results/site" "$results/package"
exit "$failed"
