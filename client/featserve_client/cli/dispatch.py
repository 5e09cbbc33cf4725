"""Which subcommand runs, and what becomes of its errors."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence

from .. import __version__
from ..exceptions import FeatserveError, MissingExtraError
from ..extras import require
from .commands import (
    classify,
    compare,
    console,
    doctor,
    embed,
    extract,
    index,
    metadata,
    show,
    similar,
    status,
    verify,
    watch,
)

#: The subcommands, in the order of the help.
_SUBCOMMANDS = (
    extract,
    embed,
    classify,
    status,
    show,
    index,
    similar,
    verify,
    compare,
    watch,
    metadata,
    doctor,
    console,
)


def dispatch(argv: Sequence[str] | None) -> int:
    """Runs the subcommand that the arguments, or this process's, name; returns its exit status."""
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


class _PrintCompletion(argparse.Action):
    def __call__(
        self, parser: argparse.ArgumentParser, namespace: object, shell: object, option: object = None
    ) -> None:
        try:
            shtab = require("shtab", "completion", "--print-completion")
        except MissingExtraError as exc:
            parser.error(str(exc))
        print(shtab.complete(parser, shell))
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="featserve", description="Image features from a model server, over gRPC.")
    parser.add_argument("--version", action="version", version=f"featserve {__version__}")
    parser.add_argument(
        "--print-completion",
        action=_PrintCompletion,
        choices=("bash", "zsh", "tcsh"),
        help="print what makes a shell complete this command",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for subcommand in _SUBCOMMANDS:
        subcommand.add_to(commands)
    return parser
