# SPDX-License-Identifier: Apache-2.0
"""A short run of the interleavings; `./test.sh light_mem` runs a thousand."""

from __future__ import annotations

from pathlib import Path

import interleavings


def test_no_byte_is_wrong_and_no_page_lost_whatever_is_killed(tmp_path: Path) -> None:
    done = interleavings.run(tmp_path, lives=20, seed=7)
    assert done["lives"] == 20
    assert done["pages written"] > 0
    assert done["kept"] > 0
