"""The command itself: its subcommands, and what becomes of their errors."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence

from ..exceptions import FeatserveError
from . import classify, embed, extract, metadata, show, similar, status, verify

#: The subcommands, in the order of the help.
_SUBCOMMANDS = (extract, embed, classify, status, show, similar, verify, metadata)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0 done, 1 some images failed, 2 nothing could be done."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files may be any bytes
    try:
        return int(arguments.run(arguments))
    except FeatserveError as exc:
        print(f"featserve: {exc}", file=sys.stderr)
        if arguments.verbose:
            raise
        return 2
    except KeyboardInterrupt:
        print("featserve: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="featserve", description="Image features from a model server, over gRPC.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for subcommand in _SUBCOMMANDS:
        subcommand.add_to(commands)
    return parser
