# SPDX-License-Identifier: Apache-2.0
"""The Dockerfiles of the platforms: their form, and that what they name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(ROOT.glob("platforms/*/Dockerfile"))
INSTRUCTIONS = {"ARG", "FROM", "ENV", "RUN", "COPY", "CMD"}


def instructions(path: Path) -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [tuple(line.split(None, 1)) for line in lines if line.strip()]


def test_every_platform_has_one():
    named = {path.parent.name for path in ROOT.glob("platforms/*/CMakeLists.txt")}
    assert {path.parent.name for path in FILES} == named


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_it_is_well_formed_and_builds_its_own_platform(path):
    steps = instructions(path)
    assert {word for word, _ in steps} <= INSTRUCTIONS
    images = [rest for word, rest in steps if word == "FROM"]
    assert images == ["${REGISTRY}${BUILD_IMAGE} AS build", "${REGISTRY}${RUN_IMAGE}"]
    runs = " ".join(rest for word, rest in steps if word == "RUN")
    assert f"PLATFORM={path.parent.name} /opt/ucm/bin/pip install /src" in runs
    for mirror in ("REGISTRY=", "APT_MIRROR=", "PIP_INDEX_URL="):
        assert ("ARG", mirror) in steps


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_base_images_are_exact(path):
    defaults = dict(
        rest.split("=", 1) for word, rest in instructions(path) if word == "ARG" and "=" in rest
    )
    if path.parent.name == "maca":  # behind the vendor's login: no default
        assert "BUILD_IMAGE" not in defaults
        return
    for name in ("BUILD_IMAGE", "RUN_IMAGE"):
        assert re.fullmatch(r"[a-z0-9./-]+:[A-Za-z0-9._-]+", defaults[name]), name
        assert not defaults[name].endswith(":latest")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_what_it_copies_exists(path):
    copied = set()
    for word, rest in instructions(path):
        if word == "COPY" and not rest.startswith("--from="):
            *sources, _ = rest.split()
            copied.update(sources)
            assert all((ROOT / source).exists() for source in sources)
    # What the build reads: without one of these the image could not be built.
    assert copied >= {"CMakeLists.txt", "pyproject.toml", "cmake", "include", "src", "platforms"}
    assert copied >= {"bindings", "python", "README.md"}
