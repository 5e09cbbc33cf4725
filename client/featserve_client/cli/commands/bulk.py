"""The part that `extract` and `embed` share: options, progress and report of a run over many files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ...bulk.formats import check_output
from ...bulk.job import extract_files, partial_folder
from ...core.vectors import VectorKind
from ...exceptions import FeatserveError, OutputError
from ..options import add_server_options, image_files, layer_names, make_client
from ..progress import Reporter


def add_bulk_options(parser: argparse.ArgumentParser, *, output: str) -> None:
    """Adds the options of a run over many files that writes `output` unless told otherwise."""
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="files, directories, patterns, @FILE (a list) or - (a list on stdin)"
    )
    add_server_options(parser)
    parser.add_argument(
        "--output",
        default=output,
        metavar="FILE",
        help=".npz, .npy, .parquet, .h5 or .zarr (default: %(default)s)",
    )
    parser.add_argument(
        "--concurrency", type=int, default=8, metavar="N", help="requests in flight at most (default: %(default)s)"
    )
    parser.add_argument("--resume", action="store_true", help="go on where an earlier run was broken off")
    parser.add_argument("--overwrite", action="store_true", help="replace an output that exists")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def run_bulk(arguments: argparse.Namespace, vectors: VectorKind | None) -> int:
    """Extracts the files into the output; returns the exit status."""
    output = Path(arguments.output)
    check_output(output)
    if output.exists() and not arguments.overwrite and not arguments.resume:
        raise OutputError(f"{output} exists: --overwrite replaces it, --output names another file")
    paths = image_files(arguments.images)
    reporter = Reporter(quiet=arguments.quiet)
    try:
        with make_client(arguments) as client, reporter:
            summary = extract_files(
                client,
                paths,
                output,
                layers=layer_names(arguments.layers),
                concurrency=arguments.concurrency,
                resume=arguments.resume,
                vectors=vectors,
                report=reporter.update,
            )
    except (FeatserveError, KeyboardInterrupt):
        if reporter.done and partial_folder(output).exists():
            print("featserve: broken off; the same command with --resume goes on", file=sys.stderr)
        raise
    for layer, shape in summary.layers.items():
        print(f"{layer}  {(summary.rows, *shape)}  float32")
    print(summary.output)
    if summary.failures:
        print(f"featserve: {summary.failures} images failed, see {summary.failures_file}", file=sys.stderr)
    return 1 if summary.failures else 0
