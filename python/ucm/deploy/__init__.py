# SPDX-License-Identifier: Apache-2.0
"""Files for operating ucm: Grafana, Prometheus, Kubernetes, nginx."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

FILES = (
    "grafana/ucm.json",
    "prometheus/alerts.yaml",
    "prometheus/prometheus.yml",
    "kubernetes/configmap.yaml",
    "kubernetes/pvc.yaml",
    "kubernetes/service.yaml",
    "kubernetes/deployment.yaml",
    "nginx/ucm.conf",
)


def path(name: str) -> Path:
    """Where one of `FILES` lies.

    Raises:
        FileNotFoundError: There is no such file.
    """
    if name not in FILES:
        raise FileNotFoundError(f"{name!r} is none of {', '.join(FILES)}")
    return Path(str(files(__name__).joinpath(name)))
