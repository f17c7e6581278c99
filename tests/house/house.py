# SPDX-License-Identifier: Apache-2.0
"""Reads the tree for the house tests: files, #include lines and import statements."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CPP_SUFFIXES = {".h", ".cpp", ".cu"}
CPP_FOLDERS = ("include", "src", "platforms", "bindings", "tests/cpp", "tests/bench")
INCLUDE = re.compile(r'^\s*#include\s+([<"])([^>"]+)[>"]', re.MULTILINE)


def cpp_files(*folders: str) -> list[Path]:
    """All C++ files below the given folders of the project (default: all C++ folders)."""
    roots = [ROOT / folder for folder in (folders or CPP_FOLDERS)]
    return sorted(p for root in roots for p in root.rglob("*") if p.suffix in CPP_SUFFIXES)


def python_files(*folders: str) -> list[Path]:
    """All Python files below the given folders (default: package and tests)."""
    roots = [ROOT / folder for folder in (folders or ("python", "tests"))]
    return sorted(p for root in roots for p in root.rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def includes(path: Path) -> list[tuple[str, str]]:
    """(bracket, name) of every #include line."""
    return INCLUDE.findall(path.read_text())


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """(module, at_top_level) of every import statement."""
    tree = ast.parse(path.read_text(), filename=str(path))
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module]
        for name in names:
            yield name, id(node) in top
