# SPDX-License-Identifier: Apache-2.0
"""Limits on files, functions and headers, and what every file must carry."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import lizard
import pytest

from house import ROOT, cpp_files, python_files, relative

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 80
MAX_COMPLEXITY = 15
TODO = re.compile(r"\b(TODO|FIXME|XXX)\b(?!\(#\d+\))")


def all_sources() -> list[Path]:
    """Everything we wrote: the snippets of the guides under tests/python/seeds are quoted."""
    quoted = ROOT / "tests/python/seeds"
    return [path for path in cpp_files() + python_files() if quoted not in path.parents]


def test_every_source_begins_with_its_licence() -> None:
    for path in all_sources():
        head = "\n".join(path.read_text().splitlines()[:2])
        assert "SPDX-License-Identifier: Apache-2.0" in head or not head, relative(path)


def test_no_file_is_longer_than_six_hundred_lines() -> None:
    for path in all_sources():
        lines = len(path.read_text().splitlines())
        assert lines <= MAX_FILE_LINES, f"{relative(path)}: {lines} lines"


def test_cpp_functions_are_short_and_simple() -> None:
    for path in cpp_files("include", "src", "platforms", "bindings"):
        for function in lizard.analyze_file(str(path)).function_list:
            where = f"{relative(path)}:{function.start_line} {function.name}"
            assert function.length <= MAX_FUNCTION_LINES, f"{where}: {function.length} lines"
            assert function.cyclomatic_complexity <= MAX_COMPLEXITY, (
                f"{where}: complexity {function.cyclomatic_complexity}"
            )


def test_python_functions_are_short() -> None:
    for path in python_files("python"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                assert lines <= MAX_FUNCTION_LINES, (
                    f"{relative(path)}:{node.lineno} {node.name}: {lines} lines"
                )


def test_the_public_contract_stays_small() -> None:
    headers = cpp_files("include")
    lines = [len(path.read_text().splitlines()) for path in headers]
    assert len(headers) <= 20
    assert sum(lines) <= 2000
    assert max(lines) <= 200


def test_no_loose_ends_are_marked_in_the_sources() -> None:
    for path in all_sources():
        if path == Path(__file__).resolve():
            continue
        found = TODO.search(path.read_text())
        assert not found, f"{relative(path)}: {found.group()}"


@pytest.mark.parametrize("name", ["test.sh", "demo.sh", "README.md", "DESIGN.md", "CHANGELOG.md"])
def test_the_front_door_is_complete(name: str) -> None:
    assert (ROOT / name).stat().st_size > 0
