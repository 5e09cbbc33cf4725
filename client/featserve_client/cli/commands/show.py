"""`featserve show`: draw a photo's activation maps."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from ...analysis.pictures import PICTURES, check_picture, draw_maps, figure_page, read_photo, save
from ..options import Commands, add_server_options, layer_names, make_client


def add_to(commands: Commands) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("show", help="draw a photo's activation maps")
    parser.add_argument("image", metavar="IMAGE")
    add_server_options(parser)
    parser.add_argument("--layers", metavar="A,B", help="layers drawn (default: all that the model exports)")
    parser.add_argument(
        "--output", default="maps.png", metavar="FILE", help=".png, .jpg, .svg, .pdf or .html (default: %(default)s)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the subcommand; returns its exit status."""
    output = Path(arguments.output)
    check_picture(output, *PICTURES, ".html", figures=True)
    layers = layer_names(arguments.layers)
    with make_client(arguments) as client:
        features = client.extract(arguments.image, layers)
        photo = read_photo(arguments.image)
        order = layers or client.metadata().layers
        maps = {layer: features[layer][0] for layer in order}
        title = f"{Path(arguments.image).name}  ·  {client.model}"
        figure = draw_maps(photo, maps, title)
        save(output, figure_page(figure, title) if output.suffix == ".html" else figure)
    for layer, values in maps.items():
        if np.ptp(values) == 0:
            print(f"featserve: all values of {layer} are {values.flat[0]:.3g}: nothing is to be seen", file=sys.stderr)
    print(output)
    return 0
