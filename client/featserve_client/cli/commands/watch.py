"""`featserve watch`: see again and again that servers still give what was proven, and tell Prometheus."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from ... import environment
from ...client import FeatureClient
from ...exceptions import ConfigError
from ...extras import require
from ...transport.address import check_target, split
from ...watch.metrics import serve_metrics
from ...watch.photo import canary_photo
from ...watch.references import References
from ...watch.server import Finding, describe
from ...watch.watch import Watch
from ..options import Commands, add_connection_options, client_options


def add_to(commands: Commands) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "watch",
        help="see again and again that servers still give what was proven, for Prometheus",
        description="Replays golden pictures of each served version, and a canary photo, against each server, and "
        "shows what it finds as Prometheus metrics. A server is asked for at most 1 % of the time: where looking takes "
        "longer, it is looked at less often.",
        epilog="exit status: with --once 0 all is well, 1 a check failed, 2 nothing could be done",
    )
    parser.add_argument(
        "--server",
        action="append",
        metavar="HOST:PORT",
        help="repeatable; of a name each address is watched, looked up anew every round (default: $FEATSERVE_SERVER, "
        "or localhost:8500)",
    )
    parser.add_argument(
        "--model",
        action="append",
        metavar="NAME",
        help="repeatable (default: $FEATSERVE_MODEL, or efficientnet_lite0)",
    )
    parser.add_argument(
        "--export",
        action="append",
        default=[],
        metavar="DIR",
        help="an exported version, MODEL_ROOT/NAME/VERSION, that servers must have; repeatable (default: the golden "
        "answers that the model carries are trusted when it is first seen)",
    )
    parser.add_argument("--photo", metavar="FILE", help="the canary photo (default: a drawn picture)")
    parser.add_argument(
        "--remember",
        metavar="FILE",
        help="keep what was first seen of each version in this file, so that it holds for later runs, too",
    )
    parser.add_argument(
        "--every", type=float, default=60.0, metavar="SECONDS", help="from look to look (default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=int, default=9464, help="of the metrics; 0 takes a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address that the metrics page listens on; 0.0.0.0 for every interface (default: %(default)s)",
    )
    parser.add_argument("--once", action="store_true", help="look once, print a table, and end")
    add_connection_options(parser, timeout_s=10.0)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the subcommand; returns its exit status."""
    watch = _make_watch(arguments)
    if arguments.once:
        findings = watch.once()
        for finding in findings:
            print(describe(finding))
        failed = sum(not finding.result.passed for finding in findings)
        if failed:
            print(f"featserve: {failed} of {len(findings)} checks failed", file=sys.stderr)
        return 1 if failed else 0
    stop = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    try:
        port = serve_metrics(watch, arguments.host, arguments.port)
    except OSError as exc:
        raise ConfigError(f"the metrics cannot be served on {arguments.host} port {arguments.port}: {exc}") from exc
    print(f"metrics: http://{arguments.host}:{port}/metrics", flush=True)
    watch.run(stop)
    return 0


def _make_watch(arguments: argparse.Namespace) -> Watch:
    """Returns the watch that the options describe.

    Raises:
        ConfigError: an option has a value that cannot work.
        InvalidImageError: the photo is none.
        OutputError: an exported version, or the remembered references, cannot be read.
        MissingExtraError: prometheus-client is needed and not installed.
    """
    if not (math.isfinite(arguments.every) and arguments.every >= 1):
        raise ConfigError(f"--every must be at least 1 second, not {arguments.every:g}")
    if not 0 <= arguments.port < 2**16:
        raise ConfigError(f"--port must be 0 to 65535, not {arguments.port}")
    if not arguments.once:
        require("prometheus_client", "prometheus", "the metrics page")
    targets = [part for target in arguments.server or [environment.server()] for part in split(target) or [target]]
    remember = Path(arguments.remember) if arguments.remember else None
    if remember is not None and not remember.absolute().parent.is_dir():
        raise ConfigError(f"--remember {remember}: {remember.parent} is no directory")
    models = arguments.model or [environment.model()]
    secure = arguments.ca or arguments.certificate or os.environ.get("FEATSERVE_CA")

    def make_client(address: str, target: str, model: str) -> FeatureClient:
        asked = argparse.Namespace(**{**vars(arguments), "model_version": None, "label": None})
        if secure and address != target and asked.server_name is None:
            # The certificate is for the name, not for one of its addresses.
            asked.server_name = target.removeprefix("dns:///").rpartition(":")[0]
        return FeatureClient(address, model=model, **client_options(asked))

    for target in targets:
        make_client(check_target(target), target, models[0]).close()  # refuses options that cannot work
    return Watch(
        list(dict.fromkeys(targets)),
        list(dict.fromkeys(models)),
        make_client,
        references=References(map(Path, arguments.export), remember),
        photo=canary_photo(Path(arguments.photo) if arguments.photo else None),
        every_s=arguments.every,
        report=(lambda finding: None) if arguments.once else _report,
    )


def _report(finding: Finding) -> None:
    print(f"featserve: {describe(finding)}", file=sys.stderr, flush=True)
