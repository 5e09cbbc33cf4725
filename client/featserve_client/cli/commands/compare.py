"""`featserve compare`: may the vectors of two models, versions or servers be mixed."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path

from ...analysis.pictures import check_picture
from ...compare.place import GRAMMAR, Place, parse_place
from ...compare.report import to_page
from ...compare.search import Search
from ...compare.side import FileSide, ServedSide, Side
from ...compare.sides import compare
from ...compare.text import to_json, to_lines
from ...compare.verdict import Thresholds
from ...durable import write_whole
from ...exceptions import ConfigError, OutputError
from ..options import Commands, add_connection_options, image_files, make_client
from ..progress import Reporter

_STATUS = {"mix": 0, "again": 1, "unknown": 2}
_DEFAULTS = Thresholds()


def add_to(commands: Commands) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "compare",
        help="say whether vectors of two models, versions or servers may be mixed",
        description=f"Compares the vectors of the same photos from two sides. A side is {GRAMMAR}.",
        epilog="exit status: 0 the vectors may be mixed, 1 compute them again, 2 nothing can be said",
    )
    parser.add_argument("a", metavar="A", help="where the vectors that are there come from")
    parser.add_argument("b", metavar="B", help="where the new ones come from")
    parser.add_argument(
        "--photos",
        action="append",
        metavar="DIR",
        help="a directory, file, pattern or @FILE (a list); again for more. Not needed where a side is a file",
    )
    parser.add_argument(
        "--layer",
        metavar="L",
        help="the layer compared, or A=B where its names differ (default: all that both sides name alike)",
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--output", metavar="FILE", help="write a page with pictures, too: .html")
    parser.add_argument(
        "--exact-photos",
        type=int,
        default=100_000,
        metavar="N",
        help="search so many photos exactly, more with usearch (default: %(default)s)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    group = parser.add_argument_group("thresholds", "what vectors need to be mixed, with its 95 % interval")
    group.add_argument(
        "--min-recall-1",
        type=float,
        default=_DEFAULTS.recall_1,
        metavar="R",
        help="A's nearest neighbor is found by queries of B in an index of A (default: %(default)s)",
    )
    group.add_argument(
        "--min-recall-10",
        type=float,
        default=_DEFAULTS.recall_10,
        metavar="R",
        help="the same of the 10 nearest (default: %(default)s)",
    )
    group.add_argument(
        "--min-same-class",
        type=float,
        default=_DEFAULTS.same_class,
        metavar="R",
        help="of classifiers, in place of recall: photos with the same top class (default: %(default)s)",
    )
    group.add_argument(
        "--min-cosine", type=float, metavar="C", help="the cosine that 99 %% of the photos have (default: any)"
    )
    add_connection_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the subcommand; returns its exit status."""
    places = parse_place(arguments.a), parse_place(arguments.b)
    thresholds = Thresholds(
        recall_1=arguments.min_recall_1,
        recall_10=arguments.min_recall_10,
        same_class=arguments.min_same_class,
        cosine=arguments.min_cosine,
    )
    if arguments.exact_photos < 1:
        raise ConfigError(f"--exact-photos must be at least 1, not {arguments.exact_photos}")
    output = Path(arguments.output) if arguments.output else None
    if output is not None:
        _check_output(output)
    if arguments.photos is None and all(place.kind != "file" for place in places):
        raise ConfigError("--photos is needed: no side is a file that names its photos")
    photos = image_files(arguments.photos) if arguments.photos else None
    reporter = Reporter(quiet=arguments.quiet)
    with contextlib.ExitStack() as stack:
        a, b = (_open(place, arguments, stack) for place in places)
        with reporter:
            found = compare(
                a,
                b,
                photos=photos,
                layer=arguments.layer,
                search=Search(exact_photos=arguments.exact_photos),
                thresholds=thresholds,
                report=reporter.update,
            )
    if output is not None:
        page = to_page(found).encode()
        try:
            write_whole(output, lambda file: file.write(page))
        except OSError as exc:
            raise OutputError(f"{output} cannot be written: {exc}") from exc
    print(to_json(found) if arguments.json else "\n".join(to_lines(found)))
    if output is not None:
        print(output, file=sys.stderr if arguments.json else sys.stdout)
    return _STATUS[found.verdict.status]


def _check_output(output: Path) -> None:
    check_picture(output, ".html")
    if not output.parent.is_dir():
        raise OutputError(f"{output} cannot be written: {output.parent} is no directory")
    if output.is_dir():
        raise OutputError(f"{output} cannot be written: it is a directory")


def _open(place: Place, arguments: argparse.Namespace, stack: contextlib.ExitStack) -> Side:
    if place.kind == "file" and place.path is not None:
        return FileSide(place.path)
    asked = {
        "server": place.target,
        "model": place.model,
        "model_version": place.version,
        "label": place.label,
        "export": None,
    }
    if place.kind == "export":
        # The server of an exported version is this command's own: it is asked in plain text, and by nobody else.
        names = ("ca", "certificate", "private_key", "server_name", "token_file")
        asked |= {"export": place.text, **dict.fromkeys(names)}
    client = stack.enter_context(make_client(argparse.Namespace(**{**vars(arguments), **asked})))
    return ServedSide(place.text, client)
