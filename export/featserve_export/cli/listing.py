"""Tables for people: the backbones, and the layers of a network."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from ..backbones import Backbone, find_backbone, is_backbone
from ..errors import InvalidOptionError

#: Of a weight in float32.
_BYTES = 4
RECOMMENDED = """
Start with efficientnet_lite0: its weights come with pip, it is fast on a CPU, and it stays close in int8.
For features that tell finer kinds apart, at ten to twenty times the cost, take convnext_tiny or efficientnet_v2_s.
Take resnet50, vgg16 or inception_v3 where features must match what others have published."""


def describe_backbones(
    backbones: Sequence[Backbone], milliseconds: Mapping[str, float] = MappingProxyType({}), *, as_json: bool
) -> str:
    """Backbones with what tells them apart.

    Args:
        backbones: those to list.
        milliseconds: of one image on this machine, by name, where they were measured.
        as_json: as JSON instead of a table.
    """
    if as_json:
        rows_of_json = [
            {
                "name": backbone.name,
                "family": backbone.family,
                "image_size": backbone.image_size,
                "interpolation": backbone.interpolation,
                "output": backbone.output,
                "output_shape": backbone.output_shape,
                "parameters": backbone.parameters,
                "megabytes": _megabytes(backbone),
                "top1_percent": backbone.top1_percent,
                "gflops": backbone.gflops,
                "weights_source": backbone.weights_source,
                **({"milliseconds": milliseconds[backbone.name]} if backbone.name in milliseconds else {}),
            }
            for backbone in backbones
        ]
        return json.dumps(rows_of_json, indent=1)
    header = ["NAME", "INPUT", "DEFAULT OUTPUT", "SHAPE", "TOP-1 %", "MB", "GFLOPS", "WEIGHTS"]
    rows = [
        [
            backbone.name,
            "×".join(map(str, backbone.image_size)),
            backbone.output,
            "×".join(map(str, backbone.output_shape)),
            f"{backbone.top1_percent:.1f}",
            f"{_megabytes(backbone):,}",
            f"{backbone.gflops:.2f}",
            backbone.weights_source,
        ]
        for backbone in backbones
    ]
    if milliseconds:
        header.insert(-1, "MS")
        for row in rows:
            row.insert(-1, f"{milliseconds[row[0]]:.1f}")
    return _table([header, *rows], right_aligned={4, 5, 6, 7} if milliseconds else {4, 5, 6}) + "\n" + RECOMMENDED


def _megabytes(backbone: Backbone) -> int:
    return round(backbone.parameters * _BYTES / 1e6)


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
