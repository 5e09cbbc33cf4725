"""`featserve similar`: find the photos most like one, and draw them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...analysis.neighbors import load_vectors, nearest
from ...analysis.photo_index import VectorSource, read_index
from ...analysis.pictures import PICTURES, check_picture, draw_sheet, page, save
from ...client import FeatureClient
from ...core.vectors import vector_layer
from ...exceptions import ConfigError, InvalidImageError
from ..options import Commands, add_server_options, image_files, make_client
from .index import vectors_of

#: The cosine below which two photos are not called alike. Of 171 pairs of unrelated photos none reached it with
#: EfficientNet-Lite0, and 181 of 190 crops, turns and other changes of a photo did; other networks need another.
_CLOSE = 0.5


class _Instead(argparse.Action):
    # A positional that is merely optional would have to stand beside the first one, before any option.
    def __init__(self, *, other: argparse.Action, **options: Any) -> None:
        super().__init__(**options)
        self._other = other

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, option: object = None
    ) -> None:
        self._other.required = False
        setattr(namespace, self.dest, values)


def add_to(commands: Commands) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("similar", help="find the photos most like one, and draw them")
    parser.add_argument("query", metavar="QUERY", help="an image file")
    among = parser.add_argument(
        "among",
        metavar="DIR_OR_PARQUET",
        help="images, or a .parquet that featserve extract or embed wrote",
    )
    add_server_options(parser)
    parser.add_argument(
        "--index",
        action=_Instead,
        other=among,
        metavar="FILE",
        help="search in an index that featserve index wrote, instead of DIR_OR_PARQUET",
    )
    parser.add_argument("-k", type=int, default=8, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument(
        "--layers", metavar="A", help="the layer compared (default: the model's last that is no classifier)"
    )
    parser.add_argument(
        "--threshold",
        type=float,
        default=_CLOSE,
        metavar="COSINE",
        help="below it nothing is called close (default: %(default)s, for efficientnet_lite0; mobilenet: 0.65)",
    )
    parser.add_argument(
        "--output", default="similar.png", metavar="FILE", help=".png, .jpg, .svg, .pdf or .html (default: %(default)s)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the subcommand; returns its exit status."""
    output = Path(arguments.output)
    check_picture(output, *PICTURES, ".html")
    if arguments.k < 1:
        raise ConfigError(f"-k must be at least 1, not {arguments.k}")
    if not -1 <= arguments.threshold <= 1:
        raise ConfigError(f"--threshold must be a cosine from -1 to 1, not {arguments.threshold:g}")
    if arguments.among is not None and arguments.index is not None:
        raise ConfigError("expected either photos to search among, or --index FILE")
    with make_client(arguments) as client:
        search = _in_index if arguments.index else _among
        layer, most_like, cosines = search(client, arguments)
    close = len(cosines) > 0 and cosines[0] >= arguments.threshold
    title = f"{'Most like' if close else 'Nothing close to'} {Path(arguments.query).name}  ·  "
    title += f"{client.model}, {layer}, cosine"
    draw = page if output.suffix == ".html" else draw_sheet
    save(output, draw(arguments.query, most_like, cosines.tolist(), title))
    for name, cosine in zip(most_like, cosines, strict=True):
        print(f"{cosine:.4f}  {name}")
    if not close:
        best = "there is no other photo"
        if len(cosines):
            best = f"the best cosine is {cosines[0]:.2f}, below --threshold {arguments.threshold:g}"
        print(f"featserve: nothing is close: {best}", file=sys.stderr)
    print(output)
    return 0


def _in_index(client: FeatureClient, arguments: argparse.Namespace) -> tuple[str, list[str], npt.NDArray[np.float32]]:
    path = Path(arguments.index)
    index = read_index(path)
    layer = arguments.layers or index.source.layer
    index.check_source(VectorSource.of(client.metadata(), layer), path)
    query = client.embed(arguments.query, layer)[0]
    return layer, *index.nearest(query, arguments.k, without=arguments.query)


def _among(client: FeatureClient, arguments: argparse.Namespace) -> tuple[str, list[str], npt.NDArray[np.float32]]:
    among = Path(arguments.among)
    names: Sequence[str]
    if among.suffix == ".parquet":
        names, layer, vectors = load_vectors(among, arguments.layers)
        query = client.embed(arguments.query, layer)[0]
    else:
        layer = vector_layer(client.metadata(), arguments.layers)
        query = client.embed(arguments.query, layer)[0]  # first: without it the others are asked for in vain
        pairs = list(vectors_of(client, image_files([arguments.among]), layer))
        if not pairs:
            raise InvalidImageError(arguments.among, "none of its images could be extracted")
        names, vectors = [name for name, _ in pairs], np.stack([vector for _, vector in pairs])
    if query.shape != vectors.shape[1:]:
        raise ConfigError(
            f"layer {layer!r} has {len(query)} channels on the server and {vectors.shape[1]} in {among}: "
            "the file is of another model"
        )
    keep = [row for row, name in enumerate(names) if Path(name).absolute() != Path(arguments.query).absolute()]
    rows, cosines = nearest(vectors[keep], query, arguments.k)
    return layer, [names[keep[row]] for row in rows], cosines
