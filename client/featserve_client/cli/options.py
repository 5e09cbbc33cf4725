"""Options that every subcommand has, and the client that they describe."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from .. import environment
from ..client import FeatureClient
from ..config import TLS, Limits
from ..exceptions import ConfigError
from ..images.find import describe, find_images

#: What `add_subparsers` gives; its class has no public name.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_server_options(parser: argparse.ArgumentParser, *, model_help: str = "", many_models: bool = False) -> None:
    """Adds the options that say which model of which server is asked, and how; with `many_models`, which models."""
    group = parser.add_argument_group("server")
    group.add_argument("--server", metavar="HOST:PORT", help="default: $FEATSERVE_SERVER, or localhost:8500")
    group.add_argument(
        "--export",
        metavar="DIR",
        help="ask no server, but this exported version, MODEL_ROOT/NAME/VERSION: it is served while the command runs",
    )
    if many_models:
        group.add_argument(
            "--model",
            action="append",
            metavar="NAME",
            help="repeatable (default: those that --rest tells of, else $FEATSERVE_MODEL, or efficientnet_lite0)",
        )
        parser.set_defaults(model_version=None, label=None)
    else:
        group.add_argument("--model", help=model_help or "default: $FEATSERVE_MODEL, or efficientnet_lite0")
        group.add_argument("--model-version", type=int, metavar="N", help="default: the server's latest")
        group.add_argument("--label", help="ask the version with this label")
    _add_connection(group)
    parser.add_argument("--verbose", action="store_true", help="show the trace of an error")


def add_connection_options(parser: argparse.ArgumentParser, *, timeout_s: float = 60.0) -> None:
    """Adds the options that say how servers are asked, where the models are named otherwise."""
    _add_connection(parser.add_argument_group("server"), timeout_s)
    parser.add_argument("--verbose", action="store_true", help="show the trace of an error")


def _add_connection(group: argparse._ArgumentGroup, timeout_s: float = 60.0) -> None:
    group.add_argument(
        "--timeout", type=float, default=timeout_s, metavar="SECONDS", help="per request (default: %(default)s)"
    )
    group.add_argument("--max-message-bytes", type=int, default=Limits().max_message_bytes, metavar="BYTES")
    group.add_argument("--decode", choices=("server", "client"), default="server")
    group.add_argument("--ca", metavar="PEM", help="use TLS and trust this authority (default: $FEATSERVE_CA)")
    group.add_argument("--certificate", metavar="PEM", help="the client's own certificate (mTLS)")
    group.add_argument("--private-key", metavar="PEM")
    group.add_argument("--server-name", metavar="NAME", help="the name in the server's certificate")
    group.add_argument(
        "--token-file", metavar="FILE", help="send the bearer token in this file (default: $FEATSERVE_TOKEN_FILE)"
    )


@contextlib.contextmanager
def make_client(arguments: argparse.Namespace) -> Iterator[FeatureClient]:
    """Gives the client that the options describe, and, with --export, the server that it asks, while the command runs.

    Raises:
        ConfigError: an option has a value that cannot work, alone or beside another.
        MissingExtraError: the server of --export is not installed.
        ConnectError: the server of --export does not start.
    """
    if arguments.export is None:
        client = FeatureClient(arguments.server, model=arguments.model, **client_options(arguments))
    elif arguments.server or arguments.ca or arguments.token_file:
        raise ConfigError("--export asks its own server, in plain text: leave --server, --ca and --token-file out")
    else:
        client = FeatureClient.local(arguments.export, **client_options(arguments))
    with client:
        yield client


def client_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the client's options, but for whom it asks.

    Raises:
        ConfigError: the token's file cannot be read.
    """
    tls = None
    if arguments.ca or arguments.certificate or arguments.private_key or arguments.server_name:
        tls = TLS(
            ca=arguments.ca or os.environ.get("FEATSERVE_CA"),
            certificate=arguments.certificate,
            private_key=arguments.private_key,
            server_name=arguments.server_name,
        )
    return {
        "version": arguments.model_version,
        "label": arguments.label,
        "timeout_s": arguments.timeout,
        "decode": arguments.decode,
        "limits": Limits(max_message_bytes=arguments.max_message_bytes),
        "tls": tls,
        "token": environment.read_token(arguments.token_file, "--token-file") if arguments.token_file else None,
    }


def image_files(sources: Sequence[str]) -> list[str]:
    """Returns the image files that the arguments mean; says on stderr what was passed over in folders.

    Raises:
        InvalidImageError: an argument names no image.
    """
    found = find_images(sources)
    if found.passed_over:
        print(f"featserve: passed over in folders: {describe(found.passed_over)}", file=sys.stderr)
    return found.paths


def layer_names(text: str | None) -> list[str] | None:
    """Returns the names in a comma-separated list; None stands for all."""
    return [name.strip() for name in text.split(",")] if text else None
