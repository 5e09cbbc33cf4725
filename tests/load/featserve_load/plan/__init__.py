"""How many servers a load needs, from a capacity report, by simulation."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Plans; returns 0, or raises LoadError for what cannot be planned as asked."""
    # `capacity` writes what this package reads, and this package searches as `capacity` does.
    from .command import main as run

    return run(argv)
