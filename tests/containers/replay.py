#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Replays a Dockerfile without a container engine: each stage in a chroot made by debootstrap.

    python3 tests/containers/replay.py --folder /tmp/replay platforms/cpu/Dockerfile

FROM becomes a fresh Debian of the suite, whatever image is named; COPY, RUN, ARG and ENV are
carried out as they stand, and CMD is run in the last stage. Needs root, debootstrap and the
network. --arg NAME=VALUE gives a build argument. What only this machine needs: --env NAME=VALUE in
every stage, and --bind PATH shows a path inside at the same place (a local package index; never
/opt itself, which the images write to).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_PRIVATE = "UCM_REPLAY_HAS_ITS_OWN_MOUNTS"


class Stage:
    """One FROM and what stands behind it, as a folder."""

    def __init__(
        self, folder: Path, base: Path, binds: list[Path], environment: dict[str, str]
    ) -> None:
        self.folder = folder
        self.environment = environment | {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        }
        subprocess.run(["cp", "-a", "--reflink=auto", base, folder], check=True)
        self.mounts = [Path("/proc"), Path("/dev"), *binds]
        for source in self.mounts:
            target = self.inside(str(source))
            if source.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.touch()
            subprocess.run(["mount", "--bind", source, target], check=True)
        shutil.copy("/etc/resolv.conf", self.inside("/etc/resolv.conf"))

    def inside(self, path: str) -> Path:
        """A path of the stage, as this machine sees it."""
        return self.folder / path.lstrip("/")

    def run(self, command: list[str]) -> None:
        """Runs a command inside."""
        full = ["chroot", self.folder, "env", "-i"]
        full += [f"{name}={value}" for name, value in self.environment.items()]
        subprocess.run([*full, *command], check=True)

    def close(self) -> None:
        """Unmounts everything."""
        for source in reversed(self.mounts):
            subprocess.run(["umount", "-l", self.inside(str(source))], check=False)


def instructions(text: str) -> list[tuple[str, str]]:
    """(word, rest) of each instruction, continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    found = [line.strip().partition(" ") for line in joined.splitlines() if line.strip()]
    return [(word.upper(), rest.strip()) for word, _, rest in found]


def filled(text: str, values: dict[str, str]) -> str:
    """The text with its ${NAME}s."""
    return re.sub(r"\$\{(\w+)\}", lambda name: values.get(name[1], ""), text)


def copy(stage: Stage, stages: dict[str, Stage], rest: str) -> None:
    """COPY [--from=STAGE] SOURCE... TARGET."""
    words = rest.split()
    origin = None
    if words[0].startswith("--from="):
        origin = stages[words.pop(0).removeprefix("--from=")]
    *sources, target = words
    place = stage.inside(target)
    if target.endswith("/"):
        place.mkdir(parents=True, exist_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    for name in sources:
        source = origin.inside(name) if origin else ROOT / name
        if source.is_dir():
            shutil.copytree(source, place, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copy2(source, place)


def replay(
    file: Path,
    base: Path,
    folder: Path,
    given: dict[str, str],
    binds: list[Path],
    environment: dict[str, str],
) -> None:
    """Carries a Dockerfile out."""
    stages: dict[str, Stage] = {}
    stage: Stage | None = None
    arguments: dict[str, str] = {}
    try:
        for number, (word, rest) in enumerate(instructions(file.read_text(encoding="utf-8"))):
            print(f"=== {word} {rest[:100]}", flush=True)
            if word == "ARG":
                name, _, default = rest.partition("=")
                arguments[name] = given.get(name, default)
            elif word == "FROM":
                name = rest.partition(" AS ")[2] or "last"
                stage = stages[name] = Stage(folder / f"{number}-{name}", base, binds, environment)
            elif stage is None:
                raise SystemExit(f"{word} before FROM")
            elif word == "ENV":
                values = {**arguments, **stage.environment}
                for pair in re.findall(r"(\w+)=(\S*)", rest):
                    stage.environment[pair[0]] = filled(pair[1], values)
            elif word == "RUN":
                told = {name: value for name, value in arguments.items() if value}
                stage.run([*(f"{name}={value}" for name, value in told.items()), "sh", "-c", rest])
            elif word == "COPY":
                copy(stage, stages, rest)
            elif word == "CMD":
                stage.run(json.loads(rest))
            else:
                raise SystemExit(f"{word} is not replayed")
    finally:
        for each in stages.values():
            each.close()


def main() -> None:
    """Reads the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dockerfile", type=Path)
    parser.add_argument("--suite", default="bookworm")
    parser.add_argument("--mirror", default="http://deb.debian.org/debian")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--arg", action="append", default=[])
    parser.add_argument("--env", action="append", default=[])
    parser.add_argument("--bind", type=Path, action="append", default=[])
    options = parser.parse_args()
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        sys.exit("replaying needs root and debootstrap (apt-get install debootstrap)")
    if _PRIVATE not in os.environ:
        # Mounts of this process alone: who removes the folder removes nothing through them.
        os.environ[_PRIVATE] = "1"
        unshare = ["unshare", "--mount", "--propagation", "private"]
        os.execvp("unshare", [*unshare, sys.executable, *sys.argv])
    folder = options.folder.resolve()
    folder.mkdir(parents=True)
    base = folder / "base"
    bootstrap = ["debootstrap", "--variant=minbase", options.suite, base, options.mirror]
    subprocess.run(bootstrap, check=True)
    given, environment = (
        dict(pair.split("=", 1) for pair in pairs) for pairs in (options.arg, options.env)
    )
    replay(options.dockerfile, base, folder, given, options.bind, environment)


if __name__ == "__main__":
    main()
