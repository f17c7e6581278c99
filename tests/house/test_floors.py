# SPDX-License-Identifier: Apache-2.0
"""The floors of the house: who may include or import whom."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from house import ROOT, cpp_files, imports, includes, python_files, relative

# A room of src may include its own headers and those of lower floors.
FLOORS = {
    "base": 0,
    "device": 0,
    "store": 0,
    "io": 1,
    "memory": 1,
    "pipeline": 1,
    "transport": 2,
    "pages": 2,
    "host_pages": 2,
    "stages": 3,
    "page_service": 3,
}
VENDOR_WORDS = re.compile(r"\b(cuda\w*|acl\w*|musa\w*|torch|cann|nccl)\b", re.IGNORECASE)


def test_public_headers_include_only_std_and_themselves() -> None:
    for path in cpp_files("include"):
        for bracket, name in includes(path):
            allowed = name.startswith("ucm/") if bracket == '"' else re.fullmatch(r"[a-z_]+", name)
            assert allowed, f"{relative(path)} includes {name}"


@pytest.mark.parametrize("wing", ["platforms", "bindings"])
def test_wings_see_only_the_public_contract(wing: str) -> None:
    own = {path.name for path in cpp_files(wing)}
    for path in cpp_files(wing):
        for bracket, name in includes(path):
            if bracket == '"':
                assert name.startswith("ucm/") or name in own, f"{relative(path)} includes {name}"


def test_rooms_include_only_lower_floors() -> None:
    for path in cpp_files("src"):
        room = path.relative_to(ROOT / "src").parts[0]
        for bracket, name in includes(path):
            target = name.split("/")[0]
            if bracket == "<" or target == "ucm" or (target == room and room != "stages"):
                continue
            assert target in FLOORS, f"{relative(path)} includes {name}: unknown room"
            if room == "stages" and target == "stages":
                same = name.split("/")[1] == path.relative_to(ROOT / "src/stages").parts[0]
                assert same, f"{relative(path)} includes another stage: {name}"
                continue
            # Rooms of floor 0 stand side by side: store and device lean on base only.
            lower = FLOORS[target] < FLOORS[room] or (target == "base" and room != "base")
            assert lower, f"{relative(path)} reaches up or sideways to {name}"


def test_vendor_words_live_in_their_platform_only() -> None:
    for path in cpp_files("include", "src", "bindings"):
        code = re.sub(r"//[^\n]*|\"[^\"\n]*\"", "", path.read_text())
        found = VENDOR_WORDS.search(code)
        assert not found, f"{relative(path)} says {found.group()}"


def test_base_names_are_unique_and_no_source_bears_a_public_headers_name() -> None:
    seen: dict[str, str] = {}
    for path in cpp_files():
        other = seen.setdefault(path.name, relative(path))
        assert other == relative(path), f"{path.name} stands twice: {other}, {relative(path)}"
    public = {path.stem for path in cpp_files("include")}
    for path in cpp_files("src", "platforms", "bindings"):
        assert path.stem not in public, f"{relative(path)} bears a public header's name"


ENGINE_HOMES = {"vllm": "python/ucm/integration/vllm/", "lightllm": "python/ucm/integration/"}


def test_engines_are_imported_in_their_integration_only() -> None:
    for path in python_files("python"):
        for module, _ in imports(path):
            home = ENGINE_HOMES.get(module.split(".")[0])
            assert home is None or relative(path).startswith(home), f"{relative(path)}: {module}"


def test_nothing_imports_the_integrations_but_themselves_and_the_faces() -> None:
    for path in python_files("python/ucm"):
        inside = relative(path).startswith(("python/ucm/integration/", "python/ucm/cli/"))
        for module, _ in imports(path):
            assert inside or not module.startswith("ucm.integration"), f"{relative(path)}: {module}"


def test_torch_is_never_imported_at_module_level_outside_the_integrations() -> None:
    for path in python_files("python/ucm"):
        if relative(path).startswith("python/ucm/integration/"):
            continue
        for module, top in imports(path):
            assert not (top and module.split(".")[0] == "torch"), relative(path)


def test_import_starts_no_thread_and_pulls_neither_torch_nor_an_engine() -> None:
    program = (
        "import sys, threading, signal\n"
        "before = signal.getsignal(signal.SIGINT)\n"
        "import ucm, ucm.store.factory, ucm.config\n"
        "bad = {'torch', 'vllm', 'lightllm'} & set(sys.modules)\n"
        "assert not bad, bad\n"
        "assert threading.active_count() == 1\n"
        "import os\n"
        "native = len(os.listdir('/proc/self/task'))\n"
        "assert signal.getsignal(signal.SIGINT) is before\n"
        "print(native)\n"
    )
    environment = {"OPENBLAS_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "1", "importing ucm started native threads"
