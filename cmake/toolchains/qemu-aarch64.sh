#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs a cross-built program; UCM_QEMU_FLAGS adds flags, e.g. "-p 65536" for 64 KiB pages.
# shellcheck disable=SC2086
exec qemu-aarch64 ${UCM_QEMU_FLAGS:-} -L /usr/aarch64-linux-gnu "$@"
