# SPDX-License-Identifier: Apache-2.0
"""Words that hide what a thing is stay out of file and class names."""

from __future__ import annotations

import ast
import re

from house import cpp_files, python_files, relative

BANNED_PARTS = {
    "manager", "helper", "helpers", "util", "utils", "impl", "misc", "info",
    "v1", "v2", "new", "tmp",
}  # fmt: skip
# Documented names of systems that configurations and imports must keep working with.
COMPATIBLE_FILES = {"factory_v1", "ucmstore_v1", "connector", "ucmmonitor", "ucm_connector"}
COMPATIBLE_CLASSES = {
    "UcmConnectorFactory", "UcmConnectorFactoryV1", "UcmPipelineStore", "UcmKVStoreBase",
    "UcmKVStoreBaseV1", "UcmConfig", "UcmError", "UCMConnector",
    "PyLocalCacheService", "PyTask", "PyState",
}  # fmt: skip
BANNED_IN_CLASSES = re.compile(r"(Manager|Helper|Util|Impl|Misc|V[12]$|^Py[A-Z]|^Ucm|Base$)")


def test_file_names_say_what_is_inside() -> None:
    for path in cpp_files() + python_files("python"):
        if path.stem in COMPATIBLE_FILES:
            continue
        parts = set(re.split(r"[_.]", path.stem.lower()))
        assert not parts & BANNED_PARTS, relative(path)


def test_python_classes_are_named_for_what_they_are() -> None:
    for path in python_files("python"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and node.name not in COMPATIBLE_CLASSES:
                found = BANNED_IN_CLASSES.search(node.name)
                assert not found, f"{relative(path)}: class {node.name}"


def test_cpp_classes_are_named_for_what_they_are() -> None:
    declared = re.compile(r"\b(?:class|struct)\s+(?:UCM_API\s+)?([A-Z]\w+)")
    for path in cpp_files("include", "src", "platforms", "bindings"):
        for name in declared.findall(path.read_text()):
            assert not re.search(r"(Manager|Helper|Util|Impl|Base|Misc|V[12])$", name), (
                f"{relative(path)}: class {name}"
            )
