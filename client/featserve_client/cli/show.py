"""`featserve show`: draw a photo's activation maps."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..analysis.pictures import PICTURES, check_picture, draw_maps, read_photo, save
from .options import Commands, add_server_options, layer_names, make_client


def add_to(commands: Commands) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("show", help="draw a photo's activation maps")
    parser.add_argument("image", metavar="IMAGE")
    add_server_options(parser)
    parser.add_argument("--layers", metavar="A,B", help="layers drawn (default: all that the model exports)")
    parser.add_argument(
        "--output", default="maps.png", metavar="FILE", help=".png, .jpg, .svg or .pdf (default: %(default)s)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand; return its exit status."""
    output = Path(arguments.output)
    check_picture(output, *PICTURES)
    layers = layer_names(arguments.layers)
    with make_client(arguments) as client:
        features = client.extract(arguments.image, layers)
        photo = read_photo(arguments.image)
        order = layers or client.metadata().layers
        maps = {layer: features[layer][0] for layer in order}
        save(output, draw_maps(photo, maps, f"{Path(arguments.image).name}  ·  {client.model}"))
    print(output)
    return 0
