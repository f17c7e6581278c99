#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what the tests need and runs them. ./test.sh --help says how to run a part.
set -eu
cd "$(dirname "$0")"
UCM_SELF=$(pwd)/test.sh
. tests/setup.sh

usage() {
    cat <<'TEXT'
usage: ./test.sh [PART [SIZE]...]

  lint      ruff, clang-format, shell syntax
  cpp       the C++ core: build with warnings as errors, ctest, the example through find_package
  python    the package: build, install, pytest (the rules of the house among them); types
  engines   vLLM, this version and the one before: the connector under the real scheduler, and real engines
            with tiny models
  asan      the C++ tests with the address and undefined-behaviour sanitizers
  tsan      the C++ tests with the thread sanitizer
  bench     figures, no verdict: tests/bench, into .cache/figures.json
  crash     power losses, kills and damage of the disk stages; SIZE crash points for each variant (300)
  fuzz      the parsers of foreign bytes under the sanitizers, for SIZE seconds (300)
  soak      work on a sick storage for SIZE minutes (30) with ceilings, into .cache/soak.json
  all       lint cpp python engines asan tsan

Without a part: lint cpp python engines. The first run installs system packages (as root or with sudo), a virtual
environment in .venv and vLLM for CPU; later runs only what has changed. Logs are in .cache/logs.
PYTHON=/path/to/python3 names the Python that .venv is made with; JOBS=N limits the compilers at work.
TEXT
}

JOBS=${JOBS:-$(nproc)}

# --- what the steps do ---------------------------------------------------------------------------------------------

run_pytest() {
    python=$1
    shift
    # Stores are large: only those of failed tests are kept, and only until the next run.
    "$python" -m pytest -p no:cacheprovider --basetemp "$UCM_CACHE/pytest" -o tmp_path_retention_policy=failed "$@"
}

sources() { git ls-files -z --cached --others --exclude-standard -- "$@"; }

check_python_format() {
    ruff check .
    ruff format --check .
}

check_cpp_format() { sources '*.h' '*.cpp' | xargs -0 clang-format --dry-run -Werror; }

check_shell() {
    for script in test.sh demo.sh tests/setup.sh .ci/run; do
        sh -n "$script"
    done
}

build_cpp() {
    cmake --preset "$1"
    cmake --build --preset "$1" -j "$JOBS"
}

# What fails has printed its seed: UCM_SEED repeats it.
run_crash() {
    UCM_PLATFORM_DIR=build/dev/lib UCM_CRASH_POINTS=$1 UCM_KILLS=$1 UCM_DAMAGE_ROUNDS=$(($1 / 10)) \
        build/dev/tests/cpp/crash/ucm_crash_test
}

run_fuzz() {
    UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 build/asan/tests/cpp/fuzz/ucm_fuzz all "$1"
}

run_soak() {
    folder=$(mktemp -d "$UCM_CACHE/soak-XXXXXX")
    rc=0
    "$UCM_VENV/bin/python" tests/bench/soak.py --minutes "$1" --folder "$folder" --out "$UCM_CACHE/soak.json" || rc=$?
    rm -rf "$folder"
    return "$rc"
}

run_ctest() { ctest --preset "$1" -j "$JOBS" --no-tests=error; }

# A program outside the tree that knows only the installed package.
build_example() {
    rm -rf build/example build/prefix
    cmake --install build/dev --prefix build/prefix
    cmake -S docs/examples/cpp -B build/example -G Ninja -DCMAKE_PREFIX_PATH="$(pwd)/build/prefix"
    cmake --build build/example
    folder=$(mktemp -d)
    build/example/ucm_example "$folder"
    rm -rf "$folder"
}

# The integrations follow interfaces that change with the engine's version and are not typed.
check_types() { "$UCM_VENV/bin/python" -m mypy --strict python/ucm --exclude integration/; }

run_bench() {
    build_cpp release
    folder=$(mktemp -d "$UCM_CACHE/bench-XXXXXX")
    "$UCM_VENV/bin/python" tests/bench/figures.py --folder "$folder" --out "$UCM_CACHE/figures.json"
    rm -rf "$folder"
}

# --- the parts -----------------------------------------------------------------------------------------------------

part_lint() {
    need_venv
    step "lint: ruff" check_python_format
    step "lint: clang-format" check_cpp_format
    step "lint: shell" check_shell
}

part_cpp() {
    step "C++: build (dev)" build_cpp dev
    step "C++: ctest (dev)" run_ctest dev
    step "C++: the example through find_package" build_example
}

part_python() {
    need_venv
    need_package
    step "Python: pytest" run_pytest "$UCM_VENV/bin/python" tests/house tests/python tests/demo
    step "Python: types" check_types
}

part_engines() {
    need_venv
    need_vllm
    need_package
    need_vllm_previous
    step "vLLM $VLLM_VERSION: the connector" run_pytest "$UCM_VENV/bin/python" tests/integration/vllm
    step "vLLM $VLLM_PREVIOUS: the connector" run_pytest "$UCM_VENV_PREVIOUS/bin/python" tests/integration/vllm
}

part_asan() {
    step "C++: build (asan)" build_cpp asan
    step "C++: ctest (asan)" run_ctest asan
}

part_tsan() {
    step "C++: build (tsan)" build_cpp tsan
    step "C++: ctest (tsan)" run_ctest tsan
}

part_crash() {
    step "C++: build (dev)" build_cpp dev
    step "crash: ${SIZE:-300} points for each variant" run_crash "${SIZE:-300}"
}

part_fuzz() {
    step "C++: build (asan)" build_cpp asan
    step "fuzz: ${SIZE:-300} s" run_fuzz "${SIZE:-300}"
}

part_soak() {
    need_venv
    need_package
    step "soak: ${SIZE:-30} minutes" run_soak "${SIZE:-30}"
    cat "$UCM_CACHE/soak.json"
}

part_bench() {
    need_venv
    step "bench" run_bench
    cat "$UCM_CACHE/figures.json"
}

main() {
    case " $* " in
        *" --help "* | *" -h "*)
            usage
            exit 0
            ;;
    esac
    parts=
    for part in "${@:-default}"; do
        case $part in
            lint | cpp | python | engines | asan | tsan | bench | crash | fuzz | soak) parts="$parts $part" ;;
            [0-9]*)
                [ -n "$parts" ] || die "$part: a size stands behind its part"
                parts="$parts:$part"
                ;;
            all) parts="$parts lint cpp python engines asan tsan" ;;
            default) parts="lint cpp python engines" ;;
            *)
                usage >&2
                die "unknown part: $part"
                ;;
        esac
    done
    steps_begin
    need_system_packages
    for part in $parts; do
        SIZE=
        case $part in *:*) SIZE=${part#*:} ;; esac
        "part_${part%%:*}"
    done
}

if [ "${1:-}" = --step ]; then
    shift
    "$@"
else
    main "$@"
fi
