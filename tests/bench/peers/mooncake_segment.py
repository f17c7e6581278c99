# SPDX-License-Identifier: Apache-2.0
"""Lends memory to a Mooncake master until standard input is closed: PORT BYTES."""

import sys

from mooncake.store import MooncakeDistributedStore

port, segment = sys.argv[1:3]
store = MooncakeDistributedStore()
code = store.setup(
    "127.0.0.1", "P2PHANDSHAKE", int(segment), 16 << 20, "tcp", "", f"127.0.0.1:{port}"
)
print("ready" if code == 0 else f"setup answered {code}", flush=True)
sys.stdin.read()
store.close()
