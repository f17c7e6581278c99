#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what the demonstration needs and runs it: a real language model under vLLM reads a long document, is
# restarted, is killed, and answers from the stored KV blocks. Leaves .demo/demo.json and .demo/demo.png.
#   ./demo.sh                 the story
#   ./demo.sh --overhead      what saving costs, measured against a server without the connector
#   ./demo.sh --help          all options
set -eu
cd "$(dirname "$0")"
UCM_SELF=$(pwd)/demo.sh
. tests/setup.sh

main() {
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
    "$@"
else
    main "$@"
fi
