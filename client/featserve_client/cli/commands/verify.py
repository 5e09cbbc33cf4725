"""`featserve verify`: compare a server's answers with those of the exported Keras model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ...analysis.golden import compare_with_golden
from ..options import Commands, add_server_options, make_client


def add_to(commands: Commands) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("verify", help="compare a server's answers with those of the exported Keras model")
    parser.add_argument("model_dir", metavar="MODEL_DIR", help="an exported version: ROOT/NAME/VERSION")
    add_server_options(parser, model_help="default: the name in the directory")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the subcommand; returns its exit status."""
    model_dir = Path(arguments.model_dir)
    arguments.model = arguments.model or model_dir.absolute().parent.name
    checks = []
    with make_client(arguments) as client:
        for check in compare_with_golden(client, model_dir):
            checks.append(check)
            verdict = "ok" if check.passed else "FAILED"
            print(
                f"{verdict:6}  {check.signature}:{check.layer}  {check.images} images  cosine {check.cosine:.7f} "
                f"(at least {check.threshold})  max relative error {check.max_relative_error:.1e}"
            )
    failed = sum(not check.passed for check in checks)
    if failed:
        print(f"featserve: {failed} of {len(checks)} checks failed", file=sys.stderr)
    return 1 if failed else 0
