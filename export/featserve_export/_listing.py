"""Tables for people: the backbones, and the layers of one."""

import json
from collections.abc import Sequence

from .sources.backbones import find_backbone, list_backbones


def describe_backbones(*, as_json: bool) -> str:
    """Every backbone with its family, input size, default output, parameters and weights source."""
    if as_json:
        return json.dumps(
            [
                {
                    "name": backbone.name,
                    "family": backbone.family,
                    "image_size": backbone.image_size,
                    "interpolation": backbone.interpolation,
                    "output": backbone.output,
                    "output_shape": backbone.output_shape,
                    "parameters": backbone.parameters,
                    "weights_source": backbone.weights_source,
                }
                for backbone in list_backbones()
            ],
            indent=1,
        )
    header = ("NAME", "FAMILY", "INPUT", "DEFAULT OUTPUT", "SHAPE", "PARAMETERS", "WEIGHTS")
    rows = [
        (
            backbone.name,
            backbone.family,
            "×".join(map(str, backbone.image_size)),
            backbone.output,
            "×".join(map(str, backbone.output_shape)),
            f"{backbone.parameters:,}",
            backbone.weights_source,
        )
        for backbone in list_backbones()
    ]
    return _table([header, *rows], right_aligned={5})


def describe_layers(name: str, image_size: tuple[int, int] | None, alpha: float | None) -> str:
    """Every layer of a backbone, its classifier included, with output shape and parameters."""
    from .sources.models import build_untrained

    model = build_untrained(find_backbone(name), image_size, alpha)
    rows = []
    for layer in model.layers:
        shapes = layer.output.shape if hasattr(layer.output, "shape") else ()
        rows.append((layer.name, "×".join(str(side) for side in shapes[1:]), f"{layer.count_params():,}"))
    return _table([("LAYER", "OUTPUT SHAPE", "PARAMETERS"), *rows], right_aligned={2})


def _table(rows: Sequence[Sequence[str]], right_aligned: set[int]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.rjust(width) if index in right_aligned else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
    return "\n".join(lines)
