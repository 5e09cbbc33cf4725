"""The command `featserve-serve`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from . import _flags, _launcher
from ._errors import SetupError


def main(argv: Sequence[str] | None = None) -> int:
    """Run `featserve-serve`; return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "--help" in arguments or "-h" in arguments:
        print(_flags.usage())
        return 0
    try:
        return _launcher.serve(_flags.parse(arguments))
    except SetupError as exc:
        print(f"featserve-serve: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
