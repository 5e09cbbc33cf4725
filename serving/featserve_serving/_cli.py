"""The command `featserve-serve`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from . import _flags, _launcher
from ._errors import SetupError


def main(argv: Sequence[str] | None = None) -> int:
    """Run `featserve-serve`; return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments[:1] == ["ssl-config"]:
            return _ssl_config(arguments[1:])
        if arguments[:1] == ["models-config"]:
            return _models_config(arguments[1:])
        if "--help" in arguments or "-h" in arguments:
            print(_flags.usage())
            return 0
        return _launcher.serve(_flags.parse(arguments))
    except SetupError as exc:
        print(f"featserve-serve: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _ssl_config(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="featserve-serve ssl-config",
        description="Print the SSLConfig text proto for --ssl_config_file. It holds the private key: keep it as safe.",
    )
    parser.add_argument("--cert", type=Path, required=True, help="PEM: the server's certificate, then intermediates")
    parser.add_argument("--key", type=Path, required=True, help="PEM: its private key")
    parser.add_argument("--client-ca", type=Path, help="PEM: the authority of the clients' certificates (mutual TLS)")
    given = parser.parse_args(arguments)
    try:
        from . import _tls
    except ModuleNotFoundError as exc:
        raise SetupError(f"ssl-config needs {exc.name}: pip install 'featserve[serving]'") from exc
    print(_tls.from_pem_files(given.cert, given.key, given.client_ca), end="")
    return 0


def _models_config(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="featserve-serve models-config",
        description="Print the ModelServerConfig of a model root; entries of its own models.config are kept.",
    )
    parser.add_argument("--model_root", type=Path, required=True, help="directory of MODEL/VERSION/ directories")
    parser.add_argument("--served_from", help="where the server sees the root, such as /models in a container")
    given = parser.parse_args(arguments)
    try:
        from . import _models_config
    except ModuleNotFoundError as exc:
        raise SetupError(f"models-config needs {exc.name}: pip install 'featserve[serving]'") from exc
    print(_models_config.to_text(_models_config.from_model_root(given.model_root, given.served_from)), end="")
    return 0
