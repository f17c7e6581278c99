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
  light_mem a thousand processes that write, read, abort and are killed on one folder; every byte is checked
  huge_pages  memory on reserved huge pages, with enough and with too few of them: reserves 64 MiB (as root) and
            gives them back
  platforms the configure errors of every platform; the sources of all platforms against the vendors' headers (CUDA 12.9,
            ACL of two torch-npu wheels: 130 MB of downloads); the CUDA module and tests/gpu with nvcc; the module
            loaded without a driver; the package for CUDA in an empty environment, its tests on host memory, ucm doctor
  arm64     the core cross-built for aarch64; under qemu the tests of the rooms where the processor makes a
            difference, and with 64 KiB pages those that depend on pages; ARM64_ROOMS=all runs all C++ tests both ways
  image     as root: the steps of the CPU Dockerfile in a chroot that debootstrap makes; IMAGE_WORDS are more words
            for tests/containers/replay.py
  kills     processes that share a pool or a directory, killed at random: SIZE times in each test (600)
  bench     figures, no verdict: tests/bench, into .cache/figures.json
  peers     this project beside LMCache, Mooncake Store and the machine's limits, in .venv-peers; the
            results go to docs/benchmarks; PEERS_FOLDER names the disk, PEERS_WORDS more words for
            tests/bench/peers/peers.py
  crash     power losses, kills and damage of the disk stages; SIZE crash points for each variant (300)
  fuzz      the parsers of foreign bytes under the sanitizers, for SIZE seconds (300); as long again under
            libFuzzer where clang++-14 is installed
  soak      work on a sick storage for SIZE minutes (30) with ceilings, into .cache/soak.json
  all       lint cpp python engines asan tsan platforms arm64, the engines beside the parts behind them

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
    "$python" -m pytest -p no:cacheprovider --basetemp "$UCM_CACHE/pytest${UCM_BESIDE:+-beside}" -o tmp_path_retention_policy=failed "$@"
}

sources() { git ls-files -z --cached --others --exclude-standard -- "$@"; }

check_python_format() {
    ruff check .
    ruff format --check .
}

check_cpp_format() { sources '*.h' '*.cpp' '*.cu' | xargs -0 clang-format --dry-run -Werror; }

check_shell() {
    for script in test.sh demo.sh tests/setup.sh tests/gpu/*.sh cmake/toolchains/*.sh .ci/run; do
        sh -n "$script"
    done
}

build_cpp() {
    cmake --preset "$1"
    cmake --build --preset "$1" -j "$JOBS"
}

# What fails has printed its seed: UCM_SEED repeats it.
run_crash() {
    UCM_PLATFORM_DIR=build/ci/lib UCM_CRASH_POINTS=$1 UCM_KILLS=$1 UCM_DAMAGE_ROUNDS=$(($1 / 10)) \
        build/ci/tests/cpp/crash/ucm_crash_test
}

run_fuzz() {
    UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 build/asan/tests/cpp/fuzz/ucm_fuzz all "$1"
}

# Each parser for the same time, by coverage; an input that breaks one stays in .cache.
run_libfuzzer() {
    build_cpp libfuzzer
    folder=$(mktemp -d "$UCM_CACHE/libfuzzer-XXXXXX")
    build/libfuzzer/tests/cpp/fuzz/ucm_fuzz corpus "$folder"
    rc=0
    for corpus in "$folder"/*; do
        say "libFuzzer: $(basename "$corpus")"
        UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 build/libfuzzer/tests/cpp/fuzz/ucm_libfuzzer \
            -max_total_time="$(($1 / 8 + 1))" -print_final_stats=1 -artifact_prefix="$UCM_CACHE/fuzz-" "$corpus" || rc=$?
    done
    rm -rf "$folder"
    return "$rc"
}

run_soak() {
    folder=$(mktemp -d "$UCM_CACHE/soak-XXXXXX")
    rc=0
    "$UCM_VENV/bin/python" tests/bench/soak.py --minutes "$1" --folder "$folder" --out "$UCM_CACHE/soak.json" || rc=$?
    rm -rf "$folder"
    return "$rc"
}

run_ctest() { ctest --preset "$1" -j "$JOBS" --no-tests=error; }

run_kills() {
    UCM_KILLS=$1
    UCM_PLATFORM_DIR=build/ci/lib
    export UCM_KILLS UCM_PLATFORM_DIR
    build/ci/tests/cpp/stage_cache/ucm_stage_cache_test --gtest_filter='Shared*ill*'
    build/ci/tests/cpp/pipeline/ucm_pipeline_test --gtest_filter='DirectoryShare*illed*'
}

# Everything that shares memory, with enough reserved huge pages, with too few and with none.
run_huge_pages() {
    knob=/proc/sys/vm/nr_hugepages
    before=$(cat "$knob")
    # shellcheck disable=SC2064
    trap "echo $before >$knob" EXIT
    for pages in 32 5 0; do
        echo "$pages" >"$knob"
        say "reserved: $(cat "$knob") huge pages, $pages were asked for"
        UCM_PLATFORM_DIR=build/ci/lib build/ci/tests/cpp/host_pages/ucm_host_pages_test
        UCM_PLATFORM_DIR=build/ci/lib build/ci/tests/cpp/memory/ucm_memory_test
    done
}

# A program outside the tree that knows only the installed package.
build_example() {
    rm -rf build/example build/prefix
    cmake --install build/ci --prefix build/prefix
    cmake -S docs/examples/cpp -B build/example -G Ninja -DCMAKE_PREFIX_PATH="$(pwd)/build/prefix"
    cmake --build build/example
    folder=$(mktemp -d)
    build/example/ucm_example "$folder"
    rm -rf "$folder"
}

# The integrations follow interfaces that change with the engine's version and are not typed.
check_types() { "$UCM_VENV/bin/python" -m mypy --strict python/ucm --exclude integration/; }

# refused WORDS ARGS...: configuring fails, and says so.
refused() {
    words=$1
    shift
    rm -rf build/refused
    if cmake -S . -B build/refused -G Ninja "$@" >build/refused.log 2>&1; then
        say "configuring with $* was not refused"
        return 1
    fi
    tr -s ' \n' ' ' <build/refused.log | grep -q "$words" || {
        cat build/refused.log
        return 1
    }
    rm -rf build/refused build/refused.log
}

check_refusals() {
    mkdir -p build
    refused 'PLATFORM=abacus is not a platform .* Known: ascend, cpu, cuda, maca, musa' -DUCM_PLATFORMS=abacus
    refused 'PLATFORM=musa needs the MUSA SDK .* Set MUSA_HOME' -DUCM_PLATFORMS=musa
    refused 'PLATFORM=maca needs the MACA SDK .* Set MACA_PATH' -DUCM_PLATFORMS=maca
    refused 'PLATFORM=ascend needs the CANN toolkit .* set ASCEND_TOOLKIT_HOME' -DUCM_PLATFORMS=ascend
    refused 'PLATFORM=cuda needs the CUDA toolkit, and no nvcc was found. Set CUDACXX' -DUCM_PLATFORMS=cuda \
        -DCMAKE_CUDA_COMPILER=NOTFOUND
    fake_nvcc 11.8
    refused 'PLATFORM=cuda needs the CUDA toolkit 12.0 or newer; .*fake-nvcc is 11.8. Set CUDACXX' -DUCM_PLATFORMS=cuda \
        -DCMAKE_CUDA_COMPILER="$(pwd)/build/fake-nvcc"
    fake_nvcc 12.4
    CUDACXX=$(pwd)/build/fake-nvcc
    export CUDACXX
    refused 'PLATFORM=cuda needs the CUDA toolkit, and .*fake-nvcc compiles nothing' -DUCM_PLATFORMS=cuda
    rm build/fake-nvcc
}

# fake_nvcc VERSION: build/fake-nvcc, which has a version and compiles nothing.
fake_nvcc() {
    printf '#!/bin/sh\n[ "$1" = --version ] && echo "Cuda compilation tools, release %s, V%s.1"\n' "$1" "$1" >build/fake-nvcc
    chmod +x build/fake-nvcc
}

# compile_only HEADERS SOURCE...: against a vendor's headers (a list of folders with :), without its libraries.
compile_only() {
    headers=$1
    shift
    for source in "$@"; do
        CPLUS_INCLUDE_PATH=$headers g++ -std=c++20 -fsyntax-only -Wall -Wextra -Wno-unused-parameter -Iinclude \
            -Iplatforms/cuda_like -Iplatforms/cuda -Iplatforms/ascend -Isrc -Itests/cpp -Itests/cpp/sim "$source"
    done
}

# The simulation defines what the headers declare: a prototype that drifted does not compile. The declarations that stand
# in for CUDA's where there is no toolkit must do for the same sources.
check_vendor_headers() {
    compile_only tests/cpp/sim/include/cuda \
        platforms/cuda/cuda_device.cpp tests/cpp/sim/cuda_entry.cpp tests/cpp/sim/cuda_kernel_on_host.cpp
    cuda=$UCM_CACHE/vendors/cuda/nvidia
    compile_only "$cuda/cuda_runtime/include:$cuda/cuda_nvcc/include" \
        platforms/cuda/cuda_device.cpp tests/cpp/sim/cuda_entry.cpp tests/cpp/device_contract/cuda_side.cpp
    for version in $NPU_VERSIONS; do
        compile_only "$UCM_CACHE/vendors/npu-$version/torch_npu/include/third_party/acl/inc" \
            platforms/ascend/ascend_device.cpp platforms/ascend/acl_generations.cpp tests/cpp/sim/acl_entry.cpp
    done
}

# The module of a toolkit loads, and the suites for a real device link.
check_cuda_module() {
    command -v nvcc >/dev/null || {
        say "no nvcc on this machine: the CUDA module is compiled against the headers only"
        return 0
    }
    cmake --preset ci -DUCM_PLATFORMS=cuda -DUCM_GPU_TESTS=ON
    cmake --build --preset ci -j "$JOBS" --target ucm_platform_cuda ucm_gpu_test ucm_gpu_figures
    cmake --preset ci -DUCM_GPU_TESTS=OFF
    python3 -c 'import ctypes; ctypes.CDLL("build/ci/lib/libucm_cuda.so").ucm_platform_entry'
}

# The package for CUDA without a driver: it installs, stores in host memory, and says why there is no device.
check_cuda_package() {
    command -v nvcc >/dev/null || {
        say "no nvcc on this machine: the package for CUDA is not built"
        return 0
    }
    folder=$UCM_CACHE/cuda
    rm -rf "$folder"
    PLATFORM=cuda "$UCM_VENV/bin/python" -m pip wheel . --no-deps --no-build-isolation --wheel-dir "$folder/wheel"
    "$UCM_VENV/bin/python" -m venv "$folder/venv"
    # shellcheck disable=SC2086
    "$folder/venv/bin/python" -m pip install "$folder"/wheel/ucm-*.whl $CUDA_TEST_PACKAGES
    # shellcheck disable=SC2086
    run_pytest "$folder/venv/bin/python" $CUDA_TESTS
    "$folder/venv/bin/ucm" doctor | tee "$folder/doctor.txt" || true
    tr -s ' \n' ' ' <"$folder/doctor.txt" |
        grep -E 'platform cuda (loaded, [0-9]+ device|not loaded: .*(driver|device|libcuda))'
    rm -rf "$folder"
}

# The CPU image without a container engine: every step of its Dockerfile in a chroot.
replay_image() {
    folder=$(mktemp -d "$UCM_CACHE/image-XXXXXX")
    rc=0
    # shellcheck disable=SC2086
    python3 tests/containers/replay.py --folder "$folder/stages" ${IMAGE_WORDS:-} platforms/cpu/Dockerfile || rc=$?
    rm -rf "$folder"
    return "$rc"
}

build_arm64() {
    cmake -S . -B build/arm64 -G Ninja -DCMAKE_TOOLCHAIN_FILE=cmake/toolchains/aarch64-linux-gnu.cmake \
        -DUCM_ARM64_SYSROOT="$UCM_CACHE/arm64/sysroot" -DUCM_TESTS=ON -DUCM_WERROR=ON -DUCM_PLATFORMS=cpu \
        -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS=-O1 -DCMAKE_UNITY_BUILD=ON
    if [ "$ARM64_ROOMS" = all ]; then
        cmake --build build/arm64 -j "$JOBS"
    else
        # shellcheck disable=SC2046
        cmake --build build/arm64 -j "$JOBS" --target $(printf 'ucm_%s_test ' $ARM64_ROOMS)
    fi
}

# run_arm64 QEMU_FLAGS ROOM...: ctest labels every test with its room.
run_arm64() {
    export UCM_QEMU_FLAGS="$1"
    shift
    [ "$*" != all ] || set -- ".*"
    ctest --test-dir build/arm64 -j "$JOBS" --output-on-failure --no-tests=error -E "$ARM64_WITHOUT" \
        -L "^($(printf '%s|' "$@")none)\$"
}

run_bench() {
    build_cpp release
    folder=$(mktemp -d "$UCM_CACHE/bench-XXXXXX")
    "$UCM_VENV/bin/python" tests/bench/figures.py --folder "$folder" --out "$UCM_CACHE/figures.json"
    rm -rf "$folder"
}

run_peers() {
    # shellcheck disable=SC2086
    "$UCM_VENV_PEERS/bin/python" tests/bench/peers/peers.py --folder "${PEERS_FOLDER:-$UCM_CACHE}" ${PEERS_WORDS:-}
}

# --- the parts -----------------------------------------------------------------------------------------------------

part_lint() {
    need_venv
    step "lint: ruff" check_python_format
    step "lint: clang-format" check_cpp_format
    step "lint: shell" check_shell
}

part_cpp() {
    step "C++: build" build_cpp ci
    step "C++: ctest" run_ctest ci
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

part_light_mem() {
    need_venv
    need_package
    step "light_mem: 1,000 interleavings" "$UCM_VENV/bin/python" tests/python/light_mem/interleavings.py \
        --lives 1000 --folder "$UCM_CACHE"
}

part_huge_pages() {
    step "C++: build" build_cpp ci
    step "huge pages" run_huge_pages
}

part_platforms() {
    need_venv
    need_vendor_headers
    step "platforms: configure errors" check_refusals
    step "platforms: against the vendors' headers" check_vendor_headers
    step "platforms: the CUDA module" check_cuda_module
    step "platforms: the package for CUDA" check_cuda_package
}

part_image() {
    APT_PACKAGES="$APT_PACKAGES debootstrap"
    need_system_packages
    need_space 4000
    step "image: the steps of platforms/cpu/Dockerfile in a chroot" replay_image
}

part_arm64() {
    need_arm64
    step "arm64: build" build_arm64
    # shellcheck disable=SC2086
    step "arm64: ctest under qemu" run_arm64 "" $ARM64_ROOMS
    [ "$ARM64_ROOMS" != all ] || ARM64_PAGE_ROOMS=all
    # shellcheck disable=SC2086
    step "arm64: ctest under qemu, 64 KiB pages" run_arm64 "-p 65536" $ARM64_PAGE_ROOMS
}

part_kills() {
    step "C++: build" build_cpp ci
    step "kills: ${SIZE:-600} in each test" run_kills "${SIZE:-600}"
}

part_crash() {
    step "C++: build" build_cpp ci
    step "crash: ${SIZE:-300} points for each variant" run_crash "${SIZE:-300}"
}

part_fuzz() {
    step "C++: build (asan)" build_cpp asan
    step "fuzz: ${SIZE:-300} s" run_fuzz "${SIZE:-300}"
    if command -v clang++-14 >/dev/null; then
        step "libFuzzer: ${SIZE:-300} s" run_libfuzzer "${SIZE:-300}"
    else
        say "no clang++-14 (Debian: clang-14, libclang-rt-14-dev): libFuzzer is left out"
    fi
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

part_peers() {
    need_peers
    step "peers" run_peers
    sed -n '/^## Ours over theirs/,$p' docs/benchmarks/peers.md
}

part_beside() { beside_begin "$SIZE"; }

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
            lint | cpp | python | engines | asan | tsan | crash | kills | fuzz | soak | light_mem | huge_pages | platforms | arm64 | image | bench | peers)
                parts="$parts $part"
                ;;
            [0-9]*)
                [ -n "$parts" ] || die "$part: a size stands behind its part"
                parts="$parts:$part"
                ;;
            # The engines keep one core busy at most: they run beside the compilers.
            all) parts="$parts lint cpp python beside:engines asan tsan platforms arm64" ;;
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
    beside_end
}

if [ "${1:-}" = --step ]; then
    shift
    run_step "$@"
else
    main "$@"
fi
