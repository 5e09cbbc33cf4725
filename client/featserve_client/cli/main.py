"""The program `featserve`: the steps before the client, and gRPC with it, is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from .output import ends_quietly


@ends_quietly()
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0 done, 1 some images failed, 2 nothing could be done."""
    if list(sys.argv[1:] if argv is None else argv) == ["--version"]:
        from importlib import metadata

        print(f"featserve {metadata.version('featserve')}")
        return 0
    if "grpc" not in sys.modules:  # a program that calls this keeps what it has set
        # gRPC reads this once. Its own lines on a failed handshake would stand before the error that explains it.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    if "numpy" not in sys.modules:
        # The threads of numpy's OpenBLAS would look for work, at 100 %, for some 50 ms before they first sleep.
        os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    from .dispatch import dispatch

    return dispatch(argv)
