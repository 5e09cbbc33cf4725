"""`featserve similar`: find the photos most like one, and draw them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from ..analysis.neighbors import load_vectors, nearest
from ..analysis.pictures import PICTURES, check_picture, draw_sheet, page, save
from ..core.vectors import to_vectors
from ..exceptions import ConfigError, InvalidImageError
from ..images.find import find_images
from .options import Commands, add_server_options, make_client


def add_to(commands: Commands) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("similar", help="find the photos most like one, and draw them")
    parser.add_argument("query", metavar="QUERY", help="an image file")
    parser.add_argument("among", metavar="DIR_OR_PARQUET", help="images, or a .parquet that featserve extract wrote")
    add_server_options(parser)
    parser.add_argument("-k", type=int, default=8, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument("--layers", metavar="A", help="the layer compared (default: the model's last)")
    parser.add_argument(
        "--output", default="similar.png", metavar="FILE", help=".png, .jpg, .svg, .pdf or .html (default: %(default)s)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand; return its exit status."""
    output, among = Path(arguments.output), Path(arguments.among)
    check_picture(output, *PICTURES, ".html")
    if arguments.k < 1:
        raise ConfigError(f"-k must be at least 1, not {arguments.k}")
    with make_client(arguments) as client:
        if among.suffix == ".parquet":
            names, layer, vectors = load_vectors(among, arguments.layers)
        else:
            layer = arguments.layers or (client.metadata().layers or ("",))[-1]
            names, found = [], []
            for result in client.extract_iter(find_images([arguments.among]), layer, on_error="return"):
                if result.error is not None:
                    print(f"featserve: left out: {result.error}", file=sys.stderr)
                    continue
                names.append(result.source)
                found.append(to_vectors(result.features[layer][np.newaxis]))
            if not names:
                raise InvalidImageError(arguments.among, "none of its images could be extracted")
            vectors = np.concatenate(found)
        query = client.embed(arguments.query, layer)[0]
    if query.shape != vectors.shape[1:]:
        raise ConfigError(
            f"layer {layer!r} has {len(query)} channels on the server and {vectors.shape[1]} in {among}: "
            "the file is of another model"
        )
    keep = [row for row, name in enumerate(names) if Path(name).absolute() != Path(arguments.query).absolute()]
    rows, cosines = nearest(vectors[keep], query, arguments.k)
    most_like = [names[keep[row]] for row in rows]
    title = f"Most like {Path(arguments.query).name}  ·  {arguments.model}, {layer}, cosine"
    draw = page if output.suffix == ".html" else draw_sheet
    save(output, draw(arguments.query, most_like, cosines.tolist(), title))
    for name, cosine in zip(most_like, cosines, strict=True):
        print(f"{cosine:.4f}  {name}")
    print(output)
    return 0
