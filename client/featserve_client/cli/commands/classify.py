"""`featserve classify`: name what is in images."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from ...exceptions import FeatserveError, InvalidImageError, InvalidRequest
from ..options import Commands, add_server_options, image_files, make_client


def add_to(commands: Commands) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("classify", help="name what is in images")
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="files, directories, patterns, @FILE (a list) or - (a list on stdin)"
    )
    add_server_options(parser)
    parser.add_argument("--top", type=int, default=5, metavar="N", help="classes of each image (default: %(default)s)")
    parser.add_argument("--layer", metavar="A", help="the classifier's output (default: the last that has names)")
    parser.add_argument("--json", action="store_true", help="an object a line")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the subcommand; returns its exit status."""
    paths = image_files(arguments.images)
    failed = 0
    with make_client(arguments) as client:
        for path in paths:
            try:
                classes = client.classify(path, arguments.top, layer=arguments.layer)[0]
            except (InvalidImageError, InvalidRequest) as exc:
                failed += 1
                print(f"featserve: left out: {_named(path, exc)}", file=sys.stderr)
                continue
            if arguments.json:
                print(json.dumps({"path": path, "classes": [asdict(each) for each in classes]}))
                continue
            if len(paths) > 1:
                print(path)
            for each in classes:
                print(f"{each.score:.4f}  {each.label}")
    return 2 if failed == len(paths) else int(failed > 0)


def _named(path: str, error: FeatserveError) -> str:
    text = str(error)
    return text if text.startswith(path) else f"{path}: {text}"
