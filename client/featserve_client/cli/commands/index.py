"""`featserve index`: make an index of photos, for `featserve similar`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...analysis.photo_index import VectorSource, check_index, write_index
from ...client import FeatureClient
from ...core.vectors import to_vectors, vector_layer
from ...exceptions import OutputError
from ..options import Commands, add_server_options, image_files, make_client


def add_to(commands: Commands) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("index", help="make an index of photos, for featserve similar")
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="files, directories, patterns, @FILE (a list) or - (a list on stdin)"
    )
    add_server_options(parser)
    parser.add_argument(
        "--layer", metavar="A", help="the layer compared (default: the model's last that is no classifier)"
    )
    parser.add_argument("--output", default="photos.usearch", metavar="FILE", help=".usearch (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace an index that exists")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the subcommand; returns its exit status."""
    output = Path(arguments.output)
    check_index(output)
    if output.exists() and not arguments.overwrite:
        raise OutputError(f"{output} exists: --overwrite replaces it, --output names another file")
    paths = image_files(arguments.images)
    with make_client(arguments) as client:
        known = client.metadata()
        layer = vector_layer(known, arguments.layer)
        with client.pinned(known.version) as pinned:
            count = write_index(output, VectorSource.of(known, layer), vectors_of(pinned, paths, layer))
    print(f"{count} photos, {layer}")
    print(output)
    return 1 if count < len(paths) else 0


def vectors_of(
    client: FeatureClient, paths: Sequence[str], layer: str
) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Yields each photo and its vector; says on stderr which could not be extracted."""
    for result in client.extract_iter(paths, layer, on_error="return"):
        if result.error is not None:
            print(f"featserve: left out: {result.error}", file=sys.stderr)
            continue
        yield result.source, to_vectors(result.features[layer][np.newaxis])[0]
