"""`featserve metadata`: show the model's signatures and manifest."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from ..options import Commands, add_server_options, make_client


def add_to(commands: Commands) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("metadata", help="show the model's signatures and manifest")
    add_server_options(parser)
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the subcommand; returns its exit status."""
    with make_client(arguments) as client:
        model = client.metadata()
    if arguments.json:
        print(json.dumps(asdict(model)))
        return 0
    print(f"model {model.model}, version {model.version}")
    for name, signature in model.signatures.items():
        print(f"\n{name}")
        for key, spec in signature.inputs.items():
            print(f"  in   {key}: {spec}")
        for key, spec in signature.outputs.items():
            print(f"  out  {key}: {spec}")
    if model.manifest:
        print("\nmanifest")
        for key, value in model.manifest.items():
            if key not in ("signatures", "layers"):
                print(f"  {key}: {_labels(value) if key == 'labels' else json.dumps(value)}")
    return 0


def _labels(value: object) -> str:
    if not isinstance(value, dict):
        return json.dumps(value)
    return json.dumps({output: f"{len(names)} classes" for output, names in value.items()})
