#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Gathers in .gpu/ what a machine with a GPU and no network needs beside the tree: headers, GoogleTest and wheels.
# usage: tests/gpu/pack.sh [PYTHON_VERSION]     (of the other machine, default 3.12)
set -eu
cd "$(dirname "$0")/../.."
version=${1:-3.12}
out=.gpu
rm -rf "$out"
mkdir -p "$out/prefix/include" "$out/prefix/lib/pkgconfig" "$out/wheels"

cp /usr/include/xxhash.h "$out/prefix/include/"
[ ! -f /usr/include/xxh3.h ] || cp /usr/include/xxh3.h "$out/prefix/include/"
printf 'Name: libxxhash\nDescription: header only\nVersion: 0.8.1\nCflags: -I${pcfiledir}/../../include\n' \
    >"$out/prefix/lib/pkgconfig/libxxhash.pc"
cp -r /usr/include/gtest "$out/prefix/include/"
library=$(find /usr/lib -name libgtest.a | head -n 1)
cp "$library" "$(dirname "$library")/libgtest_main.a" "$out/prefix/lib/"

python3 -m pip download -q --no-deps --only-binary=:all: --python-version "$version" --implementation cp \
    --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 -d "$out/wheels" \
    nanobind scikit-build-core packaging pathspec click rich pygments markdown-it-py mdurl prometheus_client pyyaml \
    pytest pluggy iniconfig pytest-timeout cmake ninja pkgconf
du -sh "$out"
echo "carry the folder $out beside the tree; there: tests/gpu/run.sh RESULTS_FOLDER"
