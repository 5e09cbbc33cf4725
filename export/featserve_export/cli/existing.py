"""Whether a version that is there is what is asked for, by its manifest: without TensorFlow, in milliseconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..backbones import find_backbone
from ..errors import InvalidOptionError
from ..labels import imagenet_labels, read_labels
from ..manifest import MANIFEST_FILE, Manifest, read_manifest
from ..options import ExportOptions
from ..saved_model.version_directory import next_version

#: An option, its value in the version that is there, and the value asked for.
Difference = tuple[str, Any, Any]


def check_same(options: ExportOptions) -> Path | None:
    """Compares the version that is asked for with the one that is there.

    What a manifest does not record is not compared: the photos of a calibration, the code of custom objects, and the
    size that a model of one's own has by itself.

    Args:
        options: with a version.

    Returns:
        The version's directory; None where it is not there.

    Raises:
        InvalidOptionError: the version is another export, or cannot be compared.
    """
    directory = options.model_directory / str(options.version)
    if not directory.exists():
        return None
    free = next_version(options.model_directory)
    beside = (
        f"export beside it with --version {free} (make: VERSION={free}) or under another name with "
        "--model-name (make: MODEL=NAME), or delete that directory"
    )
    try:
        manifest = read_manifest(directory)
        differences = list(_all(options, manifest))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidOptionError(
            f"{directory} is there, but its {MANIFEST_FILE} cannot be compared with what is asked for "
            f"({type(error).__name__}: {error}); {beside}"
        ) from error
    if differences:
        found = [f"{name} is {_text(there)}, asked for {_text(asked)}" for name, there, asked in differences]
        raise InvalidOptionError(f"{directory} is there and is another export: {'; '.join(found)}; {beside}")
    return directory


def _all(options: ExportOptions, manifest: Manifest) -> Iterator[Difference]:
    """The options that differ."""
    for name, there, asked in (*_network(options, manifest), *_pixels(options, manifest), *_serving(options, manifest)):
        if there != asked:
            yield name, there, asked


def _network(options: ExportOptions, manifest: Manifest) -> Iterator[Difference]:
    origin = manifest["weights"]
    if options.is_model_file:
        yield "the model", origin["name"], Path(options.backbone).name
        own = all(layer["source"].startswith("output ") for layer in manifest["layers"].values())
        if options.layers is None and not own:
            yield "layers", list(manifest["layers"]), "the model's own outputs"
    else:
        backbone = find_backbone(options.backbone)
        yield "backbone", manifest["backbone"], backbone.name
        yield "alpha", manifest["alpha"] or 1.0, options.alpha or 1.0
        there = {"package": "imagenet", "file": origin["name"]}.get(str(origin["source"]), origin["source"])
        yield "weights", there, Path(options.weights).name
        if options.layers is None:
            yield "layers", list(manifest["layers"]), [backbone.output]
    if options.layers is not None:
        yield "layers", list(manifest["layers"]), list(options.layers)
    yield "pooling", manifest["pooling"], options.pooling


def _pixels(options: ExportOptions, manifest: Manifest) -> Iterator[Difference]:
    preprocessing = manifest["preprocessing"]
    own = options.is_model_file
    size, interpolation = options.image_size, options.interpolation
    if not own:
        backbone = find_backbone(options.backbone)
        size, interpolation = size or backbone.image_size, interpolation or backbone.interpolation
    if size is not None:
        yield "image size", preprocessing["image_size"], list(size)
    if interpolation is not None:
        yield "interpolation", preprocessing["interpolation"], interpolation
    yield "crop to aspect ratio", preprocessing["crop_to_aspect_ratio"], options.crop_to_aspect_ratio
    yield "apply orientation", preprocessing["apply_orientation"], options.apply_orientation
    yield "max pixels", preprocessing["max_pixels"], options.max_pixels
    if own and options.preprocess is not None:
        function = options.preprocess
        if function != "none":
            function = f"{find_backbone(function).preprocessing}.preprocess_input"
        yield "preprocess", preprocessing["function"], function


def _serving(options: ExportOptions, manifest: Manifest) -> Iterator[Difference]:
    measured = "auto" if "precision_measured" in manifest else manifest["precision"]
    yield "precision", measured if options.precision == "auto" else manifest["precision"], options.precision
    yield "device", manifest["device"], options.device
    yield "convolutions", manifest["convolutions"], options.convolutions
    if options.batching is not None:
        yield "batching", manifest["batching"], options.batching.as_dict()
    named = list(manifest["labels"].values())
    if options.labels is not None:
        names = read_labels(options.labels)
        yield "labels", any(each == names for each in named), True
    elif named:
        yield "labels", all(each == imagenet_labels() for each in named), True


def _text(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(map(str, value))
    return str(value)
