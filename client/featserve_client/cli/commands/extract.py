"""`featserve extract`: write the activations of images into a file."""

from __future__ import annotations

import argparse

from ..options import Commands
from .bulk import add_bulk_options, run_bulk


def add_to(commands: Commands) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("extract", help="write the activations of images into a file")
    add_bulk_options(parser, output="features.npz")
    parser.add_argument("--layers", metavar="A,B", help="layers wanted (default: all that the model exports)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the subcommand; returns its exit status."""
    return run_bulk(arguments, None)
