# SPDX-License-Identifier: Apache-2.0
"""LightLLM's CPU level on ucm: one call, or `python -m ucm.integration.lightllm` as launcher."""

from ucm.integration.lightllm.installation import (
    PARTS,
    VARIABLE,
    environment,
    install,
    installed_parts,
)

__all__ = ["PARTS", "VARIABLE", "environment", "install", "installed_parts"]
