"""The command `featserve-serve`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import NoReturn

from ..errors import SetupError
from . import choose
from .flags import Flags, add_flags, spelled, unknown_flag
from .output import ends_quietly

_USAGE = """featserve-serve [--FLAG=VALUE | --FLAG VALUE]...
       featserve-serve --version
       featserve-serve ssl-config --cert FILE --key FILE [--client-ca FILE]
       featserve-serve models-config --model_root DIR [--served_from DIR]"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SetupError(message.removeprefix("argument "))


@ends_quietly()
def main(argv: Sequence[str] | None = None) -> int:
    """Runs `featserve-serve`; returns its exit status."""
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except SetupError as exc:
        print(f"featserve-serve: {exc}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as exc:
        if "featserve" in str(exc.name):
            raise
        print(f"featserve-serve: {exc.name} is missing: pip install 'featserve[serving]'", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _run(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        print(f"featserve-serve {metadata.version('featserve')}")
        return 0
    if arguments[:1] == ["ssl-config"]:
        return _ssl_config(arguments[1:])
    if arguments[:1] == ["models-config"]:
        return _models_config(arguments[1:])
    return choose.serve(parse(arguments))


def parse(arguments: Sequence[str]) -> Flags:
    """Returns the flags of a command line; a dash is as good as an underscore.

    Raises:
        SetupError: a flag is unknown, or its value is of another type.
    """
    parser = _Parser(
        "featserve-serve",
        usage=_USAGE,
        description="Serve SavedModels over gRPC and REST. Give one of --model_root, --model_base_path, "
        "--model_config_file.",
        allow_abbrev=False,
    )
    add_flags(parser)
    given, unknown = parser.parse_known_args(spelled(arguments))
    if unknown:
        raise unknown_flag(unknown[0])
    return Flags(given=frozenset(vars(given)), **vars(given))


def _ssl_config(arguments: Sequence[str]) -> int:
    parser = _Parser(
        "featserve-serve ssl-config",
        description="Print the SSLConfig text proto for --ssl_config_file. It holds the private key: keep it as safe.",
        allow_abbrev=False,
    )
    parser.add_argument("--cert", type=Path, required=True, help="PEM: the server's certificate, then intermediates")
    parser.add_argument("--key", type=Path, required=True, help="PEM: its private key")
    parser.add_argument("--client-ca", type=Path, help="PEM: the authority of the clients' certificates (mutual TLS)")
    given = parser.parse_args(arguments)
    from ..net.tls import from_pem_files

    print(from_pem_files(given.cert, given.key, given.client_ca), end="")
    return 0


def _models_config(arguments: Sequence[str]) -> int:
    parser = _Parser(
        "featserve-serve models-config",
        description="Print the ModelServerConfig of a model root; entries of its own models.config are kept.",
        allow_abbrev=False,
    )
    parser.add_argument("--model_root", type=Path, required=True, help="directory of MODEL/VERSION/ directories")
    parser.add_argument("--served_from", help="where the server sees the root, such as /models in a container")
    given = parser.parse_args(arguments)
    from ..models.config import file as config_file

    print(config_file.to_text(config_file.from_model_root(given.model_root, given.served_from)), end="")
    return 0
