"""`featserve embed`: write one vector per image into a file."""

from __future__ import annotations

import argparse

from ..options import Commands
from .bulk import add_bulk_options, run_bulk


def add_to(commands: Commands) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("embed", help="write one vector per image into a file")
    add_bulk_options(parser, output="vectors.npz")
    parser.add_argument(
        "--layer",
        dest="layers",
        metavar="A",
        help="the layer taken, averaged over height and width (default: the model's last that is no classifier)",
    )
    parser.add_argument(
        "--no-normalize", action="store_true", help="keep the vectors' lengths instead of making them 1"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the subcommand; returns its exit status."""
    return run_bulk(arguments, "mean" if arguments.no_normalize else "mean-l2")
