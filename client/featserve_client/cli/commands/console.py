"""`featserve console`: show what a server serves on a page, and try it there."""

from __future__ import annotations

import argparse
import contextlib
import sys
from urllib.parse import urlsplit

from ... import environment
from ...client import FeatureClient
from ...exceptions import ConfigError, MissingExtraError
from ..options import Commands, add_server_options, make_client


def add_to(commands: Commands) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("console", help="show what a server serves on a page, and try it there")
    add_server_options(parser, many_models=True)
    parser.add_argument(
        "--rest",
        metavar="HOST:PORT",
        help="the server's REST API, or https://HOST:PORT: brings live figures, the names of the models, and curl",
    )
    parser.add_argument("--port", type=int, default=8502, help="of the page; 0 takes a free one (default: %(default)s)")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address that the page listens on; whoever reaches it can call the model (default: %(default)s)",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name by which browsers may call the page, beside localhost and addresses; repeatable",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the subcommand; returns its exit status."""
    try:
        from featserve_console import Address
        from featserve_console import run as page
        from featserve_console.client_source import ClientSource
    except ImportError as exc:
        package = (exc.name or "starlette").partition(".")[0]
        raise MissingExtraError(f"the console needs {package}: pip install 'featserve[console]'") from exc
    if not 0 <= arguments.port < 2**16:
        raise ConfigError(f"--port must be 0 to 65535, not {arguments.port}")
    rest = _rest_url(arguments.rest) if arguments.rest else None
    names = [] if arguments.export else list(dict.fromkeys(arguments.model or ()))
    with contextlib.ExitStack() as stack:
        first = argparse.Namespace(**vars(arguments))
        first.model = names[0] if names else None
        client = stack.enter_context(make_client(first))
        others = {**vars(first), "export": None}

        def make(name: str) -> FeatureClient:
            if name == client.model:
                return client
            return stack.enter_context(make_client(argparse.Namespace(**{**others, "model": name})))

        source = ClientSource(
            make,
            names,
            Address(grpc=client.target, rest=rest, tls=client.uses_tls, mutual_tls=bool(arguments.certificate)),
            fallback=client.model,
            max_message_bytes=arguments.max_message_bytes,
            ca=arguments.ca or _environment_ca(),
        )
        try:
            listening = stack.enter_context(page.listen(arguments.host, arguments.port))
        except OSError as exc:
            raise ConfigError(f"the page cannot listen on {arguments.host} port {arguments.port}: {exc}") from exc
        if not page.is_loopback(arguments.host):
            print(
                f"featserve: whoever reaches {arguments.host} can call the models: the page asks for no password, and "
                "has no TLS. Put it behind a proxy that does both",
                file=sys.stderr,
            )
        print(f"console of {client.target}: {page.url(arguments.host, listening)}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            page.run(source, listening, [arguments.host, *arguments.allow_host])
    return 0


def _environment_ca() -> str | None:
    tls = environment.tls()
    return None if tls is None or tls.ca is None else str(tls.ca)


def _rest_url(text: str) -> str:
    """Returns the REST API's address as a URL.

    Raises:
        ConfigError: the text is no address.
    """
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port
    except ValueError:
        known = None
    if not known or parts.path.strip("/") or parts.query or "@" in parts.netloc:
        raise ConfigError(f"--rest must be HOST:PORT, or https://HOST:PORT, not {text!r}")
    return f"{parts.scheme}://{parts.netloc}"
