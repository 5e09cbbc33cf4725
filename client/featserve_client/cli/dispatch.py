"""Which subcommand runs, and what becomes of its errors."""

from __future__ import annotations

import argparse
import importlib
import io
import sys
from collections.abc import Sequence

from ..exceptions import FeatserveError, MissingExtraError
from ..extras import require

#: The subcommands, modules of `commands`, in the order of the help.
_SUBCOMMANDS = (
    "extract",
    "embed",
    "classify",
    "status",
    "show",
    "index",
    "similar",
    "verify",
    "compare",
    "watch",
    "metadata",
    "doctor",
    "console",
)


def dispatch(argv: Sequence[str] | None) -> int:
    """Runs the subcommand that the arguments, or this process's, name; returns its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = _parser(*words[:1]).parse_args(words)
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


class _PrintVersion(argparse.Action):
    def __call__(
        self, parser: argparse.ArgumentParser, namespace: object, values: object, option: object = None
    ) -> None:
        from .. import __version__  # reading it takes longer than most commands' parsing

        print(f"featserve {__version__}")
        parser.exit()


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


def _parser(command: str = "") -> argparse.ArgumentParser:
    """Returns the parser of a subcommand alone, which spares the imports of the others; of all, where it is none."""
    parser = argparse.ArgumentParser(prog="featserve", description="Image features from a model server, over gRPC.")
    parser.add_argument("--version", action=_PrintVersion, nargs=0, help="show program's version number and exit")
    parser.add_argument(
        "--print-completion",
        action=_PrintCompletion,
        choices=("bash", "zsh", "tcsh"),
        help="print what makes a shell complete this command",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in [command] if command in _SUBCOMMANDS else _SUBCOMMANDS:
        importlib.import_module(f".commands.{name}", __package__).add_to(commands)
    return parser
