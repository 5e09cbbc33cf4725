"""Tables for people: the backbones, and the layers of a network."""

import json
from collections.abc import Sequence
from pathlib import Path

from ..backbones import find_backbone, is_backbone, list_backbones
from ..errors import InvalidOptionError


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


def describe_layers(
    network: str,
    *,
    image_size: tuple[int, int] | None = None,
    alpha: float | None = None,
    custom_objects: Path | None = None,
    allow_lambda: bool = False,
) -> str:
    """Every layer of a network, nested ones and the classifier included, with output shape and parameters.

    Args:
        network: a name of `list_backbones`, or the path of a model.
        image_size: of a backbone, `(height, width)` in pixels.
        alpha: width multiplier of the MobileNets.
        custom_objects: as of `ExportOptions`.
        allow_lambda: as of `ExportOptions`.

    Raises:
        InvalidOptionError: there is no such network, or Keras knows none of its layers.
        WeightsError: the file cannot be loaded.
    """
    from ..sources.activations import list_activations
    from ..sources.backbone import build_untrained
    from ..sources.own_model import load_network

    if is_backbone(network) or not Path(network).exists():
        model = build_untrained(find_backbone(network), image_size, alpha)
    else:
        model = load_network(Path(network), custom_objects=custom_objects, allow_lambda=allow_lambda)
    rows = [
        (it.name, it.kind, "×".join("?" if side is None else str(side) for side in it.shape), f"{it.parameters:,}")
        for it in list_activations(model).values()
    ]
    if not rows:
        raise InvalidOptionError(
            f"expected a network whose layers Keras knows, received {network}, a {type(model).__name__} whose "
            "calls are Python code: it can be exported with its outputs alone"
        )
    return _table([("LAYER", "KIND", "OUTPUT SHAPE", "PARAMETERS"), *rows], right_aligned={3})


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
