"""`featserve status`: show the state of the model's versions."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from ..options import Commands, add_server_options, make_client


def add_to(commands: Commands) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("status", help="show the state of the model's versions")
    add_server_options(parser)
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the subcommand; returns its exit status."""
    with make_client(arguments) as client:
        name = client.model
        versions = client.status()
        if arguments.label is not None:  # a status knows no labels: the model's metadata does
            number = client.metadata().version
            versions = [version for version in versions if version.version == number]
    if arguments.json:
        print(json.dumps([asdict(version) for version in versions]))
    else:
        for version in versions:
            label = f" (label {arguments.label})" if arguments.label is not None else ""
            print(f"{name} version {version.version}{label}: {version.state} {version.error}".rstrip())
    return 0 if any(version.available for version in versions) else 1
